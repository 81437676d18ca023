//! From frames to the log: the route is remembered, headers are made once, one lock serves all that a read brought.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use devices::headers;
use devices::native::{Datagram, Event, Publish, Refusal};
use devices::sequence::{HEADER_BYTES_MAX, Lane, Number, Sequence};
use sled_data::HeaderBlock;

use super::order::Outcome;
use crate::event_log::{AppendError, EventLog, NewEvent, OpenCommit, TopicError};
use crate::ingest::{Ingest, Refused, Route, Verdict};
use crate::mqtt::topic::is_name;

/// Routes that a connection remembers; beyond that it begins anew.
const ROUTES_MAX: usize = 256;

/// The store takes nothing for now: nothing behind this may be appended from the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TryAgain;

/// Why an event has no place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotTaken {
    /// For good.
    Refused(Refusal),
    /// For now.
    TryAgain,
}

/// A route with the headers that all events of its MQTT topic have in common.
pub(super) struct Remembered {
    mqtt_topic: Box<str>,
    pub(super) route: Route,
    /// As the events of lanes have them.
    headers: HeaderBlock,
    /// As those of datagrams have them.
    pub(super) lossy_headers: HeaderBlock,
}

/// One connection's way in.
pub(super) struct Appender {
    ingest: Arc<Ingest>,
    device: Arc<str>,
    session: u64,
    routes: HashMap<Box<str>, Arc<Remembered>>,
    /// The routes are as of this generation of the rules.
    rules: u64,
    last: Option<Arc<Remembered>>,
    extra: HeaderBlock,
    sequence: Vec<u8>,
    /// The node's wall clock, read once for all that a read brought.
    now_ms: i64,
}

impl Appender {
    pub(super) fn new(ingest: Arc<Ingest>, device: Arc<str>, session: u64) -> Self {
        let rules = ingest.generation();
        Self {
            ingest,
            device,
            session,
            routes: HashMap::new(),
            rules,
            last: None,
            extra: HeaderBlock::new(),
            sequence: Vec::with_capacity(HEADER_BYTES_MAX),
            now_ms: 0,
        }
    }

    /// The wall clock for what is appended from now on.
    pub(super) fn set_time(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
    }

    /// Appends what is new of a frame whose numbers were admitted; `last` is that of its last event. The lock is taken
    /// with the first frame, and given back while a topic has to be made. `failures` is how often commits had failed
    /// when the stream had nothing under way; `is_idle`: it has nothing under way now.
    ///
    /// # Errors
    /// When the store takes nothing now, or has refused what may have been this stream's.
    pub(super) fn append<'log>(
        &mut self,
        log: &'log EventLog,
        open: &mut Option<OpenCommit<'log>>,
        publish: &Publish<'_>,
        (lane, last): (Lane, Number),
        (failures, is_idle): (&mut u64, bool),
    ) -> Result<Outcome, TryAgain> {
        let mut outcome = Outcome::default();
        let found = self.place(log, open, publish.topic);
        let guard = open.get_or_insert_with(|| log.lock());
        // What was on its way when a commit failed is not stored: nothing may come behind it.
        if guard.failures() != *failures {
            if !is_idle {
                return Err(TryAgain);
            }
            *failures = guard.failures();
        }
        let to = match found {
            Ok(to) => to,
            Err(NotTaken::TryAgain) => return Err(TryAgain),
            Err(NotTaken::Refused(why)) => {
                outcome.refuse(publish.boot, publish.first, last.seq, why);
                return Ok(outcome);
            }
        };
        guard.check(0).map_err(|_| TryAgain)?;
        self.append_new(guard, &to, publish, lane, &mut outcome)?;
        Ok(outcome)
    }

    fn append_new(
        &mut self,
        guard: &mut OpenCommit<'_>,
        to: &Remembered,
        publish: &Publish<'_>,
        lane: Lane,
        outcome: &mut Outcome,
    ) -> Result<(), TryAgain> {
        let base_ms = if publish.timestamp_ms == 0 { self.now_ms } else { publish.timestamp_ms };
        let device = Arc::clone(&self.device);
        let mut is_new = false;
        let mut appended: Option<Number> = None;
        let (mut count, mut bytes, mut stopped) = (0_u64, 0_u64, Ok(()));
        for (number, event) in publish.numbered() {
            let sequence = Sequence { lane, number };
            if !is_new {
                match self.ingest.lanes().judge(guard, &device, sequence) {
                    Verdict::New => is_new = true,
                    Verdict::Duplicate(ticket) => {
                        let ticket = ticket.or_else(|| to.route.barrier(self.ingest.log()));
                        outcome.ticket = outcome.ticket.max(ticket);
                        continue;
                    }
                    Verdict::StaleBoot { .. } => {
                        outcome.refuse(number.boot, number.seq, number.seq, Refusal::StaleBoot);
                        continue;
                    }
                    Verdict::TooManyDevices => {
                        outcome.refuse(number.boot, number.seq, number.seq, Refusal::TooManyDevices);
                        continue;
                    }
                }
            }
            let timestamp_ms = base_ms.saturating_add(event.later_ms);
            match self.append_event(guard, to, sequence, timestamp_ms, event) {
                Ok(()) => {
                    appended = Some(number);
                    count += 1;
                    bytes += event.payload.len() as u64;
                }
                Err(NotTaken::Refused(why)) => outcome.refuse(number.boot, number.seq, number.seq, why),
                Err(NotTaken::TryAgain) => {
                    stopped = Err(TryAgain);
                    break;
                }
            }
        }
        if let Some(number) = appended {
            self.ingest.lanes().advance(guard, &device, Sequence { lane, number });
            outcome.ticket = Some(guard.ticket());
            let stats = self.ingest.stats();
            stats.taken.fetch_add(count, Ordering::Relaxed);
            stats.payload_bytes.fetch_add(bytes, Ordering::Relaxed);
        }
        stopped
    }

    fn append_event(
        &mut self,
        guard: &mut OpenCommit<'_>,
        to: &Remembered,
        sequence: Sequence,
        timestamp_ms: i64,
        event: &Event<'_>,
    ) -> Result<(), NotTaken> {
        self.extra.clear();
        self.sequence.clear();
        sequence.write_header(&mut self.sequence);
        self.extra.push(headers::SEQUENCE, &self.sequence);
        self.add_session(&to.route);
        for (name, value) in &event.properties {
            let property = headers::encode_user_property(name, value).ok_or(NotTaken::Refused(Refusal::TooLarge))?;
            self.extra.push(headers::MQTT_USER, &property);
        }
        let new = NewEvent {
            timestamp_ms,
            key: Some(&to.route.key),
            value: Some(event.payload),
            headers: &to.headers,
            extra: &self.extra,
            fanned_out: false,
        };
        guard.append(&to.route.topic, to.route.partition, &new).map_err(|error| self.not_appended(&error))
    }

    /// Appends a reading that may be lost. Its headers besides those of its route are left in [`Self::extra`].
    ///
    /// # Errors
    /// Why it was not taken.
    pub(super) fn append_datagram(
        &mut self,
        guard: &mut OpenCommit<'_>,
        to: &Remembered,
        datagram: &Datagram<'_>,
    ) -> Result<i64, NotTaken> {
        self.extra.clear();
        self.add_session(&to.route);
        let timestamp_ms = if datagram.timestamp_ms == 0 { self.now_ms } else { datagram.timestamp_ms };
        let new = NewEvent {
            timestamp_ms,
            key: Some(&to.route.key),
            value: Some(datagram.payload),
            headers: &to.lossy_headers,
            extra: &self.extra,
            fanned_out: true,
        };
        guard.append(&to.route.topic, to.route.partition, &new).map_err(|error| self.not_appended(&error))?;
        let stats = self.ingest.stats();
        stats.taken.fetch_add(1, Ordering::Relaxed);
        stats.payload_bytes.fetch_add(datagram.payload.len() as u64, Ordering::Relaxed);
        Ok(timestamp_ms)
    }

    /// The headers of the event that was appended last, besides those of its route.
    pub(super) fn extra(&self) -> &HeaderBlock {
        &self.extra
    }

    fn add_session(&mut self, route: &Route) {
        if route.is_answer {
            self.extra.push(headers::SESSION, &headers::encode_session(self.session));
        }
    }

    fn not_appended(&self, error: &AppendError) -> NotTaken {
        match error {
            AppendError::TooLarge { .. } => {
                self.ingest.stats().refused_too_large.fetch_add(1, Ordering::Relaxed);
                NotTaken::Refused(Refusal::TooLarge)
            }
            AppendError::Refused(_)
            | AppendError::Closing
            | AppendError::NoQuorum { .. }
            | AppendError::Deleted { .. }
            | AppendError::NoPartition { .. } => NotTaken::TryAgain,
        }
    }

    /// Where the events of an MQTT topic go. A topic that was deleted is made anew, once.
    ///
    /// # Errors
    /// Why they go nowhere.
    pub(super) fn place<'log>(
        &mut self,
        log: &'log EventLog,
        open: &mut Option<OpenCommit<'log>>,
        topic: &str,
    ) -> Result<Arc<Remembered>, NotTaken> {
        let rules = self.ingest.generation();
        if self.rules != rules {
            self.rules = rules;
            self.routes.clear();
            self.last = None;
        }
        let found = self.remembered(open, topic)?;
        let guard = open.get_or_insert_with(|| log.lock());
        if guard.check_topic(&found.route.topic).is_ok() {
            return Ok(found);
        }
        self.routes.clear();
        self.last = None;
        self.remembered(open, topic)
    }

    fn remembered(&mut self, open: &mut Option<OpenCommit<'_>>, topic: &str) -> Result<Arc<Remembered>, NotTaken> {
        if let Some(last) = self.last.as_ref().filter(|last| *last.mqtt_topic == *topic) {
            return Ok(Arc::clone(last));
        }
        let found = match self.routes.get(topic) {
            Some(known) => Arc::clone(known),
            None => self.find(open, topic)?,
        };
        self.last = Some(Arc::clone(&found));
        Ok(found)
    }

    fn find(&mut self, open: &mut Option<OpenCommit<'_>>, topic: &str) -> Result<Arc<Remembered>, NotTaken> {
        if !is_name(topic) {
            return Err(NotTaken::Refused(Refusal::TopicInvalid));
        }
        // A new topic may have to be made, which waits for the disk: not under the lock.
        *open = None;
        let route = self.ingest.route(topic).map_err(|refused| not_routed(&refused))?;
        let headers = route.headers(topic, 1, &self.device);
        let lossy_headers = route.headers(topic, 0, &self.device);
        let made = Arc::new(Remembered { mqtt_topic: topic.into(), route, headers, lossy_headers });
        if self.routes.len() >= ROUTES_MAX {
            self.routes.clear();
        }
        self.routes.insert(topic.into(), Arc::clone(&made));
        Ok(made)
    }
}

fn not_routed(refused: &Refused) -> NotTaken {
    match refused {
        Refused::NoRule(_) => NotTaken::Refused(Refusal::NoRule),
        Refused::NotAllowed(_) | Refused::Misspelt { .. } | Refused::Topic(TopicError::TooMany(_)) => {
            NotTaken::Refused(Refusal::NotAllowed)
        }
        Refused::Topic(TopicError::Name(_) | TopicError::Partitions(_)) => NotTaken::Refused(Refusal::TopicInvalid),
        Refused::Topic(
            TopicError::Exists(_)
            | TopicError::Unknown(_)
            | TopicError::Store(_)
            | TopicError::Unreadable(_)
            | TopicError::NotDeleted(_),
        ) => NotTaken::TryAgain,
    }
}
