//! One lane's stream: numbers that rise, the credit, and acknowledgements in their order (pure).

use std::collections::VecDeque;

use devices::native::{Close, LaneReply, Publish, Refusal, Refused, encode};
use devices::sequence::Number;

use super::{FRAMES_IN_FLIGHT_MAX, Wrong};
use crate::event_log::{CommitFailed, Ticket};

const CREDIT: Wrong = Wrong::new(Close::TooMuch, "more frames of a lane than its credit");
const NOTHING: Wrong = Wrong::new(Close::OutOfPlace, "a publish without events");
const TOO_MANY: Wrong = Wrong::new(Close::TooLarge, "more events in a frame than granted");
const PAST_64_BITS: Wrong = Wrong::new(Close::OutOfPlace, "numbers that pass 64 bits");
const FALLING: Wrong = Wrong::new(Close::OutOfPlace, "numbers of a lane that do not rise");

/// What was read on a lane's stream and is not acknowledged yet.
#[derive(Debug, Default)]
pub(super) struct Order {
    /// Frames in the order in which they came; at most [`FRAMES_IN_FLIGHT_MAX`].
    waiting: VecDeque<Frame>,
    /// The last number of the last frame that was read.
    last: Option<Number>,
}

#[derive(Debug)]
struct Frame {
    outcome: Outcome,
    up_to: Number,
}

/// What became of a frame so far.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outcome {
    /// The commit that it waits for, where it waits for one.
    pub(super) ticket: Option<Ticket>,
    /// Events refused for good, in order.
    pub(super) refused: Vec<Refused>,
}

impl Outcome {
    /// Notes that an event was refused; neighbours are told as one span.
    pub(super) fn refuse(&mut self, boot: u64, first: u64, last: u64, why: Refusal) {
        match self.refused.last_mut() {
            Some(span) if span.why == why && span.last.checked_add(1) == Some(first) => span.last = last,
            _ => self.refused.push(Refused { boot, first, last, why }),
        }
    }
}

/// How settling went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Settled {
    /// Nothing can be said yet.
    Nothing,
    /// Replies were written.
    Said,
    /// A commit was refused: nothing behind it may be appended from this stream. What comes before it was said.
    Failed,
}

impl Order {
    /// Judges a frame before its append; the number of its last event.
    ///
    /// # Errors
    /// When the frame breaks what was granted, or its numbers do not rise.
    pub(super) fn admit(&mut self, publish: &Publish<'_>) -> Result<Number, Wrong> {
        if self.waiting.len() >= FRAMES_IN_FLIGHT_MAX {
            return Err(CREDIT);
        }
        if publish.events.len() > devices::native::EVENTS_PER_FRAME_MAX {
            return Err(TOO_MANY);
        }
        let (mut first, mut last, mut count) = (None, None, 0);
        for (number, _) in publish.numbered() {
            first.get_or_insert(number);
            last = Some(number);
            count += 1;
        }
        let (Some(first), Some(last)) = (first, last) else {
            return Err(if publish.events.is_empty() { NOTHING } else { PAST_64_BITS });
        };
        if count < publish.events.len() {
            return Err(PAST_64_BITS);
        }
        if self.last.is_some_and(|before| before >= first) {
            return Err(FALLING);
        }
        self.last = Some(last);
        Ok(last)
    }

    /// Notes a frame that was appended, or refused; it is acknowledged in its turn.
    pub(super) fn push(&mut self, up_to: Number, outcome: Outcome) {
        self.waiting.push_back(Frame { outcome, up_to });
    }

    /// Whether nothing waits for its acknowledgement.
    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// The newest commit that an acknowledgement waits for.
    pub(super) fn newest(&self) -> Option<Ticket> {
        self.waiting.iter().filter_map(|frame| frame.outcome.ticket).max()
    }

    /// Writes the replies for what is settled: refusals, and one acknowledgement for all of it.
    pub(super) fn settle(
        &mut self,
        outcome_of: impl Fn(Ticket) -> Option<Result<(), CommitFailed>>,
        out: &mut Vec<u8>,
    ) -> Settled {
        let mut acked = None;
        let mut failed = false;
        while let Some(frame) = self.waiting.front() {
            match frame.outcome.ticket.map_or(Some(Ok(())), &outcome_of) {
                None => break,
                Some(Err(_)) => {
                    failed = true;
                    break;
                }
                Some(Ok(())) => {}
            }
            for refused in &frame.outcome.refused {
                reply(&LaneReply::Refused(*refused), out);
            }
            acked = Some(frame.up_to);
            self.waiting.pop_front();
        }
        if let Some(up_to) = acked {
            reply(&LaneReply::Acked { up_to }, out);
        }
        match (failed, acked) {
            (true, _) => Settled::Failed,
            (false, Some(_)) => Settled::Said,
            (false, None) => Settled::Nothing,
        }
    }
}

/// Appends a reply; it is a few numbers, and never too long for a frame.
pub(super) fn reply(reply: &LaneReply, out: &mut Vec<u8>) {
    if let Err(error) = encode(reply, out) {
        tracing::error!(%error, "a reply could not be encoded");
    }
}

#[cfg(test)]
mod tests {
    use devices::native::{EVENTS_PER_FRAME_MAX, Event, Framed, decode, next_frame};

    use super::*;

    fn frame(boot: u64, first: u64, skipped: &[u64]) -> Publish<'static> {
        let event = |skipped: &u64| Event { skipped: *skipped, later_ms: 0, payload: b"", properties: Vec::new() };
        Publish { topic: "t", boot, first, timestamp_ms: 0, events: skipped.iter().map(event).collect() }
    }

    fn number(boot: u64, seq: u64) -> Number {
        Number { boot, seq }
    }

    fn waits(ticket: u64) -> Outcome {
        Outcome { ticket: Some(Ticket::of(ticket)), refused: Vec::new() }
    }

    fn replies(mut bytes: &[u8]) -> Vec<LaneReply> {
        let mut replies = Vec::new();
        while let Ok(Framed::Whole { frame, taken }) = next_frame(bytes) {
            replies.push(decode(frame).unwrap());
            bytes = &bytes[taken..];
        }
        replies
    }

    #[test]
    fn numbers_rise_from_frame_to_frame() {
        // (what came before, a frame, the last number or what is wrong)
        let cases = [
            (None, frame(1, 0, &[0, 0]), Ok(number(1, 1))),
            (Some((1, 5)), frame(1, 6, &[0, 3]), Ok(number(1, 10))),
            (Some((1, 5)), frame(2, 0, &[0]), Ok(number(2, 0))),
            (Some((1, 5)), frame(1, 5, &[0]), Err(FALLING)),
            (Some((2, 0)), frame(1, 9, &[0]), Err(FALLING)),
            (None, frame(1, u64::MAX, &[0]), Ok(number(1, u64::MAX))),
            (None, frame(1, u64::MAX, &[0, 0]), Err(PAST_64_BITS)),
            (None, frame(1, u64::MAX, &[1]), Err(PAST_64_BITS)),
            (None, frame(1, 0, &[]), Err(NOTHING)),
            (None, frame(1, 0, &[0; EVENTS_PER_FRAME_MAX + 1]), Err(TOO_MANY)),
        ];
        for (before, publish, expected) in cases {
            let mut order = Order { last: before.map(|(boot, seq)| number(boot, seq)), ..Order::default() };
            assert_eq!(order.admit(&publish), expected, "{before:?} {}.{}", publish.boot, publish.first);
        }
    }

    #[test]
    fn the_credit_is_what_is_not_acknowledged() {
        let mut order = Order::default();
        for seq in 0..FRAMES_IN_FLIGHT_MAX as u64 {
            let last = order.admit(&frame(1, seq, &[0])).unwrap();
            order.push(last, waits(1));
        }
        assert_eq!(order.admit(&frame(1, 1_000, &[0])), Err(CREDIT));
        assert_eq!(order.settle(|_| Some(Ok(())), &mut Vec::new()), Settled::Said);
        assert!(order.is_idle() && order.admit(&frame(1, 1_000, &[0])).is_ok());
    }

    #[test]
    fn acknowledgements_leave_in_order_one_for_all_that_is_settled() {
        let mut order = Order::default();
        order.push(number(1, 5), waits(1));
        let mut refused = Outcome::default();
        refused.refuse(1, 6, 6, Refusal::NotAllowed);
        refused.refuse(1, 7, 8, Refusal::NotAllowed);
        refused.refuse(1, 10, 10, Refusal::NotAllowed);
        order.push(number(1, 10), refused);
        order.push(number(1, 20), waits(2));
        assert_eq!(order.newest(), Some(Ticket::of(2)));
        let mut out = Vec::new();
        assert_eq!(order.settle(|_| None, &mut out), Settled::Nothing);
        assert_eq!(order.settle(|ticket| (ticket == Ticket::of(1)).then_some(Ok(())), &mut out), Settled::Said);
        let span = |first, last| LaneReply::Refused(Refused { boot: 1, first, last, why: Refusal::NotAllowed });
        assert_eq!(replies(&out), [span(6, 8), span(10, 10), LaneReply::Acked { up_to: number(1, 10) }]);
    }

    #[test]
    fn what_comes_before_a_failure_is_acknowledged_and_nothing_behind_it() {
        let mut order = Order::default();
        for ticket in 1..=3 {
            order.push(number(1, ticket), waits(ticket));
        }
        let outcome =
            |ticket| Some(if ticket == Ticket::of(2) { Err(CommitFailed::Full("no room".into())) } else { Ok(()) });
        let mut out = Vec::new();
        assert_eq!(order.settle(outcome, &mut out), Settled::Failed);
        assert_eq!(replies(&out), [LaneReply::Acked { up_to: number(1, 1) }]);
        assert_eq!(order.settle(outcome, &mut Vec::new()), Settled::Failed, "it stays so");
    }
}
