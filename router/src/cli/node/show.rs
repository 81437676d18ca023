//! The site on a terminal: its nodes, and how far each origin's log is on each of them.

use std::io::Write;
use std::time::Duration;

use super::super::Failure;
use super::super::out::Out;
use super::super::table::{Table, bytes, printable};
use super::super::when;
use crate::admin::site::{GapView, NodeView, OriginView, PartitionView, SiteView};

/// One line a node.
pub(super) fn list(site: &SiteView, out: &mut Out<impl Write>) -> Result<(), Failure> {
    if out.is_json() {
        return site.nodes.iter().try_for_each(|node| out.object(node));
    }
    out.raw(nodes(site).as_bytes())
}

/// All that the node knows of its site.
pub(super) fn status(site: &SiteView, out: &mut Out<impl Write>) -> Result<(), Failure> {
    if out.is_json() {
        return out.object(site);
    }
    let quorum = &site.quorum;
    let reach = if quorum.in_reach { "in reach" } else { "OUT OF REACH: events of quorum topics are refused" };
    let leader = site.catalog.leader.as_deref().unwrap_or("none: changes wait for a majority");
    out.line(&format!("site      {} ({})", site.name, site.id))?;
    out.line(&format!("leader    {leader}"))?;
    out.line(&format!("level     {}", level(site)))?;
    out.line(&format!("cut off   plugins {}", site.lease))?;
    out.line(&format!("quorum    {} of {} voters, {} heard, {reach}", quorum.needed, quorum.voters, quorum.heard))?;
    out.line("")?;
    out.raw(nodes(site).as_bytes())?;
    for origin in &site.origins {
        out.line("")?;
        out.line(&headline(origin))?;
        out.raw(followers(origin).as_bytes())?;
        out.raw(partitions(origin).as_bytes())?;
        for line in gaps(origin) {
            out.line(&line)?;
        }
    }
    for trouble in &site.troubles {
        let at = when::show_ms(trouble.at_ms);
        out.line(&printable(&format!("{at}  {}: {}", trouble.code, trouble.text)))?;
    }
    Ok(())
}

/// The level of the site, and who holds it up where this node could do more.
fn level(site: &SiteView) -> String {
    let level = site.catalog.level;
    let own = site.nodes.iter().find(|node| node.is_self).and_then(|node| node.level_max).unwrap_or(level);
    if own <= level {
        return level.to_string();
    }
    let is_behind = |node: &&NodeView| !node.is_self && (!node.connected || node.level_max < Some(own));
    let why = |node: &NodeView| match node.level_max.filter(|_| node.connected) {
        Some(max) => format!("{} knows {max}", node.name),
        None => format!("{} is not there", node.name),
    };
    let behind: Vec<String> = site.nodes.iter().filter(is_behind).map(why).collect();
    format!("{level}; {own} when all nodes are there and know it ({})", behind.join(", "))
}

fn nodes(site: &SiteView) -> String {
    let mut table = Table::new(&["NAME", "NODE", "ADDRESS", "VOTES", "STATE", "HEARD", ">RTT", "VERSION", "PROBLEM"]);
    let mut by_name: Vec<&NodeView> = site.nodes.iter().collect();
    by_name.sort_by(|a, b| a.name.cmp(&b.name));
    for node in by_name {
        table.row([
            node.name.clone(),
            node.node.clone(),
            node.address.clone(),
            if node.voter { "yes" } else { "no" }.to_owned(),
            node.state.clone(),
            heard(node),
            node.rtt_ms.map_or_else(String::new, |ms| format!("{ms:.1} ms")),
            node.version.clone().unwrap_or_default(),
            node.problem.clone().unwrap_or_default(),
        ]);
    }
    table.render()
}

fn heard(node: &NodeView) -> String {
    let ago = node.heard_ms.map(|ms| when::show_span(Duration::from_millis(ms)));
    match (node.is_self, node.connected, ago) {
        (true, ..) => "this node".to_owned(),
        (false, true, _) => "yes".to_owned(),
        (false, false, Some(ago)) => format!("no, for {ago}"),
        (false, false, None) => "never".to_owned(),
    }
}

fn headline(origin: &OriginView) -> String {
    let of = origin.node.as_deref().unwrap_or("an earlier life, or a node that is gone");
    let whole = if origin.whole { "" } else { ", not whole yet" };
    let taken = origin.read_by.as_ref().map_or_else(String::new, |node| format!(", worked on by {node}"));
    format!("origin {} ({of}): commit {}, {}{whole}{taken}", origin.origin, origin.commit, origin.following)
}

fn followers(origin: &OriginView) -> String {
    if origin.followers.is_empty() {
        return String::new();
    }
    let mut table = Table::new(&["  FOLLOWER", ">COMMIT", ">BEHIND", ">EVENTS", ">BYTES", ">TIME", "STREAM"]);
    for follower in &origin.followers {
        table.row([
            format!("  {}", follower.node),
            follower.commit.to_string(),
            follower.lag_commits.to_string(),
            follower.lag_events.to_string(),
            bytes(follower.lag_bytes),
            when::show_span(Duration::from_millis(follower.lag_ms)),
            if follower.connected { "open" } else { "closed" }.to_owned(),
        ]);
    }
    table.render()
}

fn gaps(origin: &OriginView) -> Vec<String> {
    let line = |partition: &PartitionView, gap: &GapView| {
        let at = when::show_ms(gap.at_ms);
        let place = printable(&format!("{}/{}", partition.topic, partition.partition));
        format!("  gap in {place}: {}..{}: {} ({at})", gap.from, gap.to, printable(&gap.why))
    };
    let of = |partition: &PartitionView| partition.gaps.iter().map(|gap| line(partition, gap)).collect::<Vec<_>>();
    origin.partitions.iter().flat_map(of).collect()
}

fn partitions(origin: &OriginView) -> String {
    let shown = origin.partitions.iter().filter(|partition| !partition.topic.starts_with('_') && partition.end > 0);
    let mut table = Table::new(&["  TOPIC", ">PARTITION", ">START", ">END", ">VISIBLE"]);
    for partition in shown {
        table.row([
            format!("  {}", partition.topic),
            partition.partition.to_string(),
            partition.start.to_string(),
            partition.end.to_string(),
            partition.visible_end.to_string(),
        ]);
    }
    if table.is_empty() { String::new() } else { table.render() }
}
