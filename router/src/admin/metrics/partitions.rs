//! Figures of each origin's partitions: where they end here, and how far those are behind who follow them. Both are bounded.

use std::cmp::Reverse;
use std::fmt;

use super::sheet::Sheet;
use crate::admin::site::{FollowerView, LagView, OriginView, PartitionView, SiteView};

/// Partitions whose ends are shown; those of internal topics are not.
pub(super) const PARTITIONS_MAX: usize = 256;
/// Lags that are shown, the greatest first.
pub(super) const LAGS_MAX: usize = 64;
/// A lag is shown when the first event that a follower lacks is as old as this: what is on its way under load is no lag.
const LAG_MS_MIN: u64 = 1_000;

type Ends<'a> = (&'a OriginView, &'a PartitionView);
type Lagging<'a> = (&'a OriginView, &'a FollowerView, &'a LagView);

/// Where partitions end, and who is behind with which.
pub(super) fn write(site: &SiteView, sheet: &mut Sheet<'_>) -> fmt::Result {
    write_ends(site, sheet)?;
    write_lags(site, sheet)
}

fn is_shown(topic: &str) -> bool {
    !topic.starts_with('_')
}

fn write_ends(site: &SiteView, sheet: &mut Sheet<'_>) -> fmt::Result {
    let all = site.origins.iter().flat_map(|origin| origin.partitions.iter().map(move |partition| (origin, partition)));
    let mut found: Vec<Ends<'_>> = all.filter(|(_, of)| is_shown(&of.topic) && of.end > 0).collect();
    let left_out = found.len().saturating_sub(PARTITIONS_MAX);
    found.truncate(PARTITIONS_MAX);
    let ends = |value: fn(&PartitionView) -> u64| -> Vec<([String; 3], f64)> {
        let label = |(origin, of): &Ends<'_>| [origin.origin.clone(), of.topic.clone(), of.partition.to_string()];
        found.iter().map(|ends| (label(ends), value(ends.1) as f64)).collect()
    };
    let labels = ["origin", "topic", "partition"];
    let end = ends(|of| of.end);
    sheet.gauges_by("site_partition_end", "The offset of a partition's next event", labels, &end)?;
    let synced = ends(|of| of.synced_end);
    sheet.gauges_by("site_partition_synced_end", "Up to where a partition is synced here", labels, &synced)?;
    let visible = ends(|of| of.visible_end);
    sheet.gauges_by("site_partition_visible_end", "Up to where readers may see", labels, &visible)?;
    sheet.gauge(
        "site_partitions_left_out",
        "Partitions whose ends are not shown, as there are too many",
        left_out as u64,
    )
}

fn write_lags(site: &SiteView, sheet: &mut Sheet<'_>) -> fmt::Result {
    let of_origin = |origin| lags_of(origin).into_iter();
    let mut found: Vec<Lagging<'_>> = site.origins.iter().flat_map(of_origin).collect();
    found.retain(|(_, _, lag)| is_shown(&lag.topic) && lag.lag_ms >= LAG_MS_MIN);
    found.sort_by_key(|(_, _, lag)| Reverse(lag.lag_events));
    let left_out = found.len().saturating_sub(LAGS_MAX);
    found.truncate(LAGS_MAX);
    let lags = |value: fn(&LagView) -> f64| -> Vec<([String; 4], f64)> {
        let label = |(origin, follower, lag): &Lagging<'_>| {
            [follower.node.clone(), origin.origin.clone(), lag.topic.clone(), lag.partition.to_string()]
        };
        found.iter().map(|lagging| (label(lagging), value(lagging.2))).collect()
    };
    let labels = ["node", "origin", "topic", "partition"];
    let events = lags(|lag| lag.lag_events as f64);
    let help = "Events of a partition that a follower has not synced; of those that are behind for a second and more";
    sheet.gauges_by("site_follower_partition_lag_events", help, labels, &events)?;
    let bytes = lags(|lag| lag.lag_bytes as f64);
    sheet.gauges_by("site_follower_partition_lag_bytes", "Their bytes as they are stored, about", labels, &bytes)?;
    let seconds = lags(|lag| lag.lag_ms as f64 / 1e3);
    let help = "Since when the first of them is written";
    sheet.gauges_by("site_follower_partition_lag_seconds", help, labels, &seconds)?;
    sheet.gauge("site_follower_partitions_left_out", "Such lags that are not shown, the smaller ones", left_out as u64)
}

fn lags_of(origin: &OriginView) -> Vec<Lagging<'_>> {
    let of = |follower: &'_ FollowerView| follower.partitions.len();
    let mut found = Vec::with_capacity(origin.followers.iter().map(of).sum());
    for follower in &origin.followers {
        found.extend(follower.partitions.iter().map(|lag| (origin, follower, lag)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::Metrics;
    use super::*;
    use crate::admin::site::{CatalogView, QuorumView};

    fn lag(partition: u32, lag_events: u64, lag_ms: u64) -> LagView {
        LagView { topic: "line".into(), partition, next: 5, lag_events, lag_bytes: lag_events * 100, lag_ms }
    }

    fn site(partitions: u32, lags: Vec<LagView>) -> SiteView {
        let partition = |topic: &str, partition| PartitionView {
            topic: topic.into(),
            partition,
            start: 0,
            end: 9,
            synced_end: 8,
            visible_end: 7,
            gaps: Vec::new(),
        };
        let mut all: Vec<PartitionView> = (0..partitions).map(|index| partition("line", index)).collect();
        all.push(partition("_audit", 0));
        let follower = FollowerView { node: "n2".into(), told: true, partitions: lags, ..FollowerView::default() };
        let origin = OriginView {
            origin: "aa".into(),
            node: Some("n1".into()),
            own: true,
            commit: 3,
            behind_commits: None,
            following: "own".into(),
            whole: true,
            read_by: None,
            partitions: all,
            followers: vec![follower],
        };
        SiteView {
            id: "1".into(),
            name: "plant".into(),
            lease: "run".into(),
            node: "n1".into(),
            certified: true,
            catalog: CatalogView::default(),
            quorum: QuorumView::default(),
            nodes: Vec::new(),
            origins: vec![origin],
            bounds: Vec::new(),
            troubles: Vec::new(),
        }
    }

    fn shown(site: SiteView) -> String {
        let mut metrics = Metrics::default();
        metrics.add("partitions", move |sheet| write(&site, sheet));
        super::super::tests::text(&metrics)
    }

    #[test]
    fn ends_and_lags_are_shown_by_partition() {
        let internal = LagView { topic: "_audit".into(), ..lag(0, 70, 9_000) };
        let text = shown(site(2, vec![lag(1, 40, 2_500), lag(0, 3, 999), internal]));
        let of = "origin=\"aa\",topic=\"line\",partition=\"1\"} ";
        for line in [
            format!("edgeway_site_partition_end{{{of}9.0"),
            format!("edgeway_site_partition_synced_end{{{of}8.0"),
            format!("edgeway_site_partition_visible_end{{{of}7.0"),
            format!("edgeway_site_follower_partition_lag_events{{node=\"n2\",{of}40.0"),
            format!("edgeway_site_follower_partition_lag_bytes{{node=\"n2\",{of}4000.0"),
            format!("edgeway_site_follower_partition_lag_seconds{{node=\"n2\",{of}2.5"),
            "edgeway_site_partitions_left_out 0".to_owned(),
            "edgeway_site_follower_partitions_left_out 0".to_owned(),
        ] {
            assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
        }
        assert!(!text.contains("_audit"), "internal topics are not shown: {text}");
        let lags = text.lines().filter(|line| line.starts_with("edgeway_site_follower_partition_lag_events{")).count();
        assert_eq!(lags, 1, "what is on its way is no lag: {text}");
    }

    #[test]
    fn there_are_so_many_series_and_no_more() {
        let lags = (0..100).map(|index| lag(index, u64::from(index) + 1, 1_000)).collect();
        let text = shown(site(300, lags));
        let count = |name: &str| text.lines().filter(|line| line.starts_with(&format!("edgeway_{name}{{"))).count();
        assert_eq!(
            (count("site_partition_end"), count("site_follower_partition_lag_events")),
            (PARTITIONS_MAX, LAGS_MAX)
        );
        assert!(text.contains("edgeway_site_partitions_left_out 44\n"), "{text}");
        assert!(text.contains("edgeway_site_follower_partitions_left_out 36\n"), "{text}");
        assert!(text.contains("partition=\"99\"} 100.0\n"), "the greatest are shown: {text}");
    }
}
