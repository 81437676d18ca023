//! The events stream: subscriptions, and what they bring; what is offered to the session and is no command.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use devices::command::{COMMAND_PREFIX, command_filter};
use devices::native::{Refusal, Told, Want, encode};

use super::filters::{Filters, is_taken};
use super::way::{BACKLOG_BYTES_MAX, Way, frame};
use super::{Native, Wrong};
use crate::event_log::Wake;
use crate::quic::Stats;
use crate::sessions::{Entry, Mailbox, Offer};
use crate::subscriptions::{Frame, Frames, Segment};

/// Bytes that may wait to be written before delivering pauses.
const OUT_BYTES_MAX: usize = 256 << 10;
/// Subscribes and unsubscribes taken before others have their turn.
const WANTS_PER_TURN_MAX: usize = 64;
/// Segments looked through before others have their turn.
const SEGMENTS_PER_TURN_MAX: usize = 16;
/// Offers that may be on their way out.
const OFFERS_MAX: usize = 256;
/// The number of this door's format, of [`crate::subscriptions::FORMATS`].
const FORMAT: usize = 4;

/// The events stream of a client.
pub(super) struct Events {
    pub(super) way: Way,
    filters: Filters,
    /// The filter that brings commands, where the client takes them: it stays when the client unsubscribes.
    commands: Option<String>,
    /// Offers that are on their way out: at most as many as a mailbox holds.
    offers: Vec<Offer>,
    current: Option<Current>,
    /// The filters have changed since it was looked through.
    is_stale: bool,
    /// More was read than one turn takes.
    has_more: bool,
}

/// A segment that is being sent.
struct Current {
    segment: Arc<Segment>,
    /// For each topic of it: whether the client wants it.
    wanted: Vec<bool>,
    /// The next frame.
    at: usize,
}

impl Events {
    pub(super) fn new(way: Way, takes_commands_of: Option<&str>) -> Self {
        Self {
            way,
            filters: Filters::default(),
            commands: takes_commands_of.map(command_filter),
            offers: Vec::new(),
            current: None,
            is_stale: false,
            has_more: false,
        }
    }

    /// Takes what the client wants, and answers, as much as one turn takes.
    ///
    /// # Errors
    /// When a frame cannot be read.
    pub(super) fn take_frames(&mut self, native: &Native, entry: &Entry) -> Result<(), Wrong> {
        for _ in 0..WANTS_PER_TURN_MAX {
            if self.way.out.len() >= BACKLOG_BYTES_MAX {
                return Ok(());
            }
            let Some((want, taken)) = frame::<Want<'_>>(self.way.input.bytes())? else { return Ok(()) };
            let told = match want {
                Want::Subscribe { filter } => {
                    let refused = if !is_taken(filter) {
                        Some(Refusal::TopicInvalid)
                    } else if native.sessions.subscribe(entry, filter) {
                        self.filters.add(filter);
                        None
                    } else {
                        Some(Refusal::NotAllowed)
                    };
                    Told::Subscribed { refused }
                }
                Want::Unsubscribe { filter } => {
                    if self.filters.remove(filter) && self.commands.as_deref() != Some(filter) {
                        native.sessions.unsubscribe(entry, filter);
                    }
                    Told::Unsubscribed
                }
            };
            // It is two or three bytes.
            encode(&told, &mut self.way.out.bytes)?;
            self.way.input.consume(taken);
            self.is_stale = true;
        }
        self.has_more = self.way.has_frame();
        if self.has_more {
            entry.seat.wake.ring(Wake::SETTLED);
        }
        Ok(())
    }

    /// Whether more was read than the turn took; the next one is due, when others have had theirs.
    pub(super) fn take_more(&mut self) -> bool {
        std::mem::take(&mut self.has_more)
    }

    /// Notes what has been written, and takes what is offered to the session, such as words of twins, as far as there
    /// is room.
    pub(super) fn send_offers(&mut self, native: &Native, mailbox: &Mailbox) {
        if self.way.out.is_empty() {
            self.offers.drain(..).for_each(Offer::acked);
        }
        while self.way.out.len() < OUT_BYTES_MAX && self.offers.len() < OFFERS_MAX {
            let Some(offer) = mailbox.take_offer_of(is_no_command) else { return };
            let timestamp_ms = native.log.clock().wall_ms();
            let told = Told::Event { topic: &offer.topic, timestamp_ms, payload: &offer.payload };
            match encode(&told, &mut self.way.out.bytes) {
                Ok(()) => self.offers.push(offer),
                Err(error) => tracing::warn!(topic = %offer.topic, %error, "a message cannot be sent"),
            }
        }
    }

    /// Appends what may be sent now; whether there may be more at once, others having had their turn.
    pub(super) fn deliver(&mut self, native: &Native, entry: &Entry) -> bool {
        for _ in 0..SEGMENTS_PER_TURN_MAX {
            if self.way.out.len() >= OUT_BYTES_MAX {
                return false;
            }
            let Some(mut current) = self.current.take().or_else(|| self.next(native, entry)) else { return false };
            if std::mem::take(&mut self.is_stale) {
                current.wanted = wanted(&mut self.filters, &current.segment);
            }
            if !self.send(&mut current, native) {
                self.current = Some(current);
                return false;
            }
        }
        true
    }

    fn next(&mut self, native: &Native, entry: &Entry) -> Option<Current> {
        let segment = entry.seat.subscriber.next_segment(&native.log)?;
        let wanted = wanted(&mut self.filters, &segment);
        Some(Current { segment, wanted, at: 0 })
    }

    /// Copies the frames that are wanted, as far as there is room; whether the segment is done with.
    fn send(&mut self, current: &mut Current, native: &Native) -> bool {
        if !current.wanted.contains(&true) {
            return true;
        }
        let now_ms = native.log.clock().wall_ms();
        let frames = current.segment.frames(FORMAT, |segment| encode_all(segment, now_ms, &native.stats));
        self.way.out.borrow();
        while let Some(frame) = frames.list.get(current.at) {
            if self.way.out.len() >= OUT_BYTES_MAX {
                return false;
            }
            current.at += 1;
            if !current.wanted.get(frame.topic as usize).is_some_and(|wanted| *wanted) {
                continue;
            }
            self.way.out.bytes.extend_from_slice(&frames.bytes[frame.start as usize..frame.end as usize]);
        }
        true
    }

    /// Ends the client's subscriptions, and what waits for them.
    pub(super) fn close(&self, native: &Native, entry: &Entry) {
        for filter in self.filters.iter().filter(|filter| self.commands.as_deref() != Some(*filter)) {
            native.sessions.unsubscribe(entry, filter);
        }
        while entry.seat.subscriber.pop().is_some() {}
    }
}

/// Lets fall what was offered to a client that has no events stream any more.
pub(super) fn drop_offers(mailbox: &Mailbox) {
    while mailbox.take_offer_of(is_no_command).is_some() {}
}

fn is_no_command(topic: &str) -> bool {
    !topic.starts_with(COMMAND_PREFIX)
}

fn wanted(filters: &mut Filters, segment: &Segment) -> Vec<bool> {
    segment.topics().iter().map(|topic| filters.want(topic)).collect()
}

/// The segment's events as frames, once for all who want them. One that has expired, or is too large, is an empty
/// frame.
fn encode_all(segment: &Segment, now_ms: i64, stats: &Stats) -> Frames {
    let mut frames = Frames { bytes: Vec::with_capacity(segment.bytes()), list: Vec::new() };
    for event in segment.events() {
        let start = frames.bytes.len();
        let told = Told::Event {
            topic: event.topic,
            timestamp_ms: event.record.timestamp_ms,
            payload: event.record.value.unwrap_or_default(),
        };
        let has_expired = event.seconds_left(now_ms).is_none();
        if !has_expired && let Err(error) = encode(&told, &mut frames.bytes) {
            stats.events_left_out.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(topic = event.topic, %error, "an event is not sent to those who want it");
        }
        frames.list.push(Frame {
            start: u32::try_from(start).unwrap_or(u32::MAX),
            end: u32::try_from(frames.bytes.len()).unwrap_or(u32::MAX),
            packet_id_at: 0,
            topic: event.topic_number,
            partition: event.partition,
            offset: event.offset,
        });
    }
    frames
}
