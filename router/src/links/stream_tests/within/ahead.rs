//! What lies ahead at one node of a site, and what another one brings there.

use sled_data::{Hole, HoleWhy};

use super::super::newest_first::{miss, slow};
use super::*;
use crate::event_log::Comes;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_ahead_and_does_not_fit_what_the_other_node_brings_is_dropped() {
    let (plant, hq, other, _) = fed().await;
    for n in 0..20 {
        plant.append_to("telemetry", 0, &format!("more {n}")).await;
    }
    hq.until_fed_by(&plant, &TOPICS).await;
    let id = plant.log.topic("telemetry").unwrap().partition(0).unwrap().id();
    // The edge had gone on ahead at the other node, and was restored before it came to this one.
    copy(&hq, &other, &[]).await;
    other.log.adopt_linked_topic(hq.log.topic_by_id(id.topic).unwrap().info().clone()).unwrap();
    let first = hq.log.store().read(id, 0, 1).unwrap().remove(0);
    let from = first.next_offset();
    let later = |from, to| LinkedPart::Hole(id, Hole { from, to, why: HoleWhy::Later, at_ms: 0 });
    let lost = |at| LinkedPart::Batch(sound(id, at, 70, &["what is gone", "and this"]).into());
    let linked = hq.log.store().linked_origin(id.origin).unwrap();
    let parts =
        vec![LinkedPart::Batch(first), later(from, from + 5), lost(from + 5), later(from + 7, 1_000), lost(1_000)];
    other.log.take_linked(id.origin, linked, parts).await.unwrap();
    assert_eq!((other.log.visible_end(id), other.log.store().parts_ahead(id).len()), (from, 2));
    let within = Arc::clone(hq.upstream().within());
    let wire = Wire::to(&other).await;
    within.set_nodes(Arc::clone(&wire) as _, Vec::new());
    let sending = tokio::spawn(within.run());
    other.until_fed_by(&plant, &TOPICS).await;
    for n in 0..5 {
        plant.append_to("telemetry", 0, &format!("later {n}")).await;
    }
    other.until_fed_by(&plant, &TOPICS).await;
    // What has not been reached stays: nothing shows what it is.
    let ahead: Vec<_> = other.log.store().parts_ahead(id).iter().map(|part| part.from).collect();
    assert_eq!((ahead, wire.opened.load(Ordering::Relaxed)), (vec![1_000], 1), "and the stream has never ended");
    assert!(other.log.store().verify(&mut |_| {}).unwrap().is_clean());
    sending.abort();
}

/// It counts what lies ahead as stored when all before it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_hears_that_what_lay_ahead_was_dropped() {
    let (plant, mut hq) = (Site::new(1).await, Site::new(2).await);
    plant.feed(&hq, "plant", vec![slow()]).await;
    plant.append_to("telemetry", 0, "first").await;
    hq.until_fed_by(&plant, &TOPICS).await;
    let id = plant.log.topic("telemetry").unwrap().partition(0).unwrap().id();
    hq.cut().await;
    miss(&plant, &mut 5).await;
    hq.listen_again().await;
    until("it goes on ahead", || hq.log.store().ahead(id).is_some()).await;
    plant.append_to("telemetry", 0, "fresh").await;
    until("what is new is there", || hq.log.newest_end(id) == 32).await;
    // Another node has all that was missed, but for that.
    let from = hq.log.store().ahead(id).unwrap().from;
    let mut missed = plant.log.store().read(id, 1, usize::MAX).unwrap();
    missed.retain(|batch| batch.next_offset() <= from);
    let (linked, parts) = (hq.log.store().linked_origin(id.origin).unwrap(), missed.into_iter().map(LinkedPart::Batch));
    let brought = (Comes::WithinSite, Arc::new(()) as crate::event_log::Held);
    hq.log.take_linked_held(id.origin, linked, parts.collect(), brought).await.unwrap();
    assert_eq!((hq.log.visible_end(id), hq.log.store().dropped_ahead(id)), (from, 1));
    // The edge says no more for now, and was told that "fresh" is stored.
    hq.until_fed_by(&plant, &TOPICS).await;
    until("the edge knows it", || plant.edge().views()[0].lag.events == 0).await;
}
