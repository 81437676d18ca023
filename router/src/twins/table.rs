//! The table of twins: pure. A change comes in, is accepted or refused, and what follows is to be recorded.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use devices::stamp::Stamp;
use devices::twin::{Act, Change, Half, Marks, Refusal, StoredTwin, Twin, Versions};

use super::config::Config;

/// Who wants what of a twin.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    /// The device.
    pub device: &'a str,
    /// What is to be done; its version is not looked at.
    pub act: &'a Act,
    /// The version of the half (of the desired one for a deletion) that it is meant for.
    pub if_version: Option<u64>,
    /// Who: `device:pump-7`, `cli`, `api`, `plugin:threshold-alarm`.
    pub who: &'a str,
}

/// When a change is made, and by which node.
#[derive(Debug, Clone, Copy)]
pub struct Moment {
    /// The wall clock, in milliseconds since 1970.
    pub at_ms: u64,
    /// By which the newest of several nodes' changes is found.
    pub stamp: Stamp,
}

/// What another node's word has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Merged {
    /// What is desired.
    pub desired: bool,
    /// What is reported.
    pub reported: bool,
}

/// What became of a request that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// The twin's versions after it.
    pub versions: Versions,
    /// Whether it changed anything.
    pub is_change: bool,
}

/// What is to be recorded, all in one commit.
#[derive(Debug, Default)]
pub struct Pending {
    /// Changes to be appended, in this order.
    pub changes: Vec<(Arc<str>, Change)>,
    /// Twins to be stored as they are now, or deleted.
    pub saved: BTreeSet<Arc<str>>,
    /// What the saved ones take at most, in bytes.
    pub saved_bytes: usize,
}

/// Marks of deleted twins that are kept; beyond that the oldest go.
const MARKS_MAX: usize = 10_000;
/// Marks that are dropped at once: those of this node are one commit.
const MARKS_DROPPED_MAX: usize = 1_000;
/// How long such a mark is kept, in milliseconds: a node that is cut off for longer may bring an older twin back.
const MARK_KEEP_MS: u64 = 7 * 24 * 3_600 * 1_000;

/// Every twin that the node has.
#[derive(Debug, Default)]
pub struct Table {
    config: Config,
    /// The lives that decide here, the present one and those before it: their deletions are stored.
    own: Vec<u64>,
    twins: BTreeMap<Arc<str>, Twin>,
    /// Marks of all twins, and of those that were deleted.
    marks: HashMap<Arc<str>, Marks>,
    /// Deleted twins by when that was.
    gone: BTreeSet<(Stamp, Arc<str>)>,
    /// Devices with a delta.
    differing: BTreeSet<Arc<str>>,
    bytes: usize,
    pending: Pending,
}

impl Table {
    /// A table of what the store held.
    pub fn restore(config: Config, own: Vec<u64>, stored: impl IntoIterator<Item = (Arc<str>, StoredTwin)>) -> Self {
        let mut table = Self { config, own, ..Self::default() };
        for (device, stored) in stored {
            let merged = table.with_marks(&device).merge(&stored);
            table.put(device, merged);
        }
        table
    }

    /// Whether this node has decided it, in this life or one before.
    fn is_own(&self, mark: Stamp) -> bool {
        self.own.contains(&mark.origin)
    }

    /// A device's twin with its marks; where there is none, an empty one.
    fn with_marks(&self, device: &str) -> StoredTwin {
        StoredTwin {
            twin: self.twins.get(device).cloned().unwrap_or_default(),
            marks: self.marks.get(device).copied().unwrap_or_default(),
        }
    }

    /// A device's twin as this node is to store it: with its marks, or, where this node has deleted it, they alone.
    pub fn stored(&self, device: &str) -> Option<Vec<u8>> {
        let stored = self.with_marks(device);
        let is_own_mark = self.is_own(stored.marks.deleted) && self.marks.contains_key(device);
        (stored.is_there() || is_own_mark).then(|| stored.encode())
    }

    /// Takes what another node knows of a device's twin; `None` where that changes nothing here, or there is no room
    /// for it.
    pub fn merge(&mut self, device: &Arc<str>, other: &StoredTwin) -> Option<Merged> {
        let before = self.with_marks(device);
        let after = before.merge(other);
        if after == before {
            return None;
        }
        let had = if before.is_there() { size(device, &before.twin) } else { 0 };
        let has = if after.is_there() { size(device, &after.twin) } else { 0 };
        let has_room = before.is_there() || !after.is_there() || self.twins.len() < self.config.twins_max;
        if !has_room || has > had && self.bytes - had + has > self.config.bytes_max {
            tracing::warn!(%device, "another node's twin is left out: [twins] twins_max or bytes_max is reached");
            return None;
        }
        let merged = Merged {
            desired: before.twin.desired != after.twin.desired,
            reported: before.twin.reported != after.twin.reported,
        };
        if before.is_there() && !after.is_there() {
            // What this node has stored of it is over.
            self.note_saved(Arc::clone(device), 0);
        }
        self.put(Arc::clone(device), after);
        Some(merged)
    }

    /// Whether another node has taken what a device reported, or a deletion of its twin, later than at this moment.
    pub fn is_outdated(&self, device: &str, moment: Stamp) -> bool {
        let is_later = |mark: Stamp| !self.is_own(mark) && mark > moment;
        self.marks.get(device).is_some_and(|marks| is_later(marks.reported.stamp) || is_later(marks.deleted))
    }

    /// Drops marks of deleted twins that are too old, by the wall clock, or too many. Those that this node has stored
    /// are to be removed.
    pub fn drop_marks(&mut self, wall_ms: u64) {
        for _ in 0..MARKS_DROPPED_MAX {
            let Some((stamp, device)) = self.gone.first() else { break };
            let at_ms = u64::try_from(sled_data::hlc_ms(stamp.clock)).unwrap_or(0);
            if at_ms.saturating_add(MARK_KEEP_MS) > wall_ms && self.gone.len() <= MARKS_MAX {
                break;
            }
            let (stamp, device) = (*stamp, Arc::clone(device));
            self.gone.pop_first();
            self.marks.remove(&device);
            if self.is_own(stamp) {
                self.note_saved(device, 0);
            }
        }
    }

    /// One twin.
    pub fn get(&self, device: &str) -> Option<&Twin> {
        self.twins.get(device)
    }

    /// Twins of devices whose names come after one, in order.
    pub fn after<'a>(&'a self, device: Option<&str>) -> impl Iterator<Item = (&'a Arc<str>, &'a Twin)> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = device.map_or(Unbounded, Excluded);
        self.twins.range::<str, _>((from, Unbounded))
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.twins.len()
    }

    /// Bytes of all documents.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Devices with a delta.
    pub fn differing(&self) -> &BTreeSet<Arc<str>> {
        &self.differing
    }

    /// What is to be recorded so far.
    pub fn pending(&self) -> &Pending {
        &self.pending
    }

    /// Takes what is to be recorded.
    pub fn take_pending(&mut self) -> Pending {
        std::mem::take(&mut self.pending)
    }

    /// Decides about a request.
    ///
    /// # Errors
    /// Why it is refused; nothing has changed then.
    pub fn change(&mut self, request: Request<'_>, now: Moment) -> Result<Accepted, Refusal> {
        let (half, at_ms) = match request.act {
            Act::Deleted => return self.delete(request, now),
            Act::Patched { half, .. } | Act::Replaced { half, .. } => (*half, now.at_ms),
        };
        let before = self.twins.get(request.device);
        let (twin, version) =
            before.unwrap_or(&Twin::default()).after(request.act, request.if_version, at_ms, request.who)?;
        let versions = twin.versions();
        let Some(version) = version else { return Ok(Accepted { versions, is_change: false }) };
        let had = before.map_or(0, |before| size(request.device, before));
        let has = size(request.device, &twin);
        let has_room = before.is_some() || self.twins.len() < self.config.twins_max;
        if !has_room || has > had && self.bytes - had + has > self.config.bytes_max {
            return Err(Refusal::NoRoom);
        }
        let device: Arc<str> = request.device.into();
        let after = self.with_marks(&device).changed(twin, half, now.stamp);
        self.put(Arc::clone(&device), after);
        self.note(device, has, Change::new(at_ms, request.who, request.act.clone().with_version(version)));
        Ok(Accepted { versions, is_change: true })
    }

    fn delete(&mut self, request: Request<'_>, now: Moment) -> Result<Accepted, Refusal> {
        let twin = self.twins.get(request.device).ok_or(Refusal::NoTwin)?;
        let found = twin.half(Half::Desired).version;
        if let Some(expected) = request.if_version.filter(|expected| *expected != found) {
            return Err(Refusal::Version { expected, found });
        }
        let after = self.with_marks(request.device).deleted(now.stamp);
        self.put(request.device.into(), after);
        self.note(request.device.into(), 0, Change::new(now.at_ms, request.who, Act::Deleted));
        Ok(Accepted { versions: Versions::default(), is_change: true })
    }

    fn note(&mut self, device: Arc<str>, bytes: usize, change: Change) {
        self.pending.changes.push((Arc::clone(&device), change));
        self.note_saved(device, bytes);
    }

    fn note_saved(&mut self, device: Arc<str>, bytes: usize) {
        if self.pending.saved.insert(device) {
            self.pending.saved_bytes += bytes;
        }
    }

    fn put(&mut self, device: Arc<str>, stored: StoredTwin) {
        let is_there = stored.is_there();
        let StoredTwin { twin, marks } = stored;
        if let Some(before) = self.marks.insert(Arc::clone(&device), marks) {
            self.gone.remove(&(before.deleted, Arc::clone(&device)));
        }
        if !is_there {
            if let Some(before) = self.twins.remove(&device) {
                self.bytes -= size(&device, &before);
            }
            self.differing.remove(&device);
            self.gone.insert((marks.deleted, device));
            return;
        }
        match twin.differs() {
            true => self.differing.insert(Arc::clone(&device)),
            false => self.differing.remove(&device),
        };
        self.bytes += size(&device, &twin);
        if let Some(before) = self.twins.insert(Arc::clone(&device), twin) {
            self.bytes -= size(&device, &before);
        }
    }
}

fn size(device: &str, twin: &Twin) -> usize {
    device.len() + twin.bytes()
}

#[cfg(test)]
mod tests {
    use devices::twin::Document;

    use super::*;

    fn patch(half: Half, json: &str) -> Act {
        Act::Patched { half, version: 0, patch: Document::parse(json.as_bytes()).unwrap() }
    }

    fn change(table: &mut Table, device: &str, act: &Act, if_version: Option<u64>) -> Result<Accepted, &'static str> {
        let now = Moment { at_ms: 5, stamp: Stamp { clock: 5, origin: 1 } };
        table.change(Request { device, act, if_version, who: "x" }, now).map_err(|refusal| refusal.code())
    }

    #[test]
    fn what_is_accepted_is_to_be_recorded() {
        let mut table = Table::default();
        let desired = patch(Half::Desired, r#"{"a":1}"#);
        let accepted = change(&mut table, "d", &desired, Some(0)).unwrap();
        assert_eq!(accepted, Accepted { versions: Versions { desired: 1, reported: 0 }, is_change: true });
        assert!(table.differing().contains("d"));
        assert_eq!(change(&mut table, "d", &desired, Some(0)), Err("version_conflict"));
        assert!(!change(&mut table, "d", &desired, Some(1)).unwrap().is_change);
        change(&mut table, "d", &patch(Half::Reported, r#"{"a":1}"#), None).unwrap();
        assert!(table.differing().is_empty());
        let pending = table.take_pending();
        assert_eq!((pending.changes.len(), pending.saved.len()), (2, 1));
        assert_eq!(pending.changes[0].1.act, desired.with_version(1));
        assert!(table.take_pending().changes.is_empty());
    }

    #[test]
    fn what_a_life_before_has_taken_is_no_other_nodes_word() {
        let by = |origin| {
            let twin = StoredTwin::default();
            let now = Stamp { clock: 9, origin };
            let (after, _) = Twin::default().after(&patch(Half::Reported, r#"{"a":1}"#), None, 5, "d").unwrap();
            twin.changed(after, Half::Reported, now)
        };
        for (origin, is_outdated) in [(1, false), (5, false), (6, true)] {
            let table = Table::restore(Config::default(), vec![5, 1], [("d".into(), by(origin))]);
            // It was stored before that was taken, and is read now.
            assert_eq!(table.is_outdated("d", Stamp { clock: 7, origin: 1 }), is_outdated, "{origin}");
            assert!(!table.is_outdated("d", Stamp { clock: 10, origin: 1 }), "{origin}");
        }
        // A mark of a deletion goes from the store, whichever life has written it.
        for (origin, is_stored) in [(1, true), (5, true), (6, false)] {
            let deleted = by(origin).deleted(Stamp { clock: 10, origin });
            let mut table = Table::restore(Config::default(), vec![5, 1], [("d".into(), deleted)]);
            assert_eq!(table.stored("d").is_some(), is_stored, "{origin}");
            table.drop_marks(u64::MAX);
            assert_eq!(table.pending().saved.contains("d"), is_stored, "{origin}");
        }
    }

    #[test]
    fn a_deletion_leaves_nothing() {
        let mut table = Table::default();
        assert_eq!(change(&mut table, "d", &Act::Deleted, None), Err("no_twin"));
        change(&mut table, "d", &patch(Half::Desired, r#"{"a":1}"#), None).unwrap();
        assert_eq!(change(&mut table, "d", &Act::Deleted, Some(2)), Err("version_conflict"));
        change(&mut table, "d", &Act::Deleted, Some(1)).unwrap();
        assert_eq!((table.count(), table.bytes(), table.differing().len()), (0, 0, 0));
        assert!(table.pending().saved.contains("d"));
    }

    #[test]
    fn bounds_refuse_what_is_new_or_grows() {
        let config = Config { twins_max: 2, bytes_max: 100, ..Config::default() };
        let mut table = Table::restore(config, vec![1], []);
        change(&mut table, "a", &patch(Half::Reported, "{}"), None).unwrap();
        let large = patch(Half::Desired, &format!("{{\"x\":\"{}\"}}", "y".repeat(80)));
        change(&mut table, "a", &large, None).unwrap();
        assert_eq!(change(&mut table, "b", &patch(Half::Desired, r#"{"a":1}"#), None), Err("too_many_twins"));
        change(&mut table, "a", &patch(Half::Desired, r#"{"x":null}"#), None).unwrap();
        change(&mut table, "b", &patch(Half::Reported, "{}"), None).unwrap();
        assert_eq!(change(&mut table, "c", &patch(Half::Desired, "{}"), None), Err("too_many_twins"));
        let counted: usize = table.after(None).map(|(device, twin)| size(device, twin)).sum();
        assert_eq!(table.bytes(), counted);
        let names: Vec<&str> = table.after(Some("a")).map(|(device, _)| &**device).collect();
        assert_eq!(names, ["b"]);
    }
}
