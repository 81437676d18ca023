//! What a device sent, by sequence number, and what became of it; pure.

use crate::client::Fate;

/// Most readings that one device keeps account of; it sends no more beyond.
pub const READINGS_MAX: usize = 4_000_000;

/// What is known of one reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadingFate {
    /// Handed to the client; it may be stored or not.
    Open,
    /// Acknowledged after it was sent once: it is stored once.
    Acked,
    /// Acknowledged after it was sent more than once: it is stored at least once.
    AckedAgain,
    /// Refused by the node, or dropped from the buffer before it was sent.
    NotStored,
}

/// The account of one device's readings: sequence numbers from 0, without holes.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    fates: Vec<ReadingFate>,
    acked: u64,
}

impl Ledger {
    /// The next sequence number; `None` when the ledger is full.
    pub fn next(&self) -> Option<u64> {
        (self.fates.len() < READINGS_MAX).then_some(self.fates.len() as u64)
    }

    /// Notes that the reading with the next sequence number was handed over.
    pub fn sent(&mut self) {
        self.fates.push(ReadingFate::Open);
    }

    /// Takes the newest reading back: the client did not take it.
    pub fn retract(&mut self) {
        self.fates.pop();
    }

    /// Notes what became of a reading.
    pub fn ended(&mut self, seq: u64, fate: Fate) {
        let Some(known) = usize::try_from(seq).ok().and_then(|seq| self.fates.get_mut(seq)) else { return };
        *known = match fate {
            Fate::Acked { repeated: false } => ReadingFate::Acked,
            Fate::Acked { repeated: true } => ReadingFate::AckedAgain,
            Fate::Refused(_) | Fate::Dropped => ReadingFate::NotStored,
            Fate::Written | Fate::Damaged | Fate::OnDisk | Fate::Stopped => ReadingFate::Open,
        };
        self.acked += u64::from(matches!(fate, Fate::Acked { .. }));
    }

    /// How many readings were handed over.
    pub fn sent_count(&self) -> u64 {
        self.fates.len() as u64
    }

    /// How many readings were acknowledged.
    pub fn acked_count(&self) -> u64 {
        self.acked
    }

    /// What is known of each reading, by sequence number.
    pub fn fates(&self) -> &[ReadingFate] {
        &self.fates
    }
}
