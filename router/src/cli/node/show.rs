//! The site on a terminal: its nodes, and what is wrong.

use std::io::Write;
use std::time::Duration;

use super::super::Failure;
use super::super::out::Out;
use super::super::table::{Table, printable};
use super::super::when;
use super::logs;
use crate::admin::site::{NodeView, SiteView};

/// One line a node.
pub(super) fn list(site: &SiteView, out: &mut Out<impl Write>) -> Result<(), Failure> {
    if out.is_json() {
        return site.nodes.iter().try_for_each(|node| out.object(node));
    }
    out.raw(nodes(site).as_bytes())
}

/// All that the node knows of its site.
pub(super) fn status(site: &SiteView, all_partitions: bool, out: &mut Out<impl Write>) -> Result<(), Failure> {
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
    // Before the logs, which may be screens of them.
    if !site.troubles.is_empty() {
        out.line("")?;
    }
    for trouble in &site.troubles {
        let at = when::show_ms(trouble.at_ms);
        out.line(&printable(&format!("{at}  {}: {}", trouble.code, trouble.text)))?;
    }
    for origin in &site.origins {
        out.line("")?;
        out.raw(logs::log(origin, all_partitions).as_bytes())?;
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
