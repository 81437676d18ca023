//! An upstream that says more than it was asked: it drives nothing at the edge.

use std::sync::Arc;

use super::forged::{Forger, plant_and_hq};
use super::link;
use crate::links::begin::Stand;
use crate::links::class::Priority;
use crate::links::gate::Gate;
use crate::links::sender::{Sender, Session};
use crate::links::wire::Answer;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_a_partition_stands_is_heard_once_for_each_ask() {
    let (plant, hq, batches) = plant_and_hq().await;
    let mut forger = Forger::connect(&plant, &hq).await;
    let session = Session {
        log: Arc::clone(&plant.log),
        name: "up".to_owned(),
        config: link(&["*"], &[]),
        site: 1,
        page: Arc::default(),
        gate: Gate::new(plant.log.clock(), &forger.connection, None),
        down: crate::links::down_taker::Taker::default(),
        due: tokio::sync::watch::Sender::new(None),
        left: Default::default(),
        flow: crate::links::topics::Flow::Up,
        fills: Default::default(),
    };
    let sender = Sender::new(&Arc::new(session), Priority::Normal, true, 0);
    let stands = || {
        let stand = Stand { end: 0, hlc: 0, digest: 0, is_gapless: true };
        Answer::Stands(vec![(batches[0].envelope().partition, stand); 3])
    };
    let events = || {
        let mut events = 0;
        while let Some(round) = sender.lanes.lock().next_round(plant.log.store(), 1 << 20, &|| 0).unwrap() {
            events += round.events;
        }
        events
    };
    sender.hear(stands()).await.unwrap();
    assert_eq!(events(), 0, "it was not asked");
    sender.discover(&mut forger.out).await.unwrap();
    sender.hear(stands()).await.unwrap();
    assert_eq!(events(), 3);
    for _ in 0..3 {
        sender.hear(stands()).await.unwrap();
        assert_eq!(events(), 0, "it is not sent again");
    }
}
