//! Live before backlog: what is new is upstream at once, and what was missed comes behind it, exactly once and in order for who keeps a cursor.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sled_data::{HoleWhy, PartitionId};

use super::forged::{Forger, plant_and_hq};
use super::lab::{Site, until};
use super::link;
use crate::links::State;
use crate::links::begin::Stand;
use crate::links::class::{Backlog, Priority};
use crate::links::config::{Compress, LinkConfig};
use crate::links::gate::Gate;
use crate::links::later::LiesAhead;
use crate::links::sender::{Sender, Session};
use crate::links::topics::Flow;
use crate::links::wire::Answer;

/// A line on which the backlog of these tests takes some eight seconds.
pub(super) fn slow() -> LinkConfig {
    let (rate_bytes_max, compress) = (20_000, Compress::Off);
    LinkConfig { rate_bytes_max, compress, backlog: Backlog::Newest, ..link(&["*"], &[]) }
}

/// Some 150 KB that nothing makes smaller.
pub(super) async fn miss(plant: &Site, random: &mut u64) {
    for n in 0..30 {
        let mut letter = || {
            *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b' ' + (*random >> 33) as u8 % 90)
        };
        let value: String = (0..5_000).map(|_| letter()).collect();
        plant.append_to("telemetry", 0, &format!("{n:03}{value}")).await;
    }
}

/// What the streams share of a link that sends what is live first.
pub(super) fn session(plant: &Site, forger: &Forger) -> Arc<Session> {
    Arc::new(Session {
        log: Arc::clone(&plant.log),
        name: "up".to_owned(),
        config: LinkConfig { backlog: Backlog::Newest, ..link(&["*"], &[]) },
        site: 1,
        page: Default::default(),
        gate: Gate::new(plant.log.clock(), &forger.connection, None),
        down: Default::default(),
        due: tokio::sync::watch::Sender::new(None),
        left: Default::default(),
        fills: Default::default(),
        flow: Flow::Up,
    })
}

pub(super) fn partition(plant: &Site) -> PartitionId {
    plant.log.topic("telemetry").unwrap().partition(0).unwrap().id()
}

/// What is there ahead of where who keeps a cursor may read.
fn ahead(hq: &Site, id: PartitionId) -> Vec<String> {
    let mut next = hq.log.visible_end(id);
    let mut found = Vec::new();
    loop {
        let batches = hq.log.read_newest(id, next, 1 << 20).unwrap();
        let Some(last) = batches.last() else { return found };
        for batch in &batches {
            let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap()).into_owned();
            found.extend(batch.events_from(next).map(|(_, record)| text(record.value)));
        }
        next = last.next_offset();
    }
}

/// The offsets that who keeps a cursor has seen, read as they become visible.
struct Ordered {
    next: u64,
    seen: Vec<u64>,
}

impl Ordered {
    fn read(&mut self, hq: &Site, id: PartitionId) {
        while self.next < hq.log.visible_end(id) {
            for batch in hq.log.read(id, self.next, 1 << 20).unwrap() {
                self.seen.extend(batch.events_from(self.next).map(|(offset, _)| offset));
                self.next = batch.next_offset();
            }
        }
    }
}

/// A plant that has fed its headquarters one event and is cut off since, and much that has come there meanwhile.
async fn cut_off(random: &mut u64) -> (Site, Site, PartitionId) {
    let (plant, mut hq) = (Site::new(1).await, Site::new(2).await);
    plant.feed(&hq, "plant", vec![slow()]).await;
    plant.append_to("telemetry", 0, "first").await;
    hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
    let id = partition(&plant);
    hq.cut().await;
    miss(&plant, random).await;
    (plant, hq, id)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_new_is_there_long_before_what_was_missed() {
    let (mut plant, mut hq, id) = cut_off(&mut 1).await;
    let mut ordered = Ordered { next: 0, seen: Vec::new() };
    hq.listen_again().await;
    until("it goes on ahead", || hq.log.store().ahead(id).is_some()).await;
    plant.append_to("telemetry", 0, "fresh").await;
    until("what is new is there", || ahead(&hq, id).contains(&"fresh".to_owned())).await;
    ordered.read(&hq, id);
    assert!(ordered.next < 29, "what was missed went before: {} of 32", ordered.next);
    assert_eq!(ordered.seen.len() as u64, ordered.next);
    let later = |site: &Site, is_edge: bool| {
        let view = if is_edge { site.edge().views().remove(0) } else { site.upstream().views().remove(0) };
        view.later.first().map(|later| (later.topic.clone(), later.to))
    };
    until("upstream says so", || later(&hq, false).is_some_and(|(topic, _)| topic == "plant/telemetry")).await;
    assert_eq!(later(&plant, true).map(|(topic, to)| (topic, to >= 30)), Some(("telemetry".to_owned(), true)));
    // It is cut in the midst of that, and the edge starts anew: all goes on as it was.
    hq.cut().await;
    plant.stop_edge().await;
    plant.append_to("telemetry", 0, "fresher").await;
    hq.listen_again().await;
    plant.feed_again(vec![slow()]);
    until("it is there too", || ahead(&hq, id).contains(&"fresher".to_owned()) || hq.log.visible_end(id) == 33).await;
    hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
    ordered.read(&hq, id);
    assert_eq!(ordered.seen, (0..33).collect::<Vec<u64>>());
    assert!(hq.log.store().holes(id).is_empty() && hq.log.store().ahead(id).is_none());
    until("the edge knows it", || plant.edge().views()[0].lag.events == 0).await;
    assert!(plant.edge().views()[0].later.is_empty() && hq.upstream().views()[0].later.is_empty());
    assert!(hq.log.store().verify(&mut |_| {}).unwrap().is_clean());
}

/// A link that flaps: what is newest is there after each outage, though what was missed at the ones before has not come.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_new_is_there_first_after_each_outage() {
    let (mut plant, mut hq) = (Site::new(1).await, Site::new(2).await);
    let mut random = 4;
    // Slow enough for a hole to stay open on a machine that has much to do.
    let slow = || LinkConfig { rate_bytes_max: 15_000, ..slow() };
    plant.feed(&hq, "plant", vec![slow()]).await;
    plant.append_to("telemetry", 0, "first").await;
    hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
    let id = partition(&plant);
    let mut ordered = Ordered { next: 0, seen: Vec::new() };
    for outage in 1..=2 {
        hq.cut().await;
        miss(&plant, &mut random).await;
        // As long as it takes to be an outage, and not a moment.
        tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
        if outage == 2 {
            plant.stop_edge().await;
        }
        hq.listen_again().await;
        if outage == 2 {
            plant.feed_again(vec![slow()]);
        }
        until("it goes on ahead once more", || hq.log.store().parts_ahead(id).len() == outage).await;
        let fresh = format!("fresh {outage}");
        plant.append_to("telemetry", 0, &fresh).await;
        until("what is new is there", || ahead(&hq, id).contains(&fresh)).await;
        ordered.read(&hq, id);
        assert!(ordered.next < 25, "what was missed went before: {}", ordered.next);
        until("the edge shows each open hole", || plant.edge().views()[0].later.len() == outage).await;
        assert_eq!(hq.upstream().views()[0].later.len(), outage);
    }
    hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
    ordered.read(&hq, id);
    assert_eq!(ordered.seen, (0..63).collect::<Vec<u64>>());
    assert!(hq.log.store().holes(id).is_empty() && hq.log.store().ahead(id).is_none());
    until("the edge knows it", || plant.edge().views()[0].lag.events == 0).await;
    assert!(plant.edge().views()[0].later.is_empty() && hq.upstream().views()[0].later.is_empty());
    assert!(hq.log.store().verify(&mut |_| {}).unwrap().is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_removed_leaves_a_gap_and_what_lies_ahead() {
    let (plant, mut hq) = (Site::new(1).await, Site::new(2).await);
    let mut random = 2;
    plant.feed(&hq, "plant", vec![slow()]).await;
    plant.append_to("telemetry", 0, "first").await;
    hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
    let id = partition(&plant);
    hq.cut().await;
    miss(&plant, &mut random).await;
    hq.listen_again().await;
    until("it goes on ahead", || !ahead(&hq, id).is_empty()).await;
    hq.upstream().remove("plant", "test").await.unwrap();
    until("it is cut", || hq.upstream().views()[0].state == State::Revoked).await;
    let closed = || {
        hq.upstream().forget_one().unwrap();
        hq.log.store().ahead(id).is_none()
    };
    until("what was missed is given up", closed).await;
    assert_eq!(hq.log.visible_end(id), hq.log.store().end_offset(id));
    let holes = hq.log.store().holes(id);
    assert!(holes.len() == 1 && holes[0].why == HoleWhy::Removed, "{holes:?}");
    assert_eq!(hq.upstream().views()[0].gaps[0].why, "link-removed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_ahead_is_given_up_where_the_name_is_another_links_by_now() {
    let (plant, mut hq, id) = cut_off(&mut 3).await;
    let other = Site::new(3).await;
    hq.listen_again().await;
    until("it goes on ahead", || !ahead(&hq, id).is_empty()).await;
    // Nobody looks in between.
    hq.upstream().remove("plant", "test").await.unwrap();
    plant.stop_edge().await;
    other.feed(&hq, "plant", vec![slow()]).await;
    let closed = || {
        hq.upstream().forget_one().unwrap();
        hq.log.store().ahead(id).is_none()
    };
    until("what was missed is given up", closed).await;
    let holes = hq.log.store().holes(id);
    assert!(holes.len() == 1 && holes[0].why == HoleWhy::Removed, "{holes:?}");
    assert_eq!(hq.log.visible_end(id), hq.log.store().end_offset(id));
    // What the other one brings stays as it is.
    other.append_to("telemetry", 0, "first").await;
    let others = partition(&other);
    until("it has come", || hq.log.visible_end(others) == 1).await;
    hq.cut().await;
    miss(&other, &mut 4).await;
    hq.listen_again().await;
    until("it goes on ahead as well", || hq.log.store().ahead(others).is_some()).await;
    hq.upstream().forget_one().unwrap();
    assert!(hq.log.store().ahead(others).is_some(), "its link stands");
}

/// What waits is counted the same after a restart, so that what is kept for the link is no less.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_ahead_upstream_is_known_after_a_restart_while_the_link_is_cut() {
    let (mut plant, mut hq) = (Site::new(1).await, Site::new(2).await);
    plant.feed(&hq, "plant", vec![slow()]).await;
    plant.append_to("telemetry", 0, "first").await;
    hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
    let id = partition(&plant);
    hq.cut().await;
    miss(&plant, &mut 10).await;
    hq.listen_again().await;
    until("it goes on ahead", || hq.log.store().ahead(id).is_some()).await;
    plant.append_to("telemetry", 0, "fresh").await;
    let view = || plant.edge().views().remove(0);
    until("what is new is there", || ahead(&hq, id).contains(&"fresh".to_owned())).await;
    until("the edge knows it", || view().lag.events + view().events == 32).await;
    hq.cut().await;
    until("it is noted", || view().state == State::Cut).await;
    plant.append_to("telemetry", 0, "behind the note").await;
    let waits = |plant: &Site| {
        let view = plant.edge().views().remove(0);
        (view.lag.events, view.later_events)
    };
    let before = waits(&plant);
    assert!(before.1 > 0 && before.0 > before.1, "{before:?}");
    plant.stop_edge().await;
    plant.feed_again(vec![slow()]);
    assert_eq!(waits(&plant), before);
}

/// What was missed when an edge was restored is told as a gap up to what lies ahead upstream, and the edge has nothing there.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_edge_notes_no_more_as_stored_than_it_has() {
    let mut random = 5;
    let (mut plant, mut hq, id) = cut_off(&mut random).await;
    let (image, end) = (plant.image(), plant.log.visible_end(id));
    miss(&plant, &mut random).await;
    hq.listen_again().await;
    until("it goes on ahead", || hq.log.store().ahead(id).is_some_and(|part| part.from < part.end)).await;
    let part = hq.log.store().ahead(id).unwrap();
    assert!(end < part.from, "{end} {part:?}");
    plant.stop_edge().await;
    plant.cut().await;
    // The edge comes back as it was during the outage, hears that upstream has more, and begins a new life.
    let reborn = plant.reborn(image).await;
    assert_eq!(reborn.log.visible_end(id), end);
    reborn.open_edge(vec![LinkConfig { rate_bytes_max: 0, ..slow() }]);
    until("the hole is full", || hq.log.visible_end(id) >= part.end).await;
    until("the edge knows it", || reborn.edge().views()[0].lag.events == 0).await;
    hq.cut().await;
    until("it is noted", || reborn.edge().views()[0].state == State::Cut).await;
    reborn.append_to("telemetry", 0, "behind the note").await;
    let refused = reborn.log.stats().refused_failed.load(Ordering::Relaxed);
    assert_eq!((refused, reborn.log.cursor("link:up", id).unwrap()), (0, Some(end)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_upstream_gets_all_in_order_and_people_are_told() {
    let (plant, hq, batches) = plant_and_hq().await;
    miss(&plant, &mut 3).await;
    plant.append_to("telemetry", 0, "newest").await;
    let id = batches[0].envelope().partition;
    // The first three events of what was missed are there already.
    let newest = plant.log.visible_end(id);
    let clock = |offset| plant.log.store().hlc_before(id, offset).unwrap();
    let there = LiesAhead { from: 3, end: 6, first: clock(4), hlc: clock(6) };
    let (one, all) = (vec![(id, there)], vec![(id, vec![there])]);
    // what upstream says of what lies ahead, where the topic's own stream begins, whether it tells of an open hole, what people are told
    let cases = [
        (Some(Answer::Ahead(Vec::new())), 0, true, false),
        (Some(Answer::AllAhead(Vec::new())), 0, true, false),
        (None, 0, false, true),
        (Some(Answer::Ahead(one)), 6, false, true),
        (Some(Answer::AllAhead(all)), 6, true, false),
    ];
    for (said, expected, skips, is_told) in cases {
        let mut forger = Forger::connect(&plant, &hq).await;
        let session = session(&plant, &forger);
        let sender = Sender::new(&session, Priority::Normal, true, 0);
        sender.discover(&mut forger.out).await.unwrap();
        let knows = said.is_some();
        if let Some(said) = said {
            sender.hear(said).await.unwrap();
        }
        let stand = Stand { end: 0, hlc: 0, digest: 0, is_gapless: true };
        sender.hear(Answer::Stands(vec![(id, stand)])).await.unwrap();
        let round = sender.lanes.lock().next_round(plant.log.store(), 1 << 20, &|| 0).unwrap().unwrap();
        let (from, to) = match &round.parts[0] {
            sled_data::LinkedPart::Batch(batch) => (batch.base_offset(), None),
            sled_data::LinkedPart::Hole(_, hole) => (hole.from, Some(hole.to)),
        };
        assert_eq!((from, to.is_some()), (expected, skips), "{round:?}");
        let fills = session.fills.lock().get(&id).copied();
        // What is missed goes up to where the last open hole ends.
        let fills_to = if expected > 0 { Some(3) } else { None };
        assert_eq!(fills, to.or(fills_to));
        assert!(to.is_none_or(|to| to > newest - 4 && to < newest), "{to:?} of {newest}");
        let told = session.page.lock().refusals.iter().any(|text| text.contains("is older"));
        assert_eq!((told, knows || fills.is_none()), (is_told, true));
    }
}
