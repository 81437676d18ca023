//! The last survivor of a lost majority goes on alone: by force, loudly, and only where the majority is silent.

use std::sync::Arc;

use serde_json::json;

use super::change::Change;
use super::consensus::WHO_BYTES_MAX;
use super::member::{MemberState, MemberUpdate};
use super::refusal::Refusal;
use super::{Catalog, tell};
use crate::event_log::{Act, AppendError, CommitFailed};
use crate::transport::NodeId;

/// Why the survivor does not go on alone.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SurviveError {
    /// A majority is heard.
    #[error("the site has its majority, nothing is lost: remove single nodes with `edgeway node remove`")]
    NotLost,
    /// This node was not let in yet.
    #[error("this node was not let into a site yet, it has nothing to go on with")]
    NoSite,
    /// This node is of the site no more.
    #[error(
        "this node was removed from the site: nothing of it goes on here; wipe its data folder, so that it joins under a new id"
    )]
    Removed,
    /// The log takes nothing.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// It did not become durable.
    #[error(transparent)]
    Commit(#[from] CommitFailed),
    /// The new group could not be made.
    #[error("the new group could not be made: {0}; start the node again and repeat it")]
    Store(String),
    /// The group is made, and a node is not said to be lost in it.
    #[error(
        "this node goes on alone, but {node} is not marked as lost: {refusal}; take it out with `edgeway node remove`"
    )]
    Mark {
        /// The node.
        node: NodeId,
        /// Why not.
        refusal: Refusal,
    },
}

impl Catalog {
    /// Whether this node is of a group: one that is not waits to be let into its site, or to be let in again after its store was restored.
    pub fn has_group(&self) -> bool {
        self.consensus.has_group()
    }

    /// Whether a node that is there takes part in another group than this one, or in none, as it says: it votes no more. Where this node is
    /// of no group itself, nobody is known to be.
    pub async fn is_apart(&self, node: NodeId) -> bool {
        self.consensus.is_apart(node).await
    }

    /// Makes this node the only one of a new group that goes on from its state, for `who`; all other nodes count as
    /// lost, and what they say is not heard any more: they must be wiped and join anew. What only the lost nodes knew
    /// is lost. Where all of that is so already, nothing is done: it may be asked for again when it was cut short, or its answer was lost.
    ///
    /// # Errors
    /// [`SurviveError`]; but for the last one nothing has changed.
    pub async fn promote_lost(self: &Arc<Self>, who: &str) -> Result<(), SurviveError> {
        if self.site().is_none() {
            return Err(SurviveError::NoSite);
        }
        if self.is_removed(self.me()) {
            return Err(SurviveError::Removed);
        }
        if self.goes_on_alone().await {
            return Ok(());
        }
        if !self.consensus.is_left_alone() {
            return Err(SurviveError::NotLost);
        }
        let who = &who[..who.floor_char_boundary(WHO_BYTES_MAX)];
        let lost = self.others_there();
        let names = self.consensus.names(&lost);
        tracing::warn!(who, lost = names.join(", "), "this node goes on alone by force: the others count as lost");
        let what = self.me().to_string();
        let detail = json!({"lost": names});
        let ticket = self.book.log.audit(Act { who, act: "node.promote", what: &what, outcome: "done", detail })?;
        self.book.log.durable(ticket).await?;
        {
            let _turn = self.changing.lock().await;
            self.consensus.take_alone(who, lost.into_iter().collect()).await.map_err(SurviveError::Store)?;
        }
        // That they are lost stands in the log by now, and comes into the state.
        let mut changed = self.book.changed();
        let marked = changed.wait_for(|_| self.others_there().is_empty());
        let _ = tokio::time::timeout(self.book.timing.propose_wait, marked).await;
        for node in self.others_there() {
            let update = MemberUpdate { state: Some(MemberState::Lost), ..MemberUpdate::default() };
            let marked = self.propose(Change::UpdateMember { node, update }, who).await;
            marked.map_err(|refusal| SurviveError::Mark { node, refusal })?;
        }
        tracing::warn!(who = tell::SITE, "this node is the only one of its group now; let others join anew");
        Ok(())
    }

    /// Whether this node alone decides, and all others count as lost, one at least: it was promoted, and nobody has joined since.
    async fn goes_on_alone(&self) -> bool {
        if !self.consensus.is_only_voter() {
            return false;
        }
        // After a start its log may say more than the state does yet.
        let last = self.consensus.last_log();
        let mut changed = self.book.changed();
        let come = changed.wait_for(|applied| *applied >= last);
        let _ = tokio::time::timeout(self.book.timing.propose_wait, come).await;
        self.members().len() > 1 && self.others_there().is_empty()
    }

    /// The other members that do not count as lost.
    fn others_there(&self) -> Vec<NodeId> {
        let members = self.members();
        let there = members.iter().filter(|member| member.node != self.me() && member.state != MemberState::Lost);
        there.map(|member| member.node).collect()
    }
}
