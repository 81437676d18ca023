//! Groups on sled: the newest is written down before it is done, and done again when the store is opened.

use parking_lot::Mutex;

use super::guarded;
use crate::backend::group_bytes::{Unreadable, VERSION, decode, encode};
use crate::backend::{BackendError, Group};

/// The tree of the newest group, and its only key.
pub(super) const JOURNAL_TREE: &[u8] = b"__journal";
const JOURNAL_KEY: &[u8] = b"group";
/// Bytes of a group that is written down; a larger one is left to sled.
const JOURNAL_BYTES_MAX: usize = crate::batch::BATCH_BYTES_MAX;

/// The newest group, written down before it is done: who opens the store does it again, so that it is there whole or not at all.
///
/// sled keeps the order of writes, and each is whole. So the group is there where any of it is; doing it again changes nothing as long as
/// none of its keys has been written since, which the next write to its tree sees to.
pub(super) struct Journal {
    tree: sled::Tree,
    held: Mutex<Held>,
}

/// What the journal holds.
#[derive(Default)]
struct Held {
    /// The tree of the group; empty where there is none.
    name: Vec<u8>,
    buffer: Vec<u8>,
}

impl Journal {
    /// Does the newest group again.
    pub(super) fn open(db: &sled::Db) -> Result<Journal, BackendError> {
        let tree = guarded(|| db.open_tree(JOURNAL_TREE))?;
        let mut held = Held::default();
        if let Some(value) = guarded(|| tree.get(JOURNAL_KEY))? {
            let (name, group) = decode(&value).map_err(|why| match why {
                Unreadable::Newer(found) => BackendError::Newer { found, known: VERSION },
                Unreadable::Damaged => BackendError::Damaged("the newest group cannot be read".into()),
            })?;
            let of = guarded(|| db.open_tree(&name))?;
            write_all(&of, &group)?;
            held.name = name;
        }
        Ok(Journal { tree, held: Mutex::new(held) })
    }

    pub(super) fn apply(&self, tree: &sled::Tree, group: &Group) -> Result<(), BackendError> {
        let name = tree.name();
        let mut held = self.held.lock();
        if !encode(&name, group, JOURNAL_BYTES_MAX, &mut held.buffer) {
            self.clear(&mut held)?;
            return apply_batch(tree, group);
        }
        guarded(|| self.tree.insert(JOURNAL_KEY, held.buffer.as_slice()))?;
        if name != held.name {
            held.name = name.to_vec();
        }
        // Still locked: the next group is not written down before all of this one is done.
        write_all(tree, group)
    }

    /// One write: by way of the journal where that holds a group of the tree, which must not undo it.
    pub(super) fn write(&self, tree: &sled::Tree, key: &[u8], value: Option<&[u8]>) -> Result<(), BackendError> {
        // Whoever groups writes of a tree writes to it from one thread at a time; those of other trees need not wait for a group.
        if tree.name() != self.held.lock().name {
            return write_one(tree, key, value);
        }
        let mut group = Group::new();
        match value {
            Some(value) => group.put(key, value),
            None => group.remove(key),
        }
        self.apply(tree, &group)
    }

    /// Lets go of the group where it is of the tree `name`.
    pub(super) fn forget(&self, name: &[u8]) -> Result<(), BackendError> {
        let mut held = self.held.lock();
        if held.name == name { self.clear(&mut held) } else { Ok(()) }
    }

    /// Lets go of the group, whatever it is of: an opening does nothing again, nor does a program that knows no journal miss anything. It is
    /// removed behind all of the group's own writes, so that a power cut leaves it there or leaves those.
    pub(super) fn settle(&self) -> Result<(), BackendError> {
        self.clear(&mut self.held.lock())
    }

    fn clear(&self, held: &mut Held) -> Result<(), BackendError> {
        held.name.clear();
        guarded(|| self.tree.remove(JOURNAL_KEY)).map(|_| ())
    }
}

fn write_all(tree: &sled::Tree, group: &Group) -> Result<(), BackendError> {
    group.iter().try_for_each(|(key, value)| write_one(tree, key, value))
}

fn write_one(tree: &sled::Tree, key: &[u8], value: Option<&[u8]>) -> Result<(), BackendError> {
    guarded(|| match value {
        Some(value) => tree.insert(key, value),
        None => tree.remove(key),
    })
    .map(|_| ())
}

fn apply_batch(tree: &sled::Tree, group: &Group) -> Result<(), BackendError> {
    let mut batch = sled::Batch::default();
    for (key, value) in group.iter() {
        match value {
            Some(value) => batch.insert(key, value),
            None => batch.remove(key),
        }
    }
    guarded(|| tree.apply_batch(batch))
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::path::Path;

    use super::*;
    use crate::backend::{Backend, Direction, SledBackend, SledConfig, Span, Tree};

    const CONFIG: SledConfig = SledConfig { cache_bytes: 1 << 20 };

    fn open(folder: &Path) -> SledBackend {
        SledBackend::open(folder, CONFIG).unwrap()
    }

    fn group(writes: &[(&str, Option<&str>)]) -> Group {
        let mut group = Group::new();
        for (key, value) in writes {
            match value {
                Some(value) => group.put(key.as_bytes(), value.as_bytes()),
                None => group.remove(key.as_bytes()),
            }
        }
        group
    }

    fn all(tree: &dyn Tree) -> Vec<(String, String)> {
        let mut found = Vec::new();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        tree.scan(Span::ALL, Direction::Forward, &mut |key, value| {
            found.push((text(key), text(value)));
            ControlFlow::Continue(())
        })
        .unwrap();
        found
    }

    #[test]
    fn a_group_that_was_cut_short_is_done_at_the_next_opening() {
        let home = tempfile::tempdir().unwrap();
        let backend = open(home.path());
        let meta = backend.tree(b"meta").unwrap();
        meta.apply(&group(&[("a", Some("1")), ("b", Some("1"))])).unwrap();
        let mut bytes = Vec::new();
        let cut = group(&[("a", None), ("b", Some("2")), ("c", Some("2"))]);
        assert!(encode(b"meta", &cut, JOURNAL_BYTES_MAX, &mut bytes));
        backend.journal.tree.insert(JOURNAL_KEY, bytes.as_slice()).unwrap();
        drop((meta, backend));
        let backend = open(home.path());
        assert_eq!(all(&*backend.tree(b"meta").unwrap()), [("b".into(), "2".into()), ("c".into(), "2".into())]);
        assert_eq!(backend.tree_names(), [b"meta"]);
    }

    #[test]
    fn doing_the_newest_group_again_undoes_nothing() {
        let home = tempfile::tempdir().unwrap();
        let backend = open(home.path());
        let (meta, other) = (backend.tree(b"meta").unwrap(), backend.tree(b"other").unwrap());
        meta.apply(&group(&[("a", Some("1")), ("b", Some("1")), ("gone", Some("1"))])).unwrap();
        other.insert(b"a", b"5").unwrap();
        meta.insert(b"a", b"2").unwrap();
        meta.remove(b"gone").unwrap();
        let expected = [("a".into(), "2".into()), ("b".into(), "1".into())];
        drop((meta, other, backend));
        let backend = open(home.path());
        let (meta, other) = (backend.tree(b"meta").unwrap(), backend.tree(b"other").unwrap());
        assert_eq!(all(&*meta), expected);
        assert_eq!(all(&*other), [("a".into(), "5".into())]);
        // One that is too large to be written down leaves nothing that is done again.
        let large = "x".repeat(40 << 10);
        meta.apply(&group(&[("a", Some(&large)), ("b", Some(&large))])).unwrap();
        drop((meta, other, backend));
        let backend = open(home.path());
        assert_eq!(all(&*backend.tree(b"meta").unwrap())[0].1, large);
        // Nor does one of a tree that is gone.
        backend.tree(b"other").unwrap().apply(&group(&[("z", Some("1"))])).unwrap();
        backend.drop_tree(b"other").unwrap();
        drop(backend);
        assert_eq!(open(home.path()).tree_names(), [b"meta"]);
    }

    #[test]
    fn a_damaged_journal_refuses_to_open() {
        let home = tempfile::tempdir().unwrap();
        let backend = open(home.path());
        backend.journal.tree.insert(JOURNAL_KEY, b"x").unwrap();
        let newer = [[2].as_slice(), &crc32c::crc32c(&[2]).to_le_bytes()].concat();
        drop(backend);
        assert!(matches!(SledBackend::open(home.path(), CONFIG), Err(BackendError::Damaged(_))));
        {
            let db = crate::backend::sled_trees::open_db(&home.path().join("sled"), CONFIG).unwrap();
            db.open_tree(JOURNAL_TREE).unwrap().insert(JOURNAL_KEY, newer).unwrap();
        }
        assert!(matches!(
            SledBackend::open(home.path(), CONFIG),
            Err(BackendError::Newer { found: 2, known: VERSION })
        ));
    }

    #[test]
    fn a_store_that_was_settled_does_nothing_again() {
        let home = tempfile::tempdir().unwrap();
        let backend = open(home.path());
        let meta = backend.tree(b"meta").unwrap();
        meta.apply(&group(&[("a", Some("1")), ("b", Some("1"))])).unwrap();
        backend.settle().unwrap();
        backend.sync().unwrap();
        drop((meta, backend));
        // As a program that knows no journal would.
        {
            let db = crate::backend::sled_trees::open_db(&home.path().join("sled"), CONFIG).unwrap();
            assert_eq!(db.open_tree(JOURNAL_TREE).unwrap().len(), 0);
            db.open_tree(b"meta").unwrap().insert(b"a", b"2").unwrap();
            db.flush().unwrap();
        }
        let meta = open(home.path()).tree(b"meta").unwrap();
        assert_eq!(all(&*meta), [("a".into(), "2".into()), ("b".into(), "1".into())]);
    }
}
