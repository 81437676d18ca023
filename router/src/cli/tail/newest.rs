//! The newest events of a topic: the last of each partition, by time.

use std::collections::BTreeMap;
use std::io::BufRead;

use serde_json::Value;

use crate::admin::wire::TopicView;
use crate::cli::Failure;
use crate::cli::api::{Api, encoded};

/// Events that are gathered at most.
const NEWEST_MAX: u64 = 10_000;

/// The lines of the newest `max` events, the oldest of them first. Within a partition the order is that of offsets.
///
/// # Errors
/// When there are more than [`NEWEST_MAX`], or the node refuses.
pub(super) fn lines(api: &Api, topic: &str, only: Option<u32>, max: u64) -> Result<Vec<Vec<u8>>, Failure> {
    if max > NEWEST_MAX {
        let failure = Failure::usage(format!("the newest {NEWEST_MAX} events are shown at most, not {max}"));
        return Err(failure.hint("say --from to have more"));
    }
    let view: TopicView = api.get(&format!("topics/{}", encoded(topic)))?;
    let mut newest = Newest::new(max);
    for extent in view.extents.iter().filter(|extent| only.is_none_or(|only| only == extent.partition)) {
        let from = extent.end.saturating_sub(max).max(extent.start);
        if from >= extent.end {
            continue;
        }
        let (partition, count) = (extent.partition, extent.end - from);
        let path = format!("topics/{}/events?from={from}&partition={partition}&max={count}", encoded(topic));
        newest.begin();
        for line in api.get_stream(&path)?.split(b'\n') {
            newest.take(line.map_err(|error| {
                Failure::new(crate::cli::Exit::Unreachable, format!("the node broke off: {error}")).hint("call again")
            })?);
        }
    }
    Ok(newest.lines.into_values().collect())
}

/// The newest lines so far.
struct Newest {
    max: usize,
    /// By time, then by the order in which they came.
    lines: BTreeMap<(i64, u64), Vec<u8>>,
    count: u64,
    /// The latest time in this partition.
    latest_ms: i64,
}

impl Newest {
    fn new(max: u64) -> Self {
        let max = usize::try_from(max).unwrap_or(usize::MAX);
        Self { max, lines: BTreeMap::new(), count: 0, latest_ms: i64::MIN }
    }

    /// Another partition begins.
    fn begin(&mut self) {
        self.latest_ms = i64::MIN;
    }

    fn take(&mut self, mut line: Vec<u8>) {
        let Some(at_ms) = serde_json::from_slice::<Value>(&line).ok().and_then(|event| event["timestamp_ms"].as_i64())
        else {
            return;
        };
        self.latest_ms = self.latest_ms.max(at_ms);
        self.count += 1;
        line.push(b'\n');
        self.lines.insert((self.latest_ms, self.count), line);
        if self.lines.len() > self.max {
            self.lines.pop_first();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_of_all_partitions_stay_in_order() {
        let mut newest = Newest::new(3);
        for partition in [&[1, 5, 4][..], &[2, 3]] {
            newest.begin();
            partition.iter().for_each(|at| newest.take(format!(r#"{{"timestamp_ms":{at}}}"#).into_bytes()));
        }
        newest.take(b"".to_vec());
        let lines: Vec<String> = newest.lines.into_values().map(|line| String::from_utf8(line).unwrap()).collect();
        let times: Vec<&str> = lines.iter().map(|line| &line[16..17]).collect();
        assert_eq!(times, ["3", "5", "4"], "a later event of a partition is never before an earlier one");
    }
}
