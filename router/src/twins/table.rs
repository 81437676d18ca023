//! The table of twins: pure. A change comes in, is accepted or refused, and what follows is to be recorded.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use devices::twin::{Act, Change, Half, Refusal, Twin, Versions};

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

/// Every twin that the node has.
#[derive(Debug, Default)]
pub struct Table {
    config: Config,
    twins: BTreeMap<Arc<str>, Twin>,
    /// Devices with a delta.
    differing: BTreeSet<Arc<str>>,
    bytes: usize,
    pending: Pending,
}

impl Table {
    /// A table of what the store held.
    pub fn restore(config: Config, stored: impl IntoIterator<Item = (Arc<str>, Twin)>) -> Self {
        let mut table = Self { config, ..Self::default() };
        for (device, twin) in stored {
            table.put(device, twin);
        }
        table
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
    pub fn change(&mut self, request: Request<'_>, at_ms: u64) -> Result<Accepted, Refusal> {
        if matches!(request.act, Act::Deleted) {
            return self.delete(request, at_ms);
        }
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
        self.put(Arc::clone(&device), twin);
        self.note(device, has, Change::new(at_ms, request.who, request.act.clone().with_version(version)));
        Ok(Accepted { versions, is_change: true })
    }

    fn delete(&mut self, request: Request<'_>, at_ms: u64) -> Result<Accepted, Refusal> {
        let twin = self.twins.get(request.device).ok_or(Refusal::NoTwin)?;
        let found = twin.half(Half::Desired).version;
        if let Some(expected) = request.if_version.filter(|expected| *expected != found) {
            return Err(Refusal::Version { expected, found });
        }
        self.bytes -= size(request.device, twin);
        self.twins.remove(request.device);
        self.differing.remove(request.device);
        self.note(request.device.into(), 0, Change::new(at_ms, request.who, Act::Deleted));
        Ok(Accepted { versions: Versions::default(), is_change: true })
    }

    fn note(&mut self, device: Arc<str>, bytes: usize, change: Change) {
        self.pending.changes.push((Arc::clone(&device), change));
        if self.pending.saved.insert(device) {
            self.pending.saved_bytes += bytes;
        }
    }

    fn put(&mut self, device: Arc<str>, twin: Twin) {
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
        table.change(Request { device, act, if_version, who: "x" }, 5).map_err(|refusal| refusal.code())
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
        let mut table = Table::restore(config, [("a".into(), Twin::default())]);
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
