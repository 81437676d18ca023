//! Readings as `edgeway tail --json` prints them, and differences in words; pure.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::compare::Differences;

/// Differences of one kind that are named; the rest is counted.
const NAMED_MAX: usize = 5;

/// A fleet's reading as it was found in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The device, as the event's key or source says.
    pub device: String,
    /// Its sequence number.
    pub seq: u64,
    /// The fleet's run that it belongs to, where it says so.
    pub run: Option<String>,
}

#[derive(Deserialize)]
struct Line<'a> {
    device: Option<String>,
    key: Option<serde_json::Value>,
    #[serde(borrow)]
    value: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Payload {
    seq: u64,
    run: Option<String>,
}

impl Found {
    /// Reads one line of the log; `None` where it is no fleet's reading.
    pub fn from_line(line: &str) -> Option<Self> {
        let line: Line<'_> = serde_json::from_str(line).ok()?;
        let device = line.device.or_else(|| line.key?.as_str().map(str::to_owned))?;
        let value = line.value?.get();
        // The value is a text that holds JSON, or JSON itself.
        let text = serde_json::from_str::<String>(value);
        let Payload { seq, run } = serde_json::from_str(text.as_deref().unwrap_or(value)).ok()?;
        Some(Self { device, seq, run })
    }
}

impl Differences {
    /// What is wrong, a line for each kind; empty when nothing is.
    pub fn told(&self) -> String {
        let kinds = [
            ("acknowledged and lost", &self.missing),
            ("stored more than once", &self.doubled),
            ("out of order", &self.out_of_order),
            ("never sent", &self.unknown),
            ("refused and yet stored", &self.refused_but_found),
        ];
        let mut lines = Vec::new();
        for (what, readings) in kinds.into_iter().filter(|(_, readings)| !readings.is_empty()) {
            let named: Vec<String> =
                readings.iter().take(NAMED_MAX).map(|(device, seq)| format!("{device} #{seq}")).collect();
            lines.push(format!("{} readings {what}: {} ...", readings.len(), named.join(", ")));
        }
        lines.join("\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_names_device_number_and_run() {
        let found = |run: Option<&str>| Some(Found { device: "s-1".into(), seq: 7, run: run.map(Into::into) });
        let cases = [
            (r#"{"key":"s-1","value":"{\"seq\":7,\"t\":1.5}"}"#, found(None)),
            (r#"{"key":"s-1","value":{"seq":7,"run":"a"}}"#, found(Some("a"))),
            (r#"{"device":"s-1","key":"sensors/s-1/t","value":"{\"run\":\"a\",\"seq\":7}"}"#, found(Some("a"))),
            (r#"{"key":"a","value_base64":"AA=="}"#, None),
            (r#"{"key":"a","value":"no JSON"}"#, None),
            (r#"{"gap":{"from":1}}"#, None),
        ];
        for (line, expected) in cases {
            assert_eq!(Found::from_line(line), expected, "{line}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let missing = (0..7).map(|seq| ("a".to_owned(), seq)).collect();
        let differences = Differences { missing, ..Differences::default() };
        assert_eq!(differences.told(), "7 readings acknowledged and lost: a #0, a #1, a #2, a #3, a #4 ...");
        assert_eq!(Differences::default().told(), "");
    }
}
