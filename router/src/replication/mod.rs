//! A site's nodes and one another: how one joins, and the connections between them.

mod config;
pub mod join;
pub mod peers;

use std::future::Future;
use std::pin::Pin;

pub use config::Config;
pub use peers::{MEMBERS_MAX, Member};

/// An answer that is on its way.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The program's version, as it is told to others.
pub const PROGRAM: &str = env!("CARGO_PKG_VERSION");
