//! The QUIC door: one UDP port, on which the application protocol (ALPN) says what a connection speaks.
//!
//! `mqtt` is MQTT over the one two-way stream that the client opens, with the session code of the TCP door.
//! `edgeway/1` is the native protocol, see [`devices::native`]; `native` speaks it.
//! `listener` takes connections, `admission` decides which, `connection` sees one through to its end.

mod admission;
mod config;
mod connection;
mod listener;
mod native;
mod stats;
#[cfg(test)]
mod tests;

pub use config::Config;
pub use connection::MQTT;
pub use listener::{Listener, StartError};
pub use native::Native;
pub use stats::Stats;
