//! How far the commit streams go that this store holds.

use super::Store;
use crate::ids::{CommitNumber, OriginId};

impl Store {
    /// The newest commit of an origin that is synced here; 0 where there is none.
    pub fn synced_commit_of(&self, origin: OriginId) -> CommitNumber {
        if origin == self.origin { self.synced_commit() } else { CommitNumber(0) }
    }

    /// The oldest commit of an origin whose record is kept; the next commit where none is.
    pub fn first_kept_commit_of(&self, origin: OriginId) -> CommitNumber {
        if origin == self.origin { self.first_kept_commit() } else { CommitNumber(1) }
    }
}
