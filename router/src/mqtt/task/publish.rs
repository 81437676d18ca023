//! The way of a PUBLISH into the log: routes are remembered, headers are made once, one lock serves a whole read.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use devices::headers;
use devices::sequence::{HEADER_BYTES_MAX, MQTT_PROPERTY, Sequence};
use sled_data::{HeaderBlock, OpenBatch};

use super::door::Door;
use super::numbered::{Judged, NotNumbered, Numbering};
use super::retain::{NotRetained, Written};
use crate::event_log::{AppendError, EventLog, NewEvent, OpenCommit, Ticket, Topic};
use crate::ingest::{Ingest, Refused, Route};
use crate::mqtt::codec::{Properties, PropertyId, Publish, Qos, Value};
use crate::subscriptions::FanOut;

/// Routes that a connection remembers; beyond that it begins anew.
const ROUTES_MAX: usize = 1_024;

/// Why a publish was not appended.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotTaken {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Retained(#[from] NotRetained),
    #[error(transparent)]
    Numbered(#[from] NotNumbered),
}

impl NotTaken {
    /// Whether the client is told to send the publish again, before those behind it: it must hold of the same refusals
    /// as the reasons that mean so. Behind one that is for good the next number follows.
    pub(super) fn is_for_now(&self) -> bool {
        match self {
            Self::Refused(refused) => refused.is_for_now(),
            Self::Append(error) => !matches!(error, AppendError::TooLarge { .. }),
            Self::Retained(_) => false,
            Self::Numbered(error) => matches!(error, NotNumbered::Behind),
        }
    }
}

/// What became of a publish that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// It is in the open commit.
    Appended,
    /// It was here before, in this commit; `None`: it is durable.
    Known(Option<Ticket>),
}

/// One connection's way in.
pub(super) struct Publisher {
    ingest: Arc<Ingest>,
    fan_out: Arc<FanOut>,
    client_id: Arc<str>,
    session: u64,
    /// What the client numbers; a will has no part in it.
    numbering: Option<Numbering>,
    /// When what it retains counts as written.
    written: Written,
    routes: HashMap<Box<str>, Arc<Remembered>>,
    /// The routes are as of this generation of the rules.
    rules: u64,
    last: Option<Arc<Remembered>>,
    live: OpenBatch,
    live_topic: Option<Arc<Topic>>,
    extra: HeaderBlock,
    now_ms: i64,
    /// Whether a topic is wanted by subscribers, as of this generation of the fan-out.
    generation: u64,
    wanted: HashMap<Box<str>, bool>,
}

/// A route with the headers that all publishes of its MQTT topic have in common, by QoS.
struct Remembered {
    mqtt_topic: Box<str>,
    route: Route,
    headers: [HeaderBlock; 3],
}

impl Publisher {
    pub(super) fn new(
        ingest: Arc<Ingest>,
        fan_out: Arc<FanOut>,
        client_id: Arc<str>,
        session: u64,
        numbering: Option<Numbering>,
        written: Written,
    ) -> Self {
        let (now_ms, rules) = (ingest.log().clock().wall_ms(), ingest.generation());
        Self {
            ingest,
            fan_out,
            client_id,
            session,
            numbering,
            written,
            routes: HashMap::new(),
            rules,
            last: None,
            live: OpenBatch::new(),
            live_topic: None,
            extra: HeaderBlock::new(),
            now_ms,
            generation: 0,
            wanted: HashMap::new(),
        }
    }

    /// Appends a publish under the read's lock, which is taken with the first of them. `topic` is its MQTT topic,
    /// aliases resolved. A retained message and the device's number are written with the same commit.
    ///
    /// # Errors
    /// Why it was not taken; nothing was changed then.
    pub(super) fn append<'log>(
        &mut self,
        door: &'log Door,
        open: &mut Option<OpenCommit<'log>>,
        topic: &str,
        publish: &Publish<'_>,
    ) -> Result<Taken, NotTaken> {
        let sequence = match &self.numbering {
            Some(numbering) => numbering.read(&self.ingest, &publish.properties)?,
            None => None,
        };
        self.forget_outdated();
        let mut appended = self.append_remembered(door, open, topic, publish, sequence);
        if matches!(appended, Err(NotTaken::Append(AppendError::Deleted { .. }))) {
            // Its topic was deleted: the route leads to the one that is made in its place.
            self.routes.clear();
            self.last = None;
            appended = self.append_remembered(door, open, topic, publish, sequence);
        }
        if let (Some(sequence), Some(numbering)) = (sequence, &mut self.numbering) {
            match (&appended, open) {
                (Ok(Taken::Appended), Some(open)) => numbering.appended(&self.ingest, open, sequence),
                (Ok(_), _) => {}
                (Err(error), _) => numbering.refused(sequence, error.is_for_now()),
            }
        }
        appended
    }

    fn append_remembered<'log>(
        &mut self,
        door: &'log Door,
        open: &mut Option<OpenCommit<'log>>,
        topic: &str,
        publish: &Publish<'_>,
        sequence: Option<Sequence>,
    ) -> Result<Taken, NotTaken> {
        let last = match self.last.as_ref().filter(|last| *last.mqtt_topic == *topic) {
            Some(last) => Arc::clone(last),
            None => {
                let found = self.remembered(open, topic)?;
                self.last = Some(Arc::clone(&found));
                found
            }
        };
        if let (Some(sequence), Some(numbering)) = (sequence, &mut self.numbering) {
            let open = open.get_or_insert_with(|| door.log.lock());
            if let Judged::Known(ticket) = numbering.judge(&self.ingest, open, sequence)? {
                return Ok(Taken::Known(ticket.or_else(|| last.route.barrier(&door.log))));
            }
        }
        self.make_extra(&last, publish, sequence);
        if !publish.retain {
            return self.append_to(&last, &door.log, open, topic, publish).map(|()| Taken::Appended);
        }
        let now_ms = door.now_ms();
        // Locked first, so that of two publishes the one that is stored later is the one that is retained.
        open.get_or_insert_with(|| door.log.lock());
        let change = door.retained.set(&door.log, topic, publish, self.written, now_ms)?;
        if change.is_none() {
            // A will that comes after what its client's next session has said under the topic: who was told that would take the older word for the newer.
            tracing::debug!(client = %self.client_id, topic, "a will is not published: its client's next session has said something newer");
            return Ok(Taken::Known(None));
        }
        let appended = self.append_to(&last, &door.log, open, topic, publish);
        match (change, &appended, open) {
            (_, Ok(()), Some(open)) => door.retained.write(open, topic, now_ms),
            (Some(change), ..) => door.retained.undo(topic, change),
            (None, ..) => {}
        }
        appended.map(|()| Taken::Appended)
    }

    /// The headers of this event alone.
    fn make_extra(&mut self, to: &Remembered, publish: &Publish<'_>, sequence: Option<Sequence>) {
        self.extra.clear();
        if publish.retain || to.route.is_answer || !publish.properties.is_empty() {
            add_extra(&mut self.extra, publish, to.route.is_answer.then_some(self.session));
        }
        if let Written::Will { begun, .. } = self.written {
            self.extra.push(headers::MQTT_WILL, &headers::encode_will(begun));
        }
        if let Some(sequence) = sequence {
            let mut header = Vec::with_capacity(HEADER_BYTES_MAX);
            sequence.write_header(&mut header);
            self.extra.push(headers::SEQUENCE, &header);
        }
    }

    fn append_to<'log>(
        &mut self,
        to: &Remembered,
        log: &'log EventLog,
        open: &mut Option<OpenCommit<'log>>,
        topic: &str,
        publish: &Publish<'_>,
    ) -> Result<(), NotTaken> {
        let is_live = publish.qos == Qos::AtMostOnce;
        let event = NewEvent {
            timestamp_ms: self.now_ms,
            key: Some(&to.route.key),
            value: Some(publish.payload),
            headers: &to.headers[usize::from(publish.qos.bits())],
            extra: &self.extra,
            fanned_out: is_live,
        };
        open.get_or_insert_with(|| log.lock()).append(&to.route.topic, to.route.partition, &event)?;
        let stats = self.ingest.stats();
        stats.taken.fetch_add(1, Ordering::Relaxed);
        stats.payload_bytes.fetch_add(publish.payload.len() as u64, Ordering::Relaxed);
        if is_live && !to.route.topic.is_internal() && self.is_wanted(topic) {
            self.add_live(to, publish);
        }
        Ok(())
    }

    /// What a publish waits for that was appended at an unknown time: its topic's quorum, where it has one.
    pub(super) fn barrier(&mut self, log: &EventLog, open: &mut Option<OpenCommit<'_>>, topic: &str) -> Option<Ticket> {
        let found = self.remembered(open, topic).ok()?;
        found.route.barrier(log)
    }

    /// Forgets routes by rules that have changed.
    fn forget_outdated(&mut self) {
        let rules = self.ingest.generation();
        if self.rules != rules {
            self.rules = rules;
            self.routes.clear();
            self.last = None;
        }
    }

    /// The wall clock for what is appended from now on; read once a socket read.
    pub(super) fn set_time(&mut self, now_ms: i64) {
        self.now_ms = now_ms;
    }

    /// Hands on the QoS 0 publishes of this read; call it with no lock held.
    pub(super) fn flush_live(&mut self) {
        if let Some(topic) = self.live_topic.take() {
            self.fan_out.publish_live(topic.name(), std::mem::take(&mut self.live));
        }
    }

    fn add_live(&mut self, to: &Remembered, publish: &Publish<'_>) {
        if self.live_topic.as_ref().is_some_and(|topic| topic.id() != to.route.topic.id()) {
            self.flush_live();
        }
        self.live_topic.get_or_insert_with(|| Arc::clone(&to.route.topic));
        let headers = &to.headers[usize::from(publish.qos.bits())];
        let key = Some(&*to.route.key);
        // Its size was checked when it was appended.
        let _ = self.live.push_with(self.now_ms, key, Some(publish.payload), headers, &self.extra);
    }

    fn is_wanted(&mut self, topic: &str) -> bool {
        let generation = self.fan_out.generation();
        if generation != self.generation || self.wanted.len() >= ROUTES_MAX {
            self.generation = generation;
            self.wanted.clear();
        }
        if let Some(wanted) = self.wanted.get(topic) {
            return *wanted;
        }
        let wanted = !self.fan_out.wanted_by(topic).is_empty();
        self.wanted.insert(topic.into(), wanted);
        wanted
    }

    fn remembered(&mut self, open: &mut Option<OpenCommit<'_>>, topic: &str) -> Result<Arc<Remembered>, NotTaken> {
        if let Some(known) = self.routes.get(topic) {
            return Ok(Arc::clone(known));
        }
        // A new topic may have to be made, which waits for the disk: not under the lock.
        *open = None;
        let route = self.ingest.route(topic)?;
        let block = |qos: Qos| route.headers(topic, qos.bits(), &self.client_id);
        let headers = [block(Qos::AtMostOnce), block(Qos::AtLeastOnce), block(Qos::ExactlyOnce)];
        let made = Arc::new(Remembered { mqtt_topic: topic.into(), route, headers });
        if self.routes.len() >= ROUTES_MAX {
            self.routes.clear();
        }
        self.routes.insert(topic.into(), Arc::clone(&made));
        Ok(made)
    }
}

/// What one publish has besides: the retain flag, its MQTT 5 properties, and the session of an answer.
fn add_extra(block: &mut HeaderBlock, publish: &Publish<'_>, answers_session: Option<u64>) {
    if publish.retain {
        block.push(headers::MQTT_RETAIN, &[1]);
    }
    if let Some(session) = answers_session {
        block.push(headers::SESSION, &session.to_be_bytes());
    }
    add_properties(block, &publish.properties);
}

fn add_properties(block: &mut HeaderBlock, properties: &Properties<'_>) {
    for (id, value) in properties.iter() {
        match (id, value) {
            (PropertyId::PayloadFormat, Value::Byte(format)) => {
                block.push(headers::MQTT_PAYLOAD_FORMAT, &[format]);
            }
            (PropertyId::MessageExpiry, Value::U32(seconds)) => {
                block.push(headers::MQTT_EXPIRY, &seconds.to_be_bytes());
            }
            (PropertyId::ContentType, Value::Text(text)) => block.push(headers::MQTT_CONTENT_TYPE, text.as_bytes()),
            (PropertyId::ResponseTopic, Value::Text(text)) => block.push(headers::MQTT_RESPONSE_TOPIC, text.as_bytes()),
            (PropertyId::CorrelationData, Value::Binary(data)) => block.push(headers::MQTT_CORRELATION, data),
            // The device's number is a header of its own.
            (PropertyId::UserProperty, Value::Pair(name, value)) if name != MQTT_PROPERTY => {
                block.push(headers::MQTT_USER, &user_property(name, value));
            }
            _ => {}
        }
    }
}

/// A user property as a header's value: the name's length (2 bytes, big-endian), name, value.
fn user_property(name: &str, value: &str) -> Vec<u8> {
    let length = u16::try_from(name.len()).unwrap_or(u16::MAX).to_be_bytes();
    [&length, name.as_bytes(), value.as_bytes()].concat()
}
