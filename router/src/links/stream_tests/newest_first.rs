//! Live before backlog: what is new is upstream at once, and what was missed comes behind it, exactly once and in order for who keeps a cursor.

use sled_data::{HoleWhy, PartitionId};

use super::forged::{Forger, plant_and_hq};
use super::lab::{Site, until};
use super::link;
use crate::links::begin::Stand;
use crate::links::class::{Backlog, Priority};
use crate::links::config::{Compress, LinkConfig};
use crate::links::gate::Gate;
use crate::links::sender::{Sender, Session};
use crate::links::wire::Answer;

/// A line on which the backlog of these tests takes some eight seconds.
fn slow() -> LinkConfig {
    let (rate_bytes_max, compress) = (20_000, Compress::Off);
    LinkConfig { rate_bytes_max, compress, backlog: Backlog::Newest, ..link(&["*"], &[]) }
}

/// Some 150 KB that nothing makes smaller.
async fn miss(plant: &Site, random: &mut u64) {
    for n in 0..30 {
        let mut letter = || {
            *random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            char::from(b' ' + (*random >> 33) as u8 % 90)
        };
        let value: String = (0..5_000).map(|_| letter()).collect();
        plant.append_to("telemetry", 0, &format!("{n:03}{value}")).await;
    }
}

fn partition(plant: &Site) -> PartitionId {
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_new_is_there_long_before_what_was_missed() {
    let (mut plant, mut hq) = (Site::new(1).await, Site::new(2).await);
    let mut random = 1;
    plant.feed(&hq, "plant", vec![slow()]).await;
    plant.append_to("telemetry", 0, "first").await;
    hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
    let id = partition(&plant);
    let mut ordered = Ordered { next: 0, seen: Vec::new() };
    hq.cut().await;
    miss(&plant, &mut random).await;
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
    until("it is cut", || hq.upstream().views()[0].state == crate::links::State::Revoked).await;
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
async fn an_older_upstream_gets_all_in_order_and_people_are_told() {
    let (plant, hq, batches) = plant_and_hq().await;
    miss(&plant, &mut 3).await;
    plant.append_to("telemetry", 0, "newest").await;
    let id = batches[0].envelope().partition;
    // whether upstream says what lies ahead, the first offset that goes in the topic's own stream, what people are told
    for (knows, expected, is_told) in [(true, 3, false), (false, 0, true)] {
        let mut forger = Forger::connect(&plant, &hq).await;
        let session = std::sync::Arc::new(Session {
            log: std::sync::Arc::clone(&plant.log),
            name: "up".to_owned(),
            config: LinkConfig { backlog: Backlog::Newest, ..link(&["*"], &[]) },
            site: 1,
            page: Default::default(),
            gate: Gate::new(plant.log.clock(), &forger.connection, None),
            down: Default::default(),
            due: tokio::sync::watch::Sender::new(None),
            left: Default::default(),
            fills: Default::default(),
            flow: crate::links::topics::Flow::Up,
        });
        let sender = Sender::new(&session, Priority::Normal, true, 0);
        sender.discover(&mut forger.out).await.unwrap();
        if knows {
            sender.hear(Answer::Ahead(Vec::new())).await.unwrap();
        }
        let stand = Stand { end: 0, hlc: 0, digest: 0, is_gapless: true };
        sender.hear(Answer::Stands(vec![(id, stand)])).await.unwrap();
        let round = sender.lanes.lock().next_round(plant.log.store(), 1 << 20, &|| 0).unwrap().unwrap();
        let first = round.parts.iter().find_map(|part| match part {
            sled_data::LinkedPart::Batch(batch) => Some(batch.base_offset()),
            sled_data::LinkedPart::Hole(..) => None,
        });
        assert!(first >= Some(expected) && (expected > 0 || first == Some(0)), "{first:?} {expected}");
        let told = session.page.lock().refusals.iter().any(|text| text.contains("is older"));
        assert_eq!((told, session.fills.lock().contains_key(&id)), (is_told, knows));
    }
}
