//! What all connections of the MQTT door share.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sled_data::{FollowedCommit, OriginId};
use tokio::sync::Semaphore;

use super::publish::{NotTaken, Publisher};
use super::retain::{RetainedStore, Written};
use super::wills::{WaitingWill, Wills};
use crate::event_log::{Committed, EventLog, Observer, Ticket};
use crate::ingest::{Gate, Ingest};
use crate::mqtt::codec::Publish;
use crate::mqtt::session::{DueWill, KeptSession, KeptWill, Limits};
use crate::sessions::Sessions;
use crate::subscriptions::{FanOut, LateWills};

/// How often wills and expired sessions are looked after.
const TICK: Duration = Duration::from_millis(200);

/// The MQTT door's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Connections at once, those that have not said CONNECT yet among them.
    pub connections_max: usize,
    /// Seconds that a client has for its CONNECT.
    pub connect_wait_s: u16,
    /// The largest packet taken, in bytes.
    pub packet_bytes_max: u32,
    /// QoS 1 and 2 publishes that a client may have unacknowledged.
    pub receive_max: u16,
    /// QoS 1 messages in flight to a client, at most as many as it allows.
    pub in_flight_max: u16,
    /// The longest keep-alive granted to MQTT 5 clients, in seconds; 0 leaves it to them.
    pub keep_alive_s_max: u16,
    /// Topic aliases that a client may set.
    pub topic_aliases_max: u16,
    /// Retained messages that are kept.
    pub retained_max: usize,
    /// Bytes of retained messages that are kept.
    pub retained_bytes_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            connections_max: 20_000,
            connect_wait_s: 10,
            packet_bytes_max: 1 << 20,
            receive_max: 8_192,
            in_flight_max: 1_024,
            keep_alive_s_max: 0,
            topic_aliases_max: 32,
            retained_max: 100_000,
            retained_bytes_max: 64 << 20,
        }
    }
}

/// The MQTT door.
pub struct Door {
    pub(super) log: Arc<EventLog>,
    pub(super) ingest: Arc<Ingest>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) fan_out: Arc<FanOut>,
    pub(super) retained: RetainedStore,
    pub(super) limits: Limits,
    pub(super) config: Config,
    /// Room for connections, whatever carries them.
    pub(super) places: Arc<Semaphore>,
    /// What clients do wrong, as lines of the log.
    pub(super) complaints: Gate,
    assigned: AtomicU64,
    /// Wills that wait for their delay, or for a log that takes them.
    wills: Mutex<Wills>,
}

impl Door {
    /// The door, with the retained messages and delayed wills that the store kept.
    pub fn new(ingest: Arc<Ingest>, sessions: Arc<Sessions>, config: Config) -> Arc<Self> {
        let log = Arc::clone(ingest.log());
        let limits = Limits {
            receive_maximum: config.receive_max.max(1),
            packet_bytes_max: config.packet_bytes_max,
            topic_alias_maximum: config.topic_aliases_max,
            inflight_max: config.in_flight_max.max(1),
            session_expiry_s_max: sessions.kept_s_max(),
            keep_alive_s_max: config.keep_alive_s_max,
            subscriptions_max: sessions.fan_out().config().filters_per_session_max,
            subscription_bytes_max: sessions.fan_out().config().filter_bytes_per_session_max,
            ..Limits::default()
        };
        let door = Self {
            retained: RetainedStore::new(&config),
            fan_out: Arc::clone(sessions.fan_out()),
            assigned: AtomicU64::new(log.clock().next_hybrid()),
            wills: Mutex::default(),
            log,
            ingest,
            sessions,
            limits,
            places: Arc::new(Semaphore::new(config.connections_max)),
            config,
            complaints: Gate::default(),
        };
        door.load_wills();
        let door = Arc::new(door);
        door.log.observe(Arc::new(Onlooker(Arc::downgrade(&door))));
        door.fan_out.set_late_wills(door.log.origin(), Arc::new(Onlooker(Arc::downgrade(&door))));
        door.retained.load(&door.log);
        door
    }

    /// A client id unlike any other, for a client that leaves it to the server.
    pub(super) fn assigned_id(&self) -> String {
        format!("edgeway-{:016x}", self.assigned.fetch_add(1, Ordering::Relaxed))
    }

    pub(super) fn now_ms(&self) -> u64 {
        self.log.clock().steady_ms()
    }

    fn load_wills(&self) {
        for (client_id, state, begun) in self.sessions.kept_states() {
            let Ok(mut kept) = KeptSession::from_bytes(&state) else { continue };
            let now_ms = self.now_ms();
            // Who was connected when the node was killed was heard until then at most.
            kept.found_without_end(now_ms, last_ms(&self.log));
            if let (Some((will, at_ms)), Some(ended_ms)) = (kept.will.clone(), kept.disconnected_at_ms) {
                let due = DueWill { will, at_ms: at_ms.saturating_sub(kept.ended_ahead_ms(now_ms)) };
                self.wills.lock().add(&client_id, WaitingWill::new(due, begun, ended_ms.min(at_ms)));
            }
            self.keep(&client_id, &kept);
            // It is stored as it was: a process that began without the time cannot say it better.
            if let Some(ends_ms) = kept.expires_at_ms().filter(|_| kept.ended_ahead_ms(now_ms) > 0) {
                self.sessions.ends_at_latest(&client_id, ends_ms.saturating_sub(kept.ended_ahead_ms(now_ms)));
            }
        }
    }

    fn keep(&self, client_id: &str, kept: &KeptSession) {
        let expires_at_ms = kept.expires_at_ms().map(|at_ms| i64::try_from(at_ms).unwrap_or(i64::MAX));
        self.sessions.set_kept_state(client_id, kept.to_bytes(), expires_at_ms);
    }

    /// Publishes a will now, or when its delay has passed and its client has not come back. What is to be kept of it with its session.
    pub(super) fn take_will(&self, client_id: &Arc<str>, will: WaitingWill) -> Option<(KeptWill, u64)> {
        if will.due.at_ms > self.now_ms() {
            self.wills.lock().add(client_id, will);
        } else {
            self.publish_will(client_id, will);
        }
        self.wills.lock().unpublished(client_id)
    }

    /// The client is back: its delayed will is called off, or published now if its session ended. One that was due before, and was refused, is tried once
    /// more: behind what its client says from now on it would be wrong.
    pub(super) fn call_off_will(&self, client_id: &Arc<str>, session_goes_on: bool) {
        let Some(waiting) = self.wills.lock().remove(client_id) else { return };
        let is_over = match waiting.ticket() {
            Some(ticket) => !matches!(self.log.outcome(ticket), Some(Err(_))),
            None => session_goes_on && !waiting.was_refused(),
        };
        if is_over {
            return;
        }
        let topic = waiting.due.will.topic.clone();
        self.publish_will(client_id, waiting.last());
        let mut wills = self.wills.lock();
        if wills.unpublished(client_id).is_some() {
            wills.remove(client_id);
            tracing::warn!(%client_id, topic, "a will was not published before its client came back");
        }
    }

    /// Publishes a will. It waits on where the log refuses it for now, and until it is stored.
    fn publish_will(&self, client_id: &Arc<str>, waiting: WaitingWill) {
        match self.append_will(client_id, &waiting) {
            Ok(ticket) => {
                self.forget_will(client_id, waiting.begun);
                if let Some(ticket) = ticket {
                    // Where there is no room for it, it is not tried again.
                    self.wills.lock().add(client_id, waiting.appended(ticket));
                }
            }
            Err(error) if error.is_for_now() => self.keep_trying(client_id, waiting, &error),
            Err(error) => {
                self.forget_will(client_id, waiting.begun);
                tracing::warn!(%client_id, topic = waiting.due.will.topic, %error, "a will was not published");
            }
        }
    }

    /// Appends a will; the ticket of the commit that it is in.
    fn append_will(&self, client_id: &Arc<str>, waiting: &WaitingWill) -> Result<Option<Ticket>, NotTaken> {
        let (will, begun, heard_ms) = (&waiting.due.will, waiting.begun, waiting.heard_ms);
        let publish = Publish {
            topic: &will.topic,
            payload: &will.payload,
            properties: will.properties(),
            packet_id: 0,
            qos: will.qos,
            dup: false,
            retain: will.retain,
        };
        // A will is as old as its connection: its number, if it has one, says nothing.
        let (ingest, fan_out) = (Arc::clone(&self.ingest), Arc::clone(&self.fan_out));
        let written = self.written(client_id, begun, heard_ms);
        let mut publisher = Publisher::new(ingest, fan_out, Arc::clone(client_id), 0, None, written);
        let mut open = None;
        let appended = publisher.append(self, &mut open, &will.topic, &publish);
        let ticket = open.as_ref().map(|open| open.ticket());
        drop(open);
        publisher.flush_live();
        appended.map(|_| ticket)
    }

    /// A will that was refused for now waits, and stays with its session, so that a restart publishes it.
    fn keep_trying(&self, client_id: &Arc<str>, waiting: WaitingWill, why: &dyn std::fmt::Display) {
        let (topic, begun, is_told) = (waiting.due.will.topic.clone(), waiting.begun, waiting.is_told);
        let DueWill { will, at_ms } = waiting.due.clone();
        if !self.wills.lock().add(client_id, waiting.refused(self.now_ms())) {
            self.forget_will(client_id, begun);
            tracing::warn!(%client_id, topic, %why, "a will was not published, and too many others wait to be tried again, or its client's next one");
            return;
        }
        self.change_kept(client_id, begun, |kept| {
            let is_new = kept.will.is_none();
            kept.will.get_or_insert((will, at_ms));
            is_new
        });
        if !is_told {
            tracing::warn!(%client_id, topic, %why, "a will was not published; it is tried again until it is");
        }
    }

    /// When a will counts as written: its client may long be elsewhere.
    fn written(&self, client_id: &str, begun: u64, heard_ms: u64) -> Written {
        let newer = self.sessions.newer_than(client_id, begun).map(|place| place.claim.begun);
        let silent_ms = self.now_ms().saturating_sub(heard_ms);
        Written::Will { begun, heard: self.log.clock().hybrid_before(silent_ms), newer }
    }

    /// A will that was published is no longer kept with its session, so that a restart does not publish it again.
    fn forget_will(&self, client_id: &str, begun: u64) {
        self.change_kept(client_id, begun, |kept| kept.will.take().is_some());
    }

    /// Changes the session of a client that is away, where it is the one that began then; `change` says whether it has.
    fn change_kept(&self, client_id: &str, begun: u64, change: impl FnOnce(&mut KeptSession) -> bool) {
        if self.sessions.kept_begun(client_id) != Some(begun) {
            return;
        }
        let Some(state) = self.sessions.kept_state(client_id) else { return };
        if let Ok(mut kept) = KeptSession::from_bytes(&state)
            && change(&mut kept)
        {
            self.keep(client_id, &kept);
        }
    }

    /// Looks after delayed wills and kept sessions until it is dropped.
    pub(super) async fn tick(self: Arc<Self>) {
        let mut every = tokio::time::interval(TICK);
        loop {
            every.tick().await;
            self.look_after();
        }
    }

    /// Publishes wills that are due, and drops what has expired: a session after its will, which is stored with it. After a start in a site all that
    /// waits for a moment: others know which clients came to them meanwhile, and by which clocks they have written.
    pub(super) fn look_after(&self) {
        let now_ms = self.now_ms();
        for (origin, ahead_ms) in self.sessions.clocks() {
            self.retained.follow_clock(origin, ahead_ms);
        }
        if self.sessions.awaits_others() {
            return;
        }
        for client_id in self.due_wills() {
            self.look_after_will(&client_id);
        }
        self.sessions.expire();
        self.retained.expire(&self.log, now_ms);
    }

    /// The clients whose wills are to be looked after now.
    pub(super) fn due_wills(&self) -> Vec<Arc<str>> {
        self.wills.lock().due(self.now_ms(), |ticket| self.log.outcome(ticket).is_some())
    }

    /// Looks after the will of one of those. There may be thousands, one after another: it is looked at as it is by then.
    pub(super) fn look_after_will(&self, client_id: &Arc<str>) {
        let is_back = || self.sessions.live_of(client_id).is_some_and(|live| live.device.protocol.starts_with("mqtt"));
        let was_back = is_back();
        let waiting = {
            let mut wills = self.wills.lock();
            if was_back && wills.is_to_be_called_off(client_id) {
                // What its client's coming means for it is judged in a moment.
                return;
            }
            wills.take_due(client_id, self.now_ms(), |ticket| self.log.outcome(ticket).is_some())
        };
        let Some(waiting) = waiting else { return };
        match waiting.ticket().map(|ticket| self.log.outcome(ticket)) {
            Some(Some(Err(why))) if waiting.is_last => {
                let topic = &waiting.due.will.topic;
                tracing::warn!(%client_id, topic, %why, "a will was not published before its client came back");
            }
            Some(Some(Err(why))) => self.keep_trying(client_id, waiting, &why),
            Some(_) => {}
            // A session that goes on at another node has called its will off.
            None if self.sessions.newer_than(client_id, waiting.begun).is_none_or(|place| place.anew) => {
                self.publish_will(client_id, waiting);
            }
            None => {}
        }
        // It came while that was tried, and found nothing to judge: what is to be tried again is judged here.
        if !was_back && is_back() {
            self.call_off_will(client_id, false);
        }
    }
}

/// When the store was written to last before this start, by the clock of [`Door::now_ms`].
fn last_ms(log: &EventLog) -> u64 {
    u64::try_from(sled_data::hlc_ms(log.clock().began_after())).unwrap_or(0)
}

/// Takes what other nodes retain, as long as there is a door.
struct Onlooker(Weak<Door>);

impl Observer for Onlooker {
    fn committed(&self, _: &Arc<Committed>) {}

    fn is_listening(&self) -> bool {
        false
    }

    fn followed(&self, commits: &[FollowedCommit]) {
        if let Some(door) = self.0.upgrade() {
            commits.iter().for_each(|commit| door.retained.followed(&door.log, commit));
        }
    }

    fn copied(&self, origin: OriginId) {
        if let Some(door) = self.0.upgrade() {
            door.retained.copied(&door.log, origin);
        }
    }

    fn lives_changed(&self) {
        if let Some(door) = self.0.upgrade() {
            door.retained.lives_changed(&door.log);
        }
    }
}

impl LateWills for Onlooker {
    /// Where its client's newest session has said something under the topic that is retained. Clients of linked sites are others, whatever they are called.
    fn is_late(&self, origin: OriginId, client_id: &str, begun: u64, mqtt_topic: &str) -> bool {
        let Some(door) = self.0.upgrade().filter(|door| door.log.others().contains(&origin)) else { return false };
        let newest = door.sessions.newest_begun(client_id);
        newest > begun && door.retained.stamp(mqtt_topic).is_some_and(|stamp| stamp.clock >= newest)
    }
}
