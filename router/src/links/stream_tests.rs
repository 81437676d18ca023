//! Sites that feed one another over real connections, on memory stores: first contact, outages, gaps, rings, and what is refused.

mod backlog;
mod deadline;
mod forged;
mod forged_down;
mod greeting;
mod heard_ahead;
mod invited;
mod kept;
mod lab;
mod newest_first;
mod on_demand;
mod plugins_down;
mod plugins_slow;
mod refused;
mod removed;
mod topics_down;
mod unasked;
mod within;

use std::collections::BTreeSet;

use lab::{Site, until};

use super::book::State;
use super::class::{LinkClass, Priority};
use super::config::{Compress, LinkConfig, Origins};
use super::edge::PauseError;
use crate::event_log::Outliver;
use crate::event_log::rubbish::sound;

fn link(include: &[&str], exclude: &[&str]) -> LinkConfig {
    LinkConfig {
        name: "up".to_owned(),
        include: include.iter().map(|text| (*text).to_owned()).collect(),
        exclude: exclude.iter().map(|text| (*text).to_owned()).collect(),
        ..LinkConfig::default()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_link_carries_comes_whole_and_as_it_is() {
    let (plant, hq) = (Site::new(1).await, Site::new(2).await);
    for n in 0..50 {
        plant.append(&["telemetry", "alarms", "private", "_inner"][n % 4..=n % 4], &format!("before {n}")).await;
    }
    let config = LinkConfig { prefix: "p-".to_owned(), ..link(&["*"], &["priv*"]) };
    plant.feed(&hq, "plant", vec![config]).await;
    for n in 0..50 {
        // One commit of two topics now and then.
        plant.append(&["telemetry", "alarms"][n % 2..], &format!("after {n}")).await;
    }
    hq.until_fed_by(&plant, &[("telemetry", "plant/p-telemetry"), ("alarms", "plant/p-alarms")]).await;
    assert_eq!(hq.linked_topics(), ["plant/p-alarms", "plant/p-telemetry"]);
    assert!(hq.log.store().verify(&mut |_| {}).unwrap().is_clean());
    let view = || plant.edge().views().remove(0);
    until("the edge knows that it is level", || view().lag.events == 0).await;
    assert_eq!((view().state, plant.edge().views().len()), (State::Connected, 1), "{:?}", view());
    until("upstream knows that too", || hq.upstream().views()[0].state == State::Connected).await;
    // Nobody publishes to another site's topic.
    let topic = hq.log.topic("plant/p-alarms").unwrap();
    assert!(topic.all_partitions().is_empty() && topic.is_linked());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_gone_by_and_nothing_comes_twice() {
    let (plant, mut hq) = (Site::new(1).await, Site::new(2).await);
    plant.feed(&hq, "plant", vec![link(&["*"], &[])]).await;
    for round in 0..5 {
        for n in 0..20 {
            plant.append(&["telemetry"], &format!("{round} {n}")).await;
            if n == 10 {
                // Cut in the midst of it, with events on their way.
                hq.cut().await;
            }
        }
        hq.listen_again().await;
        hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
    }
    assert_eq!(hq.values("plant/telemetry").len(), 100);
    assert!(plant.edge().views()[0].connections >= 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_retention_took_is_told_as_a_gap_and_what_was_before_stays() {
    let (plant, mut hq) = (Site::new(1).await, Site::new(2).await);
    plant.feed(&hq, "plant", vec![link(&["*"], &[])]).await;
    plant.append(&["telemetry"], "first").await;
    hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
    hq.cut().await;
    for n in 0..10 {
        plant.append_to("telemetry", 0, &format!("lost {n}")).await;
    }
    plant.append_to("telemetry", 0, "kept").await;
    let partition = plant.log.topic("telemetry").unwrap().partition(0).unwrap().id();
    let end = plant.log.store().end_offset(partition);
    plant.log.store().trim(partition, end - 1, 1_000).unwrap();
    let from = hq.log.store().end_offset(partition);
    hq.listen_again().await;
    until("the kept one is there", || hq.values("plant/telemetry").contains(&"kept".to_owned())).await;
    assert_eq!(hq.values("plant/telemetry"), ["first", "kept"]);
    let gaps = &hq.upstream().views()[0].gaps;
    let [gap] = &gaps[..] else { panic!("one gap: {gaps:?}") };
    assert_eq!((gap.from, gap.to, gap.why, gap.topic.as_str()), (from, end - 1, "retention", "plant/telemetry"));
    assert!(gap.at_ms > 0);
    // It goes on behind it, and the digests are no reason to stop.
    hq.cut().await;
    hq.listen_again().await;
    plant.append_to("telemetry", 0, "more").await;
    until("more is there", || hq.values("plant/telemetry").contains(&"more".to_owned())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_ring_of_three_each_event_is_everywhere_once() {
    let (mut a, mut b, mut c) = (Site::new(1).await, Site::new(2).await, Site::new(3).await);
    let config = || vec![link(&["*"], &[])];
    a.feed_as(&b, "a", config()).await;
    b.feed_as(&c, "b", config()).await;
    c.feed_as(&a, "c", config()).await;
    for n in 0..20 {
        for (site, name) in [(&a, "a"), (&b, "b"), (&c, "c")] {
            site.append(&["telemetry"], &format!("{name} {n}")).await;
        }
    }
    // Own, from the one before, and from the one before that.
    let topics = |first: &str, second: &str| {
        ["telemetry".to_owned(), format!("{first}/telemetry"), format!("{first}/{second}/telemetry")]
    };
    let want = |name: &str| (0..20).map(|n| format!("{name} {n}")).collect::<BTreeSet<_>>();
    for (site, names) in [(&a, ["a", "c", "b"]), (&b, ["b", "a", "c"]), (&c, ["c", "b", "a"])] {
        for (topic, name) in topics(names[1], names[2]).iter().zip(names) {
            until(&format!("{topic} is there"), || site.log.topic(topic).is_some() && site.values(topic).len() >= 20)
                .await;
            let found = site.values(topic);
            assert_eq!((found.len(), found.into_iter().collect::<BTreeSet<_>>()), (20, want(name)), "{topic}");
        }
        // What it has written itself was offered and refused: nothing more comes.
        until("its own came round", || {
            site.upstream().views()[0].refusals.iter().any(|text| text.contains("not taken back"))
        })
        .await;
        assert_eq!(site.linked_topics().len(), 2, "{:?}", site.linked_topics());
        assert_eq!(site.log.store().linked().len(), 2);
    }
    for site in [&mut a, &mut b, &mut c] {
        site.cut().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_was_removed_is_refused_and_may_be_invited_again() {
    let (plant, hq) = (Site::new(1).await, Site::new(2).await);
    plant.feed(&hq, "plant", vec![link(&["*"], &[])]).await;
    plant.append(&["telemetry"], "before").await;
    hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
    hq.upstream().remove("plant", "test").await.unwrap();
    until("it is refused", || plant.edge().views()[0].state == State::Refused).await;
    assert!(plant.edge().views()[0].reason.contains("removed"), "{:?}", plant.edge().views());
    plant.append(&["telemetry"], "after").await;
    assert_eq!(hq.values("plant/telemetry"), ["before"], "what it brought stays, and no more comes");
    // The old end is removed; a new one goes on where the old one was.
    assert!(plant.edge().remove("up").await.unwrap());
    plant.accept(&hq, "plant").await;
    hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
    assert_eq!(hq.values("plant/telemetry"), ["after", "before"]);
    assert_eq!(hq.log.store().linked().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_serves_once_and_strangers_are_refused() {
    let (plant, other, hq) = (Site::new(1).await, Site::new(3).await, Site::new(2).await);
    plant.open_edge(vec![]);
    other.open_edge(vec![]);
    let token = hq.invite("plant").await;
    assert_eq!(plant.edge().accept(&token, "up").await.unwrap(), "plant");
    let again = other.edge().accept(&token, "up").await.unwrap_err().to_string();
    assert!(again.contains("used already"), "{again}");
    let mut unknown = hq.invite("plant").await;
    unknown.0.secret = [9; 32];
    let unknown = other.edge().accept(&unknown, "up").await.unwrap_err().to_string();
    assert!(unknown.contains("not known"), "{unknown}");
    let mut wrong_ca = hq.invite("plant").await;
    wrong_ca.0.ca = [9; 32];
    let wrong = other.edge().accept(&wrong_ca, "up").await.unwrap_err().to_string();
    assert!(wrong.contains("the CA that the token names"), "{wrong}");
    let own = hq.invite("plant").await;
    hq.open_edge(vec![]);
    assert!(hq.edge().accept(&own, "up").await.is_err(), "a site does not feed itself");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_was_restored_from_a_backup_is_sent_again_what_it_lacks() {
    let (plant, mut hq) = (Site::new(1).await, Site::new(2).await);
    plant.feed(&hq, "plant", vec![link(&["*"], &[])]).await;
    plant.append(&["telemetry", "alarms"], "before").await;
    let topics = [("telemetry", "plant/telemetry"), ("alarms", "plant/alarms")];
    hq.until_fed_by(&plant, &topics).await;
    let image = hq.image();
    for n in 0..20 {
        plant.append(&["telemetry", "alarms"], &format!("after {n}")).await;
    }
    hq.until_fed_by(&plant, &topics).await;
    hq.cut().await;
    let restored = hq.restored(image).await;
    plant.append(&["telemetry"], "later").await;
    restored.until_fed_by(&plant, &topics).await;
    assert_eq!(restored.values("plant/telemetry").len(), 22);
    assert!(restored.upstream().views()[0].gaps.is_empty());
}

/// An edge is brought back from an older image, and takes so many events before it hears of it.
async fn restore_edge(appended: usize) {
    let (mut plant, hq) = (Site::new(1).await, Site::new(2).await);
    plant.feed(&hq, "plant", vec![link(&["*"], &[])]).await;
    let append = async |site: &Site, name: &str, count| {
        for n in 0..count {
            site.append_to("telemetry", 0, &format!("{name} {n}")).await;
        }
    };
    append(&plant, "first", 5).await;
    hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
    let image = plant.image();
    append(&plant, "lost", 5).await;
    hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
    let before = hq.values("plant/telemetry");
    plant.stop_edge().await;
    plant.cut().await;

    let mut restored = plant.restored(image.clone()).await;
    assert_eq!(restored.log.store().origin(), plant.log.store().origin());
    append(&restored, "forked", appended).await;
    restored.open_edge(vec![link(&["*"], &[])]);
    let mut outlived = restored.edge().outlived();
    tokio::time::timeout(lab::LONG, outlived.wait_for(|outlived| *outlived)).await.unwrap().unwrap();
    restored.stop_edge().await;
    restored.cut().await;
    restored.log.store().end_life("upstream has more").unwrap();
    assert_eq!(hq.values("plant/telemetry"), before, "nothing is lost or doubled upstream");

    // The next start begins a new life, and its events come like any others.
    let reborn = restored.restored(image).await;
    assert_ne!(reborn.log.store().origin(), plant.log.store().origin());
    assert!(!reborn.log.may_end_life(Outliver::Link).unwrap(), "the next one is told, not believed");
    append(&reborn, "new", 3).await;
    reborn.open_edge(vec![link(&["*"], &[])]);
    until("the new life's events are there", || hq.values("plant/telemetry").len() == before.len() + 3).await;
    // What is at the edge alone is told, not sent.
    let told = || reborn.edge().views()[0].refusals.iter().any(|text| text.contains("not the same here"));
    if appended > 5 {
        until("what is here alone is told", told).await;
    }
    assert_eq!(hq.values("plant/telemetry").len(), before.len() + 3);
    assert_eq!(hq.log.store().linked().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_that_was_restored_from_a_backup_begins_a_new_life() {
    restore_edge(0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_that_was_restored_and_went_on_begins_a_new_life_too() {
    restore_edge(20).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_sends_what_another_one_of_its_site_has_left() {
    let (first, second, hq) = (Site::new(1).await, Site::new(3).await, Site::new(2).await);
    first.feed(&hq, "plant", vec![link(&["*"], &[])]).await;
    second.feed(&hq, "plant", vec![link(&["*"], &[])]).await;
    let topics = [("telemetry", "plant/telemetry")];
    for n in 0..5 {
        first.append(&["telemetry"], &format!("sent by the first {n}")).await;
    }
    second.follow(&first).await;
    hq.until_fed_by(&first, &topics).await;
    assert_eq!(second.edge().views()[0].events, 0, "each gateway sends its own");
    // The first is lost, and the second has more of it than upstream.
    first.stop_edge().await;
    for n in 0..5 {
        first.append(&["telemetry"], &format!("left by the first {n}")).await;
    }
    second.follow(&first).await;
    hq.until_fed_by(&first, &topics).await;
    until("the second has sent them", || second.edge().views()[0].events == 5).await;
    assert_eq!(hq.values("plant/telemetry").len(), 10);
    assert_eq!(hq.upstream().views().len(), 1, "both are one site");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_keeps_to_its_rate() {
    let (plant, hq) = (Site::new(1).await, Site::new(2).await);
    // Letters that lz4 finds nothing in.
    let mut random = 1_u64;
    let mut letters = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b' ' + (random >> 33) as u8 % 90)
    };
    for _ in 0..20 {
        let value: String = (0..5_000).map(|_| letters()).collect();
        plant.append(&["telemetry"], &value).await;
    }
    let rate_bytes_max = 50_000;
    let began = std::time::Instant::now();
    plant.feed(&hq, "plant", vec![LinkConfig { rate_bytes_max, ..link(&["*"], &[]) }]).await;
    hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
    let took = began.elapsed().as_secs_f64();
    // They count where the edge knows that they are stored.
    until("the edge knows", || plant.edge().views()[0].brought().sent_bytes > 80_000).await;
    let sent = plant.edge().views()[0].brought().sent_bytes as f64;
    // A tenth of a second's bytes may go at once.
    let least = (sent - 0.1 * rate_bytes_max as f64) / rate_bytes_max as f64;
    assert!(took >= least, "{sent} bytes in {took} s");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_link_waits_and_goes_on() {
    let (plant, hq) = (Site::new(1).await, Site::new(2).await);
    plant.feed(&hq, "plant", vec![LinkConfig { origins: Origins::Own, ..link(&["*"], &[]) }]).await;
    plant.append(&["telemetry"], "before").await;
    hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
    plant.edge().pause("up", true).unwrap();
    until("it is paused", || plant.edge().views()[0].state == State::Paused).await;
    plant.append(&["telemetry"], "meanwhile").await;
    let view = plant.edge().views().remove(0);
    assert_eq!((view.lag.events, view.state), (1, State::Paused));
    assert!(view.lag.bytes > 0);
    let held: Vec<u64> = plant.edge().floors().into_values().collect();
    assert_eq!(held.len(), 1, "retention leaves what waits: {held:?}");
    assert_eq!(hq.values("plant/telemetry"), ["before"]);
    plant.edge().pause("up", false).unwrap();
    hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
    until("nothing is held", || plant.edge().floors().is_empty()).await;
    assert!(matches!(plant.edge().pause("other", true), Err(PauseError::Unknown(_))));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_priority_is_a_stream_of_its_own_and_what_is_urgent_overtakes() {
    let (plant, hq) = (Site::new(1).await, Site::new(2).await);
    let mut random = 1_u64;
    let mut letters = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b' ' + (random >> 33) as u8 % 90)
    };
    for n in 0..60 {
        let value: String = (0..5_000).map(|_| letters()).collect();
        plant.append(&[["telemetry", "video"][n % 2]], &value).await;
    }
    let class = |topic: &str, priority| LinkClass { topics: vec![topic.to_owned()], priority, ..LinkClass::default() };
    let classes = vec![class("alarms", Priority::High), class("video", Priority::Low)];
    // Some six seconds of it.
    let config = LinkConfig { class: classes, rate_bytes_max: 40_000, compress: Compress::Off, ..link(&["*"], &[]) };
    plant.feed(&hq, "plant", vec![config]).await;
    until("the others flow", || hq.upstream().views()[0].bytes > 30_000).await;
    plant.append(&["alarms"], "hot").await;
    until("the alarm is there", || hq.log.topic("plant/alarms").is_some_and(|_| hq.values("plant/alarms").len() == 1))
        .await;
    let view = plant.edge().views().remove(0);
    let [high, normal, low] = view.classes;
    assert!(normal.lag.events > 0 && low.lag.events > 0, "they were overtaken: {view:?}");
    until("the alarm's storing is heard", || plant.edge().views()[0].classes[0].brought.events == 1).await;
    assert_eq!(high.lag.events, view.lag.events - normal.lag.events - low.lag.events);
    // While both wait, one has four parts.
    let share = normal.brought.bytes as f64 / (normal.brought.bytes + low.brought.bytes).max(1) as f64;
    assert!(share > 0.6, "{share}: {normal:?} {low:?}");
    let topics = [("telemetry", "plant/telemetry"), ("video", "plant/video"), ("alarms", "plant/alarms")];
    hq.until_fed_by(&plant, &topics).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_ends_a_life_once_a_day_at_most() {
    let (plant, hq) = (Site::new(1).await, Site::new(2).await);
    // What upstream claims to have of the life that lives.
    plant.append_to("telemetry", 0, "real").await;
    let id = plant.log.topic("telemetry").unwrap().partition(0).unwrap().id();
    let events: Vec<String> = (0..9).map(|n| format!("forged {n}")).collect();
    let events: Vec<&str> = events.iter().map(String::as_str).collect();
    // An older program has noted that it ended a life before this one.
    let ticket = {
        let mut open = plant.log.lock();
        open.put_state("link_lives", b"ended", Some(&plant.log.clock().wall_ms().to_be_bytes()));
        open.ticket()
    };
    plant.log.durable(ticket).await.unwrap();
    plant.feed(&hq, "plant", vec![link(&["*"], &[])]).await;
    hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
    let more = sound(id, 1, 9_000, &events);
    let linked = hq.log.store().linked_origin(id.origin).unwrap();
    hq.log.take_linked(id.origin, linked, vec![sled_data::LinkedPart::Batch(more.into())]).await.unwrap();
    plant.stop_edge().await;
    let mut plant = plant;
    plant.feed_again(vec![link(&["*"], &[])]);
    let told = || plant.edge().views()[0].refusals.iter().any(|text| text.contains("within a day"));
    until("it is told", told).await;
    assert!(!*plant.edge().outlived().borrow(), "the life goes on");
    // All else goes on too.
    plant.append(&["alarms"], "still").await;
    until("other topics come", || hq.log.topic("plant/alarms").is_some_and(|_| hq.values("plant/alarms") == ["still"]))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_not_go_now_waits_and_holds_nothing_else_up() {
    let (plant, hq) = (Site::new(1).await, Site::new(2).await);
    // An hour that is half a day away.
    let hour = (plant.log.clock().wall_ms() / 3_600_000 + 12) % 24;
    let hours = format!("{hour:02}:00-{hour:02}:59");
    let class = LinkClass { topics: vec!["video".to_owned()], priority: Priority::Low, hours, ..LinkClass::default() };
    plant.feed(&hq, "plant", vec![LinkConfig { class: vec![class], ..link(&["*"], &[]) }]).await;
    plant.append(&["video", "telemetry"], "one").await;
    hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
    until("it waits", || plant.edge().views()[0].lag.events == 1).await;
    assert_eq!(plant.edge().views()[0].classes[2].lag.events, 1);
    assert!(hq.log.topic("plant/video").is_none());
    assert_eq!(plant.edge().floors().len(), 1, "retention leaves it");
}
