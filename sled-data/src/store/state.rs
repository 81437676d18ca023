//! Cursors and state trees: small values that commits write.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use super::keys::{self, Owner};
use super::read::ReadError;
use super::values::{CursorV1, ValueError, read, read_raw};
use super::{Store, StoreFailed};
use crate::backend::{BackendError, Direction, Group, Span, Tree};
use crate::ids::{Offset, OriginId, PARTITION_ID_BYTES, PartitionId};

/// Cursors that are forgotten at once.
const FORGET_AT_ONCE_MAX: usize = 1_000;

/// Keys and values of a state tree.
pub type StateEntries = Vec<(Vec<u8>, Vec<u8>)>;

impl Store {
    /// Where a reader stands in a partition.
    ///
    /// # Errors
    /// [`ReadError::DamagedMeta`] for a damaged value.
    pub fn cursor(&self, reader: &str, partition: PartitionId) -> Result<Option<Offset>, ReadError> {
        self.cursor_of(self.origin, reader, partition)
    }

    /// Where a reader of `origin` stands in a partition: of this life, or as far as `origin` was followed.
    ///
    /// # Errors
    /// As [`Store::cursor`].
    pub fn cursor_of(
        &self,
        origin: OriginId,
        reader: &str,
        partition: PartitionId,
    ) -> Result<Option<Offset>, ReadError> {
        let mut key = Vec::new();
        keys::cursors(self.owner(origin), reader, &mut key);
        key.extend_from_slice(&partition.to_bytes());
        self.meta_read(|meta| match meta.get(&key)? {
            Some(value) => {
                let cursor: CursorV1 = read(&key, &value).map_err(|e| damaged("a cursor of", reader, e))?;
                Ok(Some(cursor.next))
            }
            None => Ok(None),
        })
    }

    /// Where a reader stands, in all partitions that it has a cursor in.
    ///
    /// # Errors
    /// [`ReadError::DamagedMeta`] for a damaged value.
    pub fn cursors(&self, reader: &str) -> Result<Vec<(PartitionId, Offset)>, ReadError> {
        self.cursors_of(self.origin, reader)
    }

    /// The partitions of own earlier lives in which a reader of this life has a cursor that is not at their end.
    pub(super) fn cursors_before_ends(&self) -> Result<BTreeSet<PartitionId>, ReadError> {
        let prefix = keys::all_cursors(Owner::Own);
        let mut found = BTreeSet::new();
        self.meta_scan(prefix.bytes(), prefix.bytes(), |key, value| {
            let id = key.len().checked_sub(PARTITION_ID_BYTES).and_then(|at| PartitionId::from_bytes(&key[at..]));
            if let Some(id) = id.filter(|id| id.origin != self.origin) {
                // One that is damaged is nowhere.
                let next = read::<CursorV1>(key, value).map_or(0, |cursor| cursor.next);
                if next < self.end_offset(id) {
                    found.insert(id);
                }
            }
            Ok(true)
        })?;
        Ok(found)
    }

    /// Where a reader of `origin` stands, in all partitions that it has a cursor in.
    ///
    /// # Errors
    /// As [`Store::cursors`].
    pub fn cursors_of(&self, origin: OriginId, reader: &str) -> Result<Vec<(PartitionId, Offset)>, ReadError> {
        let mut prefix = Vec::new();
        keys::cursors(self.owner(origin), reader, &mut prefix);
        let mut found = Vec::new();
        self.meta_scan(&prefix, &prefix, |key, value| {
            let id = key.get(prefix.len()..).and_then(PartitionId::from_bytes).ok_or(ValueError::Form);
            let cursor: CursorV1 = read(key, value).map_err(|e| damaged("a cursor of", reader, e))?;
            found.push((id.map_err(|e| damaged("a cursor of", reader, e))?, cursor.next));
            Ok(true)
        })?;
        Ok(found)
    }

    /// Forgets where a reader stands, in all partitions. Others write in between. Nodes that follow this one are not told. Durable with the next
    /// [`Store::sync`].
    ///
    /// # Errors
    /// [`StoreFailed`] where the store cannot be read or written.
    pub fn forget_reader(&self, reader: &str) -> Result<(), StoreFailed> {
        self.forget_reader_of(self.origin, reader)
    }

    /// The same of a reader of `origin`, which is followed.
    ///
    /// # Errors
    /// As [`Store::forget_reader`].
    pub fn forget_reader_of(&self, origin: OriginId, reader: &str) -> Result<(), StoreFailed> {
        self.forget_reader_if(origin, reader, &|| true)
    }

    /// The same while `is_gone` says so, which is asked when nobody writes: who has a cursor there again is not forgotten. It must write nothing.
    ///
    /// # Errors
    /// As [`Store::forget_reader`].
    pub fn forget_reader_if(
        &self,
        origin: OriginId,
        reader: &str,
        is_gone: &dyn Fn() -> bool,
    ) -> Result<(), StoreFailed> {
        let mut prefix = Vec::new();
        keys::cursors(self.owner(origin), reader, &mut prefix);
        let to = keys::after_prefix(&prefix);
        loop {
            self.check()?;
            let _writer = self.writer.lock();
            if !is_gone() {
                return Ok(());
            }
            let (mut group, mut found) = (Group::new(), 0);
            let span = Span { from: &prefix, to: to.as_deref() };
            let scanned = self.meta.scan(span, Direction::Forward, &mut |key, _| {
                group.remove(key);
                found += 1;
                if found < FORGET_AT_ONCE_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            });
            scanned.and_then(|()| self.meta.apply(&group)).map_err(|error| self.fail(&error))?;
            if found < FORGET_AT_ONCE_MAX {
                return Ok(());
            }
        }
    }

    /// Names of all readers that have cursors, in order.
    ///
    /// # Errors
    /// [`ReadError::Backend`] when the backend cannot read.
    pub fn readers(&self) -> Result<Vec<String>, ReadError> {
        self.readers_of(self.origin)
    }

    /// Names of all readers of `origin` that have cursors, in order.
    ///
    /// # Errors
    /// As [`Store::readers`].
    pub fn readers_of(&self, origin: OriginId) -> Result<Vec<String>, ReadError> {
        let prefix = keys::all_cursors(self.owner(origin));
        let prefix = prefix.bytes();
        let mut names: Vec<String> = Vec::new();
        self.meta_scan(prefix, prefix, |key, _| {
            let end = key.len().saturating_sub(PARTITION_ID_BYTES + 1);
            let name = String::from_utf8_lossy(key.get(prefix.len()..end).unwrap_or_default());
            if names.last().is_none_or(|last| *last != name) {
                names.push(name.into_owned());
            }
            Ok(true)
        })?;
        Ok(names)
    }

    /// A value of a state tree.
    ///
    /// # Errors
    /// [`ReadError::DamagedMeta`] for a damaged value.
    pub fn state_get(&self, tree: &str, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        self.state_get_of(self.origin, tree, key)
    }

    /// A value of a state tree of `origin`: of this life, or as far as `origin` was followed.
    ///
    /// # Errors
    /// As [`Store::state_get`].
    pub fn state_get_of(&self, origin: OriginId, tree: &str, key: &[u8]) -> Result<Option<Vec<u8>>, ReadError> {
        let mut full = Vec::new();
        keys::state(self.owner(origin), tree, &mut full);
        full.extend_from_slice(key);
        self.meta_read(|meta| match meta.get(&full)? {
            Some(value) => {
                let bytes = read_raw(&full, &value).map_err(|e| damaged("a value of state tree", tree, e))?;
                Ok(Some(bytes.to_vec()))
            }
            None => Ok(None),
        })
    }

    /// Keys and values of a state tree, in order, at most `max`: those whose key begins with `prefix` and is above `after`.
    ///
    /// # Errors
    /// [`ReadError::DamagedMeta`] for a damaged value.
    pub fn state_scan(
        &self,
        tree: &str,
        prefix: &[u8],
        after: Option<&[u8]>,
        max: usize,
    ) -> Result<StateEntries, ReadError> {
        self.state_scan_of(self.origin, tree, prefix, after, max)
    }

    /// The same of a state tree of `origin`.
    ///
    /// # Errors
    /// As [`Store::state_scan`].
    pub fn state_scan_of(
        &self,
        origin: OriginId,
        tree: &str,
        prefix: &[u8],
        after: Option<&[u8]>,
        max: usize,
    ) -> Result<StateEntries, ReadError> {
        let mut full = Vec::new();
        keys::state(self.owner(origin), tree, &mut full);
        let name_len = full.len();
        let from = match after {
            Some(after) if after >= prefix => [&full, after, &[0]].concat(),
            _ => [&full, prefix].concat(),
        };
        full.extend_from_slice(prefix);
        let mut found = Vec::new();
        if max == 0 {
            return Ok(found);
        }
        self.meta_scan(&full, &from, |key, value| {
            let bytes = read_raw(key, value).map_err(|e| damaged("a value of state tree", tree, e))?;
            found.push((key.get(name_len..).unwrap_or_default().to_vec(), bytes.to_vec()));
            Ok(found.len() < max)
        })?;
        Ok(found)
    }

    /// Whose cursors and state those of `origin` are.
    pub(super) fn owner(&self, origin: OriginId) -> Owner {
        if origin == self.origin { Owner::Own } else { Owner::Followed(origin) }
    }

    /// Shows entries of the meta tree whose keys begin with `prefix`, from `from` on, while `visit` wants more.
    pub(super) fn meta_scan(
        &self,
        prefix: &[u8],
        from: &[u8],
        mut visit: impl FnMut(&[u8], &[u8]) -> Result<bool, ReadError>,
    ) -> Result<(), ReadError> {
        let to = keys::after_prefix(prefix);
        self.meta_read(|meta| {
            let mut result = Ok(());
            meta.scan(Span { from, to: to.as_deref() }, Direction::Forward, &mut |key, value| {
                match visit(key, value) {
                    Ok(true) => return ControlFlow::Continue(()),
                    Ok(false) => {}
                    Err(e) => result = Err(e),
                }
                ControlFlow::Break(())
            })?;
            result
        })
    }

    /// Reads from the meta tree; an I/O error stops the store.
    pub(super) fn meta_read<T>(&self, f: impl FnOnce(&dyn Tree) -> Result<T, ReadError>) -> Result<T, ReadError> {
        self.check()?;
        match f(&*self.meta) {
            Err(ReadError::Backend(e @ BackendError::Io(_))) => Err(self.fail(&e).into()),
            other => other,
        }
    }
}

fn damaged(what: &str, name: &str, error: ValueError) -> ReadError {
    ReadError::DamagedMeta { what: format!("{what} {name}"), reason: error.to_string() }
}
