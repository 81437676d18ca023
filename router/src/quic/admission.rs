//! Decides what becomes of a connection attempt. Pure.

/// What is known of an attempt, and of the door at that moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attempt {
    /// The client has shown that it receives what is sent to its address.
    pub(super) proven: bool,
    /// Handshakes under way, this one not among them.
    pub(super) handshakes: usize,
    /// There is a place among the connections.
    pub(super) place: bool,
}

/// What becomes of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The handshake begins.
    Accept,
    /// The client is asked to prove its address. Costs no memory here.
    Retry,
    /// The client is told that it is refused.
    Refuse,
}

/// Forged addresses are turned away before they take a place from others; the proof costs honest clients a round
/// trip, so it is asked for only where many handshakes are under way.
pub(super) fn decide(attempt: Attempt, retry_from: usize) -> Verdict {
    if !attempt.proven && attempt.handshakes >= retry_from {
        Verdict::Retry
    } else if attempt.place {
        Verdict::Accept
    } else {
        Verdict::Refuse
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_case() {
        // (proven, handshakes, a place, what becomes of it) where 10 handshakes are many
        let cases = [
            (false, 0, true, Verdict::Accept),
            (false, 9, true, Verdict::Accept),
            (false, 10, true, Verdict::Retry),
            (false, 10, false, Verdict::Retry),
            (true, 10, true, Verdict::Accept),
            (true, 500, true, Verdict::Accept),
            (true, 0, false, Verdict::Refuse),
            (false, 0, false, Verdict::Refuse),
        ];
        for (proven, handshakes, place, expected) in cases {
            let attempt = Attempt { proven, handshakes, place };
            assert_eq!(decide(attempt, 10), expected, "{attempt:?}");
        }
        let first = Attempt { proven: false, handshakes: 0, place: true };
        assert_eq!(decide(first, 0), Verdict::Retry, "0 asks always");
    }
}
