//! What lies ahead at one node of a site, and what another one brings there.

use sled_data::{Hole, HoleWhy};

use super::*;

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
