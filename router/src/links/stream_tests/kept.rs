//! A link that brings more than its share of the disk loses the oldest of it, and takes nothing from others.

use sled_data::{Hole, HoleWhy, LinkedPart};

use super::lab::{Site, until};
use super::link;
use super::newest_first::{miss, partition, slow};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_keeps_its_share_and_no_more_and_harms_no_other() {
    let (large, small, hq) = (Site::new(1).await, Site::new(3).await, Site::new(2).await);
    large.feed(&hq, "large", vec![link(&["*"], &[])]).await;
    small.feed(&hq, "small", vec![link(&["*"], &[])]).await;
    small.append(&["telemetry"], "1").await;
    hq.append(&["telemetry"], "own").await;
    let all: Vec<String> = (0..60).map(|n| format!("{n:02} {}", "x".repeat(400))).collect();
    for value in &all[..40] {
        large.append(&["telemetry", "alarms"], value).await;
    }
    let topics = [("telemetry", "large/telemetry"), ("alarms", "large/alarms")];
    hq.until_fed_by(&large, &topics).await;
    hq.until_fed_by(&small, &[("telemetry", "small/telemetry")]).await;
    let view = |name: &str| hq.upstream().views().into_iter().find(|view| view.name == name).unwrap();
    let (before, of_small) = (view("large").kept_bytes, view("small").kept_bytes);
    assert!(before > 2 * of_small && of_small > 0);
    assert_eq!(hq.upstream().keep_share(0).unwrap().went, []);
    assert_eq!(hq.upstream().keep_share(before).unwrap().went, []);
    let bound = before / 2;
    let pass = hq.upstream().keep_share(bound).unwrap();
    assert!(!pass.more && !pass.went.is_empty());
    let after = view("large");
    assert!(after.kept_bytes <= bound && after.kept_bytes > bound / 2, "{} of {bound}", after.kept_bytes);
    assert_eq!((after.shed_bytes, view("small").shed_bytes), (before - after.kept_bytes, 0));
    assert_eq!((view("small").kept_bytes, hq.values("telemetry")), (of_small, vec!["own".to_owned()]));
    // The newest are those that are kept, of whichever partition.
    for (_, topic) in topics {
        let kept = hq.values(topic);
        assert!(kept.len() > 10 && kept.len() < 30 && kept[..] == all[40 - kept.len()..40], "{topic}: {}", kept.len());
    }
    // It goes on, what went does not come again, and the bound holds.
    for value in &all[40..] {
        large.append(&["telemetry", "alarms"], value).await;
    }
    until("the last one is there", || hq.values("large/alarms").last() == all.last()).await;
    assert!(!hq.values("large/telemetry").contains(&all[0]));
    hq.upstream().keep_share(bound).unwrap();
    assert!(view("large").kept_bytes <= bound);
    assert!(hq.values("large/telemetry").last() == all.last());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_ahead_counts_and_goes_when_all_before_it_has_gone() {
    let (plant, mut hq) = (Site::new(1).await, Site::new(2).await);
    plant.feed(&hq, "plant", vec![link(&["*"], &[])]).await;
    for n in 0..4 {
        plant.append_to("telemetry", 0, &format!("{n:02} {}", "x".repeat(400))).await;
    }
    hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
    hq.cut().await;
    for n in 4..30 {
        plant.append_to("telemetry", 0, &format!("{n:02} {}", "x".repeat(400))).await;
    }
    // The newest ten of what was missed are there before the others.
    let id = plant.log.topic("telemetry").unwrap().partition(0).unwrap().id();
    let all = plant.log.store().read(id, 0, usize::MAX).unwrap();
    assert_eq!(all.len(), 30);
    let store = hq.log.store();
    let linked = store.linked_origin(id.origin).unwrap();
    let later = LinkedPart::Hole(id, Hole { from: 4, to: 20, why: HoleWhy::Later, at_ms: 0 });
    let parts: Vec<_> = [later].into_iter().chain(all[20..].iter().cloned().map(LinkedPart::Batch)).collect();
    store.take_linked(id.origin, &linked, &parts).unwrap();
    let bytes = |from: usize| all[from..].iter().map(|batch| batch.bytes().len() as u64).sum::<u64>();
    let kept = || hq.upstream().views().remove(0).kept_bytes;
    let ahead = || store.ahead(id).map(|ahead| (ahead.from, ahead.end));
    let reach = || (store.start_offset(id), store.end_offset(id));
    assert_eq!(kept(), store.reach(id).bytes + bytes(20));
    // What is left of what lies before goes first.
    hq.upstream().keep_share(bytes(20)).unwrap();
    assert_eq!((reach(), ahead(), kept()), ((4, 4), Some((20, 30)), bytes(20)));
    // Then what was to come before it could not stay.
    let pass = hq.upstream().keep_share(bytes(25)).unwrap();
    assert_eq!(pass.went, [(id, 20, 21), (id, 21, 22), (id, 22, 23), (id, 23, 24), (id, 24, 25)]);
    assert_eq!((reach(), ahead(), kept(), hq.log.visible_end(id)), ((25, 30), None, bytes(25), 30));
    assert_eq!(hq.values("plant/telemetry").len(), 5);
    assert!(store.verify(&mut |_| {}).unwrap().is_clean());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_is_told_that_what_was_missed_is_given_up() {
    let (plant, mut hq) = (Site::new(1).await, Site::new(2).await);
    plant.feed(&hq, "plant", vec![slow()]).await;
    plant.append_to("telemetry", 0, "first").await;
    hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
    let id = partition(&plant);
    hq.cut().await;
    miss(&plant, &mut 9).await;
    hq.listen_again().await;
    until("it goes on ahead", || hq.log.store().ahead(id).is_some_and(|part| part.from < part.end)).await;
    let end = hq.log.store().end_offset(id);
    hq.log.close_ahead(&[id], HoleWhy::Retention).unwrap();
    assert!(end < 10 && hq.log.visible_end(id) > 25, "{end} {}", hq.log.visible_end(id));
    let view = || plant.edge().views().remove(0);
    until("the edge knows it", || view().later.is_empty() && view().lag.events == 0).await;
    let again = hq.upstream().views()[0].again;
    assert!(again < 15, "what is given up was sent all the same: {again}");
}
