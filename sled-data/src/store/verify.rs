//! Verification: reads everything, and names what is damaged as offset ranges.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::ControlFlow;

use super::linked::{HoleWhy, hole_at};
use super::partition::Partition;
use super::read::{ReadError, View};
use super::values::read_raw;
use super::walk::{base_after, walk};
use super::{Store, keys};
use crate::backend::{Direction, Span};
use crate::ids::{Offset, PartitionId};

/// Most damages that a report lists one by one.
pub const DAMAGES_MAX: usize = 10_000;
/// Batches that are read before others may change the partitions.
const STEP_BATCHES: u64 = 1_024;
/// Their bytes, and the batch that passes these.
const STEP_BYTES: u64 = 8 << 20;

/// How far verification has come.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Progress {
    /// The partition being read.
    pub partition: PartitionId,
    /// The offset reached in it.
    pub offset: Offset,
    /// Stored bytes read so far, in all partitions.
    pub bytes: u64,
    /// Stored bytes there were when it began.
    pub bytes_total: u64,
}

/// Damaged events: offsets `from` up to before `to` of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// The topic's name, where its record still exists.
    pub topic: Option<String>,
    /// The partition.
    pub partition: PartitionId,
    /// First damaged offset.
    pub from: Offset,
    /// First offset after them.
    pub to: Offset,
    /// What is wrong.
    pub reason: String,
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.topic {
            Some(name) => write!(f, "{name}/{} (origin {})", self.partition.index, self.partition.origin)?,
            None => write!(f, "{}", self.partition)?,
        }
        write!(f, " offsets {} to {}: {}", self.from, self.to.saturating_sub(1), self.reason)
    }
}

/// What verification found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Partitions read.
    pub partitions: u64,
    /// Sound batches.
    pub batches: u64,
    /// Events in them.
    pub events: u64,
    /// Stored bytes read.
    pub bytes: u64,
    /// Damaged ranges, at most [`DAMAGES_MAX`].
    pub damaged: Vec<Damage>,
    /// Damaged ranges beyond those listed.
    pub damaged_unlisted: u64,
    /// Damaged cursors, state, records; at most [`DAMAGES_MAX`].
    pub meta_damaged: Vec<String>,
    /// Events that links told of and that never came, by the reason. They are not damaged.
    pub never_came: BTreeMap<HoleWhy, u64>,
}

impl VerifyReport {
    /// Whether nothing is damaged.
    pub fn is_clean(&self) -> bool {
        self.damaged.is_empty() && self.meta_damaged.is_empty()
    }

    fn add(&mut self, damage: Damage) {
        if self.damaged.len() < DAMAGES_MAX {
            self.damaged.push(damage);
        } else {
            self.damaged_unlisted += 1;
        }
    }
}

/// Where the reading of one partition stands.
struct Reader {
    partition: PartitionId,
    topic: Option<String>,
    end: Offset,
    /// The next batch begins here.
    at: Offset,
    /// What is wrong at `at`, until it is known how far.
    wrong: Option<String>,
    digest: u64,
}

impl Reader {
    fn close_damage(&mut self, to: Offset, report: &mut VerifyReport) {
        if self.at < to {
            let reason = self.wrong.take().unwrap_or_else(|| "events are missing".into());
            report.add(Damage { topic: self.topic.clone(), partition: self.partition, from: self.at, to, reason });
        }
        self.at = self.at.max(to);
    }
}

impl Store {
    /// Reads every batch, decompresses it and compares all checksums and digests; then every other value. Other work goes on beside it.
    ///
    /// # Errors
    /// [`ReadError::Failed`] when the store has failed; damage is no error but in the report.
    pub fn verify(&self, progress: &mut dyn FnMut(Progress)) -> Result<VerifyReport, ReadError> {
        let mut report = VerifyReport::default();
        let bytes_total = self.batch_bytes();
        for id in self.partitions() {
            self.verify_partition(id, &mut report, &mut |offset, bytes| {
                progress(Progress { partition: id, offset, bytes, bytes_total });
            })?;
        }
        self.verify_meta(&mut report)?;
        Ok(report)
    }

    fn verify_partition(
        &self,
        id: PartitionId,
        report: &mut VerifyReport,
        progress: &mut dyn FnMut(Offset, u64),
    ) -> Result<(), ReadError> {
        let Some(partition) = self.partition(id) else {
            return Ok(());
        };
        let extent = partition.extent();
        let topic = self.topics.read().get(&id.topic).map(|t| t.name.clone());
        let mut reader = Reader { partition: id, topic, end: extent.end, at: extent.start, wrong: None, digest: 0 };
        let damages = report.damaged.len();
        let step = |reader: &mut Reader, report: &mut VerifyReport| {
            let before = report.bytes;
            let stepped = self.view(id, |view| verify_step(&view, reader, report));
            self.has_verified(report.bytes - before)?;
            stepped
        };
        if !read_through(&mut reader, report, step, progress)? {
            return Ok(());
        }
        report.partitions += 1;
        let digest = reader.digest;
        self.verify_ahead(&partition, &mut reader, report)?;
        // What a trim took away meanwhile is not damaged.
        let start = partition.extent().start;
        // What never came is not damaged either.
        let holes = partition.holes();
        for hole in holes.iter().filter(|hole| hole.to > start) {
            *report.never_came.entry(hole.why).or_default() += hole.to - hole.from;
        }
        let is_hole = |d: &Damage| hole_at(&holes, d.from).is_some_and(|hole| d.to <= hole.to);
        report.damaged.retain(|d| d.partition != id || d.from >= start && !is_hole(d));
        if start == 0 && report.damaged.len() == damages && digest != extent.digest {
            let reason = "the events are not those that were counted".into();
            report.add(Damage { topic: reader.topic, partition: id, from: 0, to: extent.end, reason });
        }
        Ok(())
    }

    /// Reads the parts ahead of the end. What has become part of the partition meanwhile is left to the next time.
    fn verify_ahead(
        &self,
        partition: &Partition,
        reader: &mut Reader,
        report: &mut VerifyReport,
    ) -> Result<(), ReadError> {
        for part in partition.aheads().iter() {
            (reader.at, reader.end, reader.wrong, reader.digest) = (part.from, part.end, None, 0);
            let step = |reader: &mut Reader, report: &mut VerifyReport| {
                let before = report.bytes;
                let stepped = self.view_ahead(partition.id, *part, |view| verify_step(&view, reader, report));
                self.has_verified(report.bytes - before)?;
                stepped
            };
            read_through(reader, report, step, &mut |_, _| {})?;
        }
        Ok(())
    }

    /// Lets go of what a step has brought into memory, where that is due.
    fn has_verified(&self, bytes: u64) -> Result<(), ReadError> {
        self.passed(usize::try_from(bytes).unwrap_or(usize::MAX));
        Ok(self.let_go_if_due()?)
    }

    fn verify_meta(&self, report: &mut VerifyReport) -> Result<(), ReadError> {
        let read = self.meta_read(|meta| {
            meta.scan(Span::ALL, Direction::Forward, &mut |key, value| {
                if let Err(e) = read_raw(key, value)
                    && report.meta_damaged.len() < DAMAGES_MAX
                {
                    report.meta_damaged.push(format!("{}: {e}", keys::describe(key)));
                }
                ControlFlow::Continue(())
            })?;
            Ok(())
        });
        match read {
            Err(ReadError::Backend(e)) => {
                report.meta_damaged.push(e.to_string());
                Ok(())
            }
            other => other,
        }
    }
}

/// Reads up to the reader's end; false where what is read is gone meanwhile.
fn read_through(
    reader: &mut Reader,
    report: &mut VerifyReport,
    step: impl Fn(&mut Reader, &mut VerifyReport) -> Result<Option<()>, ReadError>,
    progress: &mut dyn FnMut(Offset, u64),
) -> Result<bool, ReadError> {
    while reader.at < reader.end {
        let at = reader.at;
        match step(reader, report) {
            Ok(Some(())) => {}
            Ok(None) => return Ok(false),
            Err(ReadError::Damaged { reason, .. }) => {
                reader.wrong = Some(reason);
                reader.close_damage(reader.end, report);
            }
            Err(e) => return Err(e),
        }
        if reader.at == at {
            reader.close_damage(reader.end, report);
        }
        progress(reader.at, report.bytes);
    }
    Ok(true)
}

fn verify_step(view: &View<'_>, reader: &mut Reader, report: &mut VerifyReport) -> Result<(), ReadError> {
    if reader.at < view.start {
        // Trimmed meanwhile.
        reader.at = view.start.min(reader.end);
        reader.wrong = None;
    }
    let (from, begun) = (reader.at, report.bytes);
    let mut left = STEP_BATCHES;
    let mut ended = true;
    walk(view.tree(), Span::from(&keys::batch(reader.at)), Direction::Forward, &mut |base, bytes| {
        if base >= reader.end {
            return ControlFlow::Break(());
        }
        if left == 0 || report.bytes - begun >= STEP_BYTES {
            ended = false;
            return ControlFlow::Break(());
        }
        left -= 1;
        reader.close_damage(base, report);
        report.bytes += bytes.len() as u64;
        let checked = view.decode(base, bytes).and_then(|batch| Ok((batch.decompress()?, batch)));
        match checked {
            Ok((records, batch)) if records.digest_fits() => {
                report.batches += 1;
                report.events += u64::from(batch.envelope().count);
                reader.digest = reader.digest.wrapping_add(batch.envelope().digest);
                reader.at = batch.next_offset();
            }
            Ok(_) => reader.wrong = Some("the records' digest does not fit".into()),
            Err(e) => reader.wrong = Some(e.to_string()),
        }
        ControlFlow::Continue(())
    })?;
    if ended && (reader.wrong.is_some() || reader.at == from) {
        // Asked anew, as a damaged backend may end a walk early.
        let next = base_after(view.tree(), reader.at)?;
        reader.close_damage(next.unwrap_or(reader.end).min(reader.end), report);
    }
    Ok(())
}
