//! Taking over: what was meant for one connection does not reach the next.

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
    sessions.subscribe(&old, "edgeway/a");
    let to_old = sessions.find_receiver("edgeway/a", |_| true).unwrap();
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

#[tokio::test]
async fn a_receiver_is_found_by_its_own_filters_and_the_newest_one_counts() {
    let (log, sessions) = sessions();
    let topic = "edgeway/twin/d/state";
    let mut entries = Vec::new();
    for (client, filters) in [
        ("first", &["x", "edgeway/twin/d/#"][..]),
        ("newest", &["edgeway/twin/+/state"]),
        ("elsewhere", &["edgeway/twin/e/#"]),
        ("onlooker", &["#", "edgeway/#", "+/twin/#"]),
    ] {
        let entry = sessions.connect(Arrival { client_id: client.into(), ..arrival() }).await.unwrap().entry;
        assert!(filters.iter().all(|filter| sessions.subscribe(&entry, filter)));
        entries.push(entry);
    }
    let looked_at = std::cell::RefCell::new(Vec::new());
    let found = || {
        let asks = |filter: &str| {
            looked_at.borrow_mut().push(filter.to_owned());
            // The registry is not locked meanwhile: this would wait for ever.
            assert!(sessions.live() > 0);
            devices::twin::takes(filter, topic)
        };
        sessions.find_receiver(topic, asks).map(|handle| handle.client_id().to_string())
    };
    assert_eq!(found().as_deref(), Some("newest"));
    assert!(looked_at.borrow().iter().all(|filter| filter.starts_with("edgeway/")), "{looked_at:?}");
    assert!(sessions.unsubscribe(&entries[1], "edgeway/twin/+/state"));
    assert_eq!(found().as_deref(), Some("first"));
    sessions.disconnect(&entries[0], Some((vec![1], None)), Vec::new());
    assert_eq!(found(), None, "it is away");
    let back = sessions.connect(Arrival { client_id: "first".into(), ..arrival() }).await.unwrap().entry;
    assert_eq!(found().as_deref(), Some("first"), "{}", back.number);
    log.close();
}
