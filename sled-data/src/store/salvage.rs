//! Salvage: a new store from the batches that a damaged one still holds, found by their own checksums.
//!
//! Nothing is asked of sled, which may not open the files any more. They are read as plain bytes (`source`, `scan`). The first pass counts
//! what partitions there are (`census`); the next ones also look for the records of topics and partitions (`records`) and gather where
//! batches lie (`window`), a bounded number at once; of those that claim the same offsets one is chosen (`settle`). Each is checked whole and
//! appended to the new store (`rebuild`), and what is missing is told (`ledger`, `report`).

mod census;
mod ledger;
mod rebuild;
mod records;
mod report;
mod scan;
mod settle;
mod source;
mod window;

use std::fs::File;
use std::path::{Path, PathBuf};

use crate::ids::PartitionId;
use census::Census;
use ledger::Ledger;
use rebuild::Rebuild;
use records::Records;
pub use report::{MissingRange, SALVAGE_RANGES_MAX, SalvageReport, SalvagedPartition, SalvagedRun, SalvagedTopic};
use scan::{Found, scan};
use settle::Settle;
use source::Source;
use window::{Candidate, Window};

use super::TopicError;

/// Why nothing was salvaged. The damaged store is as it was, and no new one is there.
#[derive(Debug, thiserror::Error)]
pub enum SalvageError {
    /// The folder holds no store.
    #[error("there is no store in {0}")]
    NoStore(PathBuf),
    /// A process has the damaged store open.
    #[error("the store is in use by another process: stop it first")]
    InUse,
    /// The new store's folder is there already.
    #[error("{0} exists already: name a folder that does not")]
    Exists(PathBuf),
    /// Not one sound batch was found.
    #[error("no sound batch was found in {0}")]
    Nothing(PathBuf),
    /// The damaged store's files could not be opened.
    #[error("the damaged store cannot be read: {0}")]
    Read(#[source] std::io::Error),
    /// The disk of the new store is full.
    #[error("no space left for the new store")]
    Full,
    /// The new store could not be written.
    #[error("the new store cannot be written: {0}")]
    Write(String),
}

impl From<TopicError> for SalvageError {
    fn from(error: TopicError) -> SalvageError {
        match error {
            TopicError::Full => SalvageError::Full,
            other => SalvageError::Write(other.to_string()),
        }
    }
}

/// How far salvage has come.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct SalvageProgress {
    /// Bytes of the damaged store read so far, in all passes.
    pub bytes: u64,
    /// Bytes to read in all passes, as far as is known yet.
    pub bytes_total: u64,
}

/// Makes a new store in the folder `to`, which must not be there, of the sound batches found in the store in `from`, which is only read.
///
/// The new store is a new life. Topics keep id, name and settings where their record is found; internal ones (`_name`) become
/// `salvaged_name`, as those who append to them also keep state that is not salvaged; those that a link brought (`site/name`) become
/// `salvaged_site.name`, as they are of the new life from then on; others without a record are named `salvaged-` and
/// their id. Events keep key, value, headers, timestamps, order and hybrid clock, and get new offsets; the report says which. Batches that
/// were trimmed, of deleted topics or of commits that were never whole come back too where their bytes are still there. Cursors and state
/// are not salvaged.
///
/// # Errors
/// Any [`SalvageError`]; damage is no error but in the report.
pub fn salvage(
    from: &Path,
    to: &Path,
    progress: &mut dyn FnMut(SalvageProgress),
) -> Result<SalvageReport, SalvageError> {
    if to.exists() {
        return Err(SalvageError::Exists(to.to_owned()));
    }
    let _lock = lock(from)?;
    let source = Source::open(from)?;
    let mut passes = Passes { source: &source, progress, done: 0, total: 2 * source.bytes() };
    let (census, unreadable_bytes) = take_census(&mut passes);
    if census.is_empty() {
        return Err(SalvageError::Nothing(from.to_owned()));
    }
    let part = to.with_extension("part");
    if part.exists() {
        return Err(SalvageError::Exists(part));
    }
    let made = rebuild(&mut passes, &census, &part).and_then(|report| {
        rebuild::give_name(&part, to)?;
        Ok(SalvageReport { bytes: source.bytes(), unreadable_bytes, ..report })
    });
    if made.is_err() {
        // It was made here, and what failed is told; a rest that stays is refused by the next call.
        let _ = std::fs::remove_dir_all(&part);
    }
    match made {
        Ok(report) if report.events() == 0 => {
            let _ = std::fs::remove_dir_all(to);
            Err(SalvageError::Nothing(from.to_owned()))
        }
        other => other,
    }
}

/// Keeps everyone else from opening the damaged store meanwhile, without writing to its folder.
fn lock(from: &Path) -> Result<Option<File>, SalvageError> {
    let Ok(file) = File::open(from.join("lock")) else { return Ok(None) };
    match file.try_lock() {
        Ok(()) => Ok(Some(file)),
        Err(std::fs::TryLockError::WouldBlock) => Err(SalvageError::InUse),
        Err(std::fs::TryLockError::Error(e)) => Err(SalvageError::Read(e)),
    }
}

/// The passes over the damaged store's bytes.
struct Passes<'a> {
    source: &'a Source,
    progress: &'a mut dyn FnMut(SalvageProgress),
    done: u64,
    total: u64,
}

impl Passes<'_> {
    /// Shows all that is found; the bytes that could not be read.
    fn scan(&mut self, visit: &mut dyn FnMut(Found<'_>)) -> u64 {
        let (before, total) = (self.done, self.total);
        let progress = &mut *self.progress;
        let unreadable = scan(self.source, visit, &mut |bytes| {
            progress(SalvageProgress { bytes: before + bytes, bytes_total: total.max(before + bytes) });
        });
        self.done += self.source.bytes();
        unreadable
    }
}

fn take_census(passes: &mut Passes<'_>) -> (Census, u64) {
    let mut census = Census::default();
    let unreadable = passes.scan(&mut |found| {
        if let Found::Batch { envelope, .. } = found {
            census.add(&envelope);
        }
    });
    census.rank();
    (census, unreadable)
}

fn rebuild(passes: &mut Passes<'_>, census: &Census, folder: &Path) -> Result<SalvageReport, SalvageError> {
    let mut records = Records::looking_for(census);
    let mut window = Window::new();
    passes.total = passes.source.bytes() * (1 + window.passes(census.values()));
    passes.scan(&mut |found| {
        if let Found::Value { before, bytes } = found {
            records.look(before, bytes);
        }
        window.add(census, &found);
    });
    let topics = records::name_topics(census, &records);
    let mut job = Job {
        source: passes.source,
        census,
        records: &records,
        settle: Settle::default(),
        ledger: None,
        rebuild: Rebuild::begin(folder, &topics)?,
        report: SalvageReport::about(topics),
    };
    loop {
        for candidate in window.take() {
            job.candidate(candidate)?;
        }
        if window.is_done() {
            break;
        }
        passes.scan(&mut |found| window.add(census, &found));
    }
    job.end()
}

/// The candidates on their way into the new store.
struct Job<'a> {
    source: &'a Source,
    census: &'a Census,
    records: &'a Records,
    settle: Settle,
    ledger: Option<Ledger>,
    rebuild: Rebuild,
    report: SalvageReport,
}

impl Job<'_> {
    fn candidate(&mut self, candidate: Candidate) -> Result<(), SalvageError> {
        let id = self.census.partition(candidate.rank);
        if self.ledger.as_ref().is_none_or(|ledger| ledger.partition() != id) {
            self.end_partition()?;
            self.ledger = Some(Ledger::new(id, self.records.extent(id)));
        }
        if !candidate.sound {
            self.damaged(&candidate);
            return Ok(());
        }
        match self.settle.push(candidate) {
            Some(settled) => self.append(&settled),
            None => Ok(()),
        }
    }

    fn damaged(&mut self, candidate: &Candidate) {
        if let Some(ledger) = &mut self.ledger {
            ledger.damaged(candidate.base, candidate.next);
        }
    }

    fn append(&mut self, candidate: &Candidate) -> Result<(), SalvageError> {
        let id = self.census.partition(candidate.rank);
        match self.rebuild.append(id, candidate.read(self.source))? {
            Some(new_base) => {
                if let Some(ledger) = &mut self.ledger {
                    ledger.batch(candidate.base, candidate.next, new_base);
                }
            }
            None => self.damaged(candidate),
        }
        Ok(())
    }

    fn end_partition(&mut self) -> Result<(), SalvageError> {
        if let Some(last) = self.settle.take() {
            self.append(&last)?;
        }
        if let Some(ledger) = self.ledger.take() {
            self.report.add(ledger.end());
        }
        Ok(())
    }

    fn end(mut self) -> Result<SalvageReport, SalvageError> {
        self.end_partition()?;
        // Of partitions of which a record tells, and no batch is left.
        let without: Vec<PartitionId> = self.records.partitions().filter(|id| !self.census.holds(*id)).collect();
        for id in without {
            self.report.add(Ledger::new(id, self.records.extent(id)).end());
        }
        self.rebuild.end()?;
        Ok(self.report)
    }
}
