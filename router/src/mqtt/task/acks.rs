//! Acknowledgements that wait for their commits, in the order that the publishes came [MQTT-4.6.0-2] (pure).

use std::collections::VecDeque;

use crate::event_log::{CommitFailed, Ticket};
use crate::mqtt::codec::Reason;

/// PUBACK, PUBREC and PUBCOMP as their first byte on the wire.
pub(super) const PUBACK: u8 = 0x40;
pub(super) const PUBREC: u8 = 0x50;
pub(super) const PUBCOMP: u8 = 0x70;
/// A plain acknowledgement: first byte, length 2, packet id.
const ACK_BYTES: usize = 4;

/// Acknowledgements in arrival order; all those of one commit leave together.
#[derive(Debug, Default)]
pub(super) struct AckQueue {
    bytes: VecDeque<u8>,
    groups: VecDeque<Group>,
}

#[derive(Debug)]
struct Group {
    /// The commit that it waits for; `None`: no one.
    ticket: Option<Ticket>,
    len: usize,
    pubacks: u32,
    /// The publish was refused when it came: its negative acknowledgement keeps its place.
    refusal: Option<Reason>,
}

/// An acknowledgement that says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    /// [`PUBACK`] or [`PUBREC`].
    pub(super) first: u8,
    pub(super) packet_id: u16,
    pub(super) why: Why,
}

/// Why it says no.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Why {
    /// It was refused when it came; the session knows.
    AtOnce(Reason),
    /// Its commit was refused.
    Commit(CommitFailed),
}

/// What may leave now.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Settled {
    /// PUBACKs that were moved to the output.
    pub(super) pubacks: u32,
    /// What comes next in the order and must be worded by the caller; then settle again.
    pub(super) refusals: Vec<Refusal>,
}

impl AckQueue {
    /// Adds an acknowledgement that may leave when `ticket` is settled; without one, when those before it have left.
    pub(super) fn push(&mut self, ticket: Option<Ticket>, first: u8, packet_id: u16) {
        let [high, low] = packet_id.to_be_bytes();
        self.bytes.extend([first, 2, high, low]);
        let pubacks = u32::from(first == PUBACK);
        match self.groups.back_mut() {
            Some(group) if group.ticket == ticket && group.refusal.is_none() => {
                group.len += ACK_BYTES;
                group.pubacks += pubacks;
            }
            _ => self.groups.push_back(Group { ticket, len: ACK_BYTES, pubacks, refusal: None }),
        }
    }

    /// The newest commit that an acknowledgement waits for.
    pub(super) fn newest(&self) -> Option<Ticket> {
        self.groups.iter().filter_map(|group| group.ticket).max()
    }

    /// Adds a negative acknowledgement, which leaves in its turn behind the commit of `ticket`.
    pub(super) fn push_refusal(&mut self, ticket: Ticket, first: u8, packet_id: u16, reason: Reason) {
        let [high, low] = packet_id.to_be_bytes();
        self.bytes.extend([first, 2, high, low]);
        self.groups.push_back(Group { ticket: Some(ticket), len: ACK_BYTES, pubacks: 0, refusal: Some(reason) });
    }

    /// Moves the acknowledgements of durable commits to `out`; stops at a commit under way, and at refusals.
    pub(super) fn settle(
        &mut self,
        outcome: impl Fn(Ticket) -> Option<Result<(), CommitFailed>>,
        out: &mut Vec<u8>,
    ) -> Settled {
        let mut settled = Settled::default();
        while let Some(group) = self.groups.front() {
            let Some(outcome) = group.ticket.map_or(Some(Ok(())), &outcome) else { break };
            let (len, refusal) = (group.len, group.refusal);
            let why = match (refusal, outcome) {
                (Some(reason), _) => Why::AtOnce(reason),
                (None, Err(failed)) => Why::Commit(failed),
                (None, Ok(())) => {
                    settled.pubacks += group.pubacks;
                    self.groups.pop_front();
                    let (head, tail) = self.bytes.as_slices();
                    let from_head = len.min(head.len());
                    out.extend_from_slice(&head[..from_head]);
                    out.extend_from_slice(&tail[..len - from_head]);
                    self.bytes.drain(..len);
                    continue;
                }
            };
            self.groups.pop_front();
            let bytes: Vec<u8> = self.bytes.drain(..len).collect();
            let refusal = |ack: &[u8]| Refusal {
                first: ack[0],
                packet_id: u16::from_be_bytes([ack[2], ack[3]]),
                why: why.clone(),
            };
            settled.refusals = bytes.chunks_exact(ACK_BYTES).map(refusal).collect();
            break;
        }
        settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn acks_leave_in_order_and_only_when_durable() {
        let mut queue = AckQueue::default();
        queue.push(Some(Ticket::of(1)), PUBACK, 1);
        queue.push(Some(Ticket::of(1)), PUBREC, 2);
        queue.push(Some(Ticket::of(2)), PUBACK, 3);
        let mut out = Vec::new();
        assert_eq!(queue.settle(|_| None, &mut out), Settled::default());
        assert!(out.is_empty());
        let settled = queue.settle(|ticket| (ticket == Ticket::of(1)).then_some(Ok(())), &mut out);
        assert_eq!(settled, Settled { pubacks: 1, refusals: Vec::new() });
        assert_eq!(out, [0x40, 2, 0, 1, 0x50, 2, 0, 2]);
    }

    #[test]
    fn what_was_here_before_keeps_its_place() {
        let mut queue = AckQueue::default();
        queue.push(Some(Ticket::of(5)), PUBACK, 1);
        queue.push(None, PUBACK, 2);
        queue.push(Some(Ticket::of(4)), PUBACK, 3);
        let mut out = Vec::new();
        assert_eq!(queue.settle(|ticket| (ticket < Ticket::of(5)).then_some(Ok(())), &mut out), Settled::default());
        assert_eq!(queue.newest(), Some(Ticket::of(5)));
        assert_eq!(queue.settle(|_| Some(Ok(())), &mut out), Settled { pubacks: 3, refusals: Vec::new() });
        assert_eq!(out, [0x40, 2, 0, 1, 0x40, 2, 0, 2, 0x40, 2, 0, 3]);
        queue.push(None, PUBREC, 4);
        assert_eq!(queue.settle(|_| None, &mut out), Settled::default());
        assert_eq!(out[12..], [0x50, 2, 0, 4], "nothing to wait for");
    }

    #[test]
    fn refusals_keep_their_place() {
        let mut queue = AckQueue::default();
        queue.push(Some(Ticket::of(1)), PUBACK, 1);
        queue.push_refusal(Ticket::of(1), PUBACK, 2, Reason::NotAuthorized);
        queue.push(Some(Ticket::of(2)), PUBREC, 3);
        queue.push(Some(Ticket::of(3)), PUBACK, 4);
        let full = CommitFailed::Full("no room".into());
        let outcome = |ticket| Some(if ticket == Ticket::of(2) { Err(full.clone()) } else { Ok(()) });
        let mut out = Vec::new();
        let first = queue.settle(outcome, &mut out);
        let refusal = Refusal { first: PUBACK, packet_id: 2, why: Why::AtOnce(Reason::NotAuthorized) };
        assert_eq!(first, Settled { pubacks: 1, refusals: vec![refusal] });
        let second = queue.settle(outcome, &mut out);
        let refusal = Refusal { first: PUBREC, packet_id: 3, why: Why::Commit(full.clone()) };
        assert_eq!(second, Settled { pubacks: 0, refusals: vec![refusal] });
        assert_eq!(queue.settle(outcome, &mut out), Settled { pubacks: 1, refusals: Vec::new() });
        assert_eq!(out, [0x40, 2, 0, 1, 0x40, 2, 0, 4]);
    }
}
