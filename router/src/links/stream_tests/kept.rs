//! A link that brings more than its share of the disk loses the oldest of it, and takes nothing from others.

use super::lab::{Site, until};
use super::link;

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
