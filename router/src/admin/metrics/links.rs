//! Figures of links: which stand, how far upstream is behind, what has gone over.

use std::fmt;

use super::sheet::Sheet;
use crate::admin::links::LinkJson;

/// Each link by its name.
pub(super) fn write(links: &[LinkJson], sheet: &mut Sheet<'_>) -> fmt::Result {
    if links.is_empty() {
        return Ok(());
    }
    let of = |value: fn(&LinkJson) -> f64| -> Vec<(String, f64)> {
        links.iter().map(|link| (link.name.clone(), value(link))).collect()
    };
    let connected = of(|link| f64::from(u8::from(link.state == "connected")));
    sheet.gauges("link_connected", "Whether a link stands", "link", &connected)?;
    let events = of(|link| link.lag_events as f64);
    sheet.gauges("link_lag_events", "Events that are not upstream yet", "link", &events)?;
    let bytes = of(|link| link.lag_bytes as f64);
    sheet.gauges("link_lag_bytes", "Their bytes as they are stored, about", "link", &bytes)?;
    let seconds = of(|link| link.lag_ms as f64 / 1e3);
    sheet.gauges("link_lag_seconds", "Age of the oldest of them", "link", &seconds)?;
    let stored = of(|link| link.events as f64);
    sheet.gauges("link_events", "Events that were stored upstream, since the start", "link", &stored)?;
    let stored = of(|link| link.bytes as f64);
    sheet.gauges("link_bytes", "Bytes of batches that were stored upstream, since the start", "link", &stored)?;
    let connections = of(|link| link.connections as f64);
    sheet.gauges("link_connections", "Connections of a link, since the start", "link", &connections)?;
    let gaps = of(|link| link.gaps.len() as f64);
    sheet.gauges("link_gaps", "Ranges of events that never came", "link", &gaps)
}
