//! The room on a memory store with real sessions: delivery, answers, restarts, bounds, a full disk.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::Ordering;
use std::time::Instant;

use devices::command::{ANSWERS_TOPIC, Queued, State, Status, StepEvent, answer_topic};
use devices::headers;
use sled_data::{Backend, Faults, HeaderBlock, MemoryBackend, Options, Store};
use tokio::task::JoinHandle;

use super::*;
use crate::clock::Clock;
use crate::event_log::{self, NO_HEADERS, NewEvent};
use crate::sessions::{self, Arrival, Offer};
use crate::subscriptions::{self, FanOut};

pub(super) const LONG: Duration = Duration::from_secs(40);

pub(super) struct Node {
    pub(super) log: Arc<EventLog>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) room: Arc<Commands>,
    stop: watch::Sender<bool>,
    task: Option<JoinHandle<()>>,
}

impl Node {
    pub(super) fn start(backend: &Arc<MemoryBackend>, config: Config) -> Self {
        Self::open(backend, config).run()
    }

    /// Opened; its task does not run yet.
    pub(super) fn open(backend: &Arc<MemoryBackend>, config: Config) -> Self {
        Self::open_in(None, 7, backend, config)
    }

    /// A node of a site, whose life `seed` chooses.
    pub(super) fn open_in(site: Option<u64>, seed: u64, backend: &Arc<MemoryBackend>, config: Config) -> Self {
        let backend: Arc<dyn Backend> = Arc::clone(backend) as _;
        let (store, recovered) = Store::on(backend, Options { seed: Some(seed), ..Options::default() }).unwrap();
        let clock = Arc::new(Clock::starting_after(recovered.last_hlc));
        let log = EventLog::open(Arc::new(store), clock, event_log::Config::default()).unwrap();
        site.into_iter().for_each(|site| log.set_site(site));
        let fan_out = Arc::new(FanOut::new(subscriptions::Config::default()));
        let sessions = Arc::new(Sessions::open(Arc::clone(&log), fan_out, sessions::Config::default()));
        sessions.follow_others().unwrap();
        let room = Commands::open(Arc::clone(&log), Arc::clone(&sessions), config).unwrap();
        Self { log, sessions, room, stop: watch::Sender::new(false), task: None }
    }

    pub(super) fn run(mut self) -> Self {
        self.task = Some(tokio::spawn(Arc::clone(&self.room).run(self.stop.subscribe())));
        self
    }

    pub(super) async fn stop_reading(&mut self) {
        self.stop.send(true).unwrap();
        self.task.take().unwrap().await.unwrap();
    }

    pub(super) async fn end(mut self) {
        self.stop_reading().await;
        self.log.close();
    }

    pub(super) async fn connect(&self, device: &str) -> Arc<sessions::Entry> {
        let arrival =
            Arrival { client_id: device.into(), protocol: "mqtt-5", remote: "test".into(), clean_start: true };
        let entry = self.sessions.connect(arrival).await.unwrap().entry;
        assert!(self.sessions.subscribe(&entry, &format!("edgeway/command/{device}/#")));
        entry
    }

    pub(super) async fn submit(&self, device: &str, name: &str) -> CommandId {
        self.room.submit(command(device, name)).await.unwrap().id
    }

    pub(super) fn answer(&self, entry: &sessions::Entry, device: &str, id: CommandId, status: Status) {
        let topic = self.log.topic(ANSWERS_TOPIC).unwrap();
        let mut block = HeaderBlock::new();
        block.push(headers::MQTT_TOPIC, answer_topic(device, id, status).as_bytes());
        block.push(headers::MQTT_CLIENT, entry.client_id.as_bytes());
        block.push(headers::SESSION, &headers::encode_session(entry.number));
        let event = NewEvent {
            timestamp_ms: 1,
            key: Some(device.as_bytes()),
            value: Some(b"result"),
            headers: &block,
            extra: &NO_HEADERS,
            fanned_out: true,
        };
        self.log.lock().append_keyed(&topic, &event).unwrap();
    }

    /// From now on the store begins a new life where it was not closed in order.
    pub(super) fn may_lose(&self) {
        let durability = sled_data::Durability::Memory;
        self.log.ensure_topic("loose", Some(TopicConfig { durability, ..TopicConfig::default() })).unwrap();
    }

    /// The steps of a command as the log has them, of this node's lives.
    pub(super) fn steps(&self, id: CommandId) -> Vec<String> {
        let topic = self.log.topic(COMMANDS_TOPIC).unwrap();
        let mut steps = Vec::new();
        for partition in self.log.ended_partitions(&topic).iter().chain(topic.all_partitions()) {
            for batch in self.log.read(partition.id(), 0, 1 << 24).unwrap() {
                for (_, record) in batch.events_from(0) {
                    let json: serde_json::Value = serde_json::from_slice(record.value.unwrap()).unwrap();
                    if json["id"] == id.to_string() {
                        steps.push(json["step"].as_str().unwrap().to_owned());
                    }
                }
            }
        }
        steps
    }
}

pub(super) fn command(device: &str, name: &str) -> NewCommand {
    NewCommand { payload: b"{}".to_vec(), ..NewCommand::new(device, name, "cli") }
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

pub(super) async fn next_offer(entry: &sessions::Entry) -> Offer {
    until("a command is offered", || entry.mailbox.take_offer()).await
}

pub(super) fn backend() -> Arc<MemoryBackend> {
    Arc::new(MemoryBackend::new())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_goes_to_the_device_and_its_answer_comes_back() {
    let node = Node::start(&backend(), Config::default());
    let device = node.connect("pump").await;
    let id = node.submit("pump", "cool").await;
    let mut offer = next_offer(&device).await;
    assert_eq!(&*offer.topic, format!("edgeway/command/pump/{id}/cool"));
    assert_eq!(&*offer.payload, b"{}");
    assert_eq!(offer.terms.map(|terms| terms.id), Some(*id.as_bytes()));
    assert_eq!(offer.response_topic(), Some(format!("edgeway/answer/pump/{id}")));
    assert!((50..=60).contains(&offer.expiry_left_s(Instant::now()).unwrap().unwrap()));
    offer.sent();
    offer.acked();
    until("it is delivered", || (node.room.get(id)?.state == State::Delivered).then_some(())).await;
    node.answer(&device, "pump", id, Status::InProgress);
    node.answer(&device, "pump", id, Status::Succeeded);
    let ended = node.room.wait(id, LONG).await.unwrap();
    assert_eq!((ended.state, ended.attempts), (State::Succeeded, 1));
    assert_eq!(ended.result.unwrap().answer.payload.0, b"result");
    assert_eq!(node.steps(id), ["queued", "sent", "delivered", "in-progress", "succeeded"]);
    assert_eq!(node.room.stats().ended()[0], (State::Succeeded, 1));
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_wait_for_their_device_in_order_and_hold_back_nobody() {
    let node = Node::start(&backend(), Config::default());
    let mut waiting = Vec::new();
    for n in 0..20 {
        waiting.push(node.submit("away", &format!("c{n}")).await);
    }
    let here = node.connect("here").await;
    let id = node.submit("here", "cool").await;
    next_offer(&here).await.acked();
    node.answer(&here, "here", id, Status::Succeeded);
    assert!(node.room.wait(id, LONG).await.is_some());
    assert!(waiting.iter().all(|id| node.room.get(*id).unwrap().state == State::Queued));
    let back = node.connect("away").await;
    for n in 0..20 {
        let offer = next_offer(&back).await;
        assert!(offer.topic.ends_with(&format!("/c{n}")), "{}", offer.topic);
        offer.acked();
    }
    let filter = Filter { device: Some("away".into()), ended: Some(false), ..Filter::default() };
    until("all are delivered", || {
        let listed = node.room.list(&filter, 100);
        listed.iter().all(|info| info.state == State::Delivered).then_some(listed.len())
    })
    .await;
    assert_eq!(
        node.room.list(&filter, 3).iter().map(|info| info.id).collect::<Vec<_>>(),
        [waiting[19], waiting[18], waiting[17]]
    );
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_fell_is_sent_again_to_the_next_session() {
    let node = Node::start(&backend(), Config::default());
    let first = node.connect("pump").await;
    let id = node.submit("pump", "cool").await;
    let mut offer = next_offer(&first).await;
    offer.sent();
    node.sessions.disconnect(&first, None, Vec::new());
    drop(offer);
    until("it returned", || (node.room.get(id)?.state == State::Queued).then_some(())).await;
    let second = node.connect("pump").await;
    next_offer(&second).await.acked();
    node.answer(&first, "pump", id, Status::Succeeded);
    let ended = node.room.wait(id, LONG).await.unwrap();
    assert_eq!((ended.state, ended.attempts), (State::Succeeded, 2), "the first session got it, too");
    let stranger = node.connect("other").await;
    node.answer(&stranger, "pump", id, Status::Failed);
    until("it is refused", || (node.room.stats().answers_refused.load(Ordering::Relaxed) == 1).then_some(())).await;
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_expire_without_their_device() {
    let node = Node::start(&backend(), Config::default());
    let short = NewCommand { deliver_within_ms: Some(30), ..command("away", "cool") };
    let id = node.room.submit(short).await.unwrap().id;
    let ended = node.room.wait(id, LONG).await.unwrap();
    assert_eq!((ended.state, ended.attempts), (State::Expired, 0));
    let device = node.connect("away").await;
    let later = node.submit("away", "later").await;
    let offer = next_offer(&device).await;
    assert!(offer.topic.contains(&later.to_string()), "what expired is not offered");
    drop(offer);
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_goes_on_where_it_was() {
    let backend = backend();
    let node = Node::start(&backend, Config::default());
    let device = node.connect("pump").await;
    let done = node.submit("pump", "done").await;
    next_offer(&device).await.acked();
    node.answer(&device, "pump", done, Status::Succeeded);
    node.room.wait(done, LONG).await.unwrap();
    let delivered = node.submit("pump", "delivered").await;
    next_offer(&device).await.acked();
    let sent = node.submit("pump", "sent").await;
    let _under_way = next_offer(&device).await;
    let queued = node.submit("away", "queued").await;
    until("it is delivered", || (node.room.get(delivered)?.state == State::Delivered).then_some(())).await;
    node.end().await;

    let node = Node::start(&backend, Config::default());
    until("what was under way returns", || (node.room.get(sent)?.state == State::Queued).then_some(())).await;
    let states = [done, delivered, sent, queued].map(|id| node.room.get(id).unwrap().state);
    assert_eq!(states, [State::Succeeded, State::Delivered, State::Queued, State::Queued]);
    let device = node.connect("pump").await;
    let offer = next_offer(&device).await;
    assert!(offer.topic.contains(&sent.to_string()), "{}", offer.topic);
    offer.acked();
    for id in [delivered, sent] {
        node.answer(&device, "pump", id, Status::Succeeded);
        assert_eq!(node.room.wait(id, LONG).await.unwrap().state, State::Succeeded);
    }
    assert_eq!(node.steps(sent), ["queued", "sent", "returned", "sent", "delivered", "succeeded"]);
    assert_eq!(node.room.pending(), 1);
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_plugins_append_is_taken_and_bounded() {
    let node = Node::start(&backend(), Config { pending_per_device_max: 2, ..Config::default() });
    let topic = node.log.topic(COMMANDS_TOPIC).unwrap();
    let append = |value: &[u8], key: &[u8]| {
        let event = NewEvent {
            timestamp_ms: 1,
            key: Some(key),
            value: Some(value),
            headers: &NO_HEADERS,
            extra: &NO_HEADERS,
            fanned_out: true,
        };
        node.log.lock().append_keyed(&topic, &event).unwrap();
    };
    append(b"not json", b"pump");
    let now = node.room.now().wall;
    let id = |n: u8| CommandId::v7(now, [n; 10]);
    for n in 0..3 {
        let queued = Queued::new("cool", Vec::new(), now + 60_000, "plugin:alarm");
        let value = StepEvent::queued(id(n), now, queued).encode();
        append(&value, b"pump");
        append(&value, b"no+device");
    }
    let refused = node.room.wait(id(2), LONG).await.unwrap();
    assert_eq!((refused.state, refused.issued_by.as_str()), (State::Refused, "plugin:alarm"));
    assert_eq!(node.room.pending(), 2);
    let full = node.room.submit(command("pump", "cool")).await;
    assert!(matches!(full, Err(SubmitError::Full)), "{full:?}");
    until("all were looked at", || (node.room.stats().unreadable.load(Ordering::Relaxed) == 4).then_some(())).await;
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bad_submissions_are_refused_by_reason() {
    let node = Node::start(&backend(), Config::default());
    let refused = async |edit: fn(&mut NewCommand)| {
        let mut bad = command("pump", "cool");
        edit(&mut bad);
        node.room.submit(bad).await.unwrap_err()
    };
    assert!(matches!(refused(|c| c.device = "a+b".into()).await, SubmitError::Device { .. }));
    assert!(matches!(refused(|c| c.device = "a//b".into()).await, SubmitError::Device { .. }));
    assert!(matches!(refused(|c| c.device = "a/b".into()).await, SubmitError::UnknownSite(_)));
    assert!(matches!(refused(|c| c.name = String::new()).await, SubmitError::Name { .. }));
    assert!(matches!(refused(|c| c.payload = vec![0; 16_385]).await, SubmitError::PayloadTooLarge { bytes: 16_385 }));
    assert!(matches!(refused(|c| c.deliver_within_ms = Some(0)).await, SubmitError::Time { .. }));
    assert!(matches!(refused(|c| c.deliver_within_ms = Some(u64::MAX)).await, SubmitError::Time { .. }));
    assert!(matches!(refused(|c| c.execution_timeout_ms = Some(u64::MAX)).await, SubmitError::Time { .. }));
    assert!(node.room.list(&Filter::default(), 10).is_empty());
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_delays_and_loses_nothing() {
    let backend = backend();
    let node = Node::start(&backend, Config::default());
    let id = node.submit("pump", "cool").await;
    backend.set_faults(Faults { free_bytes: Some(0), ..Faults::default() });
    // The store looks at the disk now and then.
    while node.room.submit(command("away", "filler")).await.is_ok() {}
    let device = node.connect("pump").await;
    until("a step could not be recorded", || (node.room.stats().rebuilt.load(Ordering::Relaxed) >= 1).then_some(()))
        .await;
    assert!(node.room.wait(id, Duration::from_millis(1)).await.is_none());
    backend.set_faults(Faults::default());
    let answered = until("it is recorded", || {
        while let Some(offer) = device.mailbox.take_offer() {
            offer.acked();
        }
        (node.room.get(id)?.state == State::Delivered).then(|| node.answer(&device, "pump", id, Status::Succeeded))
    });
    answered.await;
    assert_eq!(node.room.wait(id, LONG).await.unwrap().state, State::Succeeded);
    assert_eq!(node.steps(id), ["queued", "sent", "delivered", "succeeded"]);
    node.end().await;
}
