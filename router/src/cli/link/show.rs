//! Links on a terminal.

use std::io::Write;
use std::time::Duration;

use super::super::Failure;
use super::super::out::Out;
use super::super::table::{Table, bytes, printable};
use super::super::when;
use crate::admin::links::LinkJson;

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
    out.line(&format!("address    {}", link.address))?;
    out.line(&format!("contact    {}", contact(link)))?;
    out.line(&format!(
        "waiting    {} events, {}, the oldest for {}",
        link.lag_events,
        bytes(link.lag_bytes),
        age(link)
    ))?;
    out.line(&format!("upstream   {} events, {} since the start", link.events, bytes(link.bytes)))?;
    out.line(&format!("connected  {} times since the start", link.connections))?;
    for refusal in &link.refusals {
        out.line(&printable(&format!("refused    {refusal}")))?;
    }
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

fn age(link: &LinkJson) -> String {
    if link.lag_events == 0 { "-".to_owned() } else { when::show_span(Duration::from_millis(link.lag_ms)) }
}

fn contact(link: &LinkJson) -> String {
    link.last_contact_ms.map_or_else(|| "never".to_owned(), when::show_ms)
}
