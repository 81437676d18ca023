//! The HTTP API and the metrics' face; the CLI speaks to it.
//!
//! One listener, on loopback unless told otherwise. `/healthz`, `/readyz` and `/metrics` are open;
//! everything under `/v1` asks for the token. `guard` decides who may call, `server` owns the
//! sockets; each group of calls is a router of its own with the one room that it speaks for.

mod blocking;
mod body;
mod commands;
mod config;
mod detail;
mod error;
mod event_json;
mod events;
mod guard;
mod health;
mod jobs;
mod ndjson;
mod plugins;
mod rooms;
mod server;
mod tail;
mod token;
mod topics;

pub mod devices;
pub mod links;
pub mod metrics;
pub mod routes;
pub mod site;
pub mod status;
pub mod store;
pub mod twins;
pub mod wire;

pub use commands::WAIT_MS_MAX;
pub use config::Config;
pub use error::ApiError;
pub use health::{Readiness, State, routes as health_routes};
pub use plugins::{Deploy, GrantChange, GrantSet};
pub use rooms::Rooms;
pub use server::{ADDR_FILE, Server, StartError};
pub use status::{Identity, SecureDoors};
pub use token::{Token, TokenError, read as read_token};
