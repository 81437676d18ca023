//! A lane's stream: frames in, acknowledgements out.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use devices::native::{LaneReply, Publish};
use devices::sequence::{Lane, Number};

use super::append::{Appender, TryAgain};
use super::order::{Order, Settled, reply};
use super::way::{Way, frame};
use super::{Native, Wrong};
use crate::event_log::{EventLog, OpenCommit, Ticket, Wake};

/// Bytes of replies that may wait before nothing more is read from the lane.
const REPLIES_BYTES_MAX: usize = 16 << 10;

/// A lane that is open.
pub(super) struct OpenLane {
    pub(super) way: Way,
    lane: Lane,
    order: Order,
    /// How often commits had failed when nothing was under way.
    failures: u64,
    /// So much is open that nothing is taken until this is settled.
    paused: Option<Ticket>,
    /// Finds the last number that is durable; nothing is read before it is said.
    opening: Option<Opening>,
}

type Opening = Pin<Box<dyn Future<Output = Option<Number>> + Send>>;

impl OpenLane {
    pub(super) fn new(way: Way, lane: Lane, native: &Native, device: &Arc<str>) -> Self {
        let (ingest, device) = (Arc::clone(&native.ingest), Arc::clone(device));
        let opening: Opening = Box::pin(async move {
            let lanes = ingest.lanes().last(&device).await;
            lanes.into_iter().find(|(known, _)| *known == lane).map(|(_, number)| number)
        });
        Self { way, lane, order: Order::default(), failures: 0, paused: None, opening: Some(opening) }
    }

    /// Goes on with the opening, and reads; whether anything came.
    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Result<bool, super::way::Gone> {
        if let Some(opening) = &mut self.opening {
            let Poll::Ready(last) = opening.as_mut().poll(cx) else { return Ok(false) };
            self.opening = None;
            reply(&LaneReply::Opened { last }, &mut self.way.out.bytes);
            return Ok(true);
        }
        if self.paused.is_some() || self.way.ended || self.way.out.len() >= REPLIES_BYTES_MAX {
            self.way.is_not_read();
            return Ok(false);
        }
        self.way.poll_read(cx)
    }

    /// Whether all that came is taken and acknowledged, and the client was told.
    pub(super) fn is_idle(&self) -> bool {
        self.opening.is_none() && self.order.is_idle() && self.way.out.is_empty() && !self.way.has_frame()
    }

    /// The newest commit that an acknowledgement waits for.
    pub(super) fn newest(&self) -> Option<Ticket> {
        self.order.newest()
    }

    /// Appends every whole frame that was read, under the lock that the first lane of a turn takes.
    ///
    /// # Errors
    /// What the client did that it may not. The inner error: the lane must be opened anew.
    pub(super) fn take_frames<'log>(
        &mut self,
        log: &'log EventLog,
        open: &mut Option<OpenCommit<'log>>,
        appender: &mut Appender,
        wake: &Arc<Wake>,
        rings: &mut Option<Ticket>,
    ) -> Result<Result<(), TryAgain>, Wrong> {
        if self.opening.is_some() {
            return Ok(Ok(()));
        }
        let mut consumed = 0;
        let mut taken = Ok(Ok(()));
        while self.paused.is_none() {
            let (publish, len) = match frame::<Publish<'_>>(&self.way.input.bytes()[consumed..]) {
                Ok(Some(found)) => found,
                Ok(None) => break,
                Err(wrong) => {
                    taken = Err(wrong);
                    break;
                }
            };
            let last = match self.order.admit(&publish) {
                Ok(last) => last,
                Err(wrong) => {
                    taken = Err(wrong);
                    break;
                }
            };
            let is_idle = self.order.is_idle();
            match appender.append(log, open, &publish, (self.lane, last), (&mut self.failures, is_idle)) {
                Ok(outcome) => {
                    let guard = open.get_or_insert_with(|| log.lock());
                    // A frame that waits for no commit is acknowledged in the next turn, which is about to begin.
                    if let Some(ticket) = outcome.ticket.filter(|ticket| *rings != Some(*ticket)) {
                        guard.ring_when(ticket, wake);
                        *rings = Some(ticket);
                    }
                    self.paused =
                        outcome.ticket.filter(|ticket| ticket.is_same_commit(guard.ticket()) && guard.over_bound());
                    self.order.push(last, outcome);
                }
                Err(TryAgain) => {
                    taken = Ok(Err(TryAgain));
                    break;
                }
            }
            consumed += len;
        }
        self.way.input.consume(consumed);
        taken
    }

    /// Writes the acknowledgements of what is settled.
    ///
    /// # Errors
    /// When a commit was refused: the lane must be opened anew.
    pub(super) fn settle(&mut self, log: &EventLog) -> Result<Settled, TryAgain> {
        if self.paused.is_some_and(|ticket| log.outcome(ticket).is_some()) {
            self.paused = None;
        }
        match self.order.settle(|ticket| log.acknowledged(ticket), &mut self.way.out.bytes) {
            Settled::Failed => Err(TryAgain),
            settled => Ok(settled),
        }
    }
}
