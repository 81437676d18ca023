//! The HTTP API and the metrics' face; the CLI speaks to it.
//!
//! One listener, on loopback unless told otherwise. `/healthz`, `/readyz` and `/metrics` are open;
//! everything under `/v1` asks for the token. `guard` decides who may call, `server` owns the
//! sockets; each group of calls is a router of its own with the one room that it speaks for.

pub mod body;
mod config;
mod error;
mod guard;
mod health;
mod server;
mod token;

pub mod metrics;

pub use config::Config;
pub use error::ApiError;
pub use health::{Readiness, State, routes as health_routes};
pub use server::{ADDR_FILE, Server, StartError};
pub use token::{Token, TokenError, read as read_token};
