//! `edgeway store salvage`: a new data folder from what a damaged store still holds.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use sled_data::{SalvageError, SalvageReport, SalvagedPartition, SalvagedTopic, salvage};

use crate::cli::locate::data_dir;
use crate::cli::out::Out;
use crate::cli::progress::Progress;
use crate::cli::table::{Table, bytes};
use crate::cli::{Exit, Failure};
use crate::node::STORE_FOLDER;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// The data folder with the damaged store; else EDGEWAY_DATA. It is only read, and no node may run
    /// on it
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// The new data folder; it must not exist, or be empty
    #[arg(long, value_name = "NEW_DIR")]
    to: PathBuf,
}

/// What was salvaged, as JSON.
#[derive(Serialize)]
struct Report {
    /// Whether nothing is known to be missing.
    complete: bool,
    events: u64,
    /// Bytes of the damaged store's files.
    bytes: u64,
    unreadable_bytes: u64,
    topics: Vec<TopicReport>,
}

#[derive(Serialize)]
struct TopicReport {
    name: String,
    id: String,
    /// The name in the damaged store; null where its record was not found.
    recorded_name: Option<String>,
    partitions: Vec<PartitionReport>,
}

/// A partition of the damaged store; offsets are its own but `new_from`.
#[derive(Serialize)]
struct PartitionReport {
    partition: u32,
    origin: String,
    /// The first offset that was kept, as last recorded.
    start: Option<u64>,
    /// Where it ended, as last recorded.
    end: Option<u64>,
    batches: u64,
    events: u64,
    /// Where the events went: `from` up to before `to` begin at `new_from` in the new store.
    runs: Vec<Run>,
    missing: Vec<Missing>,
    /// Runs and missing ranges beyond those listed.
    unlisted: u64,
}

#[derive(Serialize)]
struct Run {
    from: u64,
    to: u64,
    new_from: u64,
}

#[derive(Serialize)]
struct Missing {
    from: u64,
    to: u64,
    /// Whether the batch was found, damaged; else nothing was found of it.
    damaged: bool,
}

pub fn run(args: &Args, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let data = data_dir(args.data.as_deref());
    check_folders(&data, &args.to)?;
    let made_folder = !args.to.exists();
    let unwritable = |error| Failure::new(Exit::Failed, format!("{} cannot be made: {error}", args.to.display()));
    fs::create_dir_all(&args.to).map_err(unwritable)?;
    let mut bar = Progress::start("bytes", None);
    let found = salvage(&data.join(STORE_FOLDER), &args.to.join(STORE_FOLDER), &mut |progress| {
        bar.of(progress.bytes_total);
        bar.at(progress.bytes);
    });
    bar.end();
    let report = found.map_err(|error| {
        if made_folder {
            // Only where it is empty again; what is left in it otherwise is told by the next call.
            let _ = fs::remove_dir(&args.to);
        }
        failure(&error)
    })?;
    show(&report, &args.to, out)?;
    match report.is_complete() {
        true => Ok(()),
        false => out.flush().and(Err(Failure::Shown(Exit::Damaged))),
    }
}

fn check_folders(data: &Path, to: &Path) -> Result<(), Failure> {
    if !data.join(STORE_FOLDER).is_dir() {
        let what = format!("there is no store in {}", data.display());
        return Err(Failure::new(Exit::NotFound, what).hint("name the damaged data folder with --data DIR"));
    }
    let is_empty = |mut entries: fs::ReadDir| entries.next().is_none();
    if to.exists() && !fs::read_dir(to).is_ok_and(is_empty) {
        let what = format!("{} is there already, and no empty folder", to.display());
        return Err(Failure::usage(what).hint("name a folder that does not exist with --to NEW_DIR"));
    }
    if is_within(to, data) {
        let what = format!("{} lies in the damaged data folder, which is not written to", to.display());
        return Err(Failure::usage(what).hint("name a folder beside it with --to NEW_DIR"));
    }
    Ok(())
}

/// Whether `path`, which need not exist, lies in `folder`, which does.
fn is_within(path: &Path, folder: &Path) -> bool {
    let Ok(folder) = folder.canonicalize() else { return false };
    let whole = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let existing = whole.ancestors().find_map(|ancestor| ancestor.canonicalize().ok());
    existing.is_some_and(|existing| existing.starts_with(folder))
}

fn failure(error: &SalvageError) -> Failure {
    let (exit, hint) = match error {
        SalvageError::NoStore(_) => (Exit::NotFound, "name the damaged data folder with --data DIR"),
        SalvageError::InUse => (Exit::Failed, "a node runs on it: stop that first"),
        SalvageError::Exists(_) => (Exit::Usage, "name a folder that does not exist with --to NEW_DIR"),
        SalvageError::Nothing(_) => (Exit::Damaged, "restore it from a backup, or begin a new one"),
        SalvageError::Full => (Exit::Failed, "free some space, or name a folder on another disk"),
        SalvageError::Read(_) | SalvageError::Write(_) => (Exit::Failed, ""),
    };
    Failure::new(exit, error.to_string()).hint(hint)
}

fn show(report: &SalvageReport, to: &Path, out: &mut Out<impl Write>) -> Result<(), Failure> {
    if out.is_json() {
        return out.object(&Report::from(report));
    }
    let pairs = || report.topics.iter().flat_map(|topic| topic.partitions.iter().map(move |found| (topic, found)));
    out.table(&found_table(pairs()), "nothing was found")?;
    let missing = missing_table(pairs());
    if !missing.is_empty() {
        out.line("\nmissing:")?;
        out.table(&missing, "")?;
    }
    let unlisted: u64 = report.partitions().map(|found| found.unlisted).sum();
    if unlisted > 0 {
        out.line(&format!("and {unlisted} ranges more"))?;
    }
    out.line("")?;
    for topic in &report.topics {
        match &topic.recorded_name {
            Some(name) if *name == topic.name => {}
            Some(name) => out.line(&format!("topic {name} is now {}", topic.name))?,
            None => out.line(&format!("the record of topic {} was not found: its name is lost", topic.name))?,
        }
    }
    if report.unreadable_bytes > 0 {
        out.line(&format!("the disk did not give {}", bytes(report.unreadable_bytes)))?;
    }
    let summary = format!("salvaged {} events from {}; new offsets: --json", report.events(), bytes(report.bytes));
    out.line(&summary)?;
    out.line(
        "not salvaged: cursors, sessions, retained messages, commands' states, the catalog, plugins and their state",
    )?;
    out.line("events that had been trimmed or deleted may be back")?;
    out.line(&format!("next: edgeway run --data {}", to.display()))
}

fn found_table<'a>(found: impl Iterator<Item = (&'a SalvagedTopic, &'a SalvagedPartition)>) -> Table {
    let mut table = Table::new(&["TOPIC", ">PARTITION", "ORIGIN", ">BATCHES", ">EVENTS", ">KEPT FROM", ">END"]);
    let known = |offset: Option<u64>| offset.map_or_else(|| "unknown".to_owned(), |offset| offset.to_string());
    for (topic, of) in found {
        let (partition, origin) = (of.partition.index.to_string(), of.partition.origin.to_string());
        let (batches, events) = (of.batches.to_string(), of.events.to_string());
        table.row([topic.name.clone(), partition, origin, batches, events, known(of.start), known(of.end)]);
    }
    table
}

fn missing_table<'a>(found: impl Iterator<Item = (&'a SalvagedTopic, &'a SalvagedPartition)>) -> Table {
    let mut table = Table::new(&["TOPIC", ">PARTITION", "ORIGIN", ">FROM", ">TO", "REASON"]);
    for (topic, of) in found {
        for range in &of.missing {
            let (partition, origin) = (of.partition.index.to_string(), of.partition.origin.to_string());
            let reason = if range.damaged { "found damaged" } else { "not found" };
            let (from, to) = (range.from.to_string(), range.to.saturating_sub(1).to_string());
            table.row([topic.name.clone(), partition, origin, from, to, reason.to_owned()]);
        }
    }
    table
}

impl From<&SalvageReport> for Report {
    fn from(report: &SalvageReport) -> Self {
        let topics = report.topics.iter().map(|topic| TopicReport {
            name: topic.name.clone(),
            id: topic.id.to_string(),
            recorded_name: topic.recorded_name.clone(),
            partitions: topic.partitions.iter().map(PartitionReport::from).collect(),
        });
        Self {
            complete: report.is_complete(),
            events: report.events(),
            bytes: report.bytes,
            unreadable_bytes: report.unreadable_bytes,
            topics: topics.collect(),
        }
    }
}

impl From<&SalvagedPartition> for PartitionReport {
    fn from(found: &SalvagedPartition) -> Self {
        let run = |run: &sled_data::SalvagedRun| Run { from: run.from, to: run.to, new_from: run.new_from };
        let missing =
            |range: &sled_data::MissingRange| Missing { from: range.from, to: range.to, damaged: range.damaged };
        Self {
            partition: found.partition.index,
            origin: found.partition.origin.to_string(),
            start: found.start,
            end: found.end,
            batches: found.batches,
            events: found.events,
            runs: found.runs.iter().map(run).collect(),
            missing: found.missing.iter().map(missing).collect(),
            unlisted: found.unlisted,
        }
    }
}
