//! Taking over: what was meant for one connection does not reach the next.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use sled_data::{MemoryBackend, Options, Store};

use super::*;
use crate::clock::Clock;
use crate::event_log::{self, EventLog};
use crate::subscriptions::{self, FanOut};

fn sessions() -> (Arc<EventLog>, Arc<Sessions>) {
    let backend: Arc<dyn sled_data::Backend> = Arc::new(MemoryBackend::new());
    let (store, _) = Store::on(backend, Options { seed: Some(5), ..Options::default() }).unwrap();
    let log =
        EventLog::open(Arc::new(store), Arc::new(Clock::starting_after(0)), event_log::Config::default()).unwrap();
    let fan_out = Arc::new(FanOut::new(subscriptions::Config::default()));
    log.observe(Arc::clone(&fan_out) as _);
    let sessions = Arc::new(Sessions::open(Arc::clone(&log), fan_out, Config::default()));
    (log, sessions)
}

fn arrival() -> Arrival {
    Arrival { client_id: "c".into(), protocol: "mqtt-5", remote: "test".to_owned(), clean_start: false }
}

#[tokio::test]
async fn an_order_or_offer_to_an_ended_connection_does_not_reach_the_next() {
    let (log, sessions) = sessions();
    let old = sessions.connect(arrival()).await.unwrap().entry;
    sessions.subscribe(&old, "a");
    let to_old = sessions.find_receiver("a", |_| true).unwrap();
    let coming = tokio::spawn({
        let sessions = Arc::clone(&sessions);
        async move { sessions.connect(arrival()).await.unwrap() }
    });
    // It ends by itself, without having read that it is taken over.
    while sessions.stats().taken_over.load(Ordering::Relaxed) == 0 {
        tokio::task::yield_now().await;
    }
    sessions.disconnect(&old, Some((vec![1], None)), Vec::new());
    let new = coming.await.unwrap();
    assert_eq!(new.kept, Some(vec![1]));
    assert_eq!(new.entry.mailbox.take_order(), None);
    let dropped = Arc::new(AtomicU32::new(0));
    let count = Arc::clone(&dropped);
    let offer = Offer::new("a".into(), [][..].into(), move |delivery| {
        assert_eq!(delivery, Delivery::Dropped);
        count.fetch_add(1, Ordering::Relaxed);
    });
    assert!(to_old.offer(offer).is_err());
    assert_eq!(dropped.load(Ordering::Relaxed), 1, "told exactly once");
    assert!(new.entry.mailbox.take_offer().is_none());
    log.close();
}
