//! What three nodes say to each other when nobody publishes.

use std::fs;
use std::time::{Duration, Instant};

use super::nodes::Site;
use crate::bench::error::{BenchError, io};
use crate::bench::report::{Goal, Row, Spread, Unit};

/// What passes in a second should be less, in bytes.
const GOAL_BYTES: f64 = 2_048.0;
/// Each look at the counter of the loopback interface, and how many there are.
const LOOK: Duration = Duration::from_secs(5);
const LOOKS: usize = 4;
/// For how long nodes ask each other more often after one of them came or went: that is not idle yet.
const SETTLES: Duration = Duration::from_secs(12);

/// Bytes a second on the loopback interface, packets' heads counted; the rest of the machine must be quiet.
pub fn run(site: &Site) -> Result<Vec<Row>, BenchError> {
    site.wait_level()?;
    std::thread::sleep(SETTLES);
    let mut rates = Vec::new();
    for _ in 0..LOOKS {
        let (before, began) = (loopback_bytes()?, Instant::now());
        std::thread::sleep(LOOK);
        rates.push((loopback_bytes()? - before) as f64 / began.elapsed().as_secs_f64());
    }
    Ok(vec![
        Row::new("idle: bytes a second of all three", Unit::Bytes, Spread::of(rates)).goal(Goal::AtMost(GOAL_BYTES)),
    ])
}

/// Bytes that the loopback interface has received, as it has sent them.
fn loopback_bytes() -> Result<u64, BenchError> {
    let text = fs::read_to_string("/proc/net/dev").map_err(io("reading /proc/net/dev"))?;
    received(&text).ok_or_else(|| BenchError::Program(format!("no loopback interface in /proc/net/dev:\n{text}")))
}

fn received(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.trim_start().strip_prefix("lo:"))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_interface_is_found() {
        let text = "Inter-|   Receive |\n face |bytes    packets\n  eth0: 7 1\n    lo: 1234 5 0 0\n";
        assert_eq!(received(text), Some(1234));
        assert_eq!(received("  eth0: 7 1\n"), None);
    }
}
