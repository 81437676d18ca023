//! A link's end is removed at the edge, whatever state it is in.

use super::lab::Site;
use super::link;
use crate::links::folder::{FACTS_FILE, folder};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_does_not_start_can_be_removed_and_accepted_anew() {
    let (mut plant, hq) = (Site::new(1).await, Site::new(2).await);
    plant.feed(&hq, "plant", vec![link(&["*"], &[])]).await;
    plant.append(&["telemetry"], "before").await;
    hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
    plant.stop_edge().await;
    // A crash came in the midst of a removal, or the disk has lost it.
    std::fs::remove_file(folder(&plant.data(), "up").join(FACTS_FILE)).unwrap();
    plant.feed_again(vec![link(&["*"], &[])]);
    assert!(plant.edge().views().is_empty());
    let token = hq.invite("plant").await;
    let there = plant.edge().accept(&token, "up").await.unwrap_err().to_string();
    assert!(there.contains("already"), "{there}");
    assert!(plant.edge().remove("up").await.unwrap(), "it is a link, though it does not run");
    assert!(!plant.edge().remove("up").await.unwrap());
    assert_eq!(plant.edge().accept(&token, "up").await.unwrap(), "plant");
    plant.append(&["telemetry"], "after").await;
    hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
}
