//! All lanes on disk, as the outbox sees them.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::PathBuf;
use std::sync::Arc;

use super::folder::{Folder, Positions, PositionsFile, sync_names};
use super::lane_log::LaneLog;
use super::record::Body;
use super::{Disk, DiskError, Sync, segment};
use crate::client::outbox::{Done, Entry};
use crate::sequence::{LANES, Lane};

/// The buffer on disk.
pub(crate) struct Store {
    folder: Arc<Folder>,
    lanes: [LaneLog; LANES as usize],
    boot: u64,
    bytes_max: u64,
    sync: Sync,
    /// The positions that were given out to be written, and how many times.
    positions: Positions,
    positions_number: u64,
    record: Vec<u8>,
}

/// What is to be made durable, with the buffer unlocked.
pub(super) struct Due {
    files: Vec<Arc<File>>,
    /// The folder, where its names changed.
    names: Option<PathBuf>,
    positions: Option<(Arc<PositionsFile>, u64, Positions)>,
}

impl Due {
    /// Syncs, then writes the positions.
    pub(super) fn run(self) -> io::Result<()> {
        for file in self.files {
            file.sync_data()?;
        }
        if let Some(folder) = self.names {
            sync_names(&folder)?;
        }
        match &self.positions {
            Some((file, number, positions)) => file.write(*number, positions),
            None => Ok(()),
        }
    }
}

impl Store {
    /// Takes the folder, finds what an earlier start left, and counts this start.
    pub(crate) fn open(disk: &Disk, boot: Option<u64>, wall_ms: i64) -> Result<Self, DiskError> {
        let folder = Arc::new(Folder::take(&disk.folder)?);
        let positions = folder.positions.read();
        let mut ids: [Vec<u64>; LANES as usize] = Default::default();
        for file in fs::read_dir(&folder.path).map_err(DiskError::io("list", &folder.path))? {
            let name = file.map_err(DiskError::io("list", &folder.path))?.file_name();
            if let Some((lane, id)) = name.to_str().and_then(segment::parse_name) {
                ids[lane.index()].push(id);
            }
        }
        let mut newest = None;
        let mut open = |lane: Lane| {
            let (ids, head) = (std::mem::take(&mut ids[lane.index()]), positions[lane.index()]);
            let (log, boot) = LaneLog::open(folder.clone(), lane, disk.segment_bytes, ids, head)
                .map_err(DiskError::io("open a segment in", &folder.path))?;
            newest = newest.max(boot);
            Ok(log)
        };
        let lanes = [open(Lane::URGENT)?, open(Lane::NORMAL)?, open(Lane::BULK)?];
        let boot = next_boot(boot, folder.boot()?, newest, wall_ms)?;
        folder.positions.prepare().map_err(DiskError::io("write the positions in", &folder.path))?;
        folder.set_boot(boot).map_err(DiskError::io("write the boot in", &folder.path))?;
        Ok(Self {
            folder,
            lanes,
            boot,
            bytes_max: disk.bytes_max,
            sync: disk.sync,
            positions,
            positions_number: 0,
            record: Vec::new(),
        })
    }

    /// This start's boot.
    pub(crate) fn boot(&self) -> u64 {
        self.boot
    }

    /// Places that were damaged, and their bytes.
    pub(crate) fn damaged(&self) -> (u64, u64) {
        self.lanes.iter().fold((0, 0), |sum, lane| (sum.0 + lane.damaged.0, sum.1 + lane.damaged.1))
    }

    /// Bytes of a publish's record.
    pub(crate) fn bytes_of(entry: &Entry) -> u64 {
        body(entry).bytes()
    }

    /// Bytes of records that are not acknowledged.
    pub(crate) fn bytes(&self) -> u64 {
        self.lanes.iter().map(LaneLog::bytes).sum()
    }

    pub(crate) fn bytes_max(&self) -> u64 {
        self.bytes_max
    }

    /// Publishes of a lane that are on disk alone.
    pub(crate) fn unread(&self, lane: Lane) -> usize {
        self.lanes[lane.index()].unread()
    }

    /// Writes a publish at its lane's end. One that stays in memory as well gets a ticket; nothing of the lane may be
    /// unread then.
    pub(crate) fn append(&mut self, entry: &Entry, keep: bool) -> Result<Option<u64>, ErrorKind> {
        self.record.clear();
        body(entry).write(&mut self.record).ok_or(ErrorKind::InvalidInput)?;
        let ticket = self.lanes[entry.lane.index()].append(&self.record, keep).map_err(|error| error.kind())?;
        if self.sync == Sync::Always {
            let synced = self.due(false).run();
            if let Err(error) = synced {
                // The record stays there, and may be sent although its publish is not taken.
                ticket.into_iter().for_each(|ticket| self.resolve(entry.lane, ticket));
                return Err(error.kind());
            }
        }
        Ok(ticket)
    }

    /// Reads the next publish of a lane.
    pub(crate) fn read(&mut self, lane: Lane) -> Option<Entry> {
        match self.lanes[lane.index()].read() {
            Ok(held) => held.map(|held| Entry {
                lane,
                number: held.number,
                qos: crate::client::Qos::AtLeastOnce,
                topic: held.topic,
                payload: held.payload,
                timestamp_ms: held.timestamp_ms,
                properties: held.properties,
                repeated: held.number.boot < self.boot,
                unwritten: false,
                ticket: Some(held.ticket),
                done: Done::Nobody,
            }),
            Err(error) => {
                tracing::error!(folder = %self.folder.path.display(), %error, "the buffer cannot be read; it is tried again");
                None
            }
        }
    }

    /// A publish that has a ticket is acknowledged, or needed no more.
    pub(crate) fn resolve(&mut self, lane: Lane, ticket: u64) {
        self.lanes[lane.index()].resolve(ticket);
    }

    /// Adds to the boot of everything held; `boot` is this start's from now on. What cannot be written holds for this start
    /// alone.
    pub(crate) fn raise_boots(&mut self, by: u64, boot: u64) {
        let mut written = Ok(());
        for lane in &mut self.lanes {
            written = written.and(lane.raise_boots(by));
        }
        // The counter last: a start that finds it low raises everything again, and what was not raised before is not
        // taken for stored.
        if let Err(error) = written.and_then(|()| self.folder.set_boot(boot)) {
            tracing::error!(folder = %self.folder.path.display(), %error, "a later boot is not written everywhere");
        }
        self.boot = boot;
    }

    /// What is to be made durable since the last time, and the positions where they moved.
    pub(super) fn due(&mut self, with_positions: bool) -> Due {
        let mut due = Due { files: Vec::new(), names: None, positions: None };
        for lane in &mut self.lanes {
            let (files, names_changed) = lane.take_unsynced();
            if self.sync != Sync::Never {
                due.files.extend(files);
                due.names = due.names.or_else(|| names_changed.then(|| self.folder.path.clone()));
            }
        }
        let positions = [0, 1, 2].map(|lane: usize| self.lanes[lane].head());
        if with_positions && positions != self.positions {
            self.positions = positions;
            self.positions_number += 1;
            due.positions = Some((self.folder.positions.clone(), self.positions_number, positions));
        }
        due
    }

    /// Writes the positions now.
    #[cfg(test)]
    pub(crate) fn write_positions(&mut self) {
        assert!(self.due(true).run().is_ok());
    }

    /// Syncs, whatever the policy, and gives the folder up.
    pub(crate) fn close(mut self) {
        self.sync = Sync::Always;
        let mut due = self.due(true);
        // Positions that were given out may not be written yet, and will not be once the file is closed.
        due.positions = Some((self.folder.positions.clone(), self.positions_number + 1, self.positions));
        if let Err(error) = due.run() {
            tracing::warn!(folder = %self.folder.path.display(), %error, "the buffer could not be synced at its end");
        }
        self.folder.positions.close();
    }
}

fn body(entry: &Entry) -> Body<'_> {
    Body {
        boot: entry.number.boot,
        seq: entry.number.seq,
        timestamp_ms: entry.timestamp_ms,
        topic: &entry.topic,
        payload: &entry.payload,
        properties: entry.properties.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect(),
    }
}

/// The boot of a start, which is later than that of everything held. The first is taken from the clock: a folder that
/// replaces a lost one is then not behind it.
fn next_boot(given: Option<u64>, last: Option<u64>, held: Option<u64>, wall_ms: i64) -> Result<u64, DiskError> {
    if let (Some(given), Some(used)) = (given, held.max(last))
        && given <= used
    {
        return Err(DiskError::Boot { given, used });
    }
    let after_held = held.map_or(1, |held| held.saturating_add(1));
    let counted = match last {
        Some(last) => last.saturating_add(1),
        None => wall_ms.unsigned_abs(),
    };
    Ok(given.unwrap_or(counted.max(after_held)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_that_were_given_out_and_not_written_are_written_at_the_end() {
        let home = tempfile::tempdir().unwrap();
        let disk = Disk::new(home.path().join("buffer"));
        let mut store = Store::open(&disk, None, 1_700).unwrap();
        let entry = Entry {
            lane: Lane::NORMAL,
            number: crate::sequence::Number { boot: store.boot(), seq: 1 },
            qos: crate::client::Qos::AtLeastOnce,
            topic: "a".to_owned(),
            payload: "b".into(),
            timestamp_ms: 0,
            properties: Vec::new(),
            repeated: false,
            unwritten: false,
            ticket: None,
            done: Done::Nobody,
        };
        let ticket = store.append(&entry, true).unwrap().unwrap();
        store.resolve(Lane::NORMAL, ticket);
        let under_way = store.due(true);
        store.close();
        drop(under_way);
        let store = Store::open(&disk, None, 1_700).unwrap();
        assert_eq!(store.unread(Lane::NORMAL), 0, "it is not sent again");
    }

    #[test]
    fn boots_rise_by_one_from_the_clocks() {
        let cases = [
            (None, None, None, 1_700, Some(1_700)),
            (None, None, Some(5_000), 1_700, Some(5_001)),
            (None, None, None, 0, Some(1)),
            (None, Some(7), None, 1_700, Some(8)),
            (None, Some(7), Some(7), 1_700, Some(8)),
            (None, Some(7), Some(9), 1_700, Some(10)),
            (Some(8), Some(7), None, 1_700, Some(8)),
            (Some(7), Some(7), None, 1_700, None),
            (Some(3), None, Some(2), 1_700, Some(3)),
            (Some(3), None, Some(3), 1_700, None),
        ];
        for (given, last, held, wall_ms, expected) in cases {
            let boot = next_boot(given, last, held, wall_ms).ok();
            assert_eq!(boot, expected, "{given:?} {last:?} {held:?} {wall_ms}");
        }
    }
}
