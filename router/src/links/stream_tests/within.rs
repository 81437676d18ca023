//! Nodes of a site and what links bring: it comes to the others, and they ask each other before an edge is told of it, and before one leaves.

mod ahead;
mod others;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use sled_data::{Linked, LinkedPart, OriginId, PartitionId, TopicId};

use others::{OTHER, Other, Silent, Two, Wire};

use super::lab::{LONG, Site, until};
use super::link;
use crate::catalog::Change;
use crate::event_log::rubbish::sound;
use crate::links::wire::{Answer, Hello, Parts, Said};
use crate::links::{Nodes, PROTOCOL, Within};

/// The link of which it is; any.
const LINK: u64 = 1;

fn within(site: &Site, other: &Site) -> Arc<Within> {
    let within = Arc::clone(site.upstream().within());
    within.set_nodes(Arc::new(Other(Arc::clone(other.upstream().within()))), Vec::new());
    within
}

/// A node that is fed, and another one that has nothing of it.
async fn fed() -> (Site, Site, Site, Vec<PartitionId>) {
    let (plant, hq, other) = (Site::new(1).await, Site::new(2).await, Site::node(3, 2).await);
    plant.feed(&hq, "plant", vec![link(&["*"], &[])]).await;
    for n in 0..9 {
        plant.append(&["telemetry"], &format!("{n}")).await;
    }
    hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
    let origin = plant.log.store().origin();
    let ids = hq.log.store().partitions().into_iter().filter(|id| id.origin == origin).collect();
    (plant, hq, other, ids)
}

/// Brings what is at one node to the other, all of it.
async fn copy(from: &Site, to: &Site, ids: &[PartitionId]) {
    for id in ids {
        let info = from.log.topic_by_id(id.topic).unwrap().info().clone();
        to.log.adopt_linked_topic(info).unwrap();
        let parts = from.log.store().read(*id, 0, usize::MAX).unwrap().into_iter().map(LinkedPart::Batch).collect();
        let linked = from.log.store().linked_origin(id.origin).unwrap();
        to.log.take_linked(id.origin, linked, parts).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_has_handed_over_when_another_has_all_that_it_keeps() {
    let (_plant, hq, other, ids) = fed().await;
    let leaving = within(&hq, &other);
    let all_but_one = &ids[1..];
    for (have, lacking) in [(&[][..], ids.len()), (all_but_one, 1)] {
        copy(&hq, &other, have).await;
        let why = leaving.hand_over(Duration::from_millis(50)).await.unwrap_err();
        assert!(why.starts_with(&format!("{lacking} of {} partitions", ids.len())), "{why}");
    }
    copy(&hq, &other, &ids).await;
    assert_eq!(leaving.hand_over(Duration::from_millis(50)).await, Ok(()));
    // The other one has nothing that it would take along.
    assert_eq!(within(&other, &hq).hand_over(Duration::from_millis(50)).await, Ok(()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_is_told_when_the_node_has_what_the_other_has() {
    let (_plant, hq, other, ids) = fed().await;
    let began = Instant::now();
    within(&hq, &other).level(LINK, &ids).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "nobody is ahead of it");
    // Nothing comes: it is told how it is, after a while.
    let behind = within(&other, &hq);
    let began = Instant::now();
    behind.level(LINK, &ids).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(2), "{:?}", began.elapsed());
    let ends = |site: &Site| ids.iter().map(|id| site.log.visible_end(*id)).collect::<Vec<_>>();
    let began = Instant::now();
    behind.level(LINK, &ids).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "it is not waited for again so soon");
    behind.stuck.lock().clear();
    let (level, ()) = tokio::join!(behind.level(LINK, &ids), copy(&hq, &other, &ids));
    level.unwrap();
    assert_eq!(ends(&hq), ends(&other));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_is_sent_away_when_it_is_not_known_what_another_node_has() {
    let (_plant, hq, _other, ids) = fed().await;
    let within = Arc::clone(hq.upstream().within());
    let nodes = Arc::new(Silent { is_there: AtomicU32::new(0) });
    within.set_nodes(Arc::clone(&nodes) as _, Vec::new());
    let began = Instant::now();
    within.level(LINK, &ids).await.unwrap();
    assert!(began.elapsed() >= Duration::from_secs(2), "one that is away is waited for: {:?}", began.elapsed());
    nodes.is_there.store(1, Ordering::Relaxed);
    let text = within.level(LINK, &ids).await.unwrap_err().to_string();
    assert!(text.contains("does not say"), "{text}");
    // It stays so: after a while the site goes on without it.
    let goes_on = async { while within.level(LINK, &ids).await.is_err() {} };
    tokio::time::timeout(LONG, goes_on).await.unwrap();
    let began = Instant::now();
    within.level(LINK, &ids).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1), "and is not held up by it any more: {:?}", began.elapsed());
    // One that comes again is waited for.
    nodes.is_there.store(0, Ordering::Relaxed);
    within.level(LINK, &ids).await.unwrap();
    nodes.is_there.store(1, Ordering::Relaxed);
    within.level(LINK, &ids).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_waits_for_its_turn_for_a_while() {
    let (_plant, hq, _other, ids) = fed().await;
    let within = Arc::clone(hq.upstream().within());
    within.set_nodes(Arc::new(Silent { is_there: AtomicU32::new(1) }), Vec::new());
    // Each of them takes as long as a wait for a turn.
    let began = Instant::now();
    let all = (0..6).map(|_| {
        let (within, ids) = (Arc::clone(&within), ids.clone());
        tokio::spawn(async move { within.level(LINK, &ids).await.unwrap_err().to_string() })
    });
    let mut told = Vec::new();
    for each in all.collect::<Vec<_>>() {
        told.push(each.await.unwrap());
    }
    assert!(told.iter().filter(|text| text.contains("try another node")).count() >= 4, "{told:?}");
    assert!(began.elapsed() < Duration::from_secs(12), "not one after the other: {:?}", began.elapsed());
}

const TOPICS: [(&str, &str); 1] = [("telemetry", "plant/telemetry")];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_link_brings_comes_to_the_other_node_as_it_is() {
    let (plant, hq, other, _) = fed().await;
    let within = Arc::clone(hq.upstream().within());
    within.set_nodes(Wire::to(&other).await, Vec::new());
    let sending = tokio::spawn(within.run());
    other.until_fed_by(&plant, &TOPICS).await;
    for n in 0..20 {
        plant.append(&["telemetry"], &format!("later {n}")).await;
    }
    other.until_fed_by(&plant, &TOPICS).await;
    // The way that it has come, and whose it is, are the same.
    let linked = |site: &Site| site.log.store().linked();
    assert_eq!(linked(&hq), linked(&other));
    assert!(other.log.store().verify(&mut |_| {}).unwrap().is_clean());
    // A link upstream from there leaves it to the node that is fed.
    let origin = plant.log.store().origin();
    assert!(other.log.sent_by_others().contains(&origin) && !hq.log.sent_by_others().contains(&origin));
    assert_eq!(other.upstream().views().len(), 0, "it has no link of its own");
    sending.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quorum_that_does_not_come_about_is_not_waited_for_without_end() {
    let (_plant, hq, other, ids) = fed().await;
    let within = within(&hq, &other);
    hq.log.set_replicas(&[OTHER.0], 1);
    hq.log.set_quorum_in_reach(true);
    let text = within.await_quorum(&[(ids[0], 1)].into()).await.unwrap_err().to_string();
    assert!(text.contains(&format!("{OTHER} has {} up to 0", ids[0])), "{text}");
    // Nor is what was deleted meanwhile.
    let gone = PartitionId { topic: TopicId(999), ..ids[0] };
    within.await_quorum(&[(gone, 1)].into()).await.unwrap();
}

/// Of another link: a topic of so many partitions, and a batch in one of them.
async fn bring(site: &Site, (topic, origin): (u64, u64), partitions: u32, index: u32, events: &[&str]) {
    let mut info = site.log.topics().iter().find(|topic| topic.is_linked()).unwrap().info().clone();
    (info.id, info.name, info.config.partitions) = (TopicId(topic), format!("bad/t{topic}"), partitions);
    site.log.adopt_linked_topic(info).unwrap();
    let id = PartitionId { origin: OriginId(origin), topic: TopicId(topic), index };
    let part = LinkedPart::Batch(sound(id, 0, 70, events).into());
    site.log.take_linked(id.origin, Linked { link: 9, hlc: 0, path: vec![4] }, vec![part]).await.unwrap();
    site.log.note_linked(id.origin, true);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wrong_with_one_link_ends_nothing_for_the_others() {
    let (plant, hq, other, _) = fed().await;
    let within = Arc::clone(hq.upstream().within());
    let wire = Wire::to(&other).await;
    within.set_nodes(Arc::clone(&wire) as _, Vec::new());
    let sending = tokio::spawn(Arc::clone(&within).run());
    other.until_fed_by(&plant, &TOPICS).await;
    // An edge has offered a topic with eight partitions to one node, and with four to the other.
    bring(&other, (40, 41), 4, 0, &["a"]).await;
    bring(&hq, (40, 42), 8, 5, &["b"]).await;
    within.note_brought(OriginId(42));
    // What it goes on with is sound.
    bring(&hq, (43, 44), 4, 0, &["c"]).await;
    within.note_brought(OriginId(44));
    until("what is sound comes", || other.log.store().linked_origin(OriginId(44)).is_some()).await;
    for n in 0..20 {
        plant.append(&["telemetry"], &format!("later {n}")).await;
    }
    other.until_fed_by(&plant, &TOPICS).await;
    assert_eq!(other.log.store().linked_origin(OriginId(42)), None);
    assert_eq!(wire.opened.load(Ordering::Relaxed), 1, "the stream has never ended");
    sending.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_under_way_of_an_origin_that_was_refused_is_to_be_offered_again_soon() {
    let (_plant, hq, _other, ids) = fed().await;
    let wire = Wire::to(&hq).await;
    let (mut out, mut from) = wire.open(OTHER).await.unwrap();
    let hello =
        Hello { protocol: PROTOCOL, program: "p".into(), site: 2, name: "n".into(), priority: 1, is_first: true };
    let linked = hq.log.store().linked_origin(ids[0].origin).unwrap();
    let part = |hlc| LinkedPart::Batch(sound(ids[0], 0, hlc, &["something else"]).into());
    let parts = |number| Said::Parts(Parts { number, origin: ids[0].origin, parts: vec![part(1)] });
    // The second one was under way when the first one was found to be another than what is here.
    let topic = hq.log.topic_by_id(ids[0].topic).unwrap().info().clone();
    let (hello, whose) = (Said::Hello(hello), Said::Whose(linked.link, "plant".to_owned()));
    let offer = [hello, whose, Said::Offer(ids[0].origin, linked.path), Said::Topic(topic)];
    for said in offer.into_iter().chain([parts(1), parts(2)]) {
        out.send_frame(&said.encode()).await.unwrap();
    }
    let mut heard = Vec::new();
    while heard.len() < 3 {
        let frame = tokio::time::timeout(LONG, from.receive_frame(1 << 16)).await.unwrap().unwrap().unwrap();
        heard.push(Answer::decode(&frame).unwrap());
    }
    let codes: Vec<_> = heard[1..]
        .iter()
        .map(|answer| match answer {
            Answer::Refused(refused) => refused.code.as_str(),
            _ => panic!("{heard:?}"),
        })
        .collect();
    assert_eq!(codes, ["again", "again"], "{heard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_removed_link_brought_comes_to_who_never_had_it_and_not_back_to_who_has_forgotten_it() {
    let (plant, hq, other, ids) = fed().await;
    plant.stop_edge().await;
    hq.upstream().remove("plant", "test").await.unwrap();
    // The other one knows of the removal, as a node of the same site does.
    let (name, link) = hq.catalog.links().into_iter().next().unwrap();
    let import = Change::ImportLink { name: name.to_string(), link: (*link).clone() };
    other.catalog.propose(import, "test").await.unwrap();
    let origin = ids[0].origin;
    assert!(hq.upstream().forget_one() == Ok(false), "it has events");
    let leaving = Arc::clone(hq.upstream().within());
    leaving.set_nodes(Wire::to(&other).await, Vec::new());
    let sending = tokio::spawn(Arc::clone(&leaving).run());
    other.until_fed_by(&plant, &TOPICS).await;
    assert_eq!(leaving.hand_over(LONG).await, Ok(()));
    // Retention takes it there first.
    ids.iter().for_each(|id| drop(other.log.store().trim(*id, u64::MAX, 100).unwrap()));
    until("it is forgotten", || other.upstream().forget_one() == Ok(true)).await;
    sending.abort();
    let _ = sending.await;
    let sending = tokio::spawn(Arc::clone(&leaving).run());
    assert_eq!(leaving.hand_over(LONG).await, Ok(()), "the other one had all of it");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert_eq!(other.log.store().linked_origin(origin), None, "it does not come back");
    // Of what is newer than all that was there the other one is told, and takes it.
    let end = hq.log.store().end_offset(ids[0]);
    let newer = LinkedPart::Batch(sound(ids[0], end, u64::MAX >> 1, &["newer"]).into());
    hq.log.take_linked(origin, hq.log.store().linked_origin(origin).unwrap(), vec![newer]).await.unwrap();
    assert!(leaving.hand_over(Duration::from_millis(50)).await.is_err());
    sending.abort();
    let _ = sending.await;
    let sending = tokio::spawn(Arc::clone(&leaving).run());
    assert_eq!(leaving.hand_over(LONG).await, Ok(()));
    assert_eq!(other.log.store().end_offset(ids[0]), end + 1);
    sending.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_does_not_go_where_a_third_node_fills_it() {
    // Also where that one gives no answer at first.
    for mute_for in [0, 3] {
        let (plant, hq, other, ids) = fed().await;
        let third = Site::node(4, 2).await;
        copy(&hq, &third, &ids).await;
        ids.iter().for_each(|id| drop(hq.log.store().trim(*id, 1, 100).unwrap()));
        let within = Arc::clone(hq.upstream().within());
        let third_within = Other(Arc::clone(third.upstream().within()));
        let wire = Wire::to(&other).await;
        let two = Arc::new(Two { wire, third: third_within, asked: AtomicU32::new(0), mute_for });
        within.set_nodes(Arc::clone(&two) as _, Vec::new());
        let sending = tokio::spawn(within.run());
        until("the third one is asked and answers", || two.asked.load(Ordering::Relaxed) > mute_for).await;
        // As that one sends it.
        copy(&third, &other, &ids).await;
        plant.append(&["telemetry"], "later").await;
        other.until_fed_by(&plant, &TOPICS).await;
        assert!(ids.iter().all(|id| other.log.store().holes(*id).is_empty()), "{mute_for}");
        sending.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_third_node_that_never_answers_holds_a_gap_back_for_a_while() {
    let (plant, hq, other, ids) = fed().await;
    let third = Site::node(4, 2).await;
    ids.iter().for_each(|id| drop(hq.log.store().trim(*id, 1, 100).unwrap()));
    let within = Arc::clone(hq.upstream().within());
    let third_within = Other(Arc::clone(third.upstream().within()));
    let wire = Wire::to(&other).await;
    let two = Two { wire, third: third_within, asked: AtomicU32::new(0), mute_for: u32::MAX };
    within.set_nodes(Arc::new(two), Vec::new());
    let began = Instant::now();
    let sending = tokio::spawn(within.run());
    let ends = |site: &Site| ids.iter().map(|id| site.log.visible_end(*id)).collect::<Vec<_>>();
    until("it goes without it", || ends(&other) == ends(&hq)).await;
    assert!(began.elapsed() >= Duration::from_secs(3), "{:?}", began.elapsed());
    assert!(ids.iter().any(|id| !other.log.store().holes(*id).is_empty() || other.log.start_offset(*id) > 0));
    drop(plant);
    sending.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_edge_brings_any_more_comes_where_the_other_stands_still() {
    let (plant, hq, other, _) = fed().await;
    plant.stop_edge().await;
    let within = Arc::clone(hq.upstream().within());
    until("it was brought long ago", || !within.sends_at_once(OTHER, plant.log.store().origin())).await;
    within.set_nodes(Wire::to(&other).await, Vec::new());
    let sending = tokio::spawn(within.run());
    other.until_fed_by(&plant, &TOPICS).await;
    sending.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_is_told_that_it_is_stored_when_a_quorum_has_it() {
    let (plant, hq, other) = (Site::new(1).await, Site::new(2).await, Site::node(3, 2).await);
    let within = Arc::clone(hq.upstream().within());
    within.set_nodes(Wire::to(&other).await, vec!["*/telemetry".to_owned()]);
    hq.log.set_replicas(&[OTHER.0], 1);
    plant.append(&["alarms"], "not asked for").await;
    plant.feed(&hq, "plant", vec![link(&["*"], &[])]).await;
    let lag = || plant.edge().views()[0].lag.events;
    until("it is stored", || plant.edge().views()[0].events == 1 && lag() == 0).await;
    for n in 0..9 {
        plant.append(&["telemetry"], &format!("{n}")).await;
    }
    hq.until_fed_by(&plant, &TOPICS).await;
    assert_eq!((lag(), plant.edge().views()[0].events), (9, 1), "one node has it");
    let sending = tokio::spawn(within.run());
    until("both have it", || lag() == 0).await;
    other.until_fed_by(&plant, &TOPICS).await;
    sending.abort();
}
