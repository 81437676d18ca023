//! Why a measurement could not be made.

use std::io;
use std::time::Duration;

/// A measurement's failure.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// A command line that cannot be understood.
    #[error("{0}")]
    Usage(String),
    /// A file, process or socket failed.
    #[error("{what}: {source}")]
    Io { what: String, source: io::Error },
    /// The other side sent what MQTT does not allow there.
    #[error("the broker sent {0}")]
    Protocol(&'static str),
    /// The other side closed a connection.
    #[error("the broker closed the connection")]
    Closed,
    /// Nothing happened for too long.
    #[error("{what} took longer than {limit:?}")]
    Timeout { what: String, limit: Duration },
    /// A program that was started ended with an error.
    #[error("{0}")]
    Program(String),
}

/// Says what was being done when an I/O error came.
pub fn io(what: impl Into<String>) -> impl FnOnce(io::Error) -> BenchError {
    let what = what.into();
    move |source| BenchError::Io { what, source }
}
