//! Figures of what comes down links, and of what a link keeps of the disk.

use std::fmt;

use super::sheet::Sheet;
use crate::admin::links::{LinkJson, PluginAnswersJson, TopicsDownJson};
use crate::links::plugins::DownState;

/// A figure: its name, what it says, and its value.
type Figure = (&'static str, &'static str, fn(&TopicsDownJson) -> f64);
/// One that only rises.
type Count = (&'static str, &'static str, fn(&TopicsDownJson) -> u64);
/// What was answered, by its name, and how often.
type Answered = (&'static str, fn(&PluginAnswersJson) -> u64);

/// Each link by its name; what goes down upstream by its gateways as well, whose name is empty at the edge.
pub(super) fn write(links: &[LinkJson], sheet: &mut Sheet<'_>) -> fmt::Result {
    if links.is_empty() {
        return Ok(());
    }
    topics(links, sheet)?;
    plugins(links, sheet)?;
    kept(links, sheet)
}

fn topics(links: &[LinkJson], sheet: &mut Sheet<'_>) -> fmt::Result {
    let all = || links.iter().flat_map(|link| link.topics.iter().map(move |of| (link, of)));
    let figures: [Figure; 5] = [
        ("link_down_connected", "Whether topics come down a link", |of| f64::from(u8::from(of.state == "connected"))),
        ("link_down_lag_events", "Events that are to come down and are not at the edge yet", |of| of.lag_events as f64),
        ("link_down_lag_bytes", "Their bytes as they are stored, about", |of| of.lag_bytes as f64),
        ("link_down_lag_seconds", "Age of the oldest of them", |of| of.lag_ms as f64 / 1e3),
        ("link_down_refusals", "Reasons why something does not come down, since the start", |of| {
            of.refusals.len() as f64
        }),
    ];
    for (name, help, value) in figures {
        let all: Vec<_> = all().map(|(link, of)| ([link.name.clone(), of.gateway.clone()], value(of))).collect();
        sheet.gauges_by(name, help, ["link", "gateway"], &all)?;
    }
    let counts: [Count; 2] = [
        ("link_down_events", "Events that came down and were stored, since the start", |of| of.events),
        ("link_down_bytes", "Bytes of their batches", |of| of.bytes),
    ];
    for (name, help, value) in counts {
        let all: Vec<_> = all().map(|(link, of)| ([link.name.clone(), of.gateway.clone()], value(of))).collect();
        sheet.counters_by(name, help, ["link", "gateway"], &all)?;
    }
    Ok(())
}

fn plugins(links: &[LinkJson], sheet: &mut Sheet<'_>) -> fmt::Result {
    let of_state = |link: &LinkJson, state: &'static str| {
        let count = link.plugins.iter().filter(|plugin| plugin.state == state).count();
        ([link.name.clone(), state.to_owned()], count as f64)
    };
    let of_link = |link| DownState::ALL.map(|state| of_state(link, state.as_str()));
    let all: Vec<_> = links.iter().flat_map(of_link).collect();
    sheet.gauges_by("link_plugins", "Plugins that go down a link, by how they stand", ["link", "state"], &all)?;
    let outcomes: [Answered; 4] = [
        ("deployed", |of| of.deployed),
        ("removed", |of| of.removed),
        ("refused", |of| of.refused),
        ("later", |of| of.later),
    ];
    let answers = |link: &LinkJson| {
        outcomes.map(|(outcome, value)| ([link.name.clone(), outcome.to_owned()], value(&link.plugin_answers)))
    };
    let all: Vec<_> = links.iter().flat_map(answers).collect();
    let help = "What was said of plugins that go down a link, since the start";
    sheet.counters_by("link_plugin_answers", help, ["link", "outcome"], &all)?;
    let bytes: Vec<_> = links.iter().map(|link| (link.name.as_str(), link.plugin_answers.bytes)).collect();
    sheet.counters("link_plugin_bytes", "Bytes of components that went down, since the start", "link", &bytes)
}

/// Upstream alone.
fn kept(links: &[LinkJson], sheet: &mut Sheet<'_>) -> fmt::Result {
    let fed = || links.iter().filter(|link| link.direction == "down");
    let of = |value: fn(&LinkJson) -> Option<u64>| -> Vec<(String, f64)> {
        fed().filter_map(|link| Some((link.name.clone(), value(link)? as f64))).collect()
    };
    let kept = of(|link| Some(link.kept_bytes));
    sheet.gauges("link_kept_bytes", "Bytes of batches that are kept of what a link brought", "link", &kept)?;
    let bound = of(|link| link.kept_bytes_max);
    sheet.gauges("link_kept_bytes_max", "How many it may keep, where there is a bound", "link", &bound)?;
    let shed: Vec<_> = fed().map(|link| (link.name.as_str(), link.shed_bytes)).collect();
    sheet.counters("link_shed_bytes", "Bytes that went as they were more than that, since the start", "link", &shed)
}
