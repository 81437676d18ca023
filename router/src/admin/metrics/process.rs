//! The process's own figures: memory.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// Reads this process's memory.
#[derive(Debug)]
pub struct Process;

impl Process {
    /// Bytes of memory that the process holds now (RSS); `None` where the system does not tell.
    pub fn resident_bytes() -> Option<u64> {
        let text = std::fs::read_to_string("/proc/self/statm").ok()?;
        let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
        Some(pages * rustix::param::page_size() as u64)
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> Result<(), fmt::Error> {
        let Some(bytes) = Self::resident_bytes() else {
            return Ok(());
        };
        let gauge = ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX));
        let help = "Memory that the process holds";
        let metric = encoder.encode_descriptor("memory_resident", help, Some(&Unit::Bytes), gauge.metric_type())?;
        gauge.encode(metric)
    }
}
