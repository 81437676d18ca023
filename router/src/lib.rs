//! The node: a library and the one binary, `edgeway`.

#![cfg_attr(test, allow(clippy::unwrap_used))]

pub mod admin;
pub mod catalog;
pub mod cli;
pub mod clock;
pub mod commands;
pub mod config;
pub mod directory;
pub mod event_log;
pub mod ingest;
pub mod links;
pub mod mqtt;
pub mod node;
pub mod plugin_host;
pub mod quic;
pub mod replication;
pub mod security;
pub mod sessions;
pub mod subscriptions;
pub mod transport;
pub mod twins;
