//! What a read brought: publishes under one lock, the rest one by one.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::Instant;

use super::acks::{PUBACK, PUBCOMP, PUBREC};
use super::connection::{Connection, Saved};
use super::numbered::NotNumbered;
use super::publish::{NotTaken, Taken};
use crate::event_log::{AppendError, CommitFailed, OpenCommit, Ticket};
use crate::ingest::Refused;
use crate::mqtt::codec::{Decoded, Packet, Publish, Qos, Reason, Reply, Version, decode};
use crate::mqtt::session::{Action, Close, End, Subscribed};

/// MQTT topics that only the node itself publishes: a client subscribes below its own part of them.
fn may_subscribe(_filter: &str) -> bool {
    true
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Takes every whole packet that was read.
    pub(super) fn take_packets(&mut self) -> Result<Option<End>, Close> {
        let door = Arc::clone(&self.door);
        let log = &door.log;
        self.publisher.set_time(log.clock().wall_ms());
        let mut open: Option<OpenCommit<'_>> = None;
        let mut consumed = 0;
        let mut taken = Ok(None);
        while self.paused.is_none() {
            let (packet, len) = match decode(&self.input.bytes()[consumed..], &self.settings) {
                Ok(Decoded::Packet { packet, len }) => (packet, len),
                Ok(Decoded::More { .. }) => break,
                Err(error) => {
                    taken = Err(error.into());
                    break;
                }
            };
            consumed += len;
            if let Packet::Publish(publish) = &packet {
                let mut way = PublishWay {
                    session: &mut self.session,
                    publisher: &mut self.publisher,
                    deliverer: &self.deliverer,
                    acks: &mut self.acks,
                    entry: &self.entry,
                    door: &door,
                    last: &mut self.last,
                    rings: &mut self.rings,
                    paused: &mut self.paused,
                };
                match way.take(&mut open, publish) {
                    Ok(()) => continue,
                    Err(close) => {
                        taken = Err(close);
                        break;
                    }
                }
            }
            open = None;
            let action = match self.session.receive(&packet, &may_subscribe) {
                Ok(action) => action,
                Err(close) => {
                    taken = Err(close);
                    break;
                }
            };
            if let Some(end) = self.act(action) {
                taken = Ok(Some(end));
                break;
            }
        }
        drop(open);
        self.publisher.flush_live();
        self.input.consume(consumed);
        taken
    }

    fn act(&mut self, action: Action) -> Option<End> {
        let version = self.session.version();
        match action {
            Action::Nothing => {}
            Action::Reply(reply) => reply.encode(version, &mut self.outgoing.bytes),
            Action::Release { packet_id, reply } => self.release(packet_id, reply),
            Action::Acknowledged { packet_id, .. } => {
                self.saved.is_current = false;
                self.offers.acknowledged(packet_id);
            }
            Action::Subscribed { subscribed, frame } => self.subscribed(subscribed, frame),
            Action::Unsubscribed { removed, frame } => {
                for filter in &removed {
                    self.forget_search(filter);
                    self.door.sessions.unsubscribe(&self.entry, filter);
                }
                self.deliverer.subscriptions_changed(&self.session);
                self.save_and_answer(frame);
            }
            Action::Disconnect { with_will } => return Some(End::Disconnected { with_will }),
        }
        None
    }

    /// A QoS 2 packet id is free again; a kept session says so durably first.
    fn release(&mut self, packet_id: u16, reply: Reply) {
        let is_success = matches!(reply, Reply::PubComp { reason: Reason::Success, .. });
        if is_success && let Some(ticket) = self.save() {
            self.acks.push(Some(ticket), PUBCOMP, packet_id);
        } else {
            reply.encode(self.session.version(), &mut self.outgoing.bytes);
        }
    }

    /// Sends an answer, for a session that is kept when what it says is stored.
    fn save_and_answer(&mut self, frame: Vec<u8>) {
        match self.save() {
            Some(ticket) => self.answers.push_back((ticket, frame)),
            None => self.outgoing.bytes.extend_from_slice(&frame),
        }
    }

    fn subscribed(&mut self, subscribed: Subscribed, frame: Vec<u8>) {
        for filter in &subscribed.granted {
            self.door.sessions.subscribe(&self.entry, filter);
        }
        self.deliverer.subscriptions_changed(&self.session);
        self.save_and_answer(frame);
        for wanted in subscribed.retained {
            self.search(wanted);
        }
    }

    /// Stores a session that will be kept, so that a crash finds it; `None` for one that ends with its connection.
    pub(super) fn save(&mut self) -> Option<Ticket> {
        if !self.session.is_kept() {
            return None;
        }
        self.saved = Saved { at: Instant::now(), is_current: true };
        let (state, begun) = (self.session.kept().to_bytes(), self.deliverer.begun());
        let mut open = self.door.log.lock();
        self.door.sessions.store_live(&mut open, &self.entry, state, &begun);
        let ticket = open.ticket();
        open.ring_when_settled(&self.entry.seat.wake);
        Some(ticket)
    }
}

/// What a PUBLISH touches of its connection, apart from the buffer that it borrows from.
struct PublishWay<'a, 'log> {
    session: &'a mut crate::mqtt::session::Session,
    publisher: &'a mut super::publish::Publisher,
    deliverer: &'a super::deliver::Deliverer,
    acks: &'a mut super::acks::AckQueue,
    entry: &'a Arc<crate::sessions::Entry>,
    door: &'log super::door::Door,
    last: &'a mut Ticket,
    rings: &'a mut Option<Ticket>,
    paused: &'a mut Option<Ticket>,
}

impl<'log> PublishWay<'_, 'log> {
    fn take(&mut self, open: &mut Option<OpenCommit<'log>>, publish: &Publish<'_>) -> Result<(), Close> {
        let admission = self.session.admit_publish(publish)?;
        let taken = match admission.append {
            true => self.publisher.append(self.door, open, admission.topic, publish),
            // It was appended before; where its topic has a quorum, that is what it waits for.
            false => match self.publisher.barrier(&self.door.log, open, admission.topic) {
                Some(barrier) => Ok(Taken::Known(Some(barrier))),
                None => Ok(Taken::Appended),
            },
        };
        let taken = match taken {
            Ok(taken) => taken,
            Err(error) => return self.refuse(publish, &error),
        };
        let guard = open.get_or_insert_with(|| self.door.log.lock());
        let holds_id = publish.qos == Qos::ExactlyOnce && self.session.is_kept();
        let ticket = match taken {
            // Nothing of it goes into the open commit, which may stay empty.
            Taken::Known(ticket) if !holds_id => ticket,
            // Its quorum takes longer than this commit, which holds its id.
            Taken::Known(Some(ticket)) if ticket.awaits_quorum() => Some(ticket),
            _ => Some(guard.ticket()),
        };
        if publish.qos != Qos::AtMostOnce {
            // A refusal behind it waits for this commit, which rings.
            *self.last = ticket.map_or(*self.last, |ticket| ticket.max(*self.last));
            if holds_id {
                let state = self.session.kept().to_bytes();
                self.door.sessions.store_live(guard, self.entry, state, &self.deliverer.begun());
            }
            let first = if publish.qos == Qos::AtLeastOnce { PUBACK } else { PUBREC };
            self.acks.push(ticket, first, publish.packet_id);
        }
        let over = taken == Taken::Appended && guard.over_bound();
        if over {
            *self.paused = Some(guard.ticket());
        }
        let rings = if over { Some(guard.ticket()) } else { ticket.filter(|_| publish.qos != Qos::AtMostOnce) };
        // What an earlier life stored may take longer than a newer commit.
        let is_newer = |ticket: &Ticket| ticket.awaits_lives() || self.rings.is_none_or(|rings| rings < *ticket);
        if let Some(ticket) = rings.filter(is_newer) {
            guard.ring_when(ticket, &self.entry.seat.wake);
            *self.rings = (*self.rings).max(Some(ticket).filter(|ticket| !ticket.awaits_lives()));
        }
        Ok(())
    }

    /// A publish that was not taken: its negative acknowledgement stands in the queue in its place.
    fn refuse(&mut self, publish: &Publish<'_>, error: &NotTaken) -> Result<(), Close> {
        let stats = self.door.ingest.stats();
        let reason = match error {
            NotTaken::Refused(Refused::NotAllowed(_) | Refused::Misspelt { .. }) => Reason::NotAuthorized,
            NotTaken::Refused(Refused::NoRule(_)) => Reason::TopicNameInvalid,
            NotTaken::Refused(refused) if refused.is_for_now() => Reason::UnspecifiedError,
            NotTaken::Refused(Refused::Topic(_)) => Reason::ImplementationSpecificError,
            NotTaken::Append(AppendError::Refused(CommitFailed::Full(_)) | AppendError::NoQuorum { .. }) => {
                Reason::QuotaExceeded
            }
            NotTaken::Numbered(NotNumbered::Malformed | NotNumbered::NoDevice) => Reason::PayloadFormatInvalid,
            NotTaken::Numbered(NotNumbered::StaleBoot { .. }) => Reason::NotAuthorized,
            NotTaken::Numbered(NotNumbered::Behind) => Reason::QuotaExceeded,
            // Not 0x95, which a PUBACK may not say, nor what a client may take for a refusal for now.
            NotTaken::Numbered(NotNumbered::TooManyDevices)
            | NotTaken::Append(AppendError::TooLarge { .. })
            | NotTaken::Retained(_) => Reason::ImplementationSpecificError,
            // For now: it is not stored, and may be when it comes again.
            NotTaken::Append(_) => Reason::UnspecifiedError,
        };
        match error {
            NotTaken::Append(AppendError::TooLarge { .. }) => stats.refused_too_large.fetch_add(1, Ordering::Relaxed),
            NotTaken::Append(_) => stats.refused_store.fetch_add(1, Ordering::Relaxed),
            NotTaken::Refused(_) | NotTaken::Retained(_) | NotTaken::Numbered(_) => 0,
        };
        if self.door.complaints.lets_through(self.door.log.clock().wall_ms()) {
            tracing::warn!(client = %self.entry.client_id, %error, "a publish was refused");
        }
        if publish.qos == Qos::AtMostOnce && self.session.version() == Version::V311 {
            return Ok(());
        }
        match self.session.refuse_publish(publish, reason)? {
            Some(Reply::PubRec { packet_id, .. }) => self.acks.push_refusal(*self.last, PUBREC, packet_id, reason),
            Some(Reply::PubAck { packet_id, .. }) => self.acks.push_refusal(*self.last, PUBACK, packet_id, reason),
            _ => {}
        }
        Ok(())
    }
}
