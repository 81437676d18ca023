//! Where a room writes its figures: counters, gauges and histograms by name.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};

use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Unit;

/// A page of the metrics' text that is being written.
pub struct Sheet<'a> {
    encoder: DescriptorEncoder<'a>,
}

/// Reads a counter.
pub fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

impl<'a> Sheet<'a> {
    pub(super) fn new(encoder: DescriptorEncoder<'a>) -> Self {
        Self { encoder }
    }

    /// A number that only rises; `_total` is added to its name.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let metric = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        ConstCounter::new(value).encode(metric)
    }

    /// Numbers that only rise, one for each value of a label.
    pub fn counters(&mut self, name: &str, help: &str, label: &str, values: &[(&str, u64)]) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (of, value) in values {
            ConstCounter::new(*value).encode(metric.encode_family(&[(label, *of)])?)?;
        }
        Ok(())
    }

    /// Numbers that only rise, one for each set of labels' values; `_total` is added to the name.
    pub fn counters_by<const LABELS: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: [&str; LABELS],
        values: &[([String; LABELS], u64)],
    ) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (of, value) in values {
            let labels: Vec<(&str, &str)> = labels.into_iter().zip(of.iter().map(String::as_str)).collect();
            ConstCounter::new(*value).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// Spans of time that only rise, one for each value of a label; `_seconds_total` is added to the name.
    pub fn seconds(&mut self, name: &str, help: &str, label: &str, values: &[(&str, f64)]) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Counter)?;
        for (of, value) in values {
            ConstCounter::new(*value).encode(metric.encode_family(&[(label, *of)])?)?;
        }
        Ok(())
    }

    /// A number that rises and falls.
    pub fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let metric = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(metric)
    }

    /// A number of bytes; `_bytes` is added to its name.
    pub fn bytes(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let metric = self.encoder.encode_descriptor(name, help, Some(&Unit::Bytes), MetricType::Gauge)?;
        ConstGauge::new(i64::try_from(value).unwrap_or(i64::MAX)).encode(metric)
    }

    /// Numbers that rise and fall, one for each value of a label.
    pub fn gauges(&mut self, name: &str, help: &str, label: &str, values: &[(String, f64)]) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (of, value) in values {
            ConstGauge::new(*value).encode(metric.encode_family(&[(label, of.as_str())])?)?;
        }
        Ok(())
    }

    /// Numbers that rise and fall, one for each set of labels' values.
    pub fn gauges_by<const LABELS: usize>(
        &mut self,
        name: &str,
        help: &str,
        labels: [&str; LABELS],
        values: &[([String; LABELS], f64)],
    ) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (of, value) in values {
            let labels: Vec<(&str, &str)> = labels.into_iter().zip(of.iter().map(String::as_str)).collect();
            ConstGauge::new(*value).encode(metric.encode_family(&labels)?)?;
        }
        Ok(())
    }

    /// How often something took up to each bound, in seconds; `_seconds` is added to its name. `buckets` are
    /// counts of their own, not sums; the last one's bound is infinity.
    pub fn histogram(&mut self, name: &str, help: &str, sum_s: f64, buckets: &[(f64, u64)]) -> fmt::Result {
        let mut metric = self.encoder.encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Histogram)?;
        let count = buckets.iter().map(|(_, count)| count).sum();
        metric.encode_histogram::<NoLabelSet>(sum_s, count, buckets, None)
    }
}
