//! What Linux tells about a running process.

use std::fs;
use std::time::Duration;

use crate::bench::error::{BenchError, io};

/// Clock ticks a second in `/proc/PID/stat`; Linux fixes it for user space.
const TICKS_PER_SECOND: u64 = 100;

/// What a process has used since it started.
#[derive(Debug, Clone, Copy, Default)]
pub struct Usage {
    /// User and system time of all threads.
    pub cpu: Duration,
    /// Bytes that the process caused to be written to storage.
    pub write_bytes: u64,
}

/// A process's memory, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Memory {
    pub resident: u64,
    /// The most that was ever resident.
    pub peak: u64,
}

/// Reads `/proc/PID/stat` and `/proc/PID/io`.
pub fn usage(pid: u32) -> Result<Usage, BenchError> {
    let stat = read(pid, "stat")?;
    Ok(Usage {
        cpu: cpu_time(&stat).ok_or(BenchError::Program(format!("/proc/{pid}/stat: {stat}")))?,
        write_bytes: field(&read(pid, "io")?, "write_bytes:").unwrap_or(0),
    })
}

/// Reads `/proc/PID/status`.
pub fn memory(pid: u32) -> Result<Memory, BenchError> {
    let status = read(pid, "status")?;
    let kib = |name| field(&status, name).unwrap_or(0) * 1024;
    Ok(Memory { resident: kib("VmRSS:"), peak: kib("VmHWM:") })
}

fn read(pid: u32, file: &str) -> Result<String, BenchError> {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).map_err(io(path))
}

/// The sum of `utime` and `stime`; fields count from the end of the name,
/// which may hold spaces.
fn cpu_time(stat: &str) -> Option<Duration> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(Duration::from_millis((user + system) * 1000 / TICKS_PER_SECOND))
}

fn field(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn processor_time_is_found_behind_any_name() {
        let stat = "12 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20 0";
        assert_eq!(cpu_time(stat), Some(Duration::from_secs(2)));
        assert_eq!(cpu_time("12 (a"), None);
    }

    #[test]
    fn fields_are_found_by_name() {
        let text = "Name:\tx\nVmRSS:\t   1234 kB\n";
        assert_eq!(field(text, "VmRSS:"), Some(1234));
        assert_eq!(field(text, "VmHWM:"), None);
    }
}
