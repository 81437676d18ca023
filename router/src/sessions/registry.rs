//! The registry: one live session a client id; what was kept waits for its client.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use sled_data::OriginId;
use tokio::sync::watch;

use super::arrivals::{Arrivals, Arrived};
use super::catch_up::CatchUp;
use super::elsewhere::Elsewhere;
use super::keeping::put_record;
use super::kept::{KEPT_TREE, KeptRecord};
use super::known::TurnedAway;
use super::mailbox::{Mailbox, Offer, Order};
use super::presence::{Change, DeviceRecord, Presence, Seen};
use super::seat::{Added, Seat};
use super::site::Heard;
use crate::catalog::Catalog;
use crate::event_log::{EventLog, Ticket, Wake};
use crate::ingest::Gate;
use crate::subscriptions::FanOut;

/// How long a new connection waits for the one that it takes over from.
const TAKE_OVER_WAIT: Duration = Duration::from_secs(5);

/// Bounds of the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Clients that may be connected at once.
    pub sessions_max: usize,
    /// Sessions that are kept for clients that are away.
    pub kept_max: usize,
    /// The longest that a session is kept for a client that is away, in seconds.
    pub kept_s_max: u32,
    /// Devices that are listed; beyond that new ones connect without being listed.
    pub devices_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { sessions_max: 20_000, kept_max: 20_000, kept_s_max: 7 * 24 * 3_600, devices_max: 100_000 }
    }
}

/// Counters of the registry.
#[derive(Debug, Default)]
pub struct Stats {
    /// Connections admitted.
    pub connected: AtomicU64,
    /// Connections that took a client id over from another.
    pub taken_over: AtomicU64,
    /// Sessions that ended here because their client connected to another node.
    pub taken_elsewhere: AtomicU64,
    /// Sessions that another node had kept, and that went on here.
    pub fetched: AtomicU64,
    /// Connections refused: too many.
    pub refused_too_many: AtomicU64,
    /// Connections refused: the device is not enrolled, and only enrolled ones may connect.
    pub refused_not_enrolled: AtomicU64,
}

/// A live session.
pub struct Entry {
    /// Its client id.
    pub client_id: Arc<str>,
    /// Its number: rises with each connection, also over restarts.
    pub number: u64,
    /// The hybrid clock at which it began: the newest of all nodes' sessions of a client has the greatest.
    pub begun: u64,
    /// Whether it began anew, rather than going on.
    pub(super) anew: bool,
    /// Where it sits.
    pub seat: Arc<Seat>,
    /// Orders and offers to this connection; the next one of a kept session has its own.
    pub mailbox: Mailbox,
    pub(super) info: DeviceRecord,
    pub(super) ended: watch::Sender<bool>,
}

impl Entry {
    /// As the CLI and the metrics show it.
    pub(super) fn show(&self) -> SessionInfo {
        let filters = self.seat.filters.lock().list().to_vec();
        SessionInfo { device: self.info.clone(), number: self.number, filters }
    }
}

/// What a door knows of a client that has just connected.
#[derive(Debug, Clone)]
pub struct Arrival {
    /// Its client id.
    pub client_id: Arc<str>,
    /// `mqtt-3.1.1`, `mqtt-5` and the like.
    pub protocol: &'static str,
    /// The address that it comes from.
    pub remote: String,
    /// Whether what was kept for it is to be forgotten.
    pub clean_start: bool,
}

/// A client that was let in.
pub struct Admitted {
    /// Its session.
    pub entry: Arc<Entry>,
    /// The state that its door kept, where a session was resumed.
    pub kept: Option<Vec<u8>>,
    /// Whether another node, which it was connected to, may have more of that state than has arrived here.
    pub may_lag: bool,
    /// Where another node has written that state, or a process before: by how much its clock is ahead of this node's
    /// [`crate::clock::Clock::steady_ms`], in milliseconds, as far as is known.
    pub ahead_ms: Option<i64>,
    /// When what was recorded of its coming is durable.
    pub recorded: Option<Ticket>,
}

/// A session as the CLI and the metrics show it.
#[derive(Debug, Clone, Serialize)]
pub struct SessionInfo {
    /// What was seen of its client.
    #[serde(flatten)]
    pub device: DeviceRecord,
    /// Its number.
    pub number: u64,
    /// Its subscriptions' filters.
    pub filters: Vec<String>,
}

/// The way to a live session.
#[derive(Clone)]
pub struct SessionHandle {
    entry: Arc<Entry>,
}

impl SessionHandle {
    /// Its client id.
    pub fn client_id(&self) -> &Arc<str> {
        &self.entry.client_id
    }

    /// Its number.
    pub fn number(&self) -> u64 {
        self.entry.number
    }

    /// Offers that it has room for, the urgent ones last.
    pub fn room(&self) -> [usize; 2] {
        self.entry.mailbox.room()
    }

    /// Offers it a message; given back when its mailbox is full.
    ///
    /// # Errors
    /// The offer itself.
    pub fn offer(&self, offer: Offer) -> Result<(), Box<Offer>> {
        self.entry.mailbox.offer(offer)
    }

    /// Takes an offer back that waits in its mailbox, by what its answer belongs to.
    pub fn withdraw(&self, command: &[u8; 16]) {
        self.entry.mailbox.withdraw(command);
    }
}

pub(super) enum Slot {
    Live(Arc<Entry>),
    Kept { seat: Arc<Seat>, record: KeptRecord, ends: Ends },
}

/// By which clock a kept session ends.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ends {
    /// When it ends was stored by a process before this one.
    pub(super) is_earlier: bool,
    /// When it ends at the latest, whatever is stored, by [`Sessions::steady_ms`].
    pub(super) latest_ms: Option<i64>,
}

/// All sessions of this node.
pub struct Sessions {
    pub(super) config: Config,
    pub(super) presence: Presence,
    pub(super) log: Arc<EventLog>,
    pub(super) fan_out: Arc<FanOut>,
    /// Who may connect; without it everybody may.
    pub(super) catalog: Option<Arc<Catalog>>,
    pub(super) complaints: Gate,
    pub(super) slots: Mutex<HashMap<Arc<str>, Slot>>,
    /// Live sessions by their seat's subscriber number.
    pub(super) by_seat: Mutex<HashMap<u64, Arc<Entry>>>,
    pub(super) next_number: AtomicU64,
    changes: watch::Sender<u64>,
    pub(super) arrivals: Arrivals,
    /// What other nodes have seen of clients.
    pub(super) elsewhere: RwLock<Elsewhere>,
    /// Lives that have ended and are followed: later ones of their nodes are here.
    pub(super) ended: RwLock<BTreeSet<OriginId>>,
    pub(super) heard: OnceLock<Arc<dyn Heard>>,
    pub(super) catch_up: CatchUp,
    pub(super) stats: Stats,
    /// Nobody is let in: the node leaves its site.
    pub(super) is_closed: AtomicBool,
}

impl Sessions {
    /// The registry, with the sessions that the store kept.
    pub fn open(log: Arc<EventLog>, fan_out: Arc<FanOut>, config: Config) -> Self {
        // Numbers go on from the clock, so that they rise over restarts as well.
        let first = log.clock().next_hybrid();
        let sessions = Self {
            presence: Presence::open(Arc::clone(&log), config.devices_max),
            elsewhere: RwLock::new(Elsewhere::new(config.devices_max)),
            ended: RwLock::default(),
            heard: OnceLock::new(),
            catch_up: CatchUp::default(),
            config,
            log,
            fan_out,
            catalog: None,
            complaints: Gate::default(),
            slots: Mutex::default(),
            by_seat: Mutex::default(),
            next_number: AtomicU64::new(first),
            changes: watch::Sender::new(0),
            arrivals: Arrivals::default(),
            stats: Stats::default(),
            is_closed: AtomicBool::new(false),
        };
        sessions.load_kept();
        sessions
    }

    /// The fan-out that its seats are in.
    pub fn fan_out(&self) -> &Arc<FanOut> {
        &self.fan_out
    }

    /// Its counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// The longest that a session is kept, in seconds.
    pub fn kept_s_max(&self) -> u32 {
        self.config.kept_s_max
    }

    /// Rises on connect, subscribe and disconnect.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.subscribe()
    }

    /// Filters of commands that sessions have come with since `position`, which moves on; for who waits for a session.
    pub fn arrived_since(&self, position: &mut u64) -> Arrived {
        self.arrivals.since(position)
    }

    /// How many are connected.
    pub fn live(&self) -> usize {
        self.by_seat.lock().len()
    }

    /// Lets a client in: ends a live session of the same client id first, and resumes what was kept for it. After a start in a site it is waited
    /// first, some seconds at most, for what other nodes have seen of it meanwhile.
    ///
    /// # Errors
    /// Why it is turned away.
    pub async fn connect(&self, arrival: Arrival) -> Result<Admitted, TurnedAway> {
        if !arrival.clean_start {
            self.others_heard().await;
        }
        loop {
            let mut ended = {
                let mut slots = self.slots.lock();
                // Under the lock: a device that is removed from now on is found here and ended.
                self.check_known(&arrival)?;
                // Under the lock: who was let in before is told to go.
                if self.is_closed.load(Ordering::Acquire) {
                    return Err(TurnedAway::Leaving);
                }
                match slots.get(&arrival.client_id) {
                    Some(Slot::Live(entry)) => {
                        self.stats.taken_over.fetch_add(1, Ordering::Relaxed);
                        entry.mailbox.order(Order::TakenOver { clean_start: arrival.clean_start });
                        entry.ended.subscribe()
                    }
                    _ => return self.admit(&mut slots, arrival),
                }
            };
            if tokio::time::timeout(TAKE_OVER_WAIT, ended.wait_for(|ended| *ended)).await.is_err() {
                tracing::warn!(client = %arrival.client_id, "the earlier session of this client id did not end in time");
                return Err(TurnedAway::NoRoom);
            }
        }
    }

    pub(super) fn new_seat(&self, number: u64) -> Arc<Seat> {
        let wake = Arc::new(Wake::default());
        let subscriber = self.fan_out.join(number, Arc::clone(&wake));
        Arc::new(Seat { wake, subscriber, filters: Mutex::default() })
    }

    pub(super) fn give_up(&self, client_id: &str, seat: &Seat) {
        let filters = std::mem::take(&mut *seat.filters.lock());
        self.fan_out.leave(seat.subscriber.number(), filters.list().iter().map(String::as_str));
        self.log.lock().put_state(KEPT_TREE, client_id.as_bytes(), None);
    }

    /// Adds a filter of a session; `false` when it has as many, or as many bytes of them, as it may.
    pub fn subscribe(&self, entry: &Entry, filter: &str) -> bool {
        let mut filters = entry.seat.filters.lock();
        match filters.add(filter, self.fan_out.config()) {
            Added::New => {}
            Added::Known => return true,
            Added::Full => return false,
        }
        self.fan_out.subscribe(entry.seat.subscriber.number(), filter);
        drop(filters);
        self.arrivals.push(filter);
        self.changed();
        true
    }

    /// Removes a filter of a session; `false` when it had none such.
    pub fn unsubscribe(&self, entry: &Entry, filter: &str) -> bool {
        let mut filters = entry.seat.filters.lock();
        if !filters.remove(filter) {
            return false;
        }
        self.fan_out.unsubscribe(entry.seat.subscriber.number(), filter);
        drop(filters);
        self.changed();
        true
    }

    /// Ends a session. `keep`: the door's state, and for how many seconds at most (`None`: without end).
    /// `unacknowledged`: the oldest offsets that the client may not have.
    pub fn disconnect(
        &self,
        entry: &Arc<Entry>,
        keep: Option<(Vec<u8>, Option<u32>)>,
        unacknowledged: Vec<(sled_data::PartitionId, u64)>,
    ) {
        let seat = &entry.seat;
        entry.mailbox.close();
        let mut slots = self.slots.lock();
        slots.remove(&entry.client_id);
        let kept_count = (slots.len() + 1).saturating_sub(self.live());
        match keep {
            Some((state, keep_s))
                if kept_count < self.config.kept_max
                    && self.lets_in(&entry.client_id)
                    && self.newer_than(&entry.client_id, entry.begun).is_none() =>
            {
                seat.subscriber.go_away(unacknowledged);
                let mut record = self.record(entry, state, keep_s);
                record.set_positions(&self.log, &seat.subscriber, &[]);
                put_record(&mut self.log.lock(), &entry.client_id, &record);
                let kept = Slot::Kept { seat: Arc::clone(seat), record, ends: Ends::default() };
                slots.insert(Arc::clone(&entry.client_id), kept);
            }
            _ => self.give_up(&entry.client_id, seat),
        }
        self.by_seat.lock().remove(&seat.subscriber.number());
        drop(slots);
        let last_seen_ms = self.log.clock().wall_ms();
        let device = DeviceRecord { last_seen_ms, connected: false, ..entry.info.clone() };
        let seen = Seen { device, begun: entry.begun, anew: entry.anew };
        self.presence.note(Change::Disconnected, entry.number, &seen);
        entry.ended.send_replace(true);
        self.changed();
    }

    /// The newest live session that takes such offers and has a subscription to an MQTT topic of the node itself
    /// (`edgeway/...`) of which `asks` says that it asks for them: who subscribes to everything is an onlooker.
    pub fn find_receiver(&self, mqtt_topic: &str, asks: impl Fn(&str) -> bool) -> Option<SessionHandle> {
        // Such topics have an id in them: they are not worth remembering.
        let wanted = self.fan_out.wanted_once(mqtt_topic);
        // Others come and go while filters are looked at.
        let mut live: Vec<Arc<Entry>> = {
            let by_seat = self.by_seat.lock();
            wanted.iter().filter_map(|number| by_seat.get(number)).cloned().collect()
        };
        live.retain(|entry| {
            entry.mailbox.takes(mqtt_topic) && entry.seat.filters.lock().own().iter().any(|filter| asks(filter))
        });
        live.into_iter().max_by_key(|entry| entry.number).map(|entry| SessionHandle { entry })
    }

    /// All live sessions.
    pub fn list(&self) -> Vec<SessionInfo> {
        let entries: Vec<Arc<Entry>> = self.by_seat.lock().values().cloned().collect();
        entries.iter().map(|entry| entry.show()).collect()
    }

    /// Tells every live session that the node stops, and waits until they have ended or `timeout` has passed.
    pub async fn stop(&self, timeout: Duration) {
        self.end_all(Order::Stop, timeout).await;
    }

    /// Lets nobody in any more, tells every live session that the node leaves its site, and waits until they have ended or
    /// `timeout` has passed. Whether they have.
    pub async fn close(&self, timeout: Duration) -> bool {
        {
            let _slots = self.slots.lock();
            self.is_closed.store(true, Ordering::Release);
        }
        self.end_all(Order::Leave, timeout).await
    }

    /// Lets clients in again.
    pub fn reopen(&self) {
        self.is_closed.store(false, Ordering::Release);
    }

    async fn end_all(&self, order: Order, timeout: Duration) -> bool {
        let entries: Vec<Arc<Entry>> = self.by_seat.lock().values().cloned().collect();
        for entry in &entries {
            entry.mailbox.order(order);
        }
        let all = async {
            for entry in &entries {
                let _ = entry.ended.subscribe().wait_for(|ended| *ended).await;
            }
        };
        let have_ended = tokio::time::timeout(timeout, all).await.is_ok();
        if !have_ended {
            tracing::warn!("some sessions did not end in time");
        }
        have_ended
    }

    pub(super) fn changed(&self) {
        self.changes.send_modify(|count| *count += 1);
    }
}
