//! What was sent against what is found in the log; pure.

use super::ledger::{Ledger, ReadingFate};

/// What a comparison found; readings are named by device and sequence number.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Differences {
    /// Acknowledged, and not in the log.
    pub missing: Vec<(String, u64)>,
    /// Sent once, and more than once in the log.
    pub doubled: Vec<(String, u64)>,
    /// First found behind a later reading of the same device.
    pub out_of_order: Vec<(String, u64)>,
    /// In the log, and never sent.
    pub unknown: Vec<(String, u64)>,
    /// Refused or dropped by the account, and yet in the log.
    pub refused_but_found: Vec<(String, u64)>,
    /// How many were sent again after a broken connection, and are in the log more than once. That is what
    /// at-least-once permits; where readings are numbered (MQTT 5, QUIC) there are none.
    pub repeated: u64,
    /// How many are in the log, each counted once.
    pub found: u64,
}

impl Differences {
    /// Whether the log holds every acknowledged reading, once and in order.
    pub fn is_clean(&self) -> bool {
        self.missing.is_empty()
            && self.doubled.is_empty()
            && self.out_of_order.is_empty()
            && self.unknown.is_empty()
            && self.refused_but_found.is_empty()
    }
}

/// Compares devices' ledgers with the readings found in the log, given per device in the log's order.
///
/// A reading that is still open counts neither as missing nor, when it is there twice, as doubled:
/// it may have been sent again.
pub fn compare<'a>(
    ledgers: impl IntoIterator<Item = (&'a str, &'a Ledger)>,
    found: impl IntoIterator<Item = (&'a str, u64)>,
) -> Differences {
    let mut differences = Differences::default();
    let mut accounts: std::collections::BTreeMap<&str, Account<'_>> =
        ledgers.into_iter().map(|(device, ledger)| (device, Account::new(ledger))).collect();
    for (device, seq) in found {
        match accounts.get_mut(device) {
            Some(account) => account.find(device, seq, &mut differences),
            None => differences.unknown.push((device.into(), seq)),
        }
    }
    for (device, account) in accounts {
        account.close(device, &mut differences);
    }
    differences
}

struct Account<'a> {
    ledger: &'a Ledger,
    times_found: Vec<u8>,
    highest: Option<u64>,
}

impl<'a> Account<'a> {
    fn new(ledger: &'a Ledger) -> Self {
        Self { ledger, times_found: vec![0; ledger.fates().len()], highest: None }
    }

    fn find(&mut self, device: &str, seq: u64, differences: &mut Differences) {
        let place = usize::try_from(seq).ok().and_then(|seq| self.times_found.get_mut(seq));
        let Some(times) = place else {
            differences.unknown.push((device.into(), seq));
            return;
        };
        *times = times.saturating_add(1);
        if *times > 1 {
            return;
        }
        differences.found += 1;
        if self.highest.is_some_and(|highest| seq < highest) {
            differences.out_of_order.push((device.into(), seq));
        }
        self.highest = self.highest.max(Some(seq));
    }

    fn close(self, device: &str, differences: &mut Differences) {
        for (seq, (fate, times)) in self.ledger.fates().iter().zip(self.times_found).enumerate() {
            let reading = || (device.to_owned(), seq as u64);
            match (fate, times) {
                (ReadingFate::Acked | ReadingFate::AckedAgain, 0) => differences.missing.push(reading()),
                (ReadingFate::Acked, 2..) => differences.doubled.push(reading()),
                (ReadingFate::AckedAgain | ReadingFate::Open, 2..) => differences.repeated += 1,
                (ReadingFate::NotStored, 1..) => differences.refused_but_found.push(reading()),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Fate;

    const ACKED: Fate = Fate::Acked { repeated: false };
    const AGAIN: Fate = Fate::Acked { repeated: true };

    fn ledger(fates: &[Option<Fate>]) -> Ledger {
        let mut ledger = Ledger::default();
        for (seq, fate) in fates.iter().enumerate() {
            ledger.sent();
            if let Some(fate) = fate {
                ledger.ended(seq as u64, *fate);
            }
        }
        ledger
    }

    fn check(fates: &[Option<Fate>], found: &[u64]) -> Differences {
        let ledger = ledger(fates);
        compare([("a", &ledger)], found.iter().map(|seq| ("a", *seq)))
    }

    #[test]
    fn each_kind_of_difference_is_told_apart() {
        let three = [Some(ACKED); 3];
        let named = |seq| vec![("a".to_owned(), seq)];
        assert!(check(&three, &[0, 1, 2]).is_clean());
        assert_eq!(check(&three, &[0, 2]).missing, named(1));
        assert_eq!(check(&three, &[0, 1, 1, 2]).doubled, named(1));
        assert_eq!(check(&three, &[0, 2, 1]).out_of_order, named(1));
        assert_eq!(check(&three, &[0, 1, 2, 7]).unknown, named(7));
        assert_eq!(check(&[Some(Fate::Refused(0x97))], &[0]).refused_but_found, named(0));
        let stranger = compare([], [("b", 1)]);
        assert_eq!(stranger.unknown, [("b".to_owned(), 1)]);
    }

    #[test]
    fn what_was_sent_again_may_be_there_twice_and_open_ones_may_be_absent() {
        let differences = check(&[Some(AGAIN), Some(AGAIN), None, None], &[0, 1, 2, 0, 1, 2]);
        assert!(differences.is_clean(), "{differences:?}");
        assert_eq!((differences.repeated, differences.found), (3, 3));
        assert_eq!(check(&[Some(AGAIN)], &[]).missing.len(), 1);
        let ended = check(&[Some(Fate::Stopped), Some(Fate::Written), Some(Fate::Dropped)], &[]);
        assert!(ended.is_clean());
    }

    #[test]
    fn devices_do_not_disturb_each_other() {
        let (a, b) = (ledger(&[Some(ACKED); 2]), ledger(&[Some(ACKED); 2]));
        let found = [("a", 0), ("b", 0), ("b", 1), ("a", 1)];
        assert!(compare([("a", &a), ("b", &b)], found).is_clean());
    }
}
