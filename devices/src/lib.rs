//! The device side and the words both sides speak.
//!
//! Without features this crate is the pure protocol: reserved header names, a device's own numbers, the native
//! protocol's frames, command identity, wire topics, step events and the state machine of a command, device twins.
//! Nothing in it opens a socket, reads a clock or draws a random number. Feature `client` adds the device client over
//! MQTT, `tls` trust in a node's certificate, `quic` the client over QUIC, `fleet` the simulated fleet that is built
//! on it.
#![cfg_attr(test, allow(clippy::unwrap_used))]

#[cfg(feature = "client")]
pub mod client;
pub mod command;
#[cfg(feature = "quic")]
pub mod congestion;
#[cfg(feature = "fleet")]
pub mod fleet;
pub mod headers;
pub mod native;
pub mod sequence;
pub mod stamp;
#[cfg(feature = "tls")]
pub mod trust;
pub mod twin;
