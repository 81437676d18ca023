//! That every acknowledged reading is on every node once: the devices' accounts against each node's log; pure.

use std::collections::BTreeSet;

use devices::fleet::{Differences, Found, Ledger, ReadingFate, compare};

use super::gateways::Accounts;
use crate::bench::BenchError;
use crate::demo::panel::grouped;

/// What the devices of one gateway know, and what each node holds of it.
#[derive(Debug)]
pub struct OfGateway {
    pub gateway: String,
    pub sent: u64,
    pub acked: u64,
    /// Those of them that were sent more than once until then.
    pub again: u64,
    /// Readings in each node's log, each counted once.
    pub found: Vec<u64>,
}

/// All of it.
#[derive(Debug)]
pub struct Proof {
    /// The nodes, in the order of what was found.
    pub nodes: Vec<String>,
    pub gateways: Vec<OfGateway>,
    /// Lines of each node's log.
    pub lines: usize,
}

/// Compares all accounts with each node's log as `edgeway tail --json` printed it, and the logs with each other.
///
/// # Errors
/// What is missing, there twice, out of order or different, where anything is.
pub fn check(accounts: &[Accounts], tails: &[(String, String)]) -> Result<Proof, BenchError> {
    let mut faults = Vec::new();
    let mut gateways: Vec<OfGateway> = accounts.iter().map(OfGateway::of).collect();
    let first: BTreeSet<&str> = tails.first().map(|(_, tail)| tail.lines().collect()).unwrap_or_default();
    for (node, tail) in tails {
        let readings = tail.lines().map(|line| {
            Found::from_line(line).ok_or_else(|| BenchError::Program(format!("no reading in {node}'s line {line}")))
        });
        let readings = readings.collect::<Result<Vec<_>, _>>()?;
        for (gateway, account) in gateways.iter_mut().zip(accounts) {
            let differences = compared(account, &readings);
            gateway.found.push(differences.found);
            let told = told(&differences);
            faults.extend(told.into_iter().map(|fault| format!("devices of {} at {node}: {fault}", account.gateway)));
        }
        let known = |reading: &Found| accounts.iter().any(|account| is_of(account, reading));
        let strangers = readings.iter().filter(|reading| !known(reading)).count();
        if strangers > 0 {
            faults.push(format!("{strangers} readings at {node} that no device sent"));
        }
        // Lines hold origin, partition and offset, so that none is there twice.
        let lines: BTreeSet<&str> = tail.lines().collect();
        if lines != first || lines.len() != tail.lines().count() {
            let differ = lines.symmetric_difference(&first).count();
            faults.push(format!("the log of {node} differs from the first one's in {differ} lines"));
        }
    }
    for gateway in gateways.iter().filter(|gateway| gateway.acked < gateway.sent) {
        let count = gateway.sent - gateway.acked;
        faults.push(format!("{count} readings of devices of {} were never acknowledged", gateway.gateway));
    }
    if !faults.is_empty() {
        return Err(BenchError::Program(format!("the logs and the devices differ\n{}", faults.join("\n"))));
    }
    let nodes = tails.iter().map(|(node, _)| node.clone()).collect();
    Ok(Proof { nodes, gateways, lines: first.len() })
}

fn is_of(account: &Accounts, reading: &Found) -> bool {
    account.ledgers.iter().any(|(device, _)| *device == reading.device)
}

fn compared(account: &Accounts, readings: &[Found]) -> Differences {
    let ledgers = account.ledgers.iter().map(|(device, ledger)| (device.as_str(), ledger));
    let own = readings.iter().filter(|reading| is_of(account, reading));
    compare(ledgers, own.map(|reading| (reading.device.as_str(), reading.seq)))
}

/// What is wrong with one gateway's readings at one node, a line for each kind.
fn told(differences: &Differences) -> Vec<String> {
    let mut lines: Vec<String> = differences.told().lines().map(str::to_owned).collect();
    // The devices number their readings: a node has to know what comes again.
    if differences.repeated > 0 {
        lines.push(format!("{} readings sent again and stored more than once", differences.repeated));
    }
    lines
}

impl OfGateway {
    fn of(account: &Accounts) -> OfGateway {
        let ledgers = || account.ledgers.iter().map(|(_, ledger)| ledger);
        let again = |ledger: &Ledger| ledger.fates().iter().filter(|fate| **fate == ReadingFate::AckedAgain).count();
        OfGateway {
            gateway: account.gateway.clone(),
            sent: ledgers().map(Ledger::sent_count).sum(),
            acked: ledgers().map(Ledger::acked_count).sum(),
            again: ledgers().map(|ledger| again(ledger) as u64).sum(),
            found: Vec::new(),
        }
    }
}

/// The counts as a table: a line a gateway, a column a node.
pub fn table(proof: &Proof) -> String {
    let mut text = format!("  {:<14}{:>10}{:>14}{:>12}", "devices of", "readings", "acknowledged", "sent again");
    for node in &proof.nodes {
        text.push_str(&format!("{:>14}", format!("once on {node}")));
    }
    text.push('\n');
    for gateway in &proof.gateways {
        let counts = [gateway.sent, gateway.acked, gateway.again].map(grouped);
        let [sent, acked, again] = &counts;
        text.push_str(&format!("  {:<14}{sent:>10}{acked:>14}{again:>12}", gateway.gateway));
        for found in &gateway.found {
            text.push_str(&format!("{:>14}", grouped(*found)));
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use devices::client::Fate;

    use super::*;

    /// One device with so many readings, all acknowledged.
    fn account(gateway: &str, device: &str, readings: u64) -> Accounts {
        let mut ledger = Ledger::default();
        for seq in 0..readings {
            ledger.sent();
            ledger.ended(seq, Fate::Acked { repeated: false });
        }
        Accounts { gateway: gateway.to_owned(), ledgers: vec![(device.to_owned(), ledger)] }
    }

    fn tail(readings: &[(&str, u64)]) -> String {
        let line = |(offset, (device, seq)): (usize, &(&str, u64))| {
            format!(r#"{{"offset":{offset},"key":"{device}","value":{{"seq":{seq}}}}}"#)
        };
        readings.iter().enumerate().map(line).collect::<Vec<_>>().join("\n")
    }

    fn checked(logs: [&[(&str, u64)]; 2]) -> Result<Proof, String> {
        let accounts = [account("n1", "a", 2), account("n2", "b", 1)];
        let tails = [("n1", logs[0]), ("n2", logs[1])].map(|(node, log)| (node.to_owned(), tail(log)));
        check(&accounts, &tails).map_err(|error| error.to_string())
    }

    #[test]
    fn each_log_is_held_against_every_device() {
        let all = [("a", 0), ("b", 0), ("a", 1)];
        let proof = checked([&all, &all]).expect("nothing is wrong");
        assert_eq!(proof.lines, 3);
        assert_eq!(proof.gateways.iter().map(|g| g.found.clone()).collect::<Vec<_>>(), [[2, 2], [1, 1]]);
        let lines: Vec<usize> = table(&proof).lines().map(|line| line.chars().count()).collect();
        assert!(lines.iter().all(|length| *length == lines[0]), "{}", table(&proof));
    }

    #[test]
    fn every_fault_is_named() {
        let all: &[(&str, u64)] = &[("a", 0), ("b", 0), ("a", 1)];
        let cases: [(&[(&str, u64)], &str); 4] = [
            (&[("a", 0), ("b", 0)], "devices of n1 at n2: 1 readings acknowledged and lost"),
            (&[("a", 0), ("b", 0), ("b", 0), ("a", 1)], "devices of n2 at n2: 1 readings stored more than once"),
            (&[("a", 0), ("b", 0), ("a", 1), ("x", 0)], "1 readings at n2 that no device sent"),
            (&[("b", 0), ("a", 0), ("a", 1)], "the log of n2 differs from the first one's in 4 lines"),
        ];
        for (log, fault) in cases {
            let faults = checked([all, log]).expect_err(fault);
            assert!(faults.contains(fault), "{fault}: {faults}");
        }
    }
}
