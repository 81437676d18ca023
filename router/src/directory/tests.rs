//! What is set and what is seen, as one; who is let in; what is forgotten.

use std::collections::{BTreeMap, BTreeSet};

use sled_data::{MemoryBackend, Options, Store};

use super::*;
use crate::catalog::{Change, Config, Refusal};
use crate::event_log;
use crate::sessions::{Arrival, Entry, Order, TurnedAway};
use crate::subscriptions::FanOut;

struct Fixture {
    log: Arc<EventLog>,
    sessions: Arc<Sessions>,
    directory: Arc<Directory>,
}

impl Fixture {
    fn new(known_by: KnownBy) -> Self {
        Self::of_life(5, known_by)
    }

    fn of_life(seed: u64, known_by: KnownBy) -> Self {
        let backend: Arc<dyn sled_data::Backend> = Arc::new(MemoryBackend::new());
        let (store, _) = Store::on(backend, Options { seed: Some(seed), ..Options::default() }).unwrap();
        let clock = Arc::new(Clock::starting_after(0));
        let log = EventLog::open(Arc::new(store), clock, event_log::Config::default()).unwrap();
        log.set_site(1);
        log.ensure_topic(event_log::AUDIT_TOPIC, None).unwrap();
        let catalog = Catalog::open(Arc::clone(&log), Config { known_by, ..Config::default() }).unwrap();
        let fan_out = Arc::new(FanOut::new(Default::default()));
        let sessions = Sessions::open(Arc::clone(&log), fan_out, Default::default()).with_catalog(Arc::clone(&catalog));
        let sessions = Arc::new(sessions);
        sessions.follow_others().unwrap();
        let directory = Directory::new(catalog, Arc::clone(&sessions), Arc::clone(&log));
        Self { log, sessions, directory }
    }

    async fn connect(&self, device: &str) -> Result<Arc<Entry>, TurnedAway> {
        let remote = "test".to_owned();
        let arrival = Arrival { client_id: device.into(), protocol: "mqtt-5", remote, clean_start: false };
        let admitted = self.sessions.connect(arrival).await?;
        self.log.durable(admitted.recorded.unwrap()).await.unwrap();
        Ok(admitted.entry)
    }

    /// Came, and went; what is kept of its session is `state`.
    async fn visit(&self, device: &str, state: Option<Vec<u8>>) {
        let entry = self.connect(device).await.unwrap();
        self.sessions.disconnect(&entry, state.map(|state| (state, None)), Vec::new());
        let ticket = self.log.lock().ticket();
        // Something is open, so that this commit comes.
        self.log.audit(event_log::Act { who: "t", act: "t", what: "t", outcome: "t", detail: ().into() }).unwrap();
        self.log.durable(ticket).await.unwrap();
    }

    async fn add(&self, device: &str, tags: &[&str]) {
        let tags = tags.iter().map(|tag| (*tag).to_owned()).collect();
        let (device, attributes) = (device.to_owned(), BTreeMap::new());
        let change = Change::AddDevice { device, tags, attributes, refuses_repeats: Some(true) };
        self.directory.propose(change, "cli").await.unwrap();
    }

    fn select(&self, filter: &str) -> Vec<String> {
        let names = self.directory.select(&Filter::parse(filter).unwrap(), 10_000).unwrap();
        names.iter().map(|name| name.to_string()).collect()
    }
}

fn tag(device: &str, tag: &str) -> Change {
    Change::SetTags { device: device.into(), add: [tag.to_owned()].into(), remove: BTreeSet::new(), seen: false }
}

#[tokio::test]
async fn what_is_set_and_what_is_seen_are_one() {
    let fixture = Fixture::new(KnownBy::Contact);
    fixture.add("b", &["pump"]).await;
    fixture.add("d", &["fan"]).await;
    let _live = fixture.connect("c").await.unwrap();
    let _both = fixture.connect("d").await.unwrap();
    fixture.visit("a", None).await;
    fixture.visit("odd/name", None).await;
    let all = fixture.directory.page(&Filter::default(), None, 100).unwrap();
    let brief: Vec<_> = all.devices.iter().map(|d| (d.device.as_str(), d.enrolled, d.connected)).collect();
    let expected =
        [("a", false, false), ("b", true, false), ("c", false, true), ("d", true, true), ("odd/name", false, false)];
    assert_eq!(brief, expected);
    let [a, b, ..] = all.devices.as_slice() else { panic!() };
    assert!(a.last_seen_ms.is_some() && a.protocol.as_deref() == Some("mqtt-5") && a.refuses_repeats.is_none());
    assert_eq!(
        (b.last_seen_ms, b.first_seen_ms, b.protocol.clone(), b.refuses_repeats),
        (None, None, None, Some(true))
    );
    assert_eq!(fixture.directory.device("b").unwrap().as_ref(), Some(b));
    assert_eq!(fixture.directory.device("x").unwrap(), None);
    assert_eq!(fixture.select(""), ["a", "b", "c", "d"], "an odd name cannot be addressed");
    assert_eq!(fixture.select("tag = pump or connected = true"), ["b", "c", "d"]);
    assert_eq!(fixture.select("last_seen < 5m and not tag = fan"), ["a", "c"]);
    let known = ["a", "b", "c", "x"].map(|name| fixture.directory.is_known(name));
    assert_eq!(known, [true, true, true, false]);
    assert!(fixture.directory.refuses_repeats("b") && !fixture.directory.refuses_repeats("a"));
    let too_many = fixture.directory.select(&Filter::default(), 3);
    assert!(matches!(too_many, Err(SelectError::TooMany { max: 3 })));
    fixture.log.close();
}

#[tokio::test]
async fn pages_miss_nothing_and_repeat_nothing() {
    let fixture = Fixture::new(KnownBy::Contact);
    let mut live = Vec::new();
    // More than one step of two of the sources, in each other's gaps.
    for n in 0..2_500 {
        let name = format!("{n:04}");
        match n % 5 {
            0 => fixture.add(&name, &[]).await,
            _ => live.push(fixture.connect(&name).await.unwrap()),
        }
    }
    let expected: Vec<String> = (0..2_500).map(|n| format!("{n:04}")).collect();
    assert_eq!(fixture.select(""), expected);
    assert_eq!(fixture.select("enrolled = true").len(), 500);
    let filter = Filter::parse("connected = true").unwrap();
    let (mut found, mut after) = (Vec::new(), None);
    loop {
        let page = fixture.directory.page(&filter, after.as_deref(), 300).unwrap();
        found.extend(page.devices.iter().map(|device| device.device.clone()));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    let connected: Vec<String> = live.iter().map(|entry| entry.client_id.to_string()).collect();
    assert_eq!(found, connected);
    fixture.log.close();
}

#[tokio::test]
async fn a_device_that_was_seen_is_tagged_where_contact_is_enough() {
    let fixture = Fixture::new(KnownBy::Contact);
    fixture.visit("a", None).await;
    fixture.directory.propose(tag("a", "pump"), "cli").await.unwrap();
    assert_eq!(fixture.select("tag = pump and enrolled = false"), ["a"]);
    let unknown = fixture.directory.propose(tag("x", "pump"), "cli").await.unwrap_err();
    assert_eq!(unknown, Refusal::Unknown("x".into()));
    fixture.log.close();
    let fixture = Fixture::new(KnownBy::Enrolment);
    let unknown = fixture.directory.propose(tag("a", "pump"), "cli").await.unwrap_err();
    assert_eq!(unknown, Refusal::Unknown("a".into()));
    fixture.log.close();
}

#[tokio::test]
async fn removing_forgets_what_was_seen_and_kept() {
    let fixture = Fixture::new(KnownBy::Contact);
    fixture.add("a", &[]).await;
    fixture.visit("a", Some(vec![1])).await;
    assert_eq!(fixture.sessions.kept_state("a"), Some(vec![1]));
    let removed = fixture.directory.remove("a", "cli").await.unwrap();
    assert_eq!(removed, Removed { removed: true, forgotten: true, connected: false });
    assert_eq!((fixture.directory.device("a").unwrap(), fixture.sessions.kept_state("a")), (None, None));
    assert_eq!(fixture.sessions.seen_count(), 0);
    // Only seen.
    fixture.visit("b/c", None).await;
    let removed = fixture.directory.remove("b/c", "cli").await.unwrap();
    assert_eq!(removed, Removed { removed: false, forgotten: true, connected: false });
    // Only set.
    fixture.add("d", &[]).await;
    let removed = fixture.directory.remove("d", "cli").await.unwrap();
    assert_eq!(removed, Removed { removed: true, forgotten: false, connected: false });
    let unknown = fixture.directory.remove("d", "cli").await.unwrap_err();
    assert!(matches!(unknown, RemoveError::Refused(Refusal::Unknown(_))), "{unknown}");
    // Connected.
    let entry = fixture.connect("e").await.unwrap();
    assert!(matches!(fixture.directory.remove("e", "cli").await, Err(RemoveError::Connected(_))));
    fixture.add("e", &[]).await;
    let removed = fixture.directory.remove("e", "cli").await.unwrap();
    assert_eq!(removed, Removed { removed: true, forgotten: false, connected: true });
    assert_eq!(entry.mailbox.take_order(), None, "it may stay");
    fixture.log.close();
}

#[tokio::test]
async fn only_enrolled_devices_are_let_in_and_removed_ones_are_ended() {
    let fixture = Fixture::new(KnownBy::Enrolment);
    assert_eq!(fixture.connect("a").await.err(), Some(TurnedAway::NotEnrolled));
    let refused = &fixture.sessions.stats().refused_not_enrolled;
    assert_eq!(refused.load(std::sync::atomic::Ordering::Relaxed), 1);
    assert!(!fixture.directory.is_known("a"));
    fixture.add("a", &[]).await;
    assert!(fixture.directory.is_known("a"));
    let entry = fixture.connect("a").await.unwrap();
    let door = tokio::spawn({
        let sessions = Arc::clone(&fixture.sessions);
        async move {
            let order = loop {
                match entry.mailbox.take_order() {
                    Some(order) => break order,
                    None => tokio::task::yield_now().await,
                }
            };
            // The client asked for its session to be kept.
            sessions.disconnect(&entry, Some((vec![1], None)), Vec::new());
            order
        }
    });
    let removed = fixture.directory.remove("a", "cli").await.unwrap();
    assert_eq!(removed, Removed { removed: true, forgotten: true, connected: false });
    assert_eq!(door.await.unwrap(), Order::Removed);
    assert_eq!(fixture.sessions.kept_state("a"), None);
    assert_eq!(fixture.connect("a").await.err(), Some(TurnedAway::NotEnrolled));
    assert_eq!(fixture.directory.device("a").unwrap(), None);
    fixture.log.close();
}

/// Whether the other node is heard.
struct Ear(std::sync::atomic::AtomicBool);

impl crate::sessions::Heard for Ear {
    fn is_heard(&self, _: sled_data::OriginId) -> bool {
        self.0.load(std::sync::atomic::Ordering::Relaxed)
    }
}

async fn ship(from: &Fixture, to: &Fixture) {
    let origin = from.log.origin();
    let next = sled_data::CommitNumber(to.log.store().followed_commit(origin).0 + 1);
    to.log.follow(from.log.store().commits_to_ship(origin, next, 1 << 20).unwrap()).await.unwrap();
}

#[tokio::test]
async fn a_device_is_shown_at_the_node_that_saw_it_last() {
    let (a, b) = (Fixture::of_life(5, KnownBy::Contact), Fixture::of_life(6, KnownBy::Contact));
    let ear = Arc::new(Ear(true.into()));
    b.sessions.set_heard(Arc::clone(&ear) as _);
    b.visit("d", None).await;
    ship(&b, &a).await;
    let at_a = a.connect("d").await.unwrap();
    a.visit("e", None).await;
    ship(&a, &b).await;
    let origin_a = Some(a.log.origin().to_string());
    let d = b.directory.device("d").unwrap().unwrap();
    assert_eq!((d.connected, &d.origin, d.node_heard, d.session), (true, &origin_a, Some(true), None));
    assert_eq!(a.directory.device("d").unwrap().unwrap().origin, None);
    let page = b.directory.page(&Filter::default(), None, 9).unwrap();
    let brief: Vec<_> = page.devices.iter().map(|d| (d.device.as_str(), d.connected, d.origin.is_some())).collect();
    assert_eq!(brief, [("d", true, true), ("e", false, true)]);
    assert_eq!(b.select("connected=true"), ["d"]);
    assert!(b.directory.is_known("e"));
    // A node that is not heard has its devices shown as they were seen last.
    ear.0.store(false, std::sync::atomic::Ordering::Relaxed);
    let d = b.directory.device("d").unwrap().unwrap();
    assert_eq!((d.connected, d.node_heard), (false, Some(false)));
    assert!(b.select("connected=true").is_empty());
    // It comes here: now this node's word is the newest, also for the other, whose session ends.
    let _at_b = b.connect("d").await.unwrap();
    let d = b.directory.device("d").unwrap().unwrap();
    assert_eq!((d.connected, d.origin, d.session.is_some()), (true, None, true));
    ship(&b, &a).await;
    assert_eq!(at_a.mailbox.take_order(), Some(Order::TakenOver { clean_start: true }));
    a.sessions.disconnect(&at_a, Some((vec![1], None)), Vec::new());
    assert_eq!(a.sessions.kept_state("d"), None, "it is kept where the device is");
    let d = a.directory.device("d").unwrap().unwrap();
    assert_eq!((d.connected, d.origin), (true, Some(b.log.origin().to_string())));
    a.log.close();
    b.log.close();
}
