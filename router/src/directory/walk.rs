//! Goes through all devices by name: what is set, what was seen, who is connected.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use sled_data::ReadError as StoreError;

use super::Directory;
use crate::catalog::Device;
use crate::sessions::{DeviceRecord, Seen, SeenElsewhere, SessionInfo};

/// Devices that one step reads of each source.
const STEP_MAX: usize = 1_000;

/// Who is connected, by client id.
pub(super) type Live = BTreeMap<String, SessionInfo>;

/// All that is known of one device.
pub(super) struct Row<'a> {
    pub(super) name: String,
    /// What people set of it.
    pub(super) device: Option<Arc<Device>>,
    /// What was seen of it here.
    pub(super) record: Option<DeviceRecord>,
    /// What another node has seen of it, where that is newer.
    pub(super) elsewhere: Option<SeenElsewhere>,
    /// Its session, where it is connected.
    pub(super) session: Option<&'a SessionInfo>,
}

impl Row<'_> {
    fn new(name: String) -> Self {
        Self { name, device: None, record: None, elsewhere: None, session: None }
    }

    pub(super) fn is_enrolled(&self) -> bool {
        self.device.as_ref().is_some_and(|device| device.enrolled)
    }
}

/// Where a walk is.
pub(super) struct Walk<'a> {
    directory: &'a Directory,
    live: &'a Live,
    after: Option<String>,
    is_done: bool,
}

impl Directory {
    /// Who is connected now; a walk is about one moment in this.
    pub(super) fn live(&self) -> Live {
        self.sessions.list().into_iter().map(|session| (session.device.client_id.clone(), session)).collect()
    }
}

impl<'a> Walk<'a> {
    /// A walk through the devices after `after`.
    pub(super) fn new(directory: &'a Directory, live: &'a Live, after: Option<String>) -> Self {
        Self { directory, live, after, is_done: false }
    }

    /// The next devices by name; `None` after the last.
    pub(super) fn next_rows(&mut self) -> Result<Option<Vec<Row<'a>>>, StoreError> {
        if self.is_done {
            return Ok(None);
        }
        let after = self.after.as_deref();
        let mut rows: BTreeMap<String, Row<'a>> = BTreeMap::new();
        // What is behind the last name of a source that has more is for the next step.
        let mut complete_to: Option<String> = None;
        let mut source = |count: usize, last: Option<&str>| {
            let last = last.filter(|_| count >= STEP_MAX);
            complete_to = match (complete_to.take(), last) {
                (Some(to), Some(last)) => Some(if *last < *to { last.to_owned() } else { to }),
                (to, last) => to.or(last.map(str::to_owned)),
            };
        };
        let set = self.directory.catalog.page(after, STEP_MAX);
        source(set.len(), set.last().map(|(name, _)| &**name));
        let seen = self.directory.sessions.seen_page(after, STEP_MAX)?;
        source(seen.len(), seen.last().map(|(name, _)| name.as_str()));
        let elsewhere = self.directory.sessions.elsewhere_page(after, STEP_MAX);
        source(elsewhere.len(), elsewhere.last().map(|name| &**name));
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let live: Vec<_> = self.live.range::<str, _>((from, Bound::Unbounded)).take(STEP_MAX).collect();
        source(live.len(), live.last().map(|(name, _)| name.as_str()));
        for (name, device) in set {
            row(&mut rows, name.to_string()).device = Some(device);
        }
        let seen: BTreeMap<String, Option<Seen>> = seen.into_iter().collect();
        let is_complete = |name: &str| complete_to.as_deref().is_none_or(|to| name <= to);
        for name in elsewhere.into_iter().filter(|name| is_complete(name)) {
            let here = seen.get(&*name).and_then(Option::as_ref);
            let found = self.directory.sessions.seen_elsewhere(&name, here)?;
            row(&mut rows, name.to_string()).elsewhere = found;
        }
        for (name, record) in seen {
            row(&mut rows, name).record = record.map(|seen| seen.device);
        }
        for (name, session) in live {
            row(&mut rows, name.clone()).session = Some(session);
        }
        if let Some(to) = &complete_to {
            rows.retain(|name, _| name <= to);
        }
        self.is_done = complete_to.is_none();
        self.after = complete_to;
        Ok(Some(rows.into_values().collect()))
    }
}

fn row<'r, 'a>(rows: &'r mut BTreeMap<String, Row<'a>>, name: String) -> &'r mut Row<'a> {
    rows.entry(name.clone()).or_insert_with(|| Row::new(name))
}
