//! Figures of the QUIC door.

use std::fmt;

use devices::native::Close;

use super::sheet::{Sheet, read};
use crate::quic::Stats;

/// Connections, and what was refused for which reason.
pub(super) fn write(stats: &Stats, sheet: &mut Sheet<'_>) -> fmt::Result {
    sheet.gauge("quic_connections", "QUIC connections that are open", stats.live())?;
    sheet.counter("quic_connected", "QUIC handshakes that ended well", read(&stats.connected))?;
    sheet.counter("quic_retried", "QUIC clients asked to prove their address first", read(&stats.retried))?;
    let refused = [
        ("too_many", read(&stats.refused_too_many)),
        ("protocol", read(&stats.refused_protocol)),
        ("handshake", read(&stats.refused_handshake)),
        ("no_stream", read(&stats.refused_no_stream)),
    ];
    sheet.counters("quic_refused", "QUIC connections that were refused", "reason", &refused)?;
    let closed = Close::ALL.map(|code| (name(code), read(&stats.closed[code as usize])));
    sheet.counters("quic_closed", "QUIC connections that the node closed", "reason", &closed)?;
    let reset = read(&stats.lanes_reset);
    sheet.counter("quic_lanes_reset", "Lanes that were reset because the store took nothing", reset)?;
    sheet.counter("quic_datagrams", "Datagrams that were taken", read(&stats.datagrams))?;
    let dropped = read(&stats.datagrams_dropped);
    sheet.counter("quic_datagrams_dropped", "Datagrams that could not be taken", dropped)?;
    let left_out = read(&stats.events_left_out);
    sheet.counter("quic_events_left_out", "Events not sent to subscribers: too large for a frame", left_out)
}

fn name(code: Close) -> &'static str {
    match code {
        Close::Ended => "ended",
        Close::NoStream => "no_stream",
        Close::Stopping => "stopping",
        Close::UnknownProtocol => "unknown_protocol",
        Close::Malformed => "malformed",
        Close::TooLarge => "too_large",
        Close::OutOfPlace => "out_of_place",
        Close::TooMuch => "too_much",
        Close::TakenOver => "taken_over",
        Close::NotAllowed => "not_allowed",
        Close::NotReading => "not_reading",
        Close::Busy => "busy",
    }
}
