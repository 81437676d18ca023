//! The room on a memory store with real sessions: reports, wishes, deltas, restarts, a store that fails.

use std::time::Instant;

use devices::headers;
use devices::twin::{
    Act, Change, Document, Half, VERSION_PROPERTY, Versions, Wish, get_topic, report_topic, report_topic_if,
    subscriptions_of,
};
use serde_json::{Value, json};
use sled_data::{Backend, Faults, HeaderBlock, MemoryBackend, Options, Store};
use tokio::task::JoinHandle;

use super::*;
use crate::clock::Clock;
use crate::event_log::{self, AUDIT_TOPIC, NO_HEADERS, NewEvent};
use crate::sessions::{self, Arrival, Offer};
use crate::subscriptions::{self, FanOut};

const LONG: Duration = Duration::from_secs(40);

pub(super) struct Node {
    pub(super) log: Arc<EventLog>,
    sessions: Arc<Sessions>,
    pub(super) room: Arc<Twins>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Node {
    fn start(backend: &Arc<MemoryBackend>) -> Self {
        Self::start_in(None, 7, backend)
    }

    /// A node of a site, whose life `seed` chooses.
    pub(super) fn start_in(site: Option<u64>, seed: u64, backend: &Arc<MemoryBackend>) -> Self {
        Self::start_ahead(site, seed, backend, 0)
    }

    /// The same, whose hybrid clock is ahead of the wall clock by so many milliseconds.
    pub(super) fn start_ahead(site: Option<u64>, seed: u64, backend: &Arc<MemoryBackend>, ahead_ms: u64) -> Self {
        let backend: Arc<dyn Backend> = Arc::clone(backend) as _;
        let (store, recovered) = Store::on(backend, Options { seed: Some(seed), ..Options::default() }).unwrap();
        let clock = Clock::starting_after(recovered.last_hlc);
        let ahead = clock.next_hybrid() + (ahead_ms << sled_data::HLC_LOGICAL_BITS);
        let clock = Arc::new(if ahead_ms == 0 { clock } else { Clock::starting_after(ahead) });
        let log = EventLog::open(Arc::new(store), clock, event_log::Config::default()).unwrap();
        site.into_iter().for_each(|site| log.set_site(site));
        log.ensure_topic(AUDIT_TOPIC, None).unwrap();
        let fan_out = Arc::new(FanOut::new(subscriptions::Config::default()));
        let sessions = Arc::new(Sessions::open(Arc::clone(&log), fan_out, sessions::Config::default()));
        let room = Twins::open(Arc::clone(&log), Arc::clone(&sessions), Config::default()).unwrap();
        let (stop, stopped) = watch::channel(false);
        let task = tokio::spawn(Arc::clone(&room).run(stopped));
        Self { log, sessions, room, stop, task }
    }

    pub(super) async fn end(self) {
        self.stop.send(true).unwrap();
        self.task.await.unwrap();
        self.log.close();
    }

    /// Ends the room alone: what is appended from then on is read after a restart.
    pub(super) async fn end_room(&mut self) {
        self.stop.send(true).unwrap();
        (&mut self.task).await.unwrap();
    }

    pub(super) async fn connect(&self, client: &str, filter: &str) -> Arc<sessions::Entry> {
        let arrival =
            Arrival { client_id: client.into(), protocol: "mqtt-5", remote: "test".into(), clean_start: true };
        let entry = self.sessions.connect(arrival).await.unwrap().entry;
        assert!(self.sessions.subscribe(&entry, filter));
        entry
    }

    pub(super) async fn set(&self, device: &str, json: &str, if_version: Option<u64>) -> Result<Versions, TwinError> {
        let document = Document::parse(json.as_bytes()).unwrap();
        self.room.set_desired(device, Set { document, replace: false, if_version }, "cli").await
    }

    /// Appends what a device says, as a door does.
    pub(super) fn say(&self, device: &str, mqtt_topic: &str, payload: &str, property: Option<&str>) {
        let mut block = HeaderBlock::new();
        block.push(headers::MQTT_TOPIC, mqtt_topic.as_bytes());
        block.push(headers::MQTT_CLIENT, b"c");
        if let Some(version) = property {
            block.push(headers::MQTT_USER, &headers::encode_user_property(VERSION_PROPERTY, version).unwrap());
        }
        self.append(REPORTS_TOPIC, device, payload.as_bytes(), &block);
    }

    fn append(&self, topic: &str, device: &str, value: &[u8], headers: &HeaderBlock) {
        let topic = self.log.topic(topic).unwrap();
        let event = NewEvent {
            timestamp_ms: 1,
            key: Some(device.as_bytes()),
            value: Some(value),
            headers,
            extra: &NO_HEADERS,
            fanned_out: true,
        };
        self.log.lock().append_keyed(&topic, &event).unwrap();
    }

    fn values(&self, topic: &str) -> Vec<Vec<u8>> {
        let topic = self.log.topic(topic).unwrap();
        let mut values = Vec::new();
        for partition in topic.all_partitions() {
            for batch in self.log.read(partition.id(), 0, 1 << 24).unwrap() {
                values.extend(batch.events_from(0).map(|(_, record)| record.value.unwrap().to_vec()));
            }
        }
        values
    }

    /// All changes, once there are so many.
    async fn changes(&self, count: u64) -> Vec<Change> {
        let enough = || Some(self.values(TWINS_TOPIC)).filter(|values| values.len() as u64 >= count);
        let values = until("changes are visible", enough).await;
        assert_eq!(values.len() as u64, count);
        values.iter().map(|value| Change::decode(value).unwrap()).collect()
    }

    pub(super) async fn reported(&self, device: &str, version: u64) -> TwinView {
        until("it is reported", || self.room.get(device).filter(|twin| twin.reported.version == version)).await
    }
}

pub(super) async fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let begin = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(begin.elapsed() < LONG, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

async fn offer(entry: &sessions::Entry) -> Offer {
    until("something is offered", || entry.mailbox.take_offer()).await
}

/// The next offer, acknowledged.
pub(super) async fn told(entry: &sessions::Entry) -> (String, Value) {
    let offer = offer(entry).await;
    let told = (offer.topic.to_string(), serde_json::from_slice(&offer.payload).unwrap());
    offer.acked();
    told
}

#[tokio::test]
async fn a_device_is_told_what_is_left_to_do_until_it_has_done_it() {
    let node = Node::start(&Arc::new(MemoryBackend::new()));
    assert_eq!(node.set("d", r#"{"a":1,"b":2}"#, Some(0)).await.unwrap(), Versions { desired: 1, reported: 0 });
    let device = node.connect("c", &subscriptions_of("d")).await;
    assert_eq!(told(&device).await, ("edgeway/twin/d/delta/1".into(), json!({"version":1,"delta":{"a":1,"b":2}})));
    node.say("d", &report_topic("d"), r#"{"a":1}"#, None);
    let twin = node.reported("d", 1).await;
    assert_eq!((twin.version, Value::from(twin.delta), twin.reported.by.as_str()), (2, json!({"b":2}), "device:c"));
    node.set("d", r#"{"b":3}"#, None).await.unwrap();
    assert_eq!(told(&device).await.1, json!({"version":2,"delta":{"b":3}}));
    node.say("d", &report_topic("d"), r#"{"b":3}"#, None);
    assert!(node.reported("d", 2).await.delta.is_empty());
    // Nothing is left: who comes now is told nothing, but may ask.
    let again = node.connect("c2", &subscriptions_of("d")).await;
    node.say("d", &get_topic("d"), "", None);
    let state = json!({"desired":{"version":2,"state":{"a":1,"b":3}},"reported":{"version":2,"state":{"a":1,"b":3}}});
    assert_eq!(told(&again).await, ("edgeway/twin/d/state".into(), state));
    assert!(device.mailbox.take_offer().is_none(), "the newest session is told");
    let acts: Vec<Value> = node.values(AUDIT_TOPIC).iter().map(|act| serde_json::from_slice(act).unwrap()).collect();
    assert_eq!(acts.len(), 2);
    assert_eq!((&acts[0]["act"], &acts[0]["who"]), (&json!("twin.set"), &json!("cli")));
    node.end().await;
}

#[tokio::test]
async fn one_delta_is_under_way_and_then_the_newest() {
    let node = Node::start(&Arc::new(MemoryBackend::new()));
    let looks_on = node.connect("all", "#").await;
    let gateway = node.connect("gateway", "edgeway/twin/+/delta/+").await;
    for value in 1..=5 {
        node.set("slow", &format!("{{\"a\":{value}}}"), None).await.unwrap();
    }
    let first = offer(&gateway).await;
    // Another device behind the same client does not wait for the slow one.
    node.set("quick", r#"{"x":1}"#, None).await.unwrap();
    assert_eq!(told(&gateway).await.0, "edgeway/twin/quick/delta/1");
    assert!(gateway.mailbox.take_offer().is_none());
    node.set("slow", r#"{"a":6}"#, None).await.unwrap();
    first.acked();
    assert_eq!(told(&gateway).await, ("edgeway/twin/slow/delta/6".into(), json!({"version":6,"delta":{"a":6}})));
    // One that falls comes again.
    node.set("slow", r#"{"a":7}"#, None).await.unwrap();
    drop(offer(&gateway).await);
    assert_eq!(told(&gateway).await.0, "edgeway/twin/slow/delta/7");
    assert!(looks_on.mailbox.take_offer().is_none(), "who subscribes to everything is no device");
    node.end().await;
}

#[tokio::test]
async fn refusals_are_told_with_the_version() {
    let node = Node::start(&Arc::new(MemoryBackend::new()));
    let device = node.connect("c", &subscriptions_of("d")).await;
    node.say("d", &report_topic_if("d", 0), r#"{"a":1}"#, None);
    node.reported("d", 1).await;
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(17_000));
    let cases = [
        (report_topic_if("d", 0), r#"{"a":2}"#, None, "version_conflict"),
        (report_topic("d"), r#"{"a":2}"#, Some("7"), "version_conflict"),
        (report_topic("d"), r#"{"a":2}"#, Some("seven"), "bad_version"),
        (report_topic("d"), "[1]", None, "bad_document"),
        (report_topic("d"), "", None, "bad_document"),
        (report_topic("d"), &large, None, "too_large"),
    ];
    for (topic, payload, property, code) in cases {
        node.say("d", &topic, payload, property);
        let (topic, why) = told(&device).await;
        assert_eq!(
            (topic.as_str(), &why["code"], &why["version"]),
            ("edgeway/twin/d/refused", &json!(code), &json!(1))
        );
    }
    node.say("d", &report_topic("d"), r#"{"a":2}"#, Some("1"));
    node.reported("d", 2).await;
    assert!(
        matches!(node.set("d", "{}", Some(5)).await, Err(TwinError::Refused(why)) if why.code() == "version_conflict")
    );
    node.end().await;
}

#[tokio::test]
async fn what_plugins_wish_is_applied_once_over_restarts() {
    let backend = Arc::new(MemoryBackend::new());
    let node = Node::start(&backend);
    let wish = |json: &str| Wish::new(5, "plugin:p", Document::parse(json.as_bytes()).unwrap());
    node.append(WISHES_TOPIC, "d", &wish(r#"{"a":1}"#).encode(), &NO_HEADERS);
    node.append(WISHES_TOPIC, "d", b"no wish", &NO_HEADERS);
    let mut conflict = wish(r#"{"a":2}"#);
    conflict.if_version = Some(9);
    node.append(WISHES_TOPIC, "d", &conflict.encode(), &NO_HEADERS);
    let mut whole = wish(r#"{"b":1}"#);
    (whole.replace, whole.if_version) = (true, Some(1));
    node.append(WISHES_TOPIC, "d", &whole.encode(), &NO_HEADERS);
    let twin = until("it is set", || node.room.get("d").filter(|twin| twin.desired.version == 2)).await;
    assert_eq!((Value::from(twin.delta), twin.desired.by.as_str()), (json!({"b":1}), "plugin:p"));
    node.end().await;

    let node = Node::start(&backend);
    node.say("d", &report_topic("d"), r#"{"b":1}"#, None);
    node.reported("d", 1).await;
    let acts: Vec<Act> = node.changes(3).await.into_iter().map(|change| change.act).collect();
    assert!(matches!(acts[1], Act::Replaced { half: Half::Desired, version: 2, .. }));
    let outcomes: Vec<Value> =
        node.values(AUDIT_TOPIC).iter().map(|act| serde_json::from_slice(act).unwrap()).collect();
    let outcomes: Vec<&Value> = outcomes.iter().map(|act| &act["outcome"]).collect();
    assert_eq!(outcomes, ["done", "version_conflict", "done"]);
    node.end().await;
}

#[tokio::test]
async fn everything_stored_is_there_after_a_restart_and_nothing_twice() {
    let backend = Arc::new(MemoryBackend::new());
    let mut desired = 0;
    for life in 1..=3_u64 {
        let node = Node::start(&backend);
        for _ in 0..10 {
            desired += 1;
            let set = node.set("d", &format!("{{\"n\":{desired}}}"), Some(desired - 1)).await.unwrap();
            assert_eq!(set.desired, desired);
            node.say("d", &report_topic("d"), &format!("{{\"n\":{desired}}}"), None);
        }
        let twin = node.reported("d", life * 10).await;
        assert_eq!((twin.version, twin.delta.len()), (desired + life * 10, 0));
        node.changes(2 * desired).await;
        node.end().await;
    }
    let node = Node::start(&backend);
    node.room.delete("d", Some(desired), "api").await.unwrap();
    assert!(node.room.get("d").is_none());
    node.end().await;
    let node = Node::start(&backend);
    assert!(node.room.get("d").is_none());
    assert_eq!(node.changes(2 * desired + 1).await.last().unwrap().act, Act::Deleted);
    node.end().await;
}

#[tokio::test]
async fn more_than_one_commit_takes_is_read_in_several() {
    let node = Node::start(&Arc::new(MemoryBackend::new()));
    let large = format!("{{\"a\":\"{}\"}}", "x".repeat(16_000));
    for device in 0..300 {
        node.say(&device.to_string(), &report_topic(&device.to_string()), &large, None);
    }
    until("all have reported", || (node.room.figures().0 == 300).then_some(())).await;
    node.end().await;
}

#[tokio::test]
async fn a_wait_ends_with_the_next_change() {
    let node = Node::start(&Arc::new(MemoryBackend::new()));
    let room = Arc::clone(&node.room);
    let waiting = tokio::spawn(async move { room.wait("d", 0, LONG).await });
    node.set("d", r#"{"a":1}"#, None).await.unwrap();
    assert_eq!(waiting.await.unwrap().unwrap().version, 1);
    assert_eq!(node.room.wait("d", 1, Duration::from_millis(5)).await.unwrap().version, 1);
    assert!(node.room.wait("e", 0, Duration::from_millis(5)).await.is_none());
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_loses_nothing_that_was_accepted() {
    let backend = Arc::new(MemoryBackend::new());
    let node = Node::start(&backend);
    let mut accepted = node.set("d", r#"{"n":0}"#, None).await.unwrap().desired;
    backend.set_faults(Faults { free_bytes: Some(0), ..Faults::default() });
    // The store looks at the disk now and then.
    while let Ok(set) = node.set("d", &format!("{{\"n\":{accepted}}}"), Some(accepted)).await {
        accepted = set.desired;
    }
    assert!(node.set("d", r#"{"n":-1}"#, None).await.is_err());
    // What is stored is read again though nothing comes, lest the table goes on to show what was refused.
    let begin = Instant::now();
    while node.room.inner.lock().is_stale {
        assert!(begin.elapsed() < LONG);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    backend.set_faults(Faults::default());
    let begin = Instant::now();
    let set = loop {
        match node.set("d", r#"{"n":-2}"#, Some(accepted)).await {
            Ok(set) => break set,
            Err(TwinError::Refused(why)) => panic!("what was refused is in memory: {why}"),
            Err(_) => assert!(begin.elapsed() < LONG),
        }
    };
    assert_eq!(set.desired, accepted + 1);
    let versions: Vec<Act> = node.changes(set.desired).await.into_iter().map(|change| change.act).collect();
    for (act, expected) in versions.iter().zip(1..) {
        assert!(matches!(act, Act::Patched { version, .. } if *version == expected), "{act:?}");
    }
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_not_read_of_a_life_that_ended_is_read_before_what_came_since() {
    /// Together more than one round reads.
    const REPORTS: u64 = 400;
    let backend = Arc::new(MemoryBackend::new());
    let node = Node::start(&backend);
    let durability = sled_data::Durability::Memory;
    node.log.ensure_topic("loose", Some(TopicConfig { durability, ..TopicConfig::default() })).unwrap();
    node.set("pump", r#"{"on":true}"#, None).await.unwrap();
    let Node { log, room, stop, task, sessions } = node;
    stop.send(true).unwrap();
    task.await.unwrap();
    // The room has stopped; what devices say is stored all the same.
    let (stop, _stopped) = watch::channel(false);
    let node = Node { log, room, sessions, stop, task: tokio::spawn(async {}) };
    let pad = "x".repeat(1_000);
    for number in 1..=REPORTS {
        node.say("pump", &report_topic("pump"), &format!(r#"{{"number":{number},"pad":"{pad}"}}"#), None);
    }
    let life = node.log.origin();
    node.end().await;

    let node = Node::start(&backend);
    assert_ne!(node.log.origin(), life);
    node.say("pump", &report_topic("pump"), r#"{"number":0}"#, None);
    let twin = node.reported("pump", REPORTS + 1).await;
    let state = serde_json::to_value(&twin.reported.state).unwrap();
    assert_eq!(state["number"], 0, "what came last counts");
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_are_recorded_when_retention_has_dropped_what_the_life_before_had_left() {
    let backend = Arc::new(MemoryBackend::new());
    let mut node = Node::start(&backend);
    node.say("d", &report_topic("d"), r#"{"a":1}"#, None);
    node.reported("d", 1).await;
    // One more that it does not read in this life.
    node.stop.send(true).unwrap();
    (&mut node.task).await.unwrap();
    node.say("d", &report_topic("d"), r#"{"a":2}"#, None);
    node.log.close();
    node.log.store().end_life("as after a kill").unwrap();
    drop(node);
    let node = Node::start(&backend);
    node.reported("d", 2).await;
    // Once it is durable.
    assert_eq!(node.room.read("d").await.map(|twin| twin.reported.version), Some(2));
    let topic = node.log.topic(REPORTS_TOPIC).unwrap();
    let left = node.log.ended_partitions(&topic);
    node.log.set_retention(topic.id(), Some(0), None).unwrap();
    node.log.apply_retention(&sled_data::Wait::for_ever(&|_| u64::MAX));
    assert!(!left.is_empty() && left.iter().all(|left| !node.log.store().partitions().contains(&left.id())));
    node.say("d", &report_topic("d"), r#"{"a":3}"#, None);
    node.reported("d", 3).await;
    // Once it is durable.
    assert_eq!(node.room.read("d").await.map(|twin| twin.reported.version), Some(3));
    assert_eq!(node.log.lock().failures(), 0, "no commit was refused");
    node.end().await;
}

/// The same store with a byte damaged of the batch that begins at `base`.
fn damaged(backend: &MemoryBackend, id: sled_data::PartitionId, base: u64) -> MemoryBackend {
    let image = backend.image();
    let is_there = |(tree, key): (Vec<u8>, Vec<u8>)| tree[1..] == id.to_bytes() && key == base.to_be_bytes();
    for place in 0..image.value_bytes() {
        if is_there(image.flip(place, 1).unwrap()) {
            return image;
        }
        image.flip(place, 1);
    }
    panic!("there is no batch at {base}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_report_is_passed_over_and_those_behind_it_are_taken() {
    let backend = Arc::new(MemoryBackend::new());
    let mut node = Node::start(&backend);
    node.stop.send(true).unwrap();
    (&mut node.task).await.unwrap();
    let topic = node.log.topic(REPORTS_TOPIC).unwrap();
    let seen = || topic.all_partitions().iter().map(|partition| partition.visible_end()).sum::<u64>();
    for n in 1..=3 {
        node.say("d", &report_topic("d"), &json!({ "a": n }).to_string(), None);
        until("it is stored", || (seen() == n).then_some(())).await;
    }
    let id = topic.all_partitions().iter().find(|partition| partition.visible_end() == 3).unwrap().id();
    node.log.close();
    node.log.store().close().unwrap();
    drop(node);
    let node = Node::start(&Arc::new(damaged(&backend, id, 1)));
    let twin = node.reported("d", 2).await;
    assert_eq!(serde_json::to_value(twin.reported.state).unwrap(), json!({"a": 3}));
    assert_eq!(node.room.stats().unreadable.load(std::sync::atomic::Ordering::Relaxed), 1);
    node.end().await;
}
