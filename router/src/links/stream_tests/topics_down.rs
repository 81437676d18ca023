//! Topics that come down a link: what both ends list, whatever is cut, and nothing twice or back.

use super::lab::{Site, until};
use super::link;
use crate::event_log::PartitionLog;
use crate::links::book::State;
use crate::links::config::LinkConfig;
use crate::links::topics::{Downlink, TopicsDown};

fn texts(all: &[&str]) -> Vec<String> {
    all.iter().map(|text| (*text).to_owned()).collect()
}

/// A link that carries all up, and lists this for down.
pub(super) fn brings(down: &[&str]) -> LinkConfig {
    LinkConfig { down: texts(down), ..link(&["*"], &[]) }
}

/// A headquarters that allows this to sites of these names.
pub(super) async fn hq_that_gives(lists: &[(&str, &[&str])]) -> Site {
    let hq = Site::new(2).await;
    gives(&hq, lists);
    hq
}

pub(super) fn gives(site: &Site, lists: &[(&str, &[&str])]) {
    let list = |(site, topics): &(&str, &[&str])| Downlink { site: (*site).to_owned(), topics: texts(topics) };
    site.upstream().set_downlinks(lists.iter().map(list).collect());
}

/// What comes down to a site, or goes down from it, by its first link.
pub(super) fn coming(site: &Site) -> TopicsDown {
    site.edge().views().remove(0).topics.remove(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_both_ends_list_comes_down_from_the_first_and_nothing_else() {
    let hq = hq_that_gives(&[("plant", &["recipes", "plans*", "secret"]), ("other", &["*"])]).await;
    let topics = ["recipes", "plans-1", "secret", "private", "_audit"];
    for n in 0..20 {
        hq.append(&topics[n % 4..=n % 4], &format!("before {n}")).await;
    }
    let plant = Site::new(1).await;
    plant.feed(&hq, "plant", vec![brings(&["commands", "topics:recipes", "topics:plans-*", "topics:private"])]).await;
    for n in 0..20 {
        hq.append(&topics[n % 4..=n % 4], &format!("after {n}")).await;
        plant.append(&["telemetry"], &format!("up {n}")).await;
    }
    plant.until_fed_by(&hq, &[("recipes", "up/recipes"), ("plans-1", "up/plans-1")]).await;
    hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
    let mut found = plant.linked_topics();
    found.sort();
    assert_eq!(found, ["up/plans-1", "up/recipes"]);
    // What came down is not sent up again, and nobody waits for it.
    let up = || plant.edge().views().remove(0);
    until("all that goes up is up", || up().lag.events == 0).await;
    assert_eq!((hq.linked_topics(), hq.log.store().linked().len()), (texts(&["plant/telemetry"]), 1));
    assert!(up().refusals.is_empty() && hq.upstream().views()[0].refusals.is_empty());
    assert!(plant.edge().floors().keys().all(|id| id.origin != hq.log.store().origin()));
    // Seen at both ends.
    until("the edge knows that nothing waits", || coming(&plant).lag.events == 0).await;
    let at_edge = coming(&plant);
    assert_eq!(
        (at_edge.state, at_edge.events, at_edge.allowed),
        (State::Connected, 20, texts(&["recipes", "plans*", "secret"]))
    );
    let above = || hq.upstream().views().remove(0).topics.remove(0);
    until("upstream knows that nothing waits", || above().topics.iter().all(|topic| topic.waiting == Some(0))).await;
    let shown: Vec<_> = above().topics.into_iter().map(|topic| (topic.name, topic.events)).collect();
    assert_eq!(shown, [("plans-1".to_owned(), 10), ("recipes".to_owned(), 10)]);
    // Counted alike.
    until("upstream has counted all", || above().events == 20).await;
    assert!(at_edge.bytes > 0 && above().bytes > 0, "{} {}", above().bytes, at_edge.bytes);
    assert!(plant.log.store().verify(&mut |_| {}).unwrap().is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_is_gone_by_in_both_directions_and_nothing_comes_twice() {
    let (plant, mut hq) = (Site::new(1).await, hq_that_gives(&[("plant", &["*"])]).await);
    plant.feed(&hq, "plant", vec![brings(&["topics:*"])]).await;
    for round in 0..5 {
        for n in 0..20 {
            hq.append(&["recipes"], &format!("{round} {n}")).await;
            plant.append(&["telemetry"], &format!("{round} {n}")).await;
            if n == 10 {
                hq.cut().await;
            }
        }
        hq.listen_again().await;
        plant.until_fed_by(&hq, &[("recipes", "up/recipes")]).await;
        hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
    }
    assert_eq!((plant.values("up/recipes").len(), hq.values("plant/telemetry").len()), (100, 100));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_retention_took_upstream_is_told_as_a_gap() {
    let hq = hq_that_gives(&[("plant", &["recipes"])]).await;
    for n in 0..10 {
        hq.append_to("recipes", 0, &format!("{n}")).await;
    }
    let id = hq.log.topic("recipes").unwrap().partition(0).unwrap().id();
    hq.log.store().trim(id, 7, 1_000).unwrap();
    let plant = Site::new(1).await;
    plant.feed(&hq, "plant", vec![brings(&["topics:recipes"])]).await;
    until("what is kept is there", || plant.log.visible_end(id) == 10).await;
    assert_eq!(plant.values("up/recipes"), ["7", "8", "9"]);
    assert_eq!(plant.log.start_offset(id), 7);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_site_sends_goes_to_another_one_only_where_it_is_listed_and_to_itself_never() {
    let hq = hq_that_gives(&[("one", &["*", "*/*"]), ("two", &["*"])]).await;
    hq.append(&["recipes"], "r").await;
    let (one, two) = (Site::new(1).await, Site::new(3).await);
    one.feed(&hq, "one", vec![brings(&["topics:*", "topics:*/*"])]).await;
    two.feed(&hq, "two", vec![brings(&["topics:*", "topics:*/*"])]).await;
    for site in [&one, &two] {
        site.append(&["telemetry"], "t").await;
    }
    hq.until_fed_by(&one, &[("telemetry", "one/telemetry")]).await;
    hq.until_fed_by(&two, &[("telemetry", "two/telemetry")]).await;
    one.until_fed_by(&two, &[("telemetry", "up/two/telemetry")]).await;
    for site in [&one, &two] {
        site.until_fed_by(&hq, &[("recipes", "up/recipes")]).await;
    }
    hq.append(&["recipes"], "s").await;
    two.until_fed_by(&hq, &[("recipes", "up/recipes")]).await;
    let sorted = |site: &Site| {
        let mut topics = site.linked_topics();
        topics.sort();
        topics
    };
    assert_eq!((sorted(&one), sorted(&two)), (texts(&["up/recipes", "up/two/telemetry"]), texts(&["up/recipes"])));
    // What has come by way of another site bears the way.
    let path = one.log.store().linked_origin(two.log.store().origin()).unwrap().path;
    assert_eq!(path, [3, 2]);
    assert_eq!(sorted(&hq), ["one/telemetry", "two/telemetry"], "nothing came back");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ring_of_links_up_and_down_has_each_event_everywhere_once() {
    // one -> two -> three -> one, each of which brings all down besides.
    let (mut one, mut two, mut three) = (Site::new(1).await, Site::new(2).await, Site::new(3).await);
    for site in [&one, &two, &three] {
        gives(site, &[("*", &["*", "*/*", "*/*/*"])]);
    }
    let all = || vec![brings(&["topics:*", "topics:*/*", "topics:*/*/*"])];
    one.feed_as(&two, "one", all()).await;
    two.feed_as(&three, "two", all()).await;
    three.feed_as(&one, "three", all()).await;
    for n in 0..10 {
        for (site, name) in [(&one, "a"), (&two, "b"), (&three, "c")] {
            site.append(&["telemetry"], &format!("{name} {n}")).await;
        }
    }
    let origins = [&one, &two, &three].map(|site| site.log.store().origin());
    for site in [&one, &two, &three] {
        let count = || {
            let all = site.log.all_partitions();
            let is_of = |log: &PartitionLog, origin| log.id().origin == origin && log.topic().ends_with("telemetry");
            origins.map(|origin| all.iter().filter(|log| is_of(log, origin)).map(|log| log.visible_end()).sum::<u64>())
        };
        until("all is there", || count() == [10; 3]).await;
        assert_eq!(site.log.store().linked().len(), 2, "the others' lives, each once");
        let values: usize = site.linked_topics().iter().map(|topic| site.values(topic).len()).sum();
        assert_eq!(values, 20);
    }
    for site in [&mut one, &mut two, &mut three] {
        site.cut().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_headquarters_that_was_restored_ends_no_life_and_says_so() {
    let (plant, mut hq) = (Site::new(1).await, hq_that_gives(&[("plant", &["recipes"])]).await);
    plant.feed(&hq, "plant", vec![brings(&["topics:recipes"])]).await;
    hq.append_to("recipes", 0, "first").await;
    plant.until_fed_by(&hq, &[("recipes", "up/recipes")]).await;
    let image = hq.image();
    hq.append_to("recipes", 0, "lost").await;
    plant.until_fed_by(&hq, &[("recipes", "up/recipes")]).await;
    hq.cut().await;
    let restored = hq.restored(image).await;
    gives(&restored, &[("plant", &["recipes"])]);
    let told = || {
        let views = restored.upstream().views();
        views[0].topics.iter().any(|topics| topics.refusals.iter().any(|text| text.contains("restored or copied")))
    };
    until("it is told upstream", told).await;
    assert_eq!(plant.values("up/recipes"), ["first", "lost"], "nothing is lost or doubled at the edge");
    // What goes up goes on.
    plant.append(&["telemetry"], "t").await;
    restored.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_that_was_restored_is_sent_again_what_it_lacks() {
    let (mut plant, hq) = (Site::new(1).await, hq_that_gives(&[("plant", &["recipes"])]).await);
    plant.feed(&hq, "plant", vec![brings(&["topics:recipes"])]).await;
    hq.append(&["recipes"], "first").await;
    plant.until_fed_by(&hq, &[("recipes", "up/recipes")]).await;
    let image = plant.image();
    hq.append(&["recipes"], "second").await;
    plant.until_fed_by(&hq, &[("recipes", "up/recipes")]).await;
    plant.stop_edge().await;
    plant.cut().await;
    let restored = plant.restored(image).await;
    restored.open_edge(vec![brings(&["topics:recipes"])]);
    restored.until_fed_by(&hq, &[("recipes", "up/recipes")]).await;
    assert_eq!(restored.values("up/recipes"), ["first", "second"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thin_link_brings_topics_down_packed_and_at_its_rate() {
    let (plant, hq) = (Site::new(1).await, hq_that_gives(&[("plant", &["recipes"])]).await);
    let config = LinkConfig { rate_bytes_max: 200_000, ..brings(&["topics:recipes"]) };
    plant.feed(&hq, "plant", vec![config]).await;
    for n in 0..50 {
        hq.append(&["recipes"], &format!("{{\"recipe\": {n}, \"steps\": [1, 2, 3]}}")).await;
    }
    plant.until_fed_by(&hq, &[("recipes", "up/recipes")]).await;
    assert_eq!(plant.values("up/recipes").len(), 50);
}
