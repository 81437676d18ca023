//! Figures of the QUIC door.

use std::fmt;

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
    sheet.counters("quic_refused", "QUIC connections that were refused", "reason", &refused)
}
