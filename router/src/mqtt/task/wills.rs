//! Wills that wait: for their delay, for a log that takes them, and until they are stored. Pure.

use std::collections::HashMap;
use std::sync::Arc;

use crate::event_log::Ticket;
use crate::mqtt::session::{DueWill, KeptWill};

/// When a will is tried again that the log has refused for now, in milliseconds.
const AGAIN_MS: u64 = 1_000;
/// Bytes of wills that were tried and are not stored; what is beyond is given up. Those that wait for their delay have sessions, which are bounded.
const TRIED_BYTES_MAX: usize = 16 << 20;

/// How far a will is on its way into the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Tried {
    /// It waits for its delay.
    Not,
    /// The log refused it for now; when it is tried again.
    Refused { again_ms: u64 },
    /// It is in this commit, which is stored, or refused, soon.
    Appended(Ticket),
}

/// A will that waits.
#[derive(Debug)]
pub(super) struct WaitingWill {
    pub(super) due: DueWill,
    /// The hybrid clock at which its session began.
    pub(super) begun: u64,
    /// When its client was heard last, by the door's clock.
    pub(super) heard_ms: u64,
    tried: Tried,
    /// Whether people were told that it waits.
    pub(super) is_told: bool,
    /// Whether its client is back: it is not tried again.
    pub(super) is_last: bool,
}

impl WaitingWill {
    /// One that was not tried yet.
    pub(super) fn new(due: DueWill, begun: u64, heard_ms: u64) -> Self {
        Self { due, begun, heard_ms, tried: Tried::Not, is_told: false, is_last: false }
    }

    /// It was refused for now, which is told.
    pub(super) fn refused(self, now_ms: u64) -> Self {
        Self { tried: Tried::Refused { again_ms: now_ms.saturating_add(AGAIN_MS) }, is_told: true, ..self }
    }

    /// It is in a commit.
    pub(super) fn appended(self, ticket: Ticket) -> Self {
        Self { tried: Tried::Appended(ticket), ..self }
    }

    /// Its client is back.
    pub(super) fn last(self) -> Self {
        Self { is_last: true, ..self }
    }

    /// Whether it was refused before.
    pub(super) fn was_refused(&self) -> bool {
        matches!(self.tried, Tried::Refused { .. })
    }

    /// The commit that it is in.
    pub(super) fn ticket(&self) -> Option<Ticket> {
        match self.tried {
            Tried::Appended(ticket) => Some(ticket),
            Tried::Not | Tried::Refused { .. } => None,
        }
    }

    fn is_due(&self, now_ms: u64, is_settled: impl Fn(Ticket) -> bool) -> bool {
        match self.tried {
            Tried::Not => self.due.at_ms <= now_ms,
            Tried::Refused { again_ms } => again_ms <= now_ms,
            Tried::Appended(ticket) => is_settled(ticket),
        }
    }

    fn tried_bytes(&self) -> usize {
        let bytes = || size_of::<Self>() + self.due.will.bytes();
        if self.tried == Tried::Not { 0 } else { bytes() }
    }
}

/// Wills that wait, one of a client.
#[derive(Debug, Default)]
pub(super) struct Wills {
    by_client: HashMap<Arc<str>, WaitingWill>,
    tried_bytes: usize,
}

impl Wills {
    /// Has a will wait, in place of what waits of its client. False where there is no room for it, or where one of a later session waits.
    pub(super) fn add(&mut self, client_id: &Arc<str>, will: WaitingWill) -> bool {
        if self.by_client.get(client_id).is_some_and(|waiting| waiting.begun > will.begun) {
            return false;
        }
        self.remove(client_id);
        let bytes = self.tried_bytes + will.tried_bytes();
        let has_room = will.tried == Tried::Not || bytes <= TRIED_BYTES_MAX;
        if has_room {
            self.tried_bytes = bytes;
            self.by_client.insert(Arc::clone(client_id), will);
        }
        has_room
    }

    /// Takes out what waits of a client.
    pub(super) fn remove(&mut self, client_id: &str) -> Option<WaitingWill> {
        let will = self.by_client.remove(client_id)?;
        self.tried_bytes -= will.tried_bytes();
        Some(will)
    }

    /// The will of a client that is in no commit yet, and when it is due.
    pub(super) fn unpublished(&self, client_id: &str) -> Option<(KeptWill, u64)> {
        let waiting = self.by_client.get(client_id).filter(|waiting| waiting.ticket().is_none())?;
        Some((waiting.due.will.clone(), waiting.due.at_ms))
    }

    /// The clients whose wills are to be looked after now: that are due, or due again, or whose commit is settled.
    pub(super) fn due(&self, now_ms: u64, is_settled: impl Fn(Ticket) -> bool) -> Vec<Arc<str>> {
        let due = self.by_client.iter().filter(|(_, waiting)| waiting.is_due(now_ms, &is_settled));
        due.map(|(client_id, _)| Arc::clone(client_id)).collect()
    }

    /// Takes out the will of one of those, where it still is: its client may have come since, and have gone with another one.
    pub(super) fn take_due(
        &mut self,
        client_id: &str,
        now_ms: u64,
        is_settled: impl Fn(Ticket) -> bool,
    ) -> Option<WaitingWill> {
        self.by_client.get(client_id).filter(|waiting| waiting.is_due(now_ms, &is_settled))?;
        self.remove(client_id)
    }

    /// Whether that of a client is one that its client's coming has not been looked at for.
    pub(super) fn is_to_be_called_off(&self, client_id: &str) -> bool {
        self.by_client.get(client_id).is_some_and(|waiting| !waiting.is_last)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn will(at_ms: u64, payload_bytes: usize) -> WaitingWill {
        WaitingWill::new(DueWill { will: KeptWill::sample(payload_bytes), at_ms }, 1, 1)
    }

    #[test]
    fn each_is_looked_after_when_it_is_due() {
        let mut wills = Wills::default();
        let ticket = Ticket::of(4);
        for (client, waiting) in
            [("delay", will(50, 1)), ("refused", will(10, 1).refused(10)), ("appended", will(10, 1).appended(ticket))]
        {
            assert!(wills.add(&client.into(), waiting));
        }
        let unpublished = ["delay", "refused", "appended", "none"].map(|client| wills.unpublished(client).is_some());
        assert_eq!(unpublished, [true, true, false, false]);
        for (now_ms, is_settled, expected) in [
            (49, false, None),
            (49, true, Some("appended")),
            (50, true, Some("delay")),
            (1_009, true, None),
            (1_010, true, Some("refused")),
        ] {
            let is_settled = |of| is_settled && of == ticket;
            let due = wills.due(now_ms, is_settled);
            let due: Vec<&str> = due.iter().map(|client| &**client).collect();
            assert_eq!(due, Vec::from_iter(expected), "{now_ms}");
            let taken = ["delay", "refused", "appended"].map(|client| wills.take_due(client, now_ms, is_settled));
            assert_eq!(taken.into_iter().flatten().count(), due.len(), "{now_ms}");
        }
        assert_eq!((wills.by_client.len(), wills.tried_bytes), (0, 0));
    }

    #[test]
    fn one_of_a_later_session_is_not_replaced() {
        let (mut wills, client) = (Wills::default(), "c".into());
        let of = |begun, at_ms| WaitingWill { begun, ..will(at_ms, 1) };
        assert!(wills.add(&client, of(2, 60)) && wills.add(&client, of(2, 50)));
        assert!(!wills.add(&client, of(1, 10).refused(1)) && wills.add(&client, of(3, 70)));
        assert_eq!(wills.unpublished("c").map(|(_, at_ms)| at_ms), Some(70));
    }

    #[test]
    fn what_is_tried_is_bounded() {
        let (mut wills, count_max) = (Wills::default(), TRIED_BYTES_MAX / 60_000);
        let client = |number: usize| -> Arc<str> { format!("c{number}").into() };
        let taken = (0..count_max * 2).filter(|number| wills.add(&client(*number), will(1, 60_000).refused(1)));
        assert!((count_max - 5..=count_max).contains(&taken.count()));
        assert!(wills.add(&client(count_max * 2), will(1, 60_000)), "one that waits for its delay");
        // One of the same client takes its place.
        assert!(wills.add(&client(0), will(1, 60_000).refused(1)));
        assert!(wills.remove("c0").is_some() && wills.remove("c0").is_none());
        assert!(wills.add(&client(count_max * 2), will(1, 60_000).refused(1)));
        assert!(wills.tried_bytes <= TRIED_BYTES_MAX);
    }
}
