//! Quantiles of single durations and of Prometheus histograms.

use std::time::Duration;

/// Latencies of one window.
#[derive(Debug, Default)]
pub struct Latencies {
    sorted: Vec<Duration>,
}

impl Latencies {
    pub fn new(mut samples: Vec<Duration>) -> Latencies {
        samples.sort_unstable();
        Latencies { sorted: samples }
    }

    /// The latency that `share` (0 to 1) of all do not exceed, in milliseconds.
    pub fn quantile_ms(&self, share: f64) -> Option<f64> {
        let rank = (self.sorted.len() as f64 * share).ceil() as usize;
        let found = self.sorted.get(rank.saturating_sub(1))?;
        Some(found.as_secs_f64() * 1e3)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.sorted.len()
    }

    /// How many are as long as `limit`, or longer.
    pub fn over(&self, limit: Duration) -> usize {
        self.sorted.len() - self.sorted.partition_point(|sample| *sample < limit)
    }
}

/// A histogram as Prometheus shows it: upper bounds and counts up to them.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Histogram {
    pub buckets: Vec<(f64, f64)>,
}

impl Histogram {
    /// What came between `earlier` and this one.
    pub fn since(&self, earlier: &Histogram) -> Histogram {
        let before = |bound: f64| earlier.buckets.iter().find(|(b, _)| *b == bound).map_or(0.0, |(_, count)| *count);
        Histogram { buckets: self.buckets.iter().map(|&(bound, count)| (bound, count - before(bound))).collect() }
    }

    /// The value that `share` of all do not exceed, interpolated within its
    /// bucket; the last finite bound where it lies above all of them.
    pub fn quantile(&self, share: f64) -> Option<f64> {
        let total = self.buckets.last()?.1;
        let (mut low, mut below) = (0.0, 0.0);
        for &(bound, count) in &self.buckets {
            if total > 0.0 && count >= total * share {
                if bound.is_infinite() {
                    return Some(low);
                }
                let inside = (total * share - below) / (count - below).max(f64::MIN_POSITIVE);
                return Some(low + (bound - low) * inside);
            }
            (low, below) = (bound, count);
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_ranks() {
        let latencies = Latencies::new((1..=100).rev().map(Duration::from_millis).collect());
        assert_eq!(latencies.quantile_ms(0.5), Some(50.0));
        assert_eq!(latencies.quantile_ms(0.99), Some(99.0));
        assert_eq!(latencies.quantile_ms(1.0), Some(100.0));
        assert_eq!(Latencies::default().quantile_ms(0.5), None);
        let over = [0, 99, 100, 101].map(|ms| latencies.over(Duration::from_millis(ms)));
        assert_eq!((latencies.len(), over), (100, [100, 2, 1, 0]));
    }

    #[test]
    fn a_histogram_is_interpolated() {
        let earlier = Histogram { buckets: vec![(1.0, 10.0), (2.0, 10.0), (f64::INFINITY, 10.0)] };
        let later = Histogram { buckets: vec![(1.0, 20.0), (2.0, 30.0), (f64::INFINITY, 31.0)] };
        let between = later.since(&earlier);
        assert_eq!(between.buckets.last(), Some(&(f64::INFINITY, 21.0)));
        let median = between.quantile(0.5).expect("not empty");
        assert!((median - 1.05).abs() < 1e-9, "{median}");
        assert_eq!(between.quantile(1.0), Some(2.0));
        assert_eq!(earlier.since(&earlier).quantile(0.5), None);
    }
}
