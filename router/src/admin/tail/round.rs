//! Reads a topic's partitions, of every origin, in rounds and puts each round in order of time; tells of gaps.
//!
//! Within a partition the order is that of offsets, always. Between partitions the events of one
//! round are ordered by their timestamps.

use std::sync::Arc;

use sled_data::{HoleWhy, Offset, PartitionId, ReadError as StoreError};

use crate::admin::ApiError;
use crate::admin::event_json::{self, Place};
use crate::event_log::{Batch, EventLog, ReadError, Topic};

/// Bytes of a round's lines after which no further batch is read.
pub const ROUND_BYTES_MAX: usize = 1 << 20;
/// Bytes asked of one partition at once; at least one batch comes.
const PARTITION_BYTES: usize = 64 << 10;

/// Where a tail begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum From {
    /// With the oldest event that is kept.
    Start,
    /// With the next one to come.
    End,
    /// At an offset, in each partition.
    Offset(Offset),
    /// At a moment: milliseconds since 1970.
    TimeMs(i64),
    /// So many before the end, in each partition of each origin.
    Newest(u64),
}

impl From {
    /// Reads `start`, `end`, an offset, `@` and milliseconds since 1970, or `newest:` and a number.
    ///
    /// # Errors
    /// What would be right.
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!(
                "from={text:?}: expected start, end, an offset, @ and milliseconds since 1970, or newest: and a number"
            )
        };
        match (text, text.strip_prefix('@'), text.strip_prefix("newest:")) {
            ("start", ..) => Ok(Self::Start),
            ("end", ..) => Ok(Self::End),
            (_, Some(ms), _) => ms.parse().map(Self::TimeMs).map_err(|_| wrong()),
            (_, _, Some(count)) => count.parse().map(Self::Newest).map_err(|_| wrong()),
            _ => text.parse().map(Self::Offset).map_err(|_| wrong()),
        }
    }
}

/// Reads `@` and milliseconds since 1970.
///
/// # Errors
/// What would be right.
pub fn parse_ms(text: &str) -> Result<i64, String> {
    let ms = text.strip_prefix('@').and_then(|ms| ms.parse().ok());
    ms.ok_or_else(|| format!("to={text:?}: expected @ and milliseconds since 1970"))
}

/// Where one partition is read.
struct Cursor {
    id: PartitionId,
    next: Offset,
    /// Where it ends, unless it is followed.
    end: Option<Offset>,
}

impl Cursor {
    fn is_done(&self) -> bool {
        self.end.is_some_and(|end| self.next >= end)
    }
}

/// One line, with what orders it.
struct Line {
    /// The event's timestamp, or that of one before it in its partition where that is later.
    at_ms: i64,
    is_event: bool,
    bytes: Vec<u8>,
}

/// What one round gave.
#[derive(Debug, Default)]
pub struct Round {
    /// Lines, each ended.
    pub bytes: Vec<u8>,
    /// How many of them are events.
    pub events: u64,
    /// Whether nothing will follow.
    pub ended: bool,
}

/// A topic being read.
pub struct Reading {
    log: Arc<EventLog>,
    topic: Arc<Topic>,
    cursors: Vec<Cursor>,
    /// The partition that the next round begins with, so that none waits for ever.
    first: usize,
    /// The only partition number that is read.
    only: Option<u32>,
    follow: bool,
}

impl Reading {
    /// Finds where each partition begins, and where it ends unless it is followed.
    ///
    /// # Errors
    /// When the store cannot look a time up.
    pub fn begin(
        log: Arc<EventLog>,
        topic: Arc<Topic>,
        from: From,
        only: Option<u32>,
        follow: bool,
    ) -> Result<Self, ApiError> {
        let mut cursors = Vec::new();
        for partition in log.partitions_of(&topic) {
            let id = partition.id();
            if only.is_some_and(|only| only != id.index) {
                continue;
            }
            let end = partition.newest_end();
            let next = match from {
                From::Start => first_to_tell(&log, id),
                From::End => end,
                // What is gone from there on is told as a gap.
                From::Offset(offset) => offset,
                From::Newest(count) => end.saturating_sub(count).max(log.start_offset(id)).min(end),
                From::TimeMs(ms) => match log.store().newest_at_time(id, ms) {
                    Ok(offset) => offset.min(end),
                    Err(error) => return Err(ApiError::internal(error.to_string())),
                },
            };
            cursors.push(Cursor { id, next, end: (!follow).then_some(end) });
        }
        Ok(Self { log, topic, cursors, first: 0, only, follow })
    }

    /// The same up to before a moment, Unix milliseconds, where one is said.
    ///
    /// # Errors
    /// When the store cannot look it up.
    pub fn until(mut self, to_ms: Option<i64>) -> Result<Self, ApiError> {
        let Some(ms) = to_ms else { return Ok(self) };
        for cursor in &mut self.cursors {
            let found = self.log.store().newest_at_time(cursor.id, ms);
            let to = found.map_err(|error| ApiError::internal(error.to_string()))?;
            cursor.end = Some(cursor.end.map_or(to, |end| end.min(to)));
        }
        Ok(self)
    }

    /// Finds partitions of origins that came since; all that they have is new.
    fn find_new(&mut self) {
        let found = self.log.partitions_of(&self.topic);
        if found.len() == self.cursors.len() {
            return;
        }
        for id in found.iter().map(|partition| partition.id()) {
            let wanted = self.only.is_none_or(|only| only == id.index);
            if wanted && !self.cursors.iter().any(|cursor| cursor.id == id) {
                self.cursors.push(Cursor { id, next: self.log.start_offset(id), end: None });
            }
        }
    }

    /// Reads on, from every partition that has something, up to about [`ROUND_BYTES_MAX`] bytes. Gives the first
    /// `events_max` events of what was read: where there were more, this must be the last round.
    pub fn round(&mut self, events_max: u64) -> Round {
        if self.follow {
            self.find_new();
        }
        let mut lines: Vec<Line> = Vec::new();
        let mut bytes = 0;
        let count = self.cursors.len();
        for step in 0..count {
            if bytes >= ROUND_BYTES_MAX {
                break;
            }
            let at = (self.first + step) % count;
            let Some(cursor) = self.cursors.get_mut(at) else { break };
            if cursor.is_done() {
                continue;
            }
            let mut read = PartitionRound { topic: self.topic.name(), cursor, lines: Vec::new() };
            read.fill(&self.log);
            bytes += read.lines.iter().map(|line| line.bytes.len()).sum::<usize>();
            lines.append(&mut read.lines);
        }
        self.first = if count == 0 { 0 } else { (self.first + 1) % count };
        // Stable: a partition's lines rise already and keep their order.
        lines.sort_by_key(|line| line.at_ms);
        let mut round = Round { ended: self.cursors.iter().all(Cursor::is_done), ..Round::default() };
        for line in lines {
            if line.is_event && round.events == events_max {
                break;
            }
            round.events += u64::from(line.is_event);
            round.bytes.extend_from_slice(&line.bytes);
        }
        round
    }
}

/// Where what can be told of a partition begins: with the gap that it begins with, if that is one of events that never came here.
fn first_to_tell(log: &EventLog, id: PartitionId) -> Offset {
    let start = log.start_offset(id);
    let gaps = log.store().gaps(id).unwrap_or_default();
    gaps.last().filter(|gap| gap.to >= start && gap.from > 0).map_or(start, |gap| gap.from)
}

/// What one partition gives to a round.
struct PartitionRound<'a> {
    topic: &'a str,
    cursor: &'a mut Cursor,
    lines: Vec<Line>,
}

impl PartitionRound<'_> {
    fn fill(&mut self, log: &EventLog) {
        let before = self.open_hole(log);
        match log.read_newest(self.cursor.id, self.cursor.next, PARTITION_BYTES) {
            Ok(batches) => {
                let start = batches.first().map_or_else(|| self.first_behind(log), Batch::base_offset);
                // What is live goes on ahead of what is still to come.
                if let Some(to) = before.or_else(|| self.open_hole(log)).filter(|to| start >= *to) {
                    self.gap(to, HoleWhy::Later.name());
                }
                if start > self.cursor.next {
                    self.gap_to(start, log);
                }
                batches.iter().for_each(|batch| self.take(batch));
            }
            Err(ReadError::Store(StoreError::Damaged { to, .. })) => self.gap(to, "damaged"),
            // Deleted, or the store has failed: there is nothing more to be read.
            Err(error) => {
                tracing::debug!(%error, partition = %self.cursor.id, "a tail ended early");
                self.cursor.end = Some(self.cursor.next);
            }
        }
    }

    /// Up to where the open hole goes in which it stands.
    fn open_hole(&self, log: &EventLog) -> Option<Offset> {
        let partition = log.partition(self.cursor.id).ok()?;
        let (from, _) = partition.ahead_at(self.cursor.next)?;
        (partition.visible_end()..from).contains(&self.cursor.next).then_some(from)
    }

    /// Where the partition goes on, of which nothing that is visible can be read: at its start, or behind the hole that it ends with.
    fn first_behind(&self, log: &EventLog) -> Offset {
        let Cursor { id, next, .. } = *self.cursor;
        let hole = log.store().holes(id).into_iter().find(|hole| (hole.from..hole.to).contains(&next));
        hole.map_or_else(|| log.start_offset(id), |hole| hole.to.min(log.newest_end(id)))
    }

    fn take(&mut self, batch: &Batch) {
        for (offset, record) in batch.events_from(self.cursor.next) {
            if self.cursor.end.is_some_and(|end| offset >= end) {
                return;
            }
            let (partition, is_late) = (self.cursor.id, batch.is_late());
            let place = Place { topic: self.topic, partition, offset, is_late };
            self.push(record.timestamp_ms, true, event_json::line(place, &record));
            self.cursor.next = offset + 1;
        }
    }

    /// Tells of offsets that are not there, up to before `to`: first of those that never came here, which are remembered.
    fn gap_to(&mut self, to: Offset, log: &EventLog) {
        for hole in log.store().holes(self.cursor.id).iter().filter(|hole| hole.from < to) {
            self.gap(hole.from, "retention");
            self.gap(hole.to.min(to), hole.why.name());
        }
        match log.store().gaps(self.cursor.id) {
            Ok(gaps) => {
                for gap in gaps.iter().filter(|gap| gap.from < to) {
                    self.gap(gap.from, "retention");
                    self.gap(gap.to.min(to), gap.cause.name());
                }
            }
            Err(error) => tracing::warn!(%error, "the cause of a gap cannot be read"),
        }
        self.gap(to, "retention");
    }

    /// Tells of offsets that are not there, up to before `to`.
    fn gap(&mut self, to: Offset, reason: &str) {
        let to = self.cursor.end.map_or(to, |end| to.min(end));
        if to <= self.cursor.next {
            return;
        }
        let Cursor { id: partition, next: offset, .. } = *self.cursor;
        let place = Place { topic: self.topic, partition, offset, is_late: false };
        self.push(i64::MIN, false, event_json::gap_line(place, to, reason));
        self.cursor.next = to;
    }

    fn push(&mut self, timestamp_ms: i64, is_event: bool, bytes: Vec<u8>) {
        let before = self.lines.last().map_or(i64::MIN, |line| line.at_ms);
        self.lines.push(Line { at_ms: timestamp_ms.max(before), is_event, bytes });
    }
}
