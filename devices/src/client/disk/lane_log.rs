//! One lane on disk: what is written at its end, read at its head, and deleted behind.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;

use super::folder::{Folder, Place};
use super::record::{Body, Step, step};
use super::segment::{self, HEAD_BYTES, Segment};
use crate::sequence::{Lane, Number};

/// Most segments that are full and not synced yet; the next one syncs the oldest itself.
const UNSYNCED_MAX: usize = 8;

/// A record that was read or kept, and is not acknowledged.
struct Outstanding {
    end: Place,
    bytes: u64,
    resolved: bool,
}

/// A record as it was read.
pub(super) struct Held {
    pub(super) number: Number,
    pub(super) timestamp_ms: i64,
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) properties: Vec<(String, String)>,
    pub(super) ticket: u64,
}

/// What was read of a segment and is not taken yet.
#[derive(Default)]
struct Ahead {
    bytes: Vec<u8>,
    at: usize,
}

pub(super) struct LaneLog {
    folder: Arc<Folder>,
    lane: Lane,
    segment_bytes: u64,
    segments: VecDeque<Segment>,
    next_id: u64,
    writer: Option<Arc<File>>,
    /// The disk took no record: room is made as soon as it can be.
    wants_room: bool,
    /// Written since the last sync: the writer, full segments, the folder's names.
    is_dirty: bool,
    unsynced: Vec<Arc<File>>,
    names_changed: bool,
    /// What is acknowledged.
    head: Place,
    /// What was read.
    read: Place,
    ahead: Ahead,
    outstanding: VecDeque<Outstanding>,
    first_ticket: u64,
    unread: usize,
    bytes: u64,
    /// Places that were damaged, and their bytes.
    pub(super) damaged: (u64, u64),
}

impl LaneLog {
    /// What an earlier start left of a lane: its segments by id, from the acknowledged place on. Gives the newest boot
    /// too.
    pub(super) fn open(
        folder: Arc<Folder>,
        lane: Lane,
        segment_bytes: u64,
        mut ids: Vec<u64>,
        head: Place,
    ) -> io::Result<(Self, Option<u64>)> {
        ids.sort_unstable();
        let next_id = ids.last().copied().unwrap_or(0).max(head.segment) + 1;
        let mut log = Self {
            folder,
            lane,
            segment_bytes,
            segments: VecDeque::new(),
            next_id,
            writer: None,
            wants_room: false,
            is_dirty: false,
            unsynced: Vec::new(),
            names_changed: false,
            head,
            read: head,
            ahead: Ahead::default(),
            outstanding: VecDeque::new(),
            first_ticket: 0,
            unread: 0,
            bytes: 0,
            damaged: (0, 0),
        };
        let mut boot = None;
        let last = ids.last().copied();
        for id in ids {
            boot = boot.max(log.open_segment(id, last == Some(id))?);
        }
        Ok((log, boot))
    }

    fn open_segment(&mut self, id: u64, is_last: bool) -> io::Result<Option<u64>> {
        let path = segment::path(&self.folder.path, self.lane, id);
        let acknowledged = if id == self.head.segment { self.head.offset } else { 0 };
        if id < self.head.segment {
            fs::remove_file(path)?;
            return Ok(None);
        }
        let bytes = fs::read(&path)?;
        let scan = segment::scan(&bytes, acknowledged);
        self.damaged.0 += scan.damaged;
        self.damaged.1 += scan.damaged_bytes;
        if scan.rest_bytes > 0 {
            self.cut(&path, is_last, scan.len, scan.rest_bytes)?;
        }
        // One whose acknowledged place is behind its end lost what was written last: nothing may be written there.
        let is_whole = scan.damaged == 0 && scan.boot_add == 0 && acknowledged <= scan.len;
        let is_whole = is_whole && (scan.records > 0 || scan.len == HEAD_BYTES);
        let goes_on = is_last && is_whole && (HEAD_BYTES..self.segment_bytes).contains(&scan.len);
        if scan.records == 0 && !goes_on {
            fs::remove_file(path)?;
            return Ok(None);
        }
        self.segments.push_back(Segment {
            id,
            len: scan.len,
            boot_add: scan.boot_add,
            unread: scan.records,
            unread_bytes: scan.records_bytes,
        });
        self.unread += scan.records;
        self.bytes += scan.records_bytes;
        if goes_on {
            self.writer = Some(Arc::new(File::options().append(true).open(path)?));
        }
        Ok(scan.boot)
    }

    /// Bytes behind the last whole record of a segment: a torn end in the last one, damage in another.
    fn cut(&mut self, path: &std::path::Path, is_last: bool, len: u64, rest_bytes: u64) -> io::Result<()> {
        if is_last {
            tracing::warn!(path = %path.display(), rest_bytes, "the buffer's torn end is cut off");
        } else {
            tracing::warn!(path = %path.display(), rest_bytes, "the rest of a segment of the buffer is damaged");
            self.damaged.0 += 1;
            self.damaged.1 += rest_bytes;
        }
        let file = File::options().write(true).open(path)?;
        file.set_len(len)?;
        file.sync_all()
    }

    /// Records that are on disk alone.
    pub(super) fn unread(&self) -> usize {
        self.unread
    }

    /// Bytes of records that are not acknowledged.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Up to where all is acknowledged.
    pub(super) fn head(&self) -> Place {
        self.head
    }

    /// Writes a record at the end. One that is kept in memory as well counts as read, and gets a ticket; there must be
    /// nothing unread before it.
    pub(super) fn append(&mut self, record: &[u8], keep: bool) -> io::Result<Option<u64>> {
        match self.try_append(record, keep) {
            Err(_) if self.make_room() => self.try_append(record, keep),
            result => {
                self.wants_room |= result.is_err();
                result
            }
        }
    }

    fn try_append(&mut self, record: &[u8], keep: bool) -> io::Result<Option<u64>> {
        let bytes = record.len() as u64;
        let file = self.writer_for(bytes)?;
        let Some(last) = self.segments.back_mut() else { return Err(io::ErrorKind::NotFound.into()) };
        if let Err(error) = (&*file).write_all(record) {
            // What was written of it must not stand before the next record.
            if file.set_len(last.len).is_err() {
                self.writer = None;
            }
            return Err(error);
        }
        last.len += bytes;
        self.is_dirty = true;
        self.bytes += bytes;
        let end = Place { segment: last.id, offset: last.len };
        if !keep {
            last.unread += 1;
            last.unread_bytes += bytes;
            self.unread += 1;
            return Ok(None);
        }
        self.read = end;
        self.ahead = Ahead::default();
        Ok(Some(self.hold(end, bytes)))
    }

    fn hold(&mut self, end: Place, bytes: u64) -> u64 {
        self.outstanding.push_back(Outstanding { end, bytes, resolved: false });
        self.first_ticket + self.outstanding.len() as u64 - 1
    }

    /// The file that the next record goes to.
    fn writer_for(&mut self, bytes: u64) -> io::Result<Arc<File>> {
        let len = self.segments.back().map_or(0, |last| last.len);
        if let Some(file) = &self.writer
            && (len + bytes <= self.segment_bytes || len <= HEAD_BYTES)
        {
            return Ok(file.clone());
        }
        if self.unsynced.len() >= UNSYNCED_MAX {
            self.unsynced.remove(0).sync_data()?;
        }
        let id = self.next_id;
        self.next_id += 1;
        let file = Arc::new(segment::create(&self.folder.path, self.lane, id)?);
        self.retire_writer();
        self.names_changed = true;
        self.segments.push_back(Segment { id, len: HEAD_BYTES, boot_add: 0, unread: 0, unread_bytes: 0 });
        self.writer = Some(file.clone());
        Ok(file)
    }

    fn retire_writer(&mut self) {
        if let Some(full) = self.writer.take()
            && std::mem::take(&mut self.is_dirty)
        {
            self.unsynced.push(full);
        }
    }

    /// What has to be synced since the last call, and whether the folder is.
    pub(super) fn take_unsynced(&mut self) -> (Vec<Arc<File>>, bool) {
        let mut files = std::mem::take(&mut self.unsynced);
        if std::mem::take(&mut self.is_dirty) {
            files.extend(self.writer.clone());
        }
        (files, std::mem::take(&mut self.names_changed))
    }

    /// Reads the next record; `None` where all is read.
    pub(super) fn read(&mut self) -> io::Result<Option<Held>> {
        loop {
            let at = self.segments.partition_point(|segment| segment.id < self.read.segment);
            let Some(segment) = self.segments.get_mut(at) else { return Ok(None) };
            if segment.id > self.read.segment {
                self.read = Place { segment: segment.id, offset: 0 };
                self.ahead = Ahead::default();
            }
            self.read.offset = self.read.offset.max(HEAD_BYTES);
            if self.ahead.at >= self.ahead.bytes.len() && segment.unread > 0 {
                let bytes = segment::read(&self.folder.path, self.lane, segment, self.read.offset)?;
                self.ahead = Ahead { bytes, at: 0 };
            }
            if segment.unread > 0 {
                match step(&self.ahead.bytes, self.ahead.at) {
                    Step::Record { body, end } => {
                        let bytes = (end - self.ahead.at) as u64;
                        let held = held(&body, segment.boot_add);
                        segment.unread -= 1;
                        segment.unread_bytes = segment.unread_bytes.saturating_sub(bytes);
                        self.unread -= 1;
                        self.read.offset += bytes;
                        self.ahead.at = end;
                        let ticket = self.hold(self.read, bytes);
                        return Ok(Some(Held { ticket, ..held }));
                    }
                    Step::Damaged { next: Some(next) } => {
                        self.read.offset += (next - self.ahead.at) as u64;
                        self.ahead.at = next;
                        continue;
                    }
                    Step::Damaged { next: None } | Step::End => self.lose_rest(at),
                }
            }
            self.ahead = Ahead::default();
            match self.segments.get(at + 1) {
                Some(next) => self.read = Place { segment: next.id, offset: HEAD_BYTES },
                None => return Ok(None),
            }
        }
    }

    /// Records that were in a segment once cannot be found there any more.
    fn lose_rest(&mut self, at: usize) {
        let Some(segment) = self.segments.get_mut(at) else { return };
        let (records, bytes) = (std::mem::take(&mut segment.unread), std::mem::take(&mut segment.unread_bytes));
        tracing::warn!(lane = self.lane.number(), segment = segment.id, records, "records of the buffer are damaged");
        self.unread -= records;
        self.bytes = self.bytes.saturating_sub(bytes);
        self.damaged.0 += records as u64;
        self.damaged.1 += bytes;
        self.read.offset = segment.len;
    }

    /// A record that was read or kept is acknowledged, or needed no more.
    pub(super) fn resolve(&mut self, ticket: u64) {
        let Some(index) = ticket.checked_sub(self.first_ticket).and_then(|index| usize::try_from(index).ok()) else {
            return;
        };
        let Some(record) = self.outstanding.get_mut(index).filter(|record| !record.resolved) else { return };
        record.resolved = true;
        self.bytes = self.bytes.saturating_sub(record.bytes);
        while let Some(first) = self.outstanding.pop_front_if(|first| first.resolved) {
            self.first_ticket += 1;
            self.head = first.end;
        }
        self.delete_acknowledged();
        if self.wants_room {
            self.make_room();
        }
    }

    /// Deletes the segment that is written to as well, where all of it is acknowledged. Whether it did.
    fn make_room(&mut self) -> bool {
        let all = self.outstanding.is_empty() && self.unread == 0;
        let Some(last) = self.segments.back().filter(|last| all && last.len > HEAD_BYTES) else { return false };
        self.head = Place { segment: last.id + 1, offset: 0 };
        self.writer = None;
        self.is_dirty = false;
        self.wants_room = false;
        self.delete_acknowledged();
        true
    }

    fn delete_acknowledged(&mut self) {
        while let Some(first) = self.segments.pop_front_if(|first| first.id < self.head.segment) {
            let path = segment::path(&self.folder.path, self.lane, first.id);
            if let Err(error) = fs::remove_file(&path) {
                // The next start deletes it, as what is acknowledged is known.
                tracing::warn!(path = %path.display(), %error, "a segment of the buffer could not be deleted");
            }
        }
    }

    /// Adds to the boot of every record, durably: the newest segment first, so that a crash in between leaves numbers
    /// that rise. An error leaves a segment as it was on disk; as it is read now, it is raised.
    pub(super) fn raise_boots(&mut self, by: u64) -> io::Result<()> {
        self.retire_writer();
        let mut result = Ok(());
        for segment in self.segments.iter_mut().rev() {
            segment.boot_add = segment.boot_add.saturating_add(by);
            let written = segment::set_boot_add(&self.folder.path, self.lane, segment.id, segment.boot_add);
            result = result.and(written);
        }
        result
    }
}

fn held(body: &Body<'_>, boot_add: u64) -> Held {
    let properties = body.properties.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Held {
        number: body.number(boot_add),
        timestamp_ms: body.timestamp_ms,
        topic: body.topic.to_owned(),
        payload: Bytes::copy_from_slice(body.payload),
        properties,
        ticket: 0,
    }
}
