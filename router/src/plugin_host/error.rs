//! Why the host did not do what it was asked for.

use std::io;

use sled_data::ReadError;

use super::host::PLUGINS_MAX;
use super::manifest::ManifestError;
use crate::event_log::{CommitFailed, TopicError};

/// A plugin that runs.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Deployed {
    /// Its name.
    pub name: String,
    /// SHA-256 of the component, in hexadecimal.
    pub sha256: String,
    /// Whether it took the place of an earlier version.
    pub redeployed: bool,
}

/// Why a plugin is not deployed.
#[derive(Debug, thiserror::Error)]
pub enum DeployError {
    /// The manifest is wrong.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The file is no component.
    #[error("the plugin's file is refused: {0}")]
    Broken(String),
    /// The component is not of world `edgeway:plugin/plugin@1.1.0`.
    #[error("the component does not fit the world `edgeway:plugin/plugin@1.1.0`: {0}")]
    WrongWorld(String),
    /// The component is not of world `edgeway:plugin/command-guard@1.1.0`.
    #[error("the component does not fit the world `edgeway:plugin/command-guard@1.1.0`: {0}")]
    NoGuard(String),
    /// The component speaks another version of the interface.
    #[error(
        "the plugin was built for another version of the plugin interface; build it again with this version's SDK ({0})"
    )]
    OtherVersion(String),
    /// A plugin of another kind has the name.
    #[error("`{0}` is the name of a plugin of another kind; remove that first, or take another name")]
    OtherKind(String),
    /// It needs what the manifest does not grant.
    #[error("a grant is missing: {0}")]
    MissingGrant(String),
    /// It would feed itself.
    #[error("plugins would feed each other for ever: {0}")]
    Loop(String),
    /// Its `init` refuses or fails.
    #[error("the plugin does not start: {0}")]
    Init(String),
    /// There are as many as can be.
    #[error("there are {PLUGINS_MAX} plugins, as many as can be")]
    TooMany,
    /// Its component is not on this node.
    #[error("the plugin's component is not here: {0}")]
    Missing(String),
    /// The node stops.
    #[error("the node is stopping; try again later")]
    Stopping,
    /// A topic could not be made.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// The file could not be kept, or a thread not started.
    #[error("the plugin's file or thread: {0}")]
    Io(#[from] io::Error),
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store did not take it.
    #[error(transparent)]
    Commit(#[from] CommitFailed),
}

impl DeployError {
    /// Whether who deploys can mend it (as opposed to the node's own trouble).
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        let trouble = matches!(self, DeployError::Topic(_) | DeployError::Io(_) | DeployError::Read(_));
        let later = matches!(self, DeployError::Commit(_) | DeployError::Missing(_) | DeployError::Stopping);
        !trouble && !later
    }
}

/// Why a plugin is not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// There is none of that name.
    #[error("there is no plugin `{0}`")]
    Unknown(String),
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store did not take it.
    #[error(transparent)]
    Commit(#[from] CommitFailed),
}

/// Why a plugin is not what was agreed on.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    /// The version that was agreed on does not run here.
    #[error(transparent)]
    Deploy(#[from] DeployError),
    /// It is not removed here.
    #[error(transparent)]
    Remove(#[from] RemoveError),
}

/// Why the host does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its folder or a thread.
    #[error("the plugins' folder or thread: {0}")]
    Io(#[from] io::Error),
    /// The Wasm engine.
    #[error("the Wasm engine: {0}")]
    Engine(String),
    /// The store could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// A record that this node cannot read.
    #[error("plugin `{name}`: {reason}")]
    Record {
        /// The plugin.
        name: String,
        /// What is wrong.
        reason: String,
    },
}
