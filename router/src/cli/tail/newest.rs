//! The newest events of a topic: the last of each partition of every origin, by time.

use std::collections::{BTreeMap, HashMap};
use std::io::BufRead;

use serde_json::Value;

use crate::cli::api::{Api, encoded};
use crate::cli::{Exit, Failure};

/// Events that are gathered at most.
const NEWEST_MAX: u64 = 10_000;

/// The lines of the newest `max` events, the oldest of them first. Within a partition of an origin the order is that of offsets.
///
/// # Errors
/// When there are more than [`NEWEST_MAX`], or the node refuses.
pub(super) fn lines(api: &Api, topic: &str, only: Option<u32>, max: u64) -> Result<Vec<Vec<u8>>, Failure> {
    if max > NEWEST_MAX {
        let failure = Failure::usage(format!("the newest {NEWEST_MAX} events are shown at most, not {max}"));
        return Err(failure.hint("say --from to have more"));
    }
    let partition = only.map_or_else(String::new, |only| format!("&partition={only}"));
    let path = format!("topics/{}/events?from=newest:{max}{partition}", encoded(topic));
    let mut newest = Newest::new(max);
    for line in api.get_stream(&path)?.split(b'\n') {
        newest.take(line.map_err(|error| {
            Failure::new(Exit::Unreachable, format!("the node broke off: {error}")).hint("call again")
        })?);
    }
    Ok(newest.lines.into_values().collect())
}

/// The newest lines so far.
struct Newest {
    max: usize,
    /// By time, then by the order in which they came.
    lines: BTreeMap<(i64, u64), Vec<u8>>,
    count: u64,
    /// The latest time in each partition of each origin.
    latest_ms: HashMap<(String, u64), i64>,
}

impl Newest {
    fn new(max: u64) -> Self {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        Self { max, lines: BTreeMap::new(), count: 0, latest_ms: HashMap::new() }
    }

    fn take(&mut self, mut line: Vec<u8>) {
        let Ok(event) = serde_json::from_slice::<Value>(&line) else { return };
        let Some(at_ms) = event["timestamp_ms"].as_i64() else { return };
        let origin = event["origin"].as_str().unwrap_or_default().to_owned();
        let latest_ms = self.latest_ms.entry((origin, event["partition"].as_u64().unwrap_or(0))).or_insert(i64::MIN);
        *latest_ms = at_ms.max(*latest_ms);
        self.count += 1;
        line.push(b'\n');
        self.lines.insert((*latest_ms, self.count), line);
        if self.lines.len() > self.max {
            self.lines.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_all_partitions_of_all_origins_stay_in_order() {
        let mut newest = Newest::new(4);
        // As they come: origin, partition, time.
        for (origin, partition, at) in [("a", 0, 1), ("b", 0, 2), ("a", 0, 5), ("a", 1, 3), ("a", 0, 4), ("b", 0, 6)] {
            let line = format!(r#"{{"timestamp_ms":{at},"origin":"{origin}","partition":{partition}}}"#);
            newest.take(line.into_bytes());
        }
        newest.take(b"".to_vec());
        newest.take(br#"{"origin":"a","partition":0,"gap":{"from":0,"to":1}}"#.to_vec());
        let lines: Vec<String> = newest.lines.into_values().map(|line| String::from_utf8(line).unwrap()).collect();
        let times: Vec<&str> = lines.iter().map(|line| &line[16..17]).collect();
        assert_eq!(times, ["3", "5", "4", "6"], "a later event of a partition is never before an earlier one");
    }
}
