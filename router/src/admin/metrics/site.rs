//! Figures of the site: who is heard, how far each origin is here, how far followers are behind.

use std::fmt;

use super::sheet::Sheet;
use crate::admin::site::{BoundView, FollowerView, NodeView, SiteView};

/// Which nodes are heard, the quorum, and the lag of those who follow this node.
pub(super) fn write(site: &SiteView, sheet: &mut Sheet<'_>) -> fmt::Result {
    let quorum = &site.quorum;
    sheet.gauge("site_voters", "Nodes of the site that vote", quorum.voters)?;
    sheet.gauge("site_voters_heard", "Voters that are heard and follow this node, itself counted", quorum.heard)?;
    sheet.gauge("site_quorum_in_reach", "Whether events of quorum topics are taken", u64::from(quorum.in_reach))?;
    let heard = |connected: bool| f64::from(u8::from(connected));
    let peers: Vec<(String, f64)> =
        site.nodes.iter().filter(|node| !node.is_self).map(|node| (node.name.clone(), heard(node.connected))).collect();
    sheet.gauges("site_peer_connected", "Whether another node is heard", "node", &peers)?;
    let clock = |node: &NodeView| Some((node.name.clone(), node.clock_ahead_ms? as f64 / 1e3));
    let clocks: Vec<(String, f64)> = site.nodes.iter().filter_map(clock).collect();
    sheet.gauges(
        "site_clock_ahead_seconds",
        "By how much another node's wall clock is ahead of this one's, as it was heard last",
        "node",
        &clocks,
    )?;
    let commits: Vec<(String, f64)> =
        site.origins.iter().map(|origin| (origin.origin.clone(), origin.commit as f64)).collect();
    sheet.gauges("site_origin_commit", "Newest commit of an origin that is synced here", "origin", &commits)?;
    let own = site.origins.iter().filter(|origin| origin.own).flat_map(|origin| &origin.followers);
    let own: Vec<&FollowerView> = own.filter(|follower| follower.told).collect();
    let of = |value: fn(&FollowerView) -> f64| -> Vec<(String, f64)> {
        own.iter().map(|follower| (follower.node.clone(), value(follower))).collect()
    };
    let events = of(|follower| follower.lag_events as f64);
    sheet.gauges("site_follower_lag_events", "Events of this node that a follower has not synced", "node", &events)?;
    let bytes = of(|follower| follower.lag_bytes as f64);
    sheet.gauges("site_follower_lag_bytes", "Their bytes as they are stored, about", "node", &bytes)?;
    let seconds = of(|follower| follower.lag_ms as f64 / 1e3);
    sheet.gauges(
        "site_follower_lag_seconds",
        "Since when the first commit is written that a follower has not synced",
        "node",
        &seconds,
    )?;
    sheet.gauge("site_level", "The level at which the site works", u64::from(site.catalog.level))?;
    let of_bounds = |value: fn(&BoundView) -> u64| -> Vec<(String, f64)> {
        site.bounds.iter().map(|bound| (bound.what.clone(), value(bound) as f64)).collect()
    };
    let (used, max) = (of_bounds(|bound| bound.used), of_bounds(|bound| bound.max));
    sheet.gauges("site_bound_used", "How many there are of what grows up to a bound", "what", &used)?;
    sheet.gauges("site_bound_max", "How many there may be", "what", &max)?;
    let gaps = || site.origins.iter().flat_map(|origin| &origin.partitions).flat_map(|partition| &partition.gaps);
    sheet.gauge("site_gaps", "Gaps in others' logs as they are kept here", gaps().count() as u64)?;
    let missing = gaps().map(|gap| gap.to - gap.from).sum();
    sheet.gauge("site_gap_events", "Events in these gaps", missing)?;
    sheet.gauge(
        "site_troubles",
        "What people should know of; `edgeway node status` tells it",
        site.troubles.len() as u64,
    )
}
