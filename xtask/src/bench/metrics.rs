//! The node's `/metrics`, as far as the bench reads them.

use crate::bench::quantile::Histogram;

/// Time to write and sync a commit, in seconds.
const SYNC: &str = "edgeway_sync_seconds";

/// The histogram of sync times.
pub fn sync_seconds(text: &str) -> Histogram {
    let name = format!("{SYNC}_bucket");
    let mut buckets = Vec::new();
    for (labels, value) in samples(text, &name) {
        if let Some(bound) = label(labels, "le").and_then(|bound| bound.parse().ok()) {
            buckets.push((bound, value));
        }
    }
    Histogram { buckets }
}

/// The sum of a metric's samples that carry the label; `None` where there are none.
pub fn sum_with(text: &str, name: &str, label_name: &str, label_value: &str) -> Option<f64> {
    let found = samples(text, name).filter(|(labels, _)| label(labels, label_name) == Some(label_value));
    found.map(|(_, value)| value).reduce(|sum, value| sum + value)
}

/// The value of a metric without labels.
pub fn value(text: &str, name: &str) -> Option<f64> {
    samples(text, name).find(|(labels, _)| labels.is_empty()).map(|(_, value)| value)
}

/// Labels and value of each sample of one name.
fn samples<'a>(text: &'a str, name: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    text.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = match rest.strip_prefix('{') {
            Some(rest) => rest.split_once('}')?,
            None => ("", rest.strip_prefix(' ')?),
        };
        Some((labels, value.split_whitespace().next()?.parse().ok()?))
    })
}

/// A label's value; the values that the bench asks for hold no quotes.
fn label<'a>(labels: &'a str, name: &str) -> Option<&'a str> {
    labels.split(',').find_map(|pair| {
        let (found, value) = pair.split_once('=')?;
        (found == name).then(|| value.trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# TYPE edgeway_sync_seconds histogram
edgeway_sync_seconds_sum 1.5
edgeway_sync_seconds_bucket{le=\"0.001\"} 3
edgeway_sync_seconds_bucket{le=\"+Inf\"} 4
edgeway_plugin_events_total{plugin=\"a\",topic=\"x\"} 5
edgeway_plugin_events_total{plugin=\"b\",topic=\"x\"} 7
edgeway_plugin_events_total{plugin=\"a\",topic=\"y\"} 1
";

    #[test]
    fn samples_are_found_by_name_and_label() {
        assert_eq!(sync_seconds(TEXT).buckets, [(0.001, 3.0), (f64::INFINITY, 4.0)]);
        assert_eq!(sum_with(TEXT, "edgeway_plugin_events_total", "plugin", "a"), Some(6.0));
        assert_eq!(sum_with(TEXT, "edgeway_plugin_events_total", "plugin", "c"), None);
        assert_eq!(sum_with(TEXT, "edgeway_plugin", "plugin", "a"), None);
        assert_eq!(value(TEXT, "edgeway_sync_seconds_sum"), Some(1.5));
        assert_eq!(value(TEXT, "edgeway_sync_seconds"), None);
    }
}
