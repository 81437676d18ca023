//! Why a task did not succeed.

use std::io;
use std::path::PathBuf;

/// A task's failure, as the person at the keyboard needs it.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// A command ended with an error, which it has told itself.
    #[error("`{command}` failed")]
    Command { command: String },
    /// A command could not be started.
    #[error("cannot start `{command}`: {source}")]
    Start { command: String, source: io::Error },
    /// A file or folder could not be read or written.
    #[error("{path}: {source}", path = path.display())]
    File { path: PathBuf, source: io::Error },
    /// The Wasm toolchain is missing and could not be had.
    #[error("{0}")]
    NoToolchain(String),
    /// A built module could not be made a component.
    #[error("{path} cannot be made a component: {reason}", path = path.display())]
    Component { path: PathBuf, reason: String },
    /// A measurement could not be made.
    #[error(transparent)]
    Bench(#[from] crate::bench::BenchError),
}

/// Adds the path to an I/O error.
pub fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> TaskError {
    let path = path.into();
    move |source| TaskError::File { path, source }
}
