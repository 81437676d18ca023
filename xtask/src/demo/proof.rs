//! That nothing was lost and nothing is there twice: the devices' accounts against the log; pure.

use std::collections::BTreeMap;

use devices::fleet::{Differences, Found, Ledger, ReadingFate, compare};

use crate::bench::BenchError;
use crate::demo::fleets::{Accounts, Transport};
use crate::demo::panel::grouped;

/// What one fleet's comparison found.
#[derive(Debug)]
pub struct Proof {
    pub by: Transport,
    pub devices: usize,
    /// Readings that the devices took.
    pub sent: u64,
    /// Those that the node acknowledged.
    pub acked: u64,
    /// Those of them that were sent more than once until then.
    pub again: u64,
    pub differences: Differences,
}

/// Compares each fleet's accounts with the log as `edgeway tail --json` printed it.
pub fn check(fleets: &[Accounts], tail: &str) -> Result<Vec<Proof>, BenchError> {
    let names = fleets.iter().enumerate().flat_map(|(fleet, accounts)| {
        let names = accounts.ledgers.iter().map(move |(device, _)| (device.as_str(), fleet));
        names.collect::<Vec<_>>()
    });
    let owners: BTreeMap<&str, usize> = names.collect();
    let mut found: Vec<Vec<Found>> = fleets.iter().map(|_| Vec::new()).collect();
    for line in tail.lines() {
        let reading = Found::from_line(line)
            .ok_or_else(|| BenchError::Program(format!("no reading in the log's line {line}")))?;
        // A stranger's reading is one that the first fleet never sent.
        let owner = owners.get(reading.device.as_str()).copied().unwrap_or_default();
        found[owner].push(reading);
    }
    Ok(fleets.iter().zip(&found).map(|(accounts, found)| Proof::of(accounts, found)).collect())
}

impl Proof {
    fn of(accounts: &Accounts, found: &[Found]) -> Proof {
        let ledgers = || accounts.ledgers.iter().map(|(_, ledger)| ledger);
        let again = |ledger: &Ledger| ledger.fates().iter().filter(|fate| **fate == ReadingFate::AckedAgain).count();
        let named = accounts.ledgers.iter().map(|(device, ledger)| (device.as_str(), ledger));
        Proof {
            by: accounts.by,
            devices: accounts.ledgers.len(),
            sent: ledgers().map(Ledger::sent_count).sum(),
            acked: ledgers().map(Ledger::acked_count).sum(),
            again: ledgers().map(|ledger| again(ledger) as u64).sum(),
            differences: compare(named, found.iter().map(|reading| (reading.device.as_str(), reading.seq))),
        }
    }

    /// What is wrong, a line for each kind; empty when every reading is acknowledged and in the log once, in order.
    pub fn faults(&self) -> String {
        let mut lines = self.differences.told();
        // Both transports number the readings: the node has to know what comes again.
        let counts = [
            (self.differences.repeated, "sent again and stored more than once"),
            (self.sent - self.acked, "never acknowledged"),
        ];
        for (count, what) in counts.into_iter().filter(|(count, _)| *count > 0) {
            lines.push_str(if lines.is_empty() { "" } else { "\n" });
            lines.push_str(&format!("{count} readings {what}"));
        }
        lines
    }
}

/// The fleets' counts as a table.
pub fn table(proofs: &[Proof]) -> String {
    let head = ["", "devices", "readings", "acknowledged", "sent again", "in the log once"];
    let mut text = line(&head.map(str::to_owned));
    for proof in proofs {
        let counts = [proof.devices as u64, proof.sent, proof.acked, proof.again, proof.differences.found];
        let [devices, sent, acked, again, found] = counts.map(grouped);
        text.push_str(&line(&[proof.by.name().to_owned(), devices, sent, acked, again, found]));
    }
    text
}

fn line([name, devices, sent, acked, again, found]: &[String; 6]) -> String {
    format!("  {name:4}{devices:>9}{sent:>10}{acked:>14}{again:>12}{found:>17}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use devices::client::Fate;

    /// A fleet of one device with readings of these fates.
    fn fleet(by: Transport, device: &str, fates: &[Option<Fate>]) -> Accounts {
        let mut ledger = Ledger::default();
        for (seq, fate) in (0..).zip(fates) {
            ledger.sent();
            if let Some(fate) = fate {
                ledger.ended(seq, *fate);
            }
        }
        Accounts { by, ledgers: vec![(device.to_owned(), ledger)] }
    }

    fn log(readings: &[(&str, u64)]) -> String {
        let line = |(device, seq): &(&str, u64)| format!(r#"{{"key":"{device}","value":{{"seq":{seq}}}}}"#);
        readings.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    const ACKED: Option<Fate> = Some(Fate::Acked { repeated: false });
    const AGAIN: Option<Fate> = Some(Fate::Acked { repeated: true });

    #[test]
    fn each_fleet_is_held_against_its_own_readings() {
        let fleets = [fleet(Transport::Mqtt, "m", &[ACKED, AGAIN]), fleet(Transport::Quic, "q", &[AGAIN])];
        let all = [("m", 0), ("q", 0), ("m", 1)];
        let proofs = check(&fleets, &log(&all)).expect("legal");
        let counts: Vec<_> = proofs.iter().map(|proof| (proof.by, proof.acked, proof.again)).collect();
        assert_eq!(counts, [(Transport::Mqtt, 2, 1), (Transport::Quic, 1, 1)]);
        assert!(proofs.iter().all(|proof| proof.faults().is_empty()), "{proofs:?}");
        assert!(check(&fleets, "?").is_err());
    }

    #[test]
    fn every_fault_is_named() {
        type Case<'a> = (&'a [Option<Fate>], &'a [(&'a str, u64)], &'a str);
        let cases: [Case<'_>; 6] = [
            (&[ACKED], &[], "1 readings acknowledged and lost: m #0 ..."),
            (&[ACKED], &[("m", 0), ("m", 0)], "1 readings stored more than once: m #0 ..."),
            (&[AGAIN], &[("m", 0), ("m", 0)], "1 readings sent again and stored more than once"),
            (&[ACKED, ACKED], &[("m", 1), ("m", 0)], "1 readings out of order: m #0 ..."),
            (&[ACKED, None], &[("m", 0)], "1 readings never acknowledged"),
            (&[ACKED], &[("m", 0), ("x", 5)], "1 readings never sent: x #5 ..."),
        ];
        for (fates, found, expected) in cases {
            let proofs = check(&[fleet(Transport::Mqtt, "m", fates)], &log(found)).expect("legal");
            assert_eq!(proofs[0].faults(), expected);
        }
    }

    #[test]
    fn the_table_has_one_width() {
        let fleets = [fleet(Transport::Mqtt, "m", &[ACKED]), fleet(Transport::Quic, "q", &[])];
        let text = table(&check(&fleets, &log(&[("m", 0)])).expect("legal"));
        let widths: Vec<usize> = text.lines().map(|line| line.chars().count()).collect();
        assert_eq!(widths.len(), 3, "{text}");
        assert!(widths.windows(2).all(|pair| pair[0] == pair[1]), "{text}");
    }
}
