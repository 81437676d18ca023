//! What one connection has sent of each lane: behind an event that was lost nothing is taken before it comes again (pure).

use devices::sequence::{LANES, Number, Sequence};

use crate::event_log::Ticket;

/// The numbered events of a connection. A client sends on while an earlier event of it is being refused for want of
/// room, say; taken, the later one would make the earlier one look as if it had been here. A new connection begins anew:
/// it sends what is unacknowledged from the oldest on.
#[derive(Debug, Default)]
pub struct Arrivals {
    lanes: [Arrival; LANES as usize],
}

#[derive(Debug, Default, Clone, Copy)]
struct Arrival {
    /// The newest event that was appended, and its commit.
    newest: Option<(Number, Ticket)>,
    /// The newest event that was lost: what is above it is not taken before it, or one below it, has come again.
    lost: Option<Number>,
}

impl Arrivals {
    /// Whether an event may be judged now; where not, it is to be sent again after those before it. `failed` says
    /// whether a commit is known to be refused; ask under the guard of the open commit.
    pub fn admit(&mut self, sequence: Sequence, failed: impl Fn(Ticket) -> bool) -> bool {
        let lane = &mut self.lanes[sequence.lane.index()];
        if let Some((number, _)) = lane.newest.take_if(|(_, ticket)| failed(*ticket)) {
            lane.lost = lane.lost.max(Some(number));
        }
        if lane.lost.is_some_and(|lost| sequence.number > lost) {
            return false;
        }
        lane.lost = None;
        true
    }

    /// An event was appended, with the commit of `ticket`.
    pub fn appended(&mut self, sequence: Sequence, ticket: Ticket) {
        self.lanes[sequence.lane.index()].newest = Some((sequence.number, ticket));
    }

    /// An event was refused for now: it is to be sent again.
    pub fn lost(&mut self, sequence: Sequence) {
        let lane = &mut self.lanes[sequence.lane.index()];
        lane.lost = Some(lane.lost.map_or(sequence.number, |lost| lost.min(sequence.number)));
    }

    /// An event was refused for good: those behind it need not wait for it.
    pub fn gone(&mut self, sequence: Sequence) {
        self.lanes[sequence.lane.index()].lost.take_if(|lost| sequence.number <= *lost);
    }
}

#[cfg(test)]
mod tests {
    use devices::sequence::Lane;

    use super::*;

    fn at(lane: Lane, seq: u64) -> Sequence {
        Sequence { lane, number: Number { boot: 1, seq } }
    }

    #[test]
    fn what_comes_behind_a_lost_event_waits_for_it() {
        let mut arrivals = Arrivals::default();
        let well = |_| false;
        for seq in [4, 5, 6] {
            assert!(arrivals.admit(at(Lane::NORMAL, seq), well));
            arrivals.appended(at(Lane::NORMAL, seq), Ticket::of(seq));
        }
        // The commits of 5 and 6 failed, and 7 and 8 were under way.
        let failed = |ticket| ticket > Ticket::of(4);
        assert!(!arrivals.admit(at(Lane::NORMAL, 7), failed));
        assert!(arrivals.admit(at(Lane::URGENT, 7), failed), "another lane");
        assert!(!arrivals.admit(at(Lane::NORMAL, 8), failed));
        for seq in [5, 6, 7, 8] {
            assert!(arrivals.admit(at(Lane::NORMAL, seq), failed), "{seq}");
            arrivals.appended(at(Lane::NORMAL, seq), Ticket::of(0));
        }
    }

    #[test]
    fn what_is_refused_for_now_is_first_again() {
        let mut arrivals = Arrivals::default();
        let well = |_| false;
        assert!(arrivals.admit(at(Lane::BULK, 5), well));
        arrivals.lost(at(Lane::BULK, 5));
        assert!(!arrivals.admit(at(Lane::BULK, 6), well));
        assert!(arrivals.admit(at(Lane::BULK, 5), well));
        assert!(arrivals.admit(at(Lane::BULK, 6), well));
        // A resend of what was taken long ago is no reason to wait.
        arrivals.lost(at(Lane::BULK, 7));
        assert!(arrivals.admit(at(Lane::BULK, 3), well));
        arrivals.lost(at(Lane::BULK, 7));
        arrivals.lost(at(Lane::BULK, 8));
        assert!(!arrivals.admit(at(Lane::BULK, 8), well), "the first that was lost comes first");
        arrivals.gone(at(Lane::BULK, 7));
        assert!(arrivals.admit(at(Lane::BULK, 8), well), "the one before was refused for good");
    }
}
