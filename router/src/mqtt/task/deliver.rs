//! Events out to one client: which of a segment's events match, copied frame by frame within its window.

use std::sync::Arc;
use std::time::Instant;

use devices::headers;
use sled_data::{Offset, OriginId, PartitionId, TopicId};

use super::frames::{About, Form};
use crate::event_log::EventLog;
use crate::mqtt::codec::{PropertyBuffer, PropertyId, Qos, Value, Version};
use crate::mqtt::outgoing::{FrameLayout, Message};
use crate::mqtt::retained::Retained;
use crate::mqtt::session::{Delivery, EventRef, RetainedWanted, Session, TopicForm};
use crate::sessions::Offer;
use crate::subscriptions::{Frames, Segment, Subscriber};

/// Bytes that may wait to be written before delivering pauses.
const OUT_BYTES_MAX: usize = 256 << 10;
/// Segments looked through before others have their turn: one who reads a long log for little takes its time.
const SEGMENTS_PER_TURN_MAX: usize = 16;
/// Marks a segment that is done with.
const DONE: usize = usize::MAX;

/// One client's way out.
pub(super) struct Deliverer {
    client_id: Arc<str>,
    subscriber: Arc<Subscriber>,
    current: Option<Current>,
    properties: PropertyBuffer,
}

struct Current {
    segment: Arc<Segment>,
    /// For each topic of the segment: how it matches.
    matches: Vec<Match>,
    /// The next event, or [`DONE`].
    at: usize,
}

/// How a topic matches a client's subscriptions, all together [MQTT-3.3.4-2].
#[derive(Debug, Default)]
struct Match {
    delivery: Option<Delivery>,
    ids: Vec<u32>,
    /// Where it differs (no local): how what the client itself published is delivered.
    own: Option<(Option<Delivery>, Vec<u32>)>,
}

impl Match {
    fn of(session: &Session, topic: &str) -> Self {
        let subscriptions = session.subscriptions();
        let (mut ids, mut own_ids) = (Vec::new(), Vec::new());
        let delivery = subscriptions.delivery(topic, false, &mut ids);
        let own = subscriptions.delivery(topic, true, &mut own_ids);
        let differs = own != delivery || own_ids != ids;
        Self { delivery, ids, own: differs.then_some((own, own_ids)) }
    }

    fn is_plain(&self) -> bool {
        self.own.is_none() && self.ids.is_empty() && !self.delivery.is_some_and(|found| found.retain_as_published)
    }

    fn is_qos_1(&self) -> bool {
        self.delivery.is_some_and(|found| found.qos != Qos::AtMostOnce)
    }
}

impl Deliverer {
    pub(super) fn new(client_id: Arc<str>, subscriber: Arc<Subscriber>) -> Self {
        Self { client_id, subscriber, current: None, properties: PropertyBuffer::new() }
    }

    /// The subscriptions changed.
    pub(super) fn subscriptions_changed(&mut self, session: &Session) {
        if let Some(current) = &mut self.current {
            current.matches = matches_of(session, &current.segment);
        }
    }

    /// The first offsets of a segment that is begun.
    pub(super) fn begun(&self) -> Vec<(PartitionId, Offset)> {
        let current = self.current.as_ref().filter(|current| !current.segment.is_live());
        current.map_or_else(Vec::new, |current| current.segment.starts().collect())
    }

    /// What is left of a segment that was begun, where the connection ends in the middle of it.
    pub(super) fn interrupted(&self) -> Vec<(PartitionId, Offset)> {
        match self.current.as_ref().filter(|current| !current.segment.is_live()) {
            Some(current) => {
                current.segment.events().skip(current.at).map(|event| (event.partition, event.offset)).collect()
            }
            None => Vec::new(),
        }
    }

    /// Appends what may be sent now; whether there may be more at once, others having had their turn. The log is
    /// read where the client fell behind.
    pub(super) fn deliver(&mut self, session: &mut Session, log: &EventLog, out: &mut Vec<u8>) -> bool {
        for _ in 0..SEGMENTS_PER_TURN_MAX {
            if out.len() >= OUT_BYTES_MAX {
                return false;
            }
            let Some(mut current) = self.current.take().or_else(|| self.next(session, log)) else { return false };
            let before = (out.len(), current.at);
            self.send(session, &mut current, out, log.clock().wall_ms());
            if current.at == DONE {
                continue;
            }
            let stuck = before == (out.len(), current.at);
            self.current = Some(current);
            if stuck {
                // The window is full: the client's acknowledgement goes on from here.
                return false;
            }
        }
        true
    }

    fn next(&self, session: &Session, log: &EventLog) -> Option<Current> {
        let segment = self.subscriber.next_segment(log)?;
        let matches = matches_of(session, &segment);
        Some(Current { segment, matches, at: 0 })
    }

    fn send(&mut self, session: &mut Session, current: &mut Current, out: &mut Vec<u8>, now_ms: i64) {
        let version = session.version();
        let segment = Arc::clone(&current.segment);
        if current.matches.iter().all(|found| found.delivery.is_none()) {
            current.at = DONE;
        } else if session.aliases().is_offered() || !current.matches.iter().all(Match::is_plain) {
            self.send_singly(session, current, out, now_ms);
        } else if segment.is_live() || !current.matches.iter().any(Match::is_qos_1) {
            let frames = Form { version, qos_1: false }.frames(&segment, now_ms);
            copy_qos_0(session, current, frames, out);
        } else {
            let at_1 = Form { version, qos_1: true }.frames(&segment, now_ms);
            let any_qos_0 = current.matches.iter().any(|found| found.delivery.is_some() && !found.is_qos_1());
            let at_0 = any_qos_0.then(|| Form { version, qos_1: false }.frames(&segment, now_ms));
            copy_mixed(session, current, at_1, at_0, out);
        }
    }

    /// The way for subscriptions with identifiers, no local or retain as published, and for clients that take
    /// topic aliases: each event is encoded for this client alone.
    fn send_singly(&mut self, session: &mut Session, current: &mut Current, out: &mut Vec<u8>, now_ms: i64) {
        let segment = Arc::clone(&current.segment);
        for event in segment.events().skip(current.at) {
            if out.len() >= OUT_BYTES_MAX {
                return;
            }
            let Some(found) = current.matches.get(event.topic_number as usize) else { break };
            let is_own = event.record.headers.get(headers::MQTT_CLIENT) == Some(self.client_id.as_bytes());
            let (delivery, ids) = match &found.own {
                Some((delivery, ids)) if is_own => (*delivery, ids),
                _ => (found.delivery, &found.ids),
            };
            if let Some(delivery) = delivery {
                let qos_1 = delivery.qos != Qos::AtMostOnce && !segment.is_live();
                if qos_1 && session.window().free() == 0 {
                    return;
                }
                let form = Form { version: session.version(), qos_1 };
                let retain = delivery.retain_as_published && event.record.headers.get(headers::MQTT_RETAIN).is_some();
                let start = out.len();
                // An alias that is introduced must be sent: not to a client that may refuse the packet for its size.
                let takes_all = session.client_limits().packet_bytes_max == u32::MAX;
                let topic = if takes_all { session.aliases().form(event.topic) } else { TopicForm::Name };
                let about = About { retain, dup: false, topic, subscription_ids: ids };
                if let Some(layout) = form.encode(&event, about, now_ms, &mut self.properties, out) {
                    let sent = event_ref(event.partition, event.offset);
                    let _ = number(session, out, start, layout, Some(sent));
                }
            }
            current.at += 1;
        }
        current.at = DONE;
    }

    /// Sends an offered message at QoS 1, or 0 where no more was granted ([MQTT-3.8.4-8]), there being room in the
    /// window. If it was sent: its packet id, which it has at QoS 1.
    pub(super) fn send_offer(
        &mut self,
        session: &mut Session,
        mut offer: Box<Offer>,
        out: &mut Vec<u8>,
    ) -> Option<(Option<u16>, Box<Offer>)> {
        self.properties.clear();
        let Ok(expiry_left_s) = offer.expiry_left_s(Instant::now()) else {
            tracing::debug!(client = %self.client_id, topic = %offer.topic, "a message is not sent: its time is over");
            return None;
        };
        if session.version() == Version::V5 {
            // Topics, ids and properties are short: they fit.
            for (name, value) in offer.properties() {
                let _ = self.properties.put(PropertyId::UserProperty, Value::Pair(name, &value));
            }
            if let Some(topic) = offer.response_topic() {
                let _ = self.properties.put(PropertyId::ResponseTopic, Value::Text(&topic));
            }
            if let Some(terms) = &offer.terms {
                let _ = self.properties.put(PropertyId::CorrelationData, Value::Binary(&terms.id));
            }
        }
        let message =
            Message { topic: &offer.topic, payload: &offer.payload, expiry_left_s, properties: self.properties.view() };
        let granted = session.subscriptions().delivery(&offer.topic, false, &mut Vec::new());
        let qos_1 = granted.is_none_or(|granted| granted.qos != Qos::AtMostOnce);
        let form = Form { version: session.version(), qos_1 };
        let start = out.len();
        let layout = form.put(&message, PLAIN, out);
        let Some(Ok(id)) = layout.map(|layout| number(session, out, start, layout, None)) else {
            tracing::warn!(client = %self.client_id, topic = %offer.topic, "a message is larger than the client takes");
            offer.too_large();
            return None;
        };
        offer.sent();
        Some((id, offer))
    }

    /// Sends a retained message to a new subscription, there being room in the window.
    pub(super) fn send_retained(
        &mut self,
        session: &mut Session,
        wanted: &RetainedWanted,
        topic: &str,
        retained: &Retained,
        out: &mut Vec<u8>,
        now_ms: u64,
    ) {
        let message = Message {
            topic,
            payload: &retained.payload,
            expiry_left_s: retained.expiry_left_s(now_ms),
            properties: retained.properties(),
        };
        let about = About { retain: true, subscription_ids: wanted.id.as_slice(), ..PLAIN };
        let qos_1 = retained.qos.min(wanted.qos) != Qos::AtMostOnce;
        let form = Form { version: session.version(), qos_1 };
        let start = out.len();
        if let Some(layout) = form.put(&message, about, out) {
            // One that the client does not take is as if it had been sent [MQTT-3.1.2-25].
            let _ = number(session, out, start, layout, None);
        }
    }

    /// Sends again what an earlier connection had in flight, under the same ids [MQTT-4.4.0-1], as far as the client
    /// takes it now; nothing new is sent before all of it was.
    pub(super) fn resend(&mut self, session: &mut Session, log: &EventLog, out: &mut Vec<u8>) {
        let form = Form { version: session.version(), qos_1: true };
        while out.len() < OUT_BYTES_MAX
            && let Some((id, sent)) = session.window().resend()
        {
            let partition =
                PartitionId { origin: OriginId(sent.origin), topic: TopicId(sent.topic), index: sent.partition };
            let segment = self.subscriber.event(log, partition, sent.offset);
            let start = out.len();
            let now_ms = log.clock().wall_ms();
            let event = segment.as_ref().and_then(|segment| segment.events().next());
            let layout = event.and_then(|event| {
                let mut ids = Vec::new();
                let found = session.subscriptions().delivery(event.topic, false, &mut ids);
                let about = About { dup: true, subscription_ids: &ids, ..PLAIN };
                found.and_then(|_| form.encode(&event, about, now_ms, &mut self.properties, out))
            });
            match layout.and_then(|layout| layout.packet_id_at).filter(|_| session.fits(out.len() - start)) {
                Some(at) => patch_id(out, start + at, id),
                None => {
                    out.truncate(start);
                    session.window().abandon(id);
                }
            }
        }
    }
}

/// Nothing that differs between subscribers.
const PLAIN: About<'static> = About { retain: false, dup: false, topic: TopicForm::Name, subscription_ids: &[] };

/// The client takes no packet of this size: it is dropped as if it had been sent [MQTT-3.1.2-25].
struct TooLarge;

fn matches_of(session: &Session, segment: &Segment) -> Vec<Match> {
    segment.topics().iter().map(|topic| Match::of(session, topic)).collect()
}

fn event_ref(partition: PartitionId, offset: Offset) -> EventRef {
    EventRef { origin: partition.origin.0, topic: partition.topic.0, partition: partition.index, offset }
}

/// Gives the frame from `start` on its packet id, there being room in the window; takes the frame back where the
/// client does not take its size.
fn number(
    session: &mut Session,
    out: &mut Vec<u8>,
    start: usize,
    layout: FrameLayout,
    sent: Option<EventRef>,
) -> Result<Option<u16>, TooLarge> {
    if !session.fits(out.len() - start) {
        out.truncate(start);
        return Err(TooLarge);
    }
    let Some(at) = layout.packet_id_at else { return Ok(None) };
    let id = session.window().push(sent);
    if let Some(id) = id {
        patch_id(out, start + at, id);
    }
    Ok(id)
}

fn patch_id(out: &mut [u8], at: usize, id: u16) {
    if let Some(place) = out.get_mut(at..at + 2) {
        place.copy_from_slice(&id.to_be_bytes());
    }
}

fn copy_qos_0(session: &Session, current: &mut Current, frames: &Frames, out: &mut Vec<u8>) {
    let whole = current.at == 0 && current.matches.iter().all(|found| found.delivery.is_some());
    if whole && frames.bytes.len() <= OUT_BYTES_MAX && session.fits(frames.bytes.len()) {
        out.extend_from_slice(&frames.bytes);
        current.at = DONE;
        return;
    }
    while let Some(frame) = frames.list.get(current.at) {
        if out.len() >= OUT_BYTES_MAX {
            return;
        }
        current.at += 1;
        let bytes = &frames.bytes[frame.start as usize..frame.end as usize];
        let found = current.matches.get(frame.topic as usize);
        if found.is_some_and(|found| found.delivery.is_some()) && session.fits(bytes.len()) {
            out.extend_from_slice(bytes);
        }
    }
    current.at = DONE;
}

fn copy_mixed(session: &mut Session, current: &mut Current, at_1: &Frames, at_0: Option<&Frames>, out: &mut Vec<u8>) {
    while let Some(frame) = at_1.list.get(current.at) {
        if out.len() >= OUT_BYTES_MAX {
            return;
        }
        let found = current.matches.get(frame.topic as usize);
        let (frame, bytes) = match (found, at_0) {
            (Some(found), _) if found.is_qos_1() => (*frame, &at_1.bytes),
            (Some(found), Some(at_0)) if found.delivery.is_some() => (at_0.list[current.at], &at_0.bytes),
            _ => {
                current.at += 1;
                continue;
            }
        };
        let bytes = &bytes[frame.start as usize..frame.end as usize];
        if !bytes.is_empty() && session.fits(bytes.len()) {
            let start = out.len();
            if frame.packet_id_at > 0 {
                let Some(id) = session.window().push(Some(event_ref(frame.partition, frame.offset))) else { return };
                out.extend_from_slice(bytes);
                patch_id(out, start + frame.packet_id_at as usize, id);
            } else {
                out.extend_from_slice(bytes);
            }
        }
        current.at += 1;
    }
    current.at = DONE;
}
