//! A node's place: its id and its site's, kept in the store, so that a wiped store is not taken for the node it was.

use sled_data::{Commit, CommitError, ReadError, StateWrite, Store, SyncError};

use crate::transport::{NodeId, SiteIdentity};

/// The small named tree of the node itself.
const NODE_TREE: &str = "node";
/// Its entry: a version byte, the node's id and the site's, 8 bytes each, big-endian.
const PLACE_KEY: &[u8] = b"place";
const VERSION: u8 = 1;

/// Which node this is, of which site. One alone is a site of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The node.
    pub node: NodeId,
    /// The site.
    pub site: u64,
}

/// Why a node has no place.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// The store was wiped, or is another node's.
    #[error(
        "the certificate in the data folder is of node {certificate}, but the store is {store}: a node whose store was \
         wiped comes back as a new one. Remove the data folder, and join again with a new token"
    )]
    OtherStore {
        /// The node that the certificate names.
        certificate: NodeId,
        /// What the store is.
        store: String,
    },
    /// What is stored is of an unknown version.
    #[error("the store says in an unknown way which node it is; was a newer edgeway here?")]
    Unknown,
    /// The store cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The store cannot be written.
    #[error(transparent)]
    Write(#[from] CommitError),
    /// The store cannot be synced.
    #[error(transparent)]
    Sync(#[from] SyncError),
    /// The system gives no randomness.
    #[error("the system gives no randomness: {0}")]
    Random(#[from] getrandom::Error),
}

impl Place {
    /// The node's place: what the store says, or one that is drawn now. `identity` is its certificate in the site;
    /// `joins` says that it has just joined, with a new store. `hlc` is the hybrid clock of what is written. Durable.
    ///
    /// # Errors
    /// When store and certificate are of two nodes, or the store cannot be used.
    pub fn settle(store: &Store, hlc: u64, identity: Option<&SiteIdentity>, joins: bool) -> Result<Self, PlaceError> {
        let certified = identity.map(|identity| Self { node: identity.node(), site: identity.site() });
        let stored = Self::stored(store)?;
        match (stored, certified) {
            (Some(stored), None) => Ok(stored),
            (Some(stored), Some(certified)) if stored == certified => Ok(stored),
            (None, Some(certified)) if joins => certified.put(store, hlc),
            (None, None) => Self { node: NodeId(draw()?), site: draw()? }.put(store, hlc),
            (stored, Some(certified)) => {
                let store = stored.map_or_else(|| "new".to_owned(), |stored| format!("of node {}", stored.node));
                Err(PlaceError::OtherStore { certificate: certified.node, store })
            }
        }
    }

    fn stored(store: &Store) -> Result<Option<Self>, PlaceError> {
        let Some(bytes) = store.state_get(NODE_TREE, PLACE_KEY)? else { return Ok(None) };
        Self::decode(&bytes).map(Some).ok_or(PlaceError::Unknown)
    }

    fn put(self, store: &Store, hlc: u64) -> Result<Self, PlaceError> {
        let write = StateWrite { tree: NODE_TREE.to_owned(), key: PLACE_KEY.to_owned(), value: Some(self.encode()) };
        store.commit(&Commit { hlc, state: vec![write], ..Commit::default() })?;
        store.sync()?;
        Ok(self)
    }

    fn encode(self) -> Vec<u8> {
        [&[VERSION], &self.node.0.to_be_bytes()[..], &self.site.to_be_bytes()].concat()
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (&VERSION, body) = bytes.split_first()? else { return None };
        let (node, site) = body.split_first_chunk::<8>()?;
        let site: [u8; 8] = site.try_into().ok()?;
        Some(Self { node: NodeId(u64::from_be_bytes(*node)), site: u64::from_be_bytes(site) })
    }
}

/// A random number that is not 0.
fn draw() -> Result<u64, getrandom::Error> {
    loop {
        match getrandom::u64()? {
            0 => {}
            drawn => return Ok(drawn),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;

    use sled_data::{MemoryBackend, Options};

    use super::*;

    fn store(backend: &MemoryBackend) -> Store {
        Store::on(Arc::new(backend.clone()), Options::default()).unwrap().0
    }

    #[test]
    fn is_drawn_once_and_has_these_bytes() {
        let backend = MemoryBackend::new();
        let first = Place::settle(&store(&backend), 1, None, false).unwrap();
        assert_eq!(Place::settle(&store(&backend), 2, None, false).unwrap(), first);
        assert_ne!(Place::settle(&store(&MemoryBackend::new()), 1, None, false).unwrap(), first);
        let place = Place { node: NodeId(1), site: 2 };
        let bytes = [1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2];
        assert_eq!(place.encode(), bytes);
        assert_eq!(Place::decode(&bytes), Some(place));
        assert_eq!(Place::decode(&[2, 0]), None);
    }

    #[test]
    fn a_wiped_store_is_not_the_node_that_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let identity = SiteIdentity::init(&folder.path().join("site"), 2, NodeId(1), "n1").unwrap();
        let backend = MemoryBackend::new();
        let joined = Place::settle(&store(&backend), 1, Some(&identity), true).unwrap();
        assert_eq!(joined, Place { node: NodeId(1), site: 2 });
        assert_eq!(Place::settle(&store(&backend), 2, Some(&identity), false).unwrap(), joined);
        let wiped = Place::settle(&store(&MemoryBackend::new()), 1, Some(&identity), false).unwrap_err();
        assert!(wiped.to_string().contains("the store is new"), "{wiped}");
        let other = MemoryBackend::new();
        Place::settle(&store(&other), 1, None, false).unwrap();
        for joins in [false, true] {
            let refused = Place::settle(&store(&other), 2, Some(&identity), joins).unwrap_err();
            assert!(matches!(refused, PlaceError::OtherStore { .. }), "{refused}");
        }
    }
}
