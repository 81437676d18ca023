//! What sled writes over while it opens: kept in a file beside it until the store is known to be whole.
//!
//! sled reads its log up to the first message that is not sound and takes that for the torn end of the last write: over what lies behind it in
//! that segment, and over all segments behind that, it writes zeros; so it does with segments in which it finds nothing that counts. Only
//! then can be told that synced commits are gone. What salvage would find there lies in this file, as raw bytes. It is never written over: who
//! starts a refused store again finds in it what the first start kept.
//!
//! Of sled's format this much is known here:
//! ```text
//! segment:  8 MiB; CRC32 of the rest, inverted u32 | log's place of the segment, inverted but for the sign i64 | up to where the log
//!           was stable when it was begun, the same way i64 | messages | a message `cap`, or less than 32 bytes
//! message:  CRC32 of body and rest of the head, inverted u32 | kind u8 | body's length | segment's number | page | body
//! ```
//! Numbers are little-endian; those without a size have 1 to 9 bytes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::{SEGMENT_BYTES, io, sync_folder};
use crate::backend::{BackendError, read_or_zeros};

/// What is kept, in the store's folder.
pub(crate) const TAIL_FILE: &str = "sled.tail";
/// The same while it is being written.
const UNFINISHED_FILE: &str = "sled.tail.new";
/// Most bytes that are kept: of the log's end the first, then of what lies before it the newest. As many as a store leaves free on the disk.
const KEPT_BYTES_MAX: u64 = 64 << 20;
/// Segments before the log's end whose messages are looked at, the newest: 1 GiB. sled reads them all; a large store is not to be read twice.
const WALKED_SEGMENTS_MAX: usize = 128;
/// Zeros between two ranges: no batch that is cut off at the end of one hides what begins the next.
const GAP_BYTES: i64 = crate::batch::BATCH_BYTES_MAX as i64;
const COPY_BYTES: usize = 1 << 20;

/// Bytes of a segment's head; where no more than `MESSAGE_HEAD_MAX` are left in a segment, no message begins.
const SEGMENT_HEAD: usize = 20;
const MESSAGE_HEAD_MAX: usize = 32;
/// Kinds of messages: the last of a segment, the first of a batch, and the largest.
const CAP: u8 = 2;
const BATCH: u8 = 3;
const KIND_MAX: u8 = 11;
const SEGMENT: i64 = SEGMENT_BYTES as i64;

/// Keeps what sled would write over, durably, unless something is kept already.
pub(super) fn keep(folder: &Path, sled_folder: &Path) -> Result<(), BackendError> {
    let kept = folder.join(TAIL_FILE);
    if kept.exists() {
        return Ok(());
    }
    let db = match File::open(sled_folder.join("db")) {
        Ok(db) => db,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(io(e)),
    };
    let ranges = unread(&db, db.metadata().map_err(io)?.len(), snapshot_lsn(sled_folder)?)?;
    if ranges.is_empty() {
        return Ok(());
    }
    let unfinished = folder.join(UNFINISHED_FILE);
    copy(&db, &ranges, &unfinished).inspect_err(|_| {
        // What failed is told; a rest that stays is written over by the next opening.
        let _ = std::fs::remove_file(&unfinished);
    })?;
    std::fs::rename(&unfinished, &kept).map_err(io)?;
    sync_folder(folder)
}

/// Lets go of what is kept, if anything is.
pub(super) fn remove(folder: &Path) -> Result<(), BackendError> {
    match std::fs::remove_file(folder.join(TAIL_FILE)) {
        Ok(()) => sync_folder(folder),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(e) => Err(io(e)),
    }
}

fn copy(db: &File, ranges: &[Range<u64>], to: &Path) -> Result<(), BackendError> {
    let write = || {
        let mut to = File::create(to)?;
        let mut buffer = vec![0; COPY_BYTES];
        for range in ranges {
            for at in range.clone().step_by(COPY_BYTES) {
                let bytes = usize::try_from(range.end - at).map_or(COPY_BYTES, |left| left.min(COPY_BYTES));
                read_or_zeros(db, at, &mut buffer[..bytes]);
                to.write_all(&buffer[..bytes])?;
            }
            to.seek(SeekFrom::Current(GAP_BYTES))?;
        }
        to.sync_all()
    };
    write().map_err(|e: std::io::Error| match e.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => BackendError::Full,
        _ => io(e),
    })
}

/// Up to where the log is in the newest snapshot: sled reads from the segment of that place on.
fn snapshot_lsn(sled_folder: &Path) -> Result<i64, BackendError> {
    let mut newest = 0;
    for entry in std::fs::read_dir(sled_folder).map_err(io)? {
        let name = entry.map_err(io)?.file_name();
        let lsn = name.to_str().and_then(|name| name.strip_prefix("snap."));
        newest = newest.max(lsn.and_then(|lsn| i64::from_str_radix(lsn, 16).ok()).unwrap_or(0));
    }
    Ok(newest)
}

/// Where bytes lie that are not all zeros and that sled may not read, and so writes over.
///
/// # Errors
/// [`BackendError::Damaged`] where sled would write over all that it has written since it was opened last: that is too much to be kept.
fn unread(db: &File, len: u64, snapshot: i64) -> Result<Vec<Range<u64>>, BackendError> {
    let (mut log, mut strange, mut stable) = (BTreeMap::new(), Vec::new(), snapshot);
    for at in (0..len).step_by(SEGMENT_BYTES) {
        match SegmentHead::read(db, at) {
            Some(head) => {
                stable = stable.max(head.stable);
                log.insert(head.lsn, at);
            }
            None => strange.push(at),
        }
    }
    let base = |lsn: i64| lsn / SEGMENT * SEGMENT;
    let tail_from = base(stable);
    if log.range(tail_from..).next().is_some_and(|(lsn, _)| *lsn != tail_from) {
        return Err(BackendError::Damaged(format!("the segment of its log that begins at {tail_from} is missing")));
    }
    let mut buffer = vec![0; SEGMENT_BYTES];
    let mut tail = Tail { next: tail_from, torn: false, batch_last: 0 };
    let (mut found, mut whole) = (Vec::new(), Vec::new());
    for (lsn, at) in log.range(tail_from..) {
        let bytes = read_segment(db, *at, len, &mut buffer);
        let from = tail.unread_from(*lsn, &walk(bytes, *lsn / SEGMENT));
        found.extend(used(bytes, from, *at));
        whole.extend(used(bytes, 0, *at));
    }
    if tail.batch_last >= tail.next {
        found = whole;
    }
    for (lsn, at) in log.range(base(snapshot)..tail_from).rev().take(WALKED_SEGMENTS_MAX) {
        let bytes = read_segment(db, *at, len, &mut buffer);
        found.extend(used(bytes, walk(bytes, *lsn / SEGMENT).end, *at));
    }
    for at in strange {
        found.extend(used(read_segment(db, at, len, &mut buffer), 0, at));
    }
    Ok(bounded(found))
}

/// The end of the log, in which sled lets nothing be missing.
struct Tail {
    /// Where the log goes on.
    next: i64,
    /// Whether it has ended.
    torn: bool,
    /// Where the last batch ends at the latest: sled stops before one that is not whole.
    batch_last: i64,
}

impl Tail {
    /// From where on sled does not read the next segment.
    fn unread_from(&mut self, lsn: i64, walked: &Walked) -> usize {
        self.torn |= lsn != self.next;
        if self.torn {
            return 0;
        }
        self.batch_last = self.batch_last.max(walked.batch_last);
        self.torn = !walked.is_full;
        self.next = if walked.is_full { lsn + SEGMENT } else { lsn + walked.end as i64 };
        walked.end
    }
}

/// As many of the ranges as may be kept, from the first on.
fn bounded(mut ranges: Vec<Range<u64>>) -> Vec<Range<u64>> {
    let mut left = KEPT_BYTES_MAX;
    ranges.retain_mut(|range| {
        range.end = range.end.min(range.start + left);
        left -= range.end - range.start;
        !range.is_empty()
    });
    ranges
}

/// Bytes of the segment at `at`; fewer than a whole one at the end of the file.
fn read_segment<'a>(db: &File, at: u64, len: u64, buffer: &'a mut [u8]) -> &'a [u8] {
    let bytes = usize::try_from(len - at).map_or(SEGMENT_BYTES, |left| left.min(SEGMENT_BYTES));
    read_or_zeros(db, at, &mut buffer[..bytes]);
    &buffer[..bytes]
}

/// Where in the file the bytes of a segment from `from` on lie, without the zeros at the end; `None` where there are only such.
fn used(segment: &[u8], from: usize, at: u64) -> Option<Range<u64>> {
    let end = segment.iter().rposition(|byte| *byte != 0)? + 1;
    (from < end).then(|| at + from as u64..at + end as u64)
}

struct SegmentHead {
    lsn: i64,
    stable: i64,
}

impl SegmentHead {
    /// The head of the segment at `at`, if it is sound.
    fn read(db: &File, at: u64) -> Option<SegmentHead> {
        let mut bytes = [0; SEGMENT_HEAD];
        db.read_exact_at(&mut bytes, at).ok()?;
        let (sum, rest) = bytes.split_first_chunk()?;
        let (lsn, rest_of) = rest.split_first_chunk()?;
        let (stable, _) = rest_of.split_first_chunk()?;
        let number = |bytes: &[u8; 8]| i64::from_le_bytes(*bytes) ^ i64::MAX;
        let (lsn, stable) = (number(lsn), number(stable));
        let is_sound = crc32fast::hash(rest) == !u32::from_le_bytes(*sum) && lsn >= 0 && lsn % SEGMENT == 0;
        is_sound.then_some(SegmentHead { lsn, stable })
    }
}

/// What sled reads of a segment.
struct Walked {
    /// Where the first message stands that is not sound; the segment's end where there is none.
    end: usize,
    /// Whether the segment has no room for another message, or said that there is none.
    is_full: bool,
    /// Where the last batch ends, in the log.
    batch_last: i64,
}

fn walk(segment: &[u8], number: i64) -> Walked {
    let mut walked = Walked { end: SEGMENT_HEAD, is_full: false, batch_last: 0 };
    while walked.end + MESSAGE_HEAD_MAX <= SEGMENT_BYTES {
        let Some(message) = segment.get(walked.end..).and_then(|bytes| Message::read(bytes, number)) else {
            return walked;
        };
        walked.end += message.bytes;
        match message.kind {
            CAP => break,
            BATCH => walked.batch_last = walked.batch_last.max(message.body_number),
            _ => {}
        }
    }
    Walked { end: SEGMENT_BYTES, is_full: true, ..walked }
}

struct Message {
    kind: u8,
    /// Of head and body.
    bytes: usize,
    /// The body as a number: of a batch's message where its last one stands.
    body_number: i64,
}

impl Message {
    /// The message that `bytes` begin with, if it is sound and of the segment `number`.
    fn read(bytes: &[u8], number: i64) -> Option<Message> {
        let (sum, head) = bytes.split_first_chunk()?;
        let (kind, rest) = head.split_first()?;
        let (body_len, rest) = take_number(rest)?;
        let (of, rest) = take_number(rest)?;
        let (_page, rest) = take_number(rest)?;
        let body = rest.get(..usize::try_from(body_len).ok()?)?;
        let mut check = crc32fast::Hasher::new();
        check.update(body);
        check.update(&head[..head.len() - rest.len()]);
        let is_sound = check.finalize() == !u32::from_le_bytes(*sum) && i64::try_from(of) == Ok(number);
        let body_number = body.first_chunk().map_or(0, |body| i64::from_le_bytes(*body));
        let message = Message { kind: *kind, bytes: bytes.len() - rest.len() + body.len(), body_number };
        (is_sound && (1..=KIND_MAX).contains(kind)).then_some(message)
    }
}

/// A number of 1 to 9 bytes, and what follows it.
fn take_number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let byte = |at: usize| rest.get(at).map(|byte| u64::from(*byte));
    let (number, more) = match *first {
        0..=240 => (u64::from(*first), 0),
        241..=248 => (240 + 256 * (u64::from(*first) - 241) + byte(0)?, 1),
        249 => (2_288 + 256 * byte(0)? + byte(1)?, 2),
        250..=255 => {
            let more = usize::from(*first) - 247;
            let mut number = [0; 8];
            number[..more].copy_from_slice(rest.get(..more)?);
            (u64::from_le_bytes(number), more)
        }
    };
    Some((number, &rest[more..]))
}
