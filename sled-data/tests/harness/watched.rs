//! A backend that counts how many bytes were read since memory was let go of.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use sled_data::{Backend, BackendError, Direction, Group, Mark, MemoryBackend, Span, Tree, Visit};

/// Memory, watched. Clones are the same.
#[derive(Clone, Default)]
pub struct Watched {
    pub memory: MemoryBackend,
    held: Arc<AtomicU64>,
    most: Arc<AtomicU64>,
}

impl Watched {
    /// The most bytes that were read without letting go, since this was asked last.
    pub fn most(&self) -> u64 {
        self.held.store(0, Ordering::Relaxed);
        self.most.swap(0, Ordering::Relaxed)
    }

    fn read(&self, bytes: usize) {
        let held = self.held.fetch_add(bytes as u64, Ordering::Relaxed) + bytes as u64;
        self.most.fetch_max(held, Ordering::Relaxed);
    }
}

impl Backend for Watched {
    fn tree(&self, name: &[u8]) -> Result<Arc<dyn Tree>, BackendError> {
        Ok(Arc::new(WatchedTree { tree: self.memory.tree(name)?, watched: self.clone() }))
    }

    fn tree_names(&self) -> Vec<Vec<u8>> {
        self.memory.tree_names()
    }

    fn drop_tree(&self, name: &[u8]) -> Result<(), BackendError> {
        self.memory.drop_tree(name)
    }

    fn sync(&self) -> Result<(), BackendError> {
        self.memory.sync()
    }

    fn size_bytes(&self) -> u64 {
        self.memory.size_bytes()
    }

    fn free_bytes(&self) -> Option<u64> {
        self.memory.free_bytes()
    }

    fn set_mark(&self, mark: Mark) -> Result<(), BackendError> {
        self.memory.set_mark(mark)
    }

    fn sync_mark(&self) -> Result<(), BackendError> {
        self.memory.sync_mark()
    }

    fn mark(&self) -> Option<Mark> {
        self.memory.mark()
    }

    fn let_go(&self) -> Result<(), BackendError> {
        self.held.store(0, Ordering::Relaxed);
        Ok(())
    }

    fn alarm(&self) -> Option<String> {
        self.memory.alarm()
    }
}

struct WatchedTree {
    tree: Arc<dyn Tree>,
    watched: Watched,
}

impl Tree for WatchedTree {
    fn announce(&self, keys: &[Vec<u8>], value_bytes: usize) -> Result<(), BackendError> {
        self.tree.announce(keys, value_bytes)
    }

    fn insert(&self, key: &[u8], value: &[u8]) -> Result<(), BackendError> {
        self.tree.insert(key, value)
    }

    fn remove(&self, key: &[u8]) -> Result<(), BackendError> {
        self.tree.remove(key)
    }

    fn remove_all(&self, keys: &[Vec<u8>], value_bytes: usize) -> Result<(), BackendError> {
        self.tree.remove_all(keys, value_bytes)
    }

    fn apply(&self, group: &Group) -> Result<(), BackendError> {
        self.tree.apply(group)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, BackendError> {
        let found = self.tree.get(key)?;
        self.watched.read(found.as_ref().map_or(0, Vec::len));
        Ok(found)
    }

    fn scan(&self, span: Span<'_>, direction: Direction, visit: &mut Visit<'_>) -> Result<(), BackendError> {
        self.tree.scan(span, direction, &mut |key, value| {
            self.watched.read(value.len());
            visit(key, value)
        })
    }
}
