//! Whose records of clients count: those of other nodes' lives, and of two of one node's the later one's, which began with what the earlier one
//! had left.
//!
//! What this node itself has left in ended lives is nobody's word: the present one goes on with it.

use sled_data::OriginId;

use super::registry::Sessions;

impl Sessions {
    /// The lives whose records count as other nodes': all that are followed but this node's own.
    pub(super) fn others(&self) -> Vec<OriginId> {
        let mut others = self.log.others();
        others.retain(|origin| !self.log.is_ended(*origin));
        others
    }

    /// Whether the node that writes a life goes on in it, as far as is known.
    pub(super) fn goes_on(&self, origin: OriginId) -> bool {
        !self.ended.read().contains(&origin)
    }

    /// Looks which lives have ended; those that were taken for ended, and go on. To be called before what has come of one is read.
    pub(super) fn look_at_lives(&self) -> Vec<OriginId> {
        let ended = self.log.followed_lives().ended;
        self.elsewhere.write().end_lives(&ended);
        let before = std::mem::replace(&mut *self.ended.write(), ended.clone());
        before.difference(&ended).copied().collect()
    }

    /// Looks at lives anew, and reads what those say of clients that go on and were taken for ended: of two of one node's the other one's counted.
    pub(super) fn lives_changed(&self) {
        let others = self.others();
        for origin in self.look_at_lives().into_iter().filter(|origin| others.contains(origin)) {
            self.read_again(origin);
        }
    }

    /// Reads what a life says of clients.
    pub(super) fn read_again(&self, origin: OriginId) {
        if let Err(error) = self.read_origin(origin) {
            tracing::error!(%origin, %error, "what another node has seen of devices cannot be read");
        }
    }
}
