//! A class whose events are worth nothing after a while: what waited for longer is told, not sent.

use super::lab::{Site, until};
use super::link;
use crate::links::class::LinkClass;
use crate::links::config::LinkConfig;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_older_than_its_deadline_is_told_and_not_sent() {
    let (plant, mut hq) = (Site::new(1).await, Site::new(2).await);
    let class = LinkClass { topics: vec!["position".to_owned()], drop_after_s: 1, ..LinkClass::default() };
    plant.feed(&hq, "plant", vec![LinkConfig { class: vec![class], ..link(&["*"], &[]) }]).await;
    plant.append_to("position", 0, "first").await;
    plant.append_to("telemetry", 0, "first").await;
    hq.until_fed_by(&plant, &[("position", "plant/position"), ("telemetry", "plant/telemetry")]).await;
    hq.cut().await;
    for n in 0..20 {
        plant.append_to("position", 0, &format!("old {n}")).await;
        plant.append_to("telemetry", 0, &format!("old {n}")).await;
    }
    let partition = plant.log.topic("position").unwrap().partition(0).unwrap().id();
    let newest = plant.log.store().last_batch_hlc(partition).unwrap();
    until("they are too old", || plant.log.clock().wall_ms() > sled_data::hlc_ms(newest) + 1_000).await;
    plant.append_to("position", 0, "new").await;
    hq.listen_again().await;
    until("the new one is there", || hq.values("plant/position").contains(&"new".to_owned())).await;
    assert_eq!(hq.values("plant/position"), ["first", "new"]);
    hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
    assert_eq!(hq.values("plant/telemetry").len(), 21);
    // What waited and is sent all the same is told from what came in time.
    let late = |topic: &str| {
        let id = hq.log.topic(topic).unwrap().id();
        let id =
            hq.log.all_partitions().iter().map(|all| all.id()).find(|all| all.topic == id && all.index == 0).unwrap();
        let batches = hq.log.read(id, 0, 1 << 20).unwrap();
        (hq.log.store().late(id), batches.iter().filter(|batch| batch.is_late()).count())
    };
    let (ranges, batches) = late("plant/telemetry");
    assert_eq!(ranges, [sled_data::Late { from: 1, to: 21 }]);
    assert_eq!(batches, 20);
    assert_eq!(late("plant/position"), (vec![], 0));
    let gaps = &hq.upstream().views()[0].gaps;
    let [gap] = &gaps[..] else { panic!("one gap: {gaps:?}") };
    assert_eq!((gap.from, gap.to, gap.why, gap.topic.as_str()), (1, 21, "deadline", "plant/position"));
    let brought = || plant.edge().views()[0].brought();
    until("the edge has heard", || plant.edge().views()[0].lag.events == 0 && brought().dropped_events > 0).await;
    assert_eq!(brought().dropped_events, 20);
    assert!(brought().dropped_bytes > 20 * 100, "{:?}", brought());
}
