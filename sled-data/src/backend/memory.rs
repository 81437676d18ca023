//! Trees in memory that can lose what was not synced, tear groups of writes apart between trees, fill up and fail: by seed.

use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use std::sync::Arc;

use parking_lot::Mutex;

use super::{Backend, BackendError, Direction, Group, Mark, Span, Tree, Visit};

type Map = BTreeMap<Vec<u8>, Vec<u8>>;

/// What shall go wrong. Counters count down with each write or sync and fail it at zero.
#[derive(Clone, Debug, Default)]
pub struct Faults {
    /// The write after so many fails with "no space", and all after it that do more than remove, while this stays set.
    pub full_after_writes: Option<u64>,
    /// The write after so many fails with an I/O error, and all after it.
    pub fail_after_writes: Option<u64>,
    /// The sync after so many fails with an I/O error, and all after it.
    pub fail_after_syncs: Option<u64>,
    /// Syncs say that they worked and make nothing durable.
    pub lying_sync: bool,
    /// A power cut takes the mark back to what it was when it was last made durable.
    pub loses_mark: bool,
    /// What [`Backend::free_bytes`] answers.
    pub free_bytes: Option<u64>,
}

/// What undoes one write.
enum Undo {
    Tree { name: Vec<u8>, old: Option<Map> },
    Keys { name: Vec<u8>, old: Vec<(Vec<u8>, Option<Vec<u8>>)> },
}

#[derive(Default)]
struct Inner {
    trees: BTreeMap<Vec<u8>, Map>,
    unsynced: Vec<Undo>,
    faults: Faults,
    mark: Option<Mark>,
    synced_mark: Option<Mark>,
    reads: u64,
    looks: u64,
}

impl Inner {
    /// Counts a write, and fails it when its time has come. A full backend still removes.
    fn before_write(&mut self, adds: bool) -> Result<(), BackendError> {
        if adds && count_down(&mut self.faults.full_after_writes) {
            return Err(BackendError::Full);
        }
        if count_down(&mut self.faults.fail_after_writes) {
            return Err(BackendError::Io("a write failed".into()));
        }
        Ok(())
    }

    fn write<'a>(
        &mut self,
        name: &[u8],
        writes: impl Iterator<Item = (&'a [u8], Option<&'a [u8]>)> + Clone,
    ) -> Result<(), BackendError> {
        self.before_write(writes.clone().any(|(_, value)| value.is_some()))?;
        let Some(tree) = self.trees.get_mut(name) else {
            return Err(BackendError::Io("the tree was dropped".into()));
        };
        let mut old = Vec::new();
        for (key, value) in writes {
            let before = match value {
                Some(value) => tree.insert(key.to_vec(), value.to_vec()),
                None => tree.remove(key),
            };
            old.push((key.to_vec(), before));
        }
        self.unsynced.push(Undo::Keys { name: name.to_vec(), old });
        Ok(())
    }

    /// Takes the values of those keys that are there: one write that adds nothing.
    fn empty(&mut self, name: &[u8], keys: &[Vec<u8>]) -> Result<(), BackendError> {
        self.before_write(false)?;
        let Some(tree) = self.trees.get_mut(name) else {
            return Err(BackendError::Io("the tree was dropped".into()));
        };
        let values = keys.iter().filter_map(|key| Some((key.clone(), Some(std::mem::take(tree.get_mut(key)?)))));
        let old = values.collect();
        self.unsynced.push(Undo::Keys { name: name.to_vec(), old });
        Ok(())
    }

    fn undo(&mut self, undo: Undo) {
        match undo {
            Undo::Tree { name, old: Some(map) } => {
                self.trees.insert(name, map);
            }
            Undo::Tree { name, old: None } => {
                self.trees.remove(&name);
            }
            Undo::Keys { name, old } => {
                let tree = self.trees.entry(name).or_default();
                for (key, before) in old.into_iter().rev() {
                    match before {
                        Some(value) => tree.insert(key, value),
                        None => tree.remove(&key),
                    };
                }
            }
        }
    }
}

fn count_down(counter: &mut Option<u64>) -> bool {
    match counter {
        Some(0) => true,
        Some(n) => {
            *n -= 1;
            false
        }
        None => false,
    }
}

/// The backend of tests and of the simulation. Clones are the same store.
#[derive(Clone, Default)]
pub struct MemoryBackend {
    inner: Arc<Mutex<Inner>>,
}

impl MemoryBackend {
    /// An empty one without faults.
    pub fn new() -> MemoryBackend {
        MemoryBackend::default()
    }

    /// Sets what goes wrong from now on.
    pub fn set_faults(&self, faults: Faults) {
        self.inner.lock().faults = faults;
    }

    /// Number of writes since the last sync: what a power cut may lose.
    pub fn unsynced_writes(&self) -> usize {
        self.inner.lock().unsynced.len()
    }

    /// Number of values that were asked for by their keys so far: what reading costs.
    pub fn reads(&self) -> u64 {
        self.inner.lock().reads
    }

    /// How often somebody looked how much is free.
    pub fn looks(&self) -> u64 {
        self.inner.lock().looks
    }

    /// A power cut: of the writes since the last sync the first `keep` stay, the others are gone. Faults end.
    /// Each group stays or goes whole, as sled's do; writes to several trees are torn apart.
    pub fn power_cut(&self, keep: usize) {
        let mut inner = self.inner.lock();
        if inner.faults.loses_mark {
            inner.mark = inner.synced_mark;
        }
        inner.faults = Faults::default();
        while inner.unsynced.len() > keep {
            if let Some(undo) = inner.unsynced.pop() {
                inner.undo(undo);
            }
        }
        inner.unsynced.clear();
    }

    /// A copy with a life of its own, as a disk image is.
    pub fn image(&self) -> MemoryBackend {
        let inner = self.inner.lock();
        let (trees, mark) = (inner.trees.clone(), inner.mark);
        drop(inner);
        MemoryBackend { inner: Arc::new(Mutex::new(Inner { trees, mark, synced_mark: mark, ..Inner::default() })) }
    }

    /// Bytes of all values: the places that [`MemoryBackend::flip`] can damage.
    pub fn value_bytes(&self) -> usize {
        self.inner.lock().trees.values().flat_map(Map::values).map(Vec::len).sum()
    }

    /// Damages the byte at `place`, counted through all values of all trees, by exclusive-or with `mask`; the tree and key it hit.
    pub fn flip(&self, place: usize, mask: u8) -> Option<(Vec<u8>, Vec<u8>)> {
        let mut inner = self.inner.lock();
        let mut left = place;
        for (name, tree) in &mut inner.trees {
            for (key, value) in tree {
                if let Some(byte) = value.get_mut(left) {
                    *byte ^= mask;
                    return Some((name.clone(), key.clone()));
                }
                left -= value.len();
            }
        }
        None
    }
}

impl Backend for MemoryBackend {
    fn tree(&self, name: &[u8]) -> Result<Arc<dyn Tree>, BackendError> {
        let mut inner = self.inner.lock();
        if !inner.trees.contains_key(name) {
            inner.before_write(true)?;
            inner.trees.insert(name.to_vec(), Map::new());
            inner.unsynced.push(Undo::Tree { name: name.to_vec(), old: None });
        }
        Ok(Arc::new(MemoryTree { inner: self.inner.clone(), name: name.to_vec() }))
    }

    fn tree_names(&self) -> Vec<Vec<u8>> {
        self.inner.lock().trees.keys().cloned().collect()
    }

    fn drop_tree(&self, name: &[u8]) -> Result<(), BackendError> {
        let mut inner = self.inner.lock();
        inner.before_write(false)?;
        if let Some(old) = inner.trees.remove(name) {
            inner.unsynced.push(Undo::Tree { name: name.to_vec(), old: Some(old) });
        }
        Ok(())
    }

    fn sync(&self) -> Result<(), BackendError> {
        let mut inner = self.inner.lock();
        if count_down(&mut inner.faults.fail_after_syncs) {
            return Err(BackendError::Io("a sync failed".into()));
        }
        if !inner.faults.lying_sync {
            inner.unsynced.clear();
        }
        Ok(())
    }

    fn size_bytes(&self) -> u64 {
        let inner = self.inner.lock();
        let entries = inner.trees.values().flatten();
        entries.map(|(key, value)| (key.len() + value.len()) as u64).sum()
    }

    fn free_bytes(&self) -> Option<u64> {
        let mut inner = self.inner.lock();
        inner.looks += 1;
        inner.faults.free_bytes
    }

    fn set_mark(&self, mark: Mark) -> Result<(), BackendError> {
        self.inner.lock().mark = Some(mark);
        Ok(())
    }

    fn sync_mark(&self) -> Result<(), BackendError> {
        let mut inner = self.inner.lock();
        inner.synced_mark = inner.mark;
        Ok(())
    }

    fn mark(&self) -> Option<Mark> {
        self.inner.lock().mark
    }

    fn alarm(&self) -> Option<String> {
        None
    }
}

struct MemoryTree {
    inner: Arc<Mutex<Inner>>,
    name: Vec<u8>,
}

impl Tree for MemoryTree {
    fn announce(&self, keys: &[Vec<u8>], _: usize) -> Result<(), BackendError> {
        let empty = Some([].as_slice());
        self.inner.lock().write(&self.name, keys.iter().map(|key| (key.as_slice(), empty)))
    }

    fn insert(&self, key: &[u8], value: &[u8]) -> Result<(), BackendError> {
        self.inner.lock().write(&self.name, std::iter::once((key, Some(value))))
    }

    fn remove(&self, key: &[u8]) -> Result<(), BackendError> {
        self.inner.lock().write(&self.name, std::iter::once((key, None)))
    }

    fn remove_all(&self, keys: &[Vec<u8>], _: usize) -> Result<(), BackendError> {
        self.inner.lock().empty(&self.name, keys)?;
        keys.iter().try_for_each(|key| self.remove(key))
    }

    fn apply(&self, group: &Group) -> Result<(), BackendError> {
        self.inner.lock().write(&self.name, group.iter())
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, BackendError> {
        let mut inner = self.inner.lock();
        inner.reads += 1;
        Ok(inner.trees.get(&self.name).and_then(|tree| tree.get(key)).cloned())
    }

    fn scan(&self, span: Span<'_>, direction: Direction, visit: &mut Visit<'_>) -> Result<(), BackendError> {
        if span.to.is_some_and(|to| to <= span.from) {
            return Ok(());
        }
        let inner = self.inner.lock();
        let Some(tree) = inner.trees.get(&self.name) else {
            return Ok(());
        };
        let to = span.to.map_or(Bound::Unbounded, Bound::Excluded);
        let mut range = tree.range::<[u8], _>((Bound::Included(span.from), to));
        loop {
            let entry = match direction {
                Direction::Forward => range.next(),
                Direction::Back => range.next_back(),
            };
            let Some((key, value)) = entry else {
                return Ok(());
            };
            if let ControlFlow::Break(()) = visit(key, value) {
                return Ok(());
            }
        }
    }
}
