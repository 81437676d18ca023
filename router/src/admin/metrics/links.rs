//! Figures of links: which stand, how far upstream is behind, what has gone over.

use std::fmt;

use super::sheet::Sheet;
use crate::admin::links::{ClassJson, LinkJson, TrafficJson};

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
    let by_tcp = of(|link| f64::from(u8::from(link.state == "connected" && link.transport == "tcp")));
    sheet.gauges("link_by_tcp", "Whether a link stands by TCP, as UDP does not come through", "link", &by_tcp)?;
    let ends = |link: &LinkJson| Some((link.name.clone(), link.certificate_until_s? as f64));
    let ends = links.iter().filter_map(ends).collect::<Vec<_>>();
    let help = "Until when a link's certificate is good, where it has an end";
    sheet.gauges("link_certificate_end_timestamp_seconds", help, "link", &ends)?;
    let events = of(|link| link.lag_events as f64);
    sheet.gauges("link_lag_events", "Events that are not upstream yet", "link", &events)?;
    let bytes = of(|link| link.lag_bytes as f64);
    sheet.gauges("link_lag_bytes", "Their bytes as they are stored, about", "link", &bytes)?;
    let seconds = of(|link| link.lag_ms as f64 / 1e3);
    sheet.gauges("link_lag_seconds", "Age of the oldest of them", "link", &seconds)?;
    let count = |value: fn(&LinkJson) -> u64| -> Vec<(&str, u64)> {
        links.iter().map(|link| (link.name.as_str(), value(link))).collect()
    };
    let stored = count(|link| link.events);
    sheet.counters("link_events", "Events that were stored upstream, since the start", "link", &stored)?;
    let stored = count(|link| link.bytes);
    sheet.counters("link_bytes", "Bytes of batches that were stored upstream, since the start", "link", &stored)?;
    let again = count(|link| link.again_events);
    let help = "Events that came again and were here already, since the start";
    sheet.counters("link_again_events", help, "link", &again)?;
    let connections = count(|link| link.connections);
    sheet.counters("link_connections", "Connections of a link, since the start", "link", &connections)?;
    let rate = of(|link| link.sent_bytes_per_s);
    sheet.gauges(
        "link_sent_bytes_per_second",
        "Bytes a second that a link brings over, as they are sent",
        "link",
        &rate,
    )?;
    let ratio = of(|link| link.ratio);
    sheet.gauges("link_compression_ratio", "How many times smaller frames are than what they bring", "link", &ratio)?;
    let drain = links.iter().filter_map(|link| Some((link.name.clone(), link.drain_s?))).collect::<Vec<_>>();
    sheet.gauges("link_drain_seconds", "Time until nothing waits, where something moves", "link", &drain)?;
    let traffic = || links.iter().filter_map(|link| Some((link, link.traffic.as_ref()?)));
    let rtt: Vec<_> = traffic().map(|(link, traffic)| (link.name.clone(), traffic.rtt_ms / 1e3)).collect();
    sheet.gauges("link_round_trip_seconds", "The time there and back", "link", &rtt)?;
    let packets = |value: fn(&TrafficJson) -> u64| -> Vec<(&str, u64)> {
        traffic().map(|(link, traffic)| (link.name.as_str(), value(traffic))).collect()
    };
    let sent = packets(|traffic| traffic.sent);
    sheet.counters(
        "link_packets_sent",
        "Packets that the connection has sent; the next one begins anew",
        "link",
        &sent,
    )?;
    let lost = packets(|traffic| traffic.lost);
    sheet.counters("link_packets_lost", "Packets of them that were lost", "link", &lost)?;
    let of_class = |value: fn(&ClassJson) -> u64| -> Vec<([String; 2], u64)> {
        let all = links.iter().flat_map(|link| link.classes.iter().map(move |class| (link, class)));
        all.map(|(link, class)| ([link.name.clone(), class.priority.clone()], value(class))).collect()
    };
    let labels = ["link", "priority"];
    let sent = of_class(|class| class.sent_bytes);
    sheet.counters_by("link_class_sent_bytes", "Bytes of frames that brought over what is stored", labels, &sent)?;
    let waiting = of_class(|class| class.lag_events);
    let waiting: Vec<_> = waiting.into_iter().map(|(of, events)| (of, events as f64)).collect();
    sheet.gauges_by("link_class_lag_events", "Events of a priority that are not upstream yet", labels, &waiting)?;
    let dropped = of_class(|class| class.dropped_events);
    let help = "Events that were not sent, as they were older than their deadline, since the start";
    sheet.counters_by("link_class_dropped_events", help, labels, &dropped)?;
    let dropped = of_class(|class| class.dropped_bytes);
    let help = "Bytes of their batches as they are stored, about";
    sheet.counters_by("link_class_dropped_bytes", help, labels, &dropped)?;
    let later = of(|link| link.later_events as f64);
    sheet.gauges("link_later_events", "Events that come behind what is newer of their partitions", "link", &later)?;
    let gaps = of(|link| link.gaps.len() as f64);
    sheet.gauges("link_gaps", "Ranges of events that never came", "link", &gaps)?;
    let missing = links.iter().flat_map(|link| {
        // What is to come later is no gap.
        let all = sled_data::HoleWhy::ALL.into_iter().filter(|why| *why != sled_data::HoleWhy::Later);
        all.map(move |why| {
            let gaps = link.gaps.iter().filter(|gap| gap.why == why.name());
            let events: u64 = gaps.map(|gap| gap.to - gap.from).sum();
            ([link.name.clone(), why.name().to_owned()], events as f64)
        })
    });
    let missing: Vec<_> = missing.collect();
    sheet.gauges_by("link_gap_events", "Events in these ranges, by why they never came", ["link", "why"], &missing)
}
