//! Links on a terminal.

use std::collections::BTreeSet;
use std::io::Write;
use std::time::Duration;

use super::super::Failure;
use super::super::out::Out;
use super::super::table::{Table, bytes, printable};
use super::super::when;
use crate::admin::links::{LinkJson, PluginAnswersJson, SummaryJson, TopicsDownJson};

/// Gaps that are shown at once.
const GAPS_SHOWN: usize = 20;

/// One line a link.
pub(super) fn list(links: &[LinkJson], out: &mut Out<impl Write>) -> Result<(), Failure> {
    if out.is_json() {
        return links.iter().try_for_each(|link| out.object(link));
    }
    let mut table =
        Table::new(&["LINK", "DIRECTION", "STATE", ">WAITING", ">BYTES", ">AGE", ">GAPS", "CONTACT", "REASON"]);
    for link in links {
        table.row([
            link.name.clone(),
            link.direction.clone(),
            link.state.clone(),
            link.lag_events.to_string(),
            bytes(link.lag_bytes),
            age(link),
            link.gaps.len().to_string(),
            contact(link),
            printable(&link.reason),
        ]);
    }
    out.table(&table, "no links; `edgeway link invite` upstream makes a token, `edgeway link accept` takes it")
}

/// All of one.
pub(super) fn show(link: &LinkJson, out: &mut Out<impl Write>) -> Result<(), Failure> {
    if out.is_json() {
        return out.object(link);
    }
    let direction = if link.direction == "up" { "this node feeds another site" } else { "another site feeds this one" };
    out.line(&format!("link       {} ({direction})", link.name))?;
    let reason = if link.reason.is_empty() { String::new() } else { format!(": {}", link.reason) };
    out.line(&printable(&format!("state      {}{reason}", link.state)))?;
    out.line(&format!("address    {}{}", link.address, by(link)))?;
    out.line(&format!("contact    {}", contact(link)))?;
    if let Some(until_s) = link.certificate_until_s {
        let until_ms = i64::try_from(until_s).unwrap_or(i64::MAX).saturating_mul(1_000);
        out.line(&format!("signed     until {}, renewed before that", when::show_ms(until_ms)))?;
    }
    out.line(&format!(
        "waiting    {} events, {}, the oldest for {}",
        link.lag_events,
        bytes(link.lag_bytes),
        age(link)
    ))?;
    out.line(&format!("upstream   {} events, {} since the start", link.events, bytes(link.bytes)))?;
    match link.direction.as_str() {
        "up" => sending(link, out)?,
        _ => out.line(&format!("kept       {} here{}{}", bytes(link.kept_bytes), bound(link), shed(link)))?,
    }
    out.line(&format!("connected  {} times since the start", link.connections))?;
    out.line(&printable(&format!("down       {}", down(link))))?;
    for topics in &link.topics {
        coming(topics, out)?;
    }
    for plugin in &link.plugins {
        out.line(&printable(&format!("plugin     {}: {}", plugin.name, plugin.said.join("; "))))?;
    }
    answers(&link.plugin_answers, out)?;
    for summary in &link.summaries {
        let SummaryJson { topic, plugin, made, upstream, .. } = summary;
        let problem = summary.problem.as_ref().map_or_else(String::new, |problem| format!("; NOT NOW: {problem}"));
        out.line(&printable(&format!(
            "summary    {topic} stays; {made} goes, which {plugin} makes of it, as {upstream}{problem}"
        )))?;
    }
    for refusal in &link.refusals {
        out.line(&printable(&format!("refused    {refusal}")))?;
    }
    later(link, out)?;
    for gap in link.gaps.iter().take(GAPS_SHOWN) {
        let (at, from, to) = (when::show_ms(gap.at_ms), gap.from, gap.to.saturating_sub(1));
        let what = format!("{}/{} (origin {})", gap.topic, gap.partition, gap.origin);
        out.line(&printable(&format!("gap        {at}  {what} offsets {from} to {to} never came: {}", gap.why)))?;
    }
    match link.gaps.len().saturating_sub(GAPS_SHOWN) {
        0 => Ok(()),
        more => out.line(&format!("           and {more} more: --json shows them")),
    }
}

/// The topics that come down.
fn coming(down: &TopicsDownJson, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let reason = if down.reason.is_empty() { String::new() } else { format!(": {}", down.reason) };
    let to = if down.gateway.is_empty() { String::new() } else { format!(" to {}", down.gateway) };
    let allowed = if down.allowed.is_empty() { "nothing".to_owned() } else { down.allowed.join(", ") };
    out.line(&printable(&format!(
        "topics     {}{reason}; upstream allows {allowed}; {} events, {} came down{to}, {} wait, {}{}",
        down.state,
        down.events,
        bytes(down.bytes),
        down.lag_events,
        bytes(down.lag_bytes),
        oldest(down)
    )))?;
    for topic in &down.topics {
        let waiting = topic.waiting_events.map_or_else(String::new, |events| format!(", {events} wait"));
        out.line(&printable(&format!("           {}: {} events{waiting}", topic.name, topic.events)))?;
    }
    for refusal in &down.refusals {
        out.line(&printable(&format!("not taken  {refusal}")))?;
    }
    Ok(())
}

/// Since when the oldest event waits that is to come down.
fn oldest(down: &TopicsDownJson) -> String {
    match down.lag_events {
        0 => String::new(),
        _ => format!(", the oldest for {}", when::show_span(Duration::from_millis(down.lag_ms))),
    }
}

/// What has come of plugins, where there were any.
fn answers(of: &PluginAnswersJson, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let PluginAnswersJson { deployed, removed, refused, later, bytes: sent } = *of;
    if deployed + removed + refused + later + sent == 0 {
        return Ok(());
    }
    let sent = bytes(sent);
    out.line(&format!(
        "plugins    {deployed} deployed, {removed} removed, {refused} refused, {later} not done at once; {sent} of components, since the start"
    ))
}

/// What comes behind what is newer.
fn later(link: &LinkJson, out: &mut Out<impl Write>) -> Result<(), Failure> {
    if link.later.is_empty() {
        return Ok(());
    }
    let shown: u64 = link.later.iter().map(|later| later.to.saturating_sub(later.from)).sum();
    // An older node says no sum.
    let events = link.later_events.max(shown);
    let partitions: BTreeSet<_> =
        link.later.iter().map(|later| (&later.topic, &later.origin, later.partition)).collect();
    let partitions = partitions.len();
    out.line(&format!("later      {events} events of {partitions} partitions come behind what is newer of them"))
}

/// How much the link may keep.
fn bound(link: &LinkJson) -> String {
    link.kept_bytes_max.map_or_else(String::new, |max| format!(", of {} that it may keep", bytes(max)))
}

/// What went as it was more than the link's share of the disk.
fn shed(link: &LinkJson) -> String {
    match link.shed_bytes {
        0 => String::new(),
        shed => format!("; {} more than its share of the disk went since the start, the oldest first", bytes(shed)),
    }
}

/// How fast it is, what of each priority, and the connection.
fn sending(link: &LinkJson, out: &mut Out<impl Write>) -> Result<(), Failure> {
    out.line(&format!(
        "rate       {:.0} events/s, {}/s on the link, {}, {}",
        link.events_per_s,
        bytes(link.sent_bytes_per_s as u64),
        drain(link),
        ratio(link)
    ))?;
    for class in link.classes.iter().filter(|class| class.events + class.lag_events + class.dropped_events > 0) {
        out.line(&format!(
            "{:<10} {} events went in {}, {} wait, the oldest for {}",
            class.priority,
            class.events,
            bytes(class.sent_bytes),
            class.lag_events,
            when::show_span(Duration::from_millis(class.lag_ms))
        ))?;
        if class.dropped_events > 0 {
            out.line(&format!(
                "{:<10} {} events ({}) were too old to be sent",
                "",
                class.dropped_events,
                bytes(class.dropped_bytes)
            ))?;
        }
    }
    match &link.traffic {
        None => Ok(()),
        Some(traffic) => out.line(&format!(
            "packets    {} sent ({}), {} lost, {} received; round trip {:.0} ms",
            traffic.sent,
            bytes(traffic.sent_bytes),
            traffic.lost,
            bytes(traffic.received_bytes),
            traffic.rtt_ms
        )),
    }
}

/// One line of `watch`.
pub(super) fn watched(link: &LinkJson, out: &mut Out<impl Write>) -> Result<(), Failure> {
    if out.is_json() {
        return out.object(link);
    }
    let path = link.traffic.as_ref().map_or_else(String::new, |traffic| {
        let lost = traffic.lost as f64 * 100.0 / traffic.sent.max(1) as f64;
        format!(", round trip {:.0} ms, {lost:.1} % lost", traffic.rtt_ms)
    });
    out.line(&printable(&format!(
        "{}{}  {} wait ({}, {}), {:.0}/s, {}/s, {}, {}{path}",
        link.state,
        by(link),
        link.lag_events,
        bytes(link.lag_bytes),
        age(link),
        link.events_per_s,
        bytes(link.sent_bytes_per_s as u64),
        drain(link),
        ratio(link),
    )))
}

/// What may come down.
fn down(link: &LinkJson) -> String {
    match link.down.as_slice() {
        [] if link.direction == "down" => "nothing, as far as the edge has said".to_owned(),
        [] => "nothing".to_owned(),
        words => words.join(", "),
    }
}

/// By what it goes, where that is not UDP.
fn by(link: &LinkJson) -> &'static str {
    if link.transport == "tcp" { ", by TCP" } else { "" }
}

fn drain(link: &LinkJson) -> String {
    match link.drain_s {
        Some(0.0) => "nothing waits".to_owned(),
        // A year is as good as never.
        Some(seconds) if seconds < 3.2e7 => format!("empty in {}", when::show_span(Duration::from_secs_f64(seconds))),
        _ => "nothing moves".to_owned(),
    }
}

fn ratio(link: &LinkJson) -> String {
    match link.ratio {
        ratio if ratio >= 1.05 => format!("readings are sent {ratio:.1} times smaller"),
        ratio if ratio > 0.0 => "readings are sent no smaller".to_owned(),
        _ => "nothing went yet".to_owned(),
    }
}

fn age(link: &LinkJson) -> String {
    if link.lag_events == 0 { "-".to_owned() } else { when::show_span(Duration::from_millis(link.lag_ms)) }
}

fn contact(link: &LinkJson) -> String {
    link.last_contact_ms.map_or_else(|| "never".to_owned(), when::show_ms)
}
