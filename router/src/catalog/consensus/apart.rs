//! Who takes part in the same agreement as this node, where that is to be known for certain.

use super::Consensus;
use super::network::AskError;
use super::proposal::encode_change;
use super::wire::{About, No};
use crate::catalog::change::Change;
use crate::catalog::site::SiteUpdate;
use crate::transport::NodeId;

impl Consensus {
    /// Whether this node is of a group: one that is not waits to be let in, or to be let in again.
    pub(in crate::catalog) fn has_group(&self) -> bool {
        self.book.group() != 0
    }

    /// Whether a node that is there says that it is of another group than this one, or of none: it is not heard, and elects nobody. By one that
    /// is of no group itself, nothing is learnt.
    pub(in crate::catalog) async fn is_apart(&self, node: NodeId) -> bool {
        if !self.has_group() {
            return false;
        }
        // Of number 0 nothing can come, wherever it is heard: all are judged that have none.
        let change = encode_change(&Change::SetSite(SiteUpdate::default()));
        let about = About::Propose { number: 0, who: "node".to_owned(), change, patience_ms: 0 };
        let asked = self.network.ask(node, about, self.book.timing.ask_wait()).await;
        matches!(asked, Err(AskError::No(No::Group)))
    }

    /// Whether no majority is heard by which this node could have a change made. One that knows of no voters hears nobody who leads.
    pub(in crate::catalog) fn is_left_alone(&self) -> bool {
        match self.book.applied().roles.sets() {
            voters if voters.is_empty() => self.book.heard.lately(self.book.timing.fresh()).is_empty(),
            voters => self.book.missing(&voters).is_some(),
        }
    }
}
