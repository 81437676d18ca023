//! That nothing acknowledged was lost: the devices' accounts against the log.

use devices::fleet::{Differences, Ledger, compare};
use serde_json::Value;

use crate::bench::BenchError;

/// Differences of one kind that are named; the rest is counted.
const NAMED_MAX: usize = 5;

/// Compares the accounts with the log as `edgeway tail --json` printed it.
pub fn check(ledgers: &[(String, Ledger)], tail: &str) -> Result<Differences, BenchError> {
    let mut found = Vec::new();
    for line in tail.lines() {
        found.push(reading(line).ok_or_else(|| BenchError::Program(format!("no reading in the log's line {line}")))?);
    }
    let accounts = ledgers.iter().map(|(device, ledger)| (device.as_str(), ledger));
    Ok(compare(accounts, found.iter().map(|(device, seq)| (device.as_str(), *seq))))
}

/// Device and sequence number of one line.
fn reading(line: &str) -> Option<(String, u64)> {
    let event: Value = serde_json::from_str(line).ok()?;
    let device = event.get("key")?.as_str()?.to_owned();
    let value = event.get("value")?;
    let seq = match value.as_str() {
        Some(text) => serde_json::from_str::<Value>(text).ok()?.get("seq")?.as_u64()?,
        None => value.get("seq")?.as_u64()?,
    };
    Some((device, seq))
}

/// What is wrong, in words; empty when nothing is.
pub fn told(differences: &Differences) -> String {
    let kinds = [
        ("acknowledged and lost", &differences.missing),
        ("stored twice", &differences.doubled),
        ("out of order", &differences.out_of_order),
        ("never sent", &differences.unknown),
        ("refused and yet stored", &differences.refused_but_found),
    ];
    let mut lines = Vec::new();
    for (what, readings) in kinds.into_iter().filter(|(_, readings)| !readings.is_empty()) {
        let named: Vec<String> =
            readings.iter().take(NAMED_MAX).map(|(device, seq)| format!("{device} #{seq}")).collect();
        lines.push(format!("{} readings {what}: {} ...", readings.len(), named.join(", ")));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_device_and_number() {
        let text = r#"{"topic":"telemetry","key":"sensor-0001","value":"{\"seq\":7,\"temperature\":1.5}"}"#;
        let nested = r#"{"topic":"telemetry","key":"sensor-0001","value":{"seq":7}}"#;
        for line in [text, nested] {
            assert_eq!(reading(line), Some(("sensor-0001".to_owned(), 7)));
        }
        assert_eq!(reading(r#"{"key":"a","value_base64":"AA=="}"#), None);
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut ledger = Ledger::default();
        ledger.sent();
        ledger.ended(0, devices::client::Fate::Acked { repeated: false });
        let ledgers = [("a".to_owned(), ledger)];
        let differences = check(&ledgers, "").expect("legal");
        assert!(!differences.is_clean());
        assert_eq!(told(&differences), "1 readings acknowledged and lost: a #0 ...");
        let there = check(&ledgers, r#"{"key":"a","value":{"seq":0}}"#).expect("legal");
        assert!(there.is_clean(), "{}", told(&there));
        assert!(check(&ledgers, "?").is_err());
    }
}
