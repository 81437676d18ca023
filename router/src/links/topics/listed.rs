//! The edge: what is judged of what comes down, besides what is judged of all that a link brings.

use std::sync::Arc;

use sled_data::{OriginId, TopicId};

use super::super::class::Priority;
use super::super::sender::Session;
use super::super::wire::Refused;
use super::lists::lists;
use crate::event_log::{Act, EventLog, SITE_SEPARATOR};

/// What may come down a link, whatever upstream says (pure).
#[derive(Debug, Clone)]
pub struct MayBring {
    /// The patterns of topics.
    pub topics: Vec<String>,
    /// The upstream site.
    pub site: u64,
}

/// What a receiver at the edge holds to.
pub struct Listed {
    /// What may come.
    pub may: MayBring,
    /// What the link sends up, with which it shares the line.
    pub session: Arc<Session>,
}

impl MayBring {
    /// Whether an origin can have come this way.
    ///
    /// # Errors
    /// The refusal.
    pub fn judge_path(&self, origin: OriginId, path: &[u64]) -> Result<(), Refused> {
        if path.last() == Some(&self.site) {
            return Ok(());
        }
        let text = format!("origin {origin} is said to have come by another site than the one that sends it");
        Err(Refused::new(origin.0, 0, "path", text))
    }

    /// Whether a topic is listed, by its name upstream.
    ///
    /// # Errors
    /// The refusal.
    pub fn judge_topic(&self, id: TopicId, name: &str) -> Result<(), Refused> {
        if lists(&self.topics, name) {
            return Ok(());
        }
        Err(Refused::new(0, id.0, "not-listed", format!("topic {name} is not listed in `down` of the [[link]]")))
    }

    /// Whether a topic that is here is listed: its id may be that of one which came when more was, or was given another name.
    ///
    /// # Errors
    /// The refusal.
    pub fn judge_here(&self, id: TopicId, name: &str) -> Result<(), Refused> {
        let (_, own) = name.split_once(SITE_SEPARATOR).unwrap_or_default();
        // Where a name was another topic's before, the id stands behind it.
        self.judge_topic(id, own.strip_suffix(&format!("@{id}")).unwrap_or(own))
    }
}

impl Listed {
    /// Waits until a frame of so many bytes may be taken: after what goes up as `normal`.
    pub async fn turn(&self, bytes: usize) {
        self.session.gate.begin(Priority::Low, bytes).await;
        // That is its turn: a frame that comes slowly keeps nothing of `low` from going up.
        self.session.gate.stored(Priority::Low, bytes);
    }

    /// Writes down that something was not taken.
    pub fn audit(&self, log: &EventLog, text: &str) {
        let who = format!("link:{}", self.session.name);
        let act = Act {
            who: &who,
            act: "link.down",
            what: &self.session.name,
            outcome: "refused",
            detail: text.to_owned().into(),
        };
        if let Err(error) = log.audit(act) {
            tracing::warn!(%error, "it is not in the audit");
        }
    }
}
