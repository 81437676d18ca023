//! Adds, tags and removes devices: what people set changes in the catalog, what was seen is forgotten in the sessions.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::json;
use sled_data::ReadError as StoreError;

use super::Directory;
use crate::catalog::{Applied, Change, KnownBy, Refusal};
use crate::event_log::Act;
use crate::sessions::Forgotten;

/// What became of a device that was removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Removed {
    /// It was in the catalog, and is no more.
    pub removed: bool,
    /// What was seen of it is forgotten.
    pub forgotten: bool,
    /// It is connected still; only where contact makes a device known.
    pub connected: bool,
}

/// Why a device was not removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// The change was refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nothing is set of it, and it is connected.
    #[error("device {0} is connected and nothing is set of it: what was seen is forgotten once it has gone")]
    Connected(String),
    /// What was seen cannot be read.
    #[error("what was seen of devices cannot be read: {0}; run `edgeway store verify`")]
    Store(#[from] StoreError),
}

impl Directory {
    /// Has a change made, for `who` (`cli`, `api`); durable on return. A device that is known by having been seen may
    /// be tagged without being added. To remove one, see [`Self::remove`].
    ///
    /// # Errors
    /// Why it was refused; nothing was changed then.
    pub async fn propose(&self, mut change: Change, who: &str) -> Result<Applied, Refusal> {
        if let Change::SetTags { device, seen, .. } | Change::SetAttributes { device, seen, .. } = &mut change {
            *seen = self.catalog.known_by() == KnownBy::Contact && self.was_seen(device);
        }
        self.catalog.propose(change, who).await
    }

    /// Removes a device, for `who`: what is set of it, and what was seen of it unless it stays connected. Where only
    /// enrolled devices may connect, its session ends. Durable on return; once begun it goes on although the caller
    /// goes away.
    ///
    /// # Errors
    /// When there is no such device, or the log takes nothing.
    pub async fn remove(self: &Arc<Self>, device: &str, who: &str) -> Result<Removed, RemoveError> {
        let (directory, device, who) = (Arc::clone(self), device.to_owned(), who.to_owned());
        let task = tokio::spawn(async move { directory.remove_whole(&device, &who).await });
        // It can only end otherwise where the runtime ends.
        task.await.unwrap_or(Err(Refusal::Stopping.into()))
    }

    async fn remove_whole(&self, device: &str, who: &str) -> Result<Removed, RemoveError> {
        let is_set = self.catalog.get(device).is_some();
        if is_set || !self.was_seen(device) {
            self.catalog.propose(Change::RemoveDevice { device: device.to_owned() }, who).await?;
        }
        if !self.sessions.end_removed(device).await {
            tracing::warn!(device, "the session of a removed device did not end in time");
        }
        let forgotten = self.sessions.forget(device)?;
        match forgotten {
            Forgotten::Connected if !is_set => return Err(RemoveError::Connected(device.to_owned())),
            Forgotten::All(ticket) => {
                if !is_set {
                    let detail = json!({"seen": true});
                    let act = Act { who, act: "device.remove", what: device, outcome: "done", detail };
                    self.log.audit(act).map_err(Refusal::from)?;
                }
                self.log.durable(ticket).await.map_err(Refusal::from)?;
            }
            Forgotten::Connected | Forgotten::Nothing => {}
        }
        let connected = forgotten == Forgotten::Connected;
        Ok(Removed { removed: is_set, forgotten: matches!(forgotten, Forgotten::All(_)), connected })
    }
}
