//! A link that is busy for hours with what it has to bring still does all else meanwhile.

use super::lab::{Site, until};
use super::link;
use crate::links::config::{Compress, LinkConfig};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_a_backlog_is_sent_new_topics_are_offered_and_upstream_is_told() {
    let (plant, hq) = (Site::new(1).await, Site::new(2).await);
    // Letters that lz4 finds nothing in.
    let mut random = 1_u64;
    let mut letter = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b' ' + (random >> 33) as u8 % 90)
    };
    for _ in 0..60 {
        let value: String = (0..5_000).map(|_| letter()).collect();
        plant.append(&["telemetry"], &value).await;
    }
    // Some fifteen seconds of it.
    let config = LinkConfig { rate_bytes_max: 20_000, compress: Compress::Off, ..link(&["*"], &[]) };
    plant.feed(&hq, "plant", vec![config]).await;
    until("it flows", || hq.upstream().views()[0].events > 0).await;
    plant.append(&["late"], "late").await;
    until("what is new is offered", || hq.log.topic("plant/late").is_some()).await;
    until("upstream is told how far it is behind", || hq.upstream().views()[0].lag.events > 0).await;
    let come = hq.values("plant/telemetry").len();
    assert!(come < 40, "the backlog went before: {come} events had come");
}
