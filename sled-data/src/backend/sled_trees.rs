//! sled behind the backend trait: nothing else names it.
//!
//! What was measured of sled 0.34.7 and is relied on here: with 8 MiB segments and values of at most 64 KiB nothing spills into `blobs/`,
//! which it never syncs; its flush is no fsync, so `db` is synced after it; `conf` is synced once after creation, the folder after each
//! opening. Its batches are avoided: each has what was written before it, its own head and its content written apart from one another, by
//! three threads, and wakes the pool for each. A group is written down in one value instead, and then done (`journal`).

mod journal;
mod log_end;
mod pool;
mod tail;

use std::fs::File;
use std::ops::{Bound, ControlFlow};
use std::os::unix::fs::FileExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use super::ballast::Ballast;
use super::{Backend, BackendError, Direction, Group, Mark, Span, Tree, Visit};
use journal::{JOURNAL_TREE, Journal};
use log_end::LogEnd;
pub(crate) use tail::TAIL_FILE;

/// sled's segment size. 17 times the largest stored value must stay below a quarter of it.
const SEGMENT_BYTES: usize = 8 << 20;
const _: () = assert!(17 * crate::batch::BATCH_BYTES_MAX <= SEGMENT_BYTES / 4);
/// Steps of sled's reclamation after which nobody reads what was let go of before.
const EPOCHS: usize = 3;
/// How often opening is tried again while a store that was just closed in this process lets go of its file.
const OPEN_TRIES_MAX: u32 = 100;
const OPEN_PAUSE: Duration = Duration::from_millis(10);
/// sled's default tree, which holds nothing.
const DEFAULT_TREE: &[u8] = b"__sled__default";
/// The tree that is there to be read alone.
const BALLAST_TREE: &[u8] = b"ballast";

/// sled's settings that one may choose.
#[derive(Copy, Clone, Debug)]
pub struct SledConfig {
    /// Bytes that sled tries to keep its page cache below; a wish, not a bound.
    pub cache_bytes: u64,
}

/// A folder with sled's files and a lock of our own.
pub struct SledBackend {
    db: sled::Db,
    journal: Arc<Journal>,
    /// `db` once more, to sync it.
    file: File,
    sled_folder: PathBuf,
    mark: File,
    ballast: Ballast,
    _lock: File,
}

impl SledBackend {
    /// Opens or makes the store in `folder`.
    ///
    /// # Errors
    /// [`BackendError::InUse`] when another process has it, [`BackendError::Damaged`] when sled cannot read its files, else what failed.
    pub fn open(folder: &Path, config: SledConfig) -> Result<SledBackend, BackendError> {
        std::fs::create_dir_all(folder).map_err(io)?;
        let lock = lock(folder)?;
        let sled_folder = folder.join("sled");
        if !sled_folder.exists() {
            create(folder, &sled_folder, config)?;
        }
        remove_unfinished_snapshots(&sled_folder)?;
        tail::keep(folder, &sled_folder)?;
        let db = open_db(&sled_folder, config)?;
        // sled has written a new snapshot and removed the old one. Were that undone by a power cut, the old one would speak of parts of the
        // log that have been written over since, and all would be gone.
        sync_folder(&sled_folder)?;
        let file = File::open(sled_folder.join("db")).map_err(io)?;
        let mark = File::options().create(true).truncate(false).read(true).write(true).open(folder.join("mark"));
        let mark = mark.map_err(io)?;
        let journal = Arc::new(Journal::open(&db)?);
        let ballast = ballast(&db, &journal)?;
        Ok(SledBackend { db, journal, file, sled_folder, mark, ballast, _lock: lock })
    }
}

impl Drop for SledBackend {
    fn drop(&mut self) {
        pool::let_go();
    }
}

impl SledBackend {
    /// The store's folder, which sled's lies in.
    fn folder(&self) -> &Path {
        self.sled_folder.parent().unwrap_or(Path::new("."))
    }

    fn open_tree(&self, name: &[u8], log_end: Option<LogEnd>) -> Result<SledTree, BackendError> {
        let tree = guarded(|| self.db.open_tree(name))?;
        Ok(SledTree { tree, journal: Arc::clone(&self.journal), log_end })
    }
}

/// Makes sled's files under another name, syncs them, and gives them their name: a power cut leaves no half-made store.
fn create(folder: &Path, sled_folder: &Path, config: SledConfig) -> Result<(), BackendError> {
    let new = folder.join("sled.new");
    if new.exists() {
        std::fs::remove_dir_all(&new).map_err(io)?;
    }
    let db = open_db(&new, config)?;
    // Its pages have the first numbers, one after the other.
    ballast(&db, &Arc::new(Journal::open(&db)?))?;
    guarded(|| db.flush())?;
    drop(db);
    for entry in std::fs::read_dir(&new).map_err(io)? {
        let path = entry.map_err(io)?.path();
        File::open(path).and_then(|f| f.sync_all()).map_err(io)?;
    }
    sync_folder(&new)?;
    std::fs::rename(&new, sled_folder).map_err(io)?;
    sync_folder(folder)?;
    folder.parent().map_or(Ok(()), sync_folder)
}

fn ballast(db: &sled::Db, journal: &Arc<Journal>) -> Result<Ballast, BackendError> {
    let tree = guarded(|| db.open_tree(BALLAST_TREE))?;
    Ballast::new(Arc::new(SledTree { tree, journal: Arc::clone(journal), log_end: None }))
}

/// sled takes a snapshot that it had not finished writing for a finished one, and then does not open.
fn remove_unfinished_snapshots(sled_folder: &Path) -> Result<(), BackendError> {
    for entry in std::fs::read_dir(sled_folder).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = entry.file_name();
        if name.as_encoded_bytes().starts_with(b"snap.") && name.as_encoded_bytes().ends_with(b".generating") {
            std::fs::remove_file(entry.path()).map_err(io)?;
        }
    }
    Ok(())
}

fn sync_folder(folder: &Path) -> Result<(), BackendError> {
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    File::open(folder).and_then(|f| f.sync_all()).map_err(io)
}

fn lock(folder: &Path) -> Result<File, BackendError> {
    let file = File::options().create(true).append(true).open(folder.join("lock")).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(BackendError::InUse),
        Err(std::fs::TryLockError::Error(e)) => Err(io(e)),
    }
}

fn open_db(folder: &Path, config: SledConfig) -> Result<sled::Db, BackendError> {
    let config = sled::Config::new()
        .path(folder)
        .segment_size(SEGMENT_BYTES)
        .cache_capacity(config.cache_bytes)
        .flush_every_ms(None);
    let mut tries = 0;
    loop {
        match guarded(|| config.open()) {
            Err(BackendError::Io(text)) if text.contains("could not acquire lock") => {
                tries += 1;
                if tries >= OPEN_TRIES_MAX {
                    return Err(BackendError::InUse);
                }
                std::thread::sleep(OPEN_PAUSE);
            }
            other => return other,
        }
    }
}

/// Calls sled, and makes errors of its panics: it has some on damaged files.
fn guarded<T>(call: impl FnOnce() -> Result<T, sled::Error>) -> Result<T, BackendError> {
    match catch_unwind(AssertUnwindSafe(call)) {
        Ok(result) => result.map_err(from_sled),
        Err(panic) => {
            let text = panic.downcast_ref::<String>().cloned();
            let text = text.or_else(|| panic.downcast_ref::<&str>().map(|s| (*s).to_owned()));
            Err(BackendError::Damaged(text.unwrap_or_else(|| "sled panicked".into())))
        }
    }
}

fn from_sled(error: sled::Error) -> BackendError {
    match error {
        sled::Error::Io(e) => BackendError::Io(e.to_string()),
        sled::Error::Corruption { at, .. } => BackendError::Damaged(format!("corruption at {at:?}")),
        other => BackendError::Damaged(other.to_string()),
    }
}

fn io(error: std::io::Error) -> BackendError {
    BackendError::Io(error.to_string())
}

impl Backend for SledBackend {
    fn tree(&self, name: &[u8]) -> Result<Arc<dyn Tree>, BackendError> {
        Ok(Arc::new(self.open_tree(name, None)?))
    }

    fn log_tree(&self, name: &[u8]) -> Result<Arc<dyn Tree>, BackendError> {
        Ok(Arc::new(self.open_tree(name, Some(LogEnd::default()))?))
    }

    fn tree_names(&self) -> Vec<Vec<u8>> {
        let names = self.db.tree_names().into_iter().map(|name| name.to_vec());
        let names = names.filter(|name| ![DEFAULT_TREE, JOURNAL_TREE, BALLAST_TREE].contains(&name.as_slice()));
        names.collect()
    }

    fn drop_tree(&self, name: &[u8]) -> Result<(), BackendError> {
        self.journal.forget(name)?;
        guarded(|| self.db.drop_tree(name)).map(|_| ())
    }

    fn sync(&self) -> Result<(), BackendError> {
        guarded(|| self.db.flush())?;
        pool::rest(&self.db);
        self.file.sync_data().map_err(io)
    }

    fn size_bytes(&self) -> u64 {
        self.file.metadata().map_or(0, |m| m.len())
    }

    fn free_bytes(&self) -> Option<u64> {
        let stat = rustix::fs::fstatvfs(&self.file).ok()?;
        Some(stat.f_bavail.saturating_mul(stat.f_frsize))
    }

    fn set_mark(&self, mark: Mark) -> Result<(), BackendError> {
        self.mark.write_all_at(&encode_mark(mark), 0).map_err(io)
    }

    fn sync_mark(&self) -> Result<(), BackendError> {
        self.mark.sync_data().map_err(io)?;
        // It may have been made just now.
        sync_folder(self.folder())
    }

    fn mark(&self) -> Option<Mark> {
        let mut bytes = [0; MARK_BYTES];
        self.mark.read_exact_at(&mut bytes, 0).ok()?;
        let (origin, rest) = bytes.split_first_chunk::<8>()?;
        let (commit, _) = rest.split_first_chunk::<8>()?;
        let mark = Mark { origin: u64::from_be_bytes(*origin), commit: u64::from_be_bytes(*commit) };
        (encode_mark(mark) == bytes).then_some(mark)
    }

    fn accept(&self) -> Result<(), BackendError> {
        tail::remove(self.folder())
    }

    fn settle(&self) -> Result<(), BackendError> {
        self.journal.settle()
    }

    fn let_go(&self) -> Result<(), BackendError> {
        self.ballast.sweep()?;
        // Pages that were let go of wait, up to 64 of a thread, until nobody can be reading them.
        (0..EPOCHS).for_each(|_| crossbeam_epoch::pin().flush());
        Ok(())
    }

    fn let_go_of_cached(&self) {
        // Advice: a file system that does not take it keeps its pages.
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
    }

    fn alarm(&self) -> Option<String> {
        let blobs = std::fs::read_dir(self.sled_folder.join("blobs")).ok()?.flatten().count();
        (blobs > 0).then(|| format!("{blobs} values spilled into files that are never synced"))
    }
}

const MARK_BYTES: usize = 20;

/// Origin, commit, CRC32C of both.
fn encode_mark(mark: Mark) -> [u8; MARK_BYTES] {
    let mut bytes = [0; MARK_BYTES];
    bytes[..8].copy_from_slice(&mark.origin.to_be_bytes());
    bytes[8..16].copy_from_slice(&mark.commit.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[..16]);
    bytes[16..].copy_from_slice(&crc.to_be_bytes());
    bytes
}

struct SledTree {
    tree: sled::Tree,
    journal: Arc<Journal>,
    /// Of a log alone.
    log_end: Option<LogEnd>,
}

impl SledTree {
    /// Makes a log's end where it is not there yet.
    fn make_end(&self) -> Result<(), BackendError> {
        let put = |key: &[u8]| self.journal.write(&self.tree, key, Some(&[]));
        self.log_end.as_ref().map_or(Ok(()), |end| end.make(|key| guarded(|| self.tree.contains_key(key)), put))
    }
}

impl Tree for SledTree {
    fn announce(&self, keys: &[Vec<u8>], value_bytes: usize) -> Result<(), BackendError> {
        if !log_end::is_worth_announcing(keys.len(), value_bytes) {
            return Ok(());
        }
        self.make_end()?;
        let put = |key: &[u8]| self.journal.write(&self.tree, key, Some(&[]));
        keys.iter().try_for_each(|key| put(key).and_then(|()| put(&log_end::beside(key))))
    }

    fn insert(&self, key: &[u8], value: &[u8]) -> Result<(), BackendError> {
        self.make_end()?;
        self.journal.write(&self.tree, key, Some(value))
    }

    fn remove(&self, key: &[u8]) -> Result<(), BackendError> {
        if self.log_end.is_some() {
            self.journal.write(&self.tree, &log_end::beside(key), None)?;
        }
        self.journal.write(&self.tree, key, None)
    }

    fn remove_all(&self, keys: &[Vec<u8>], value_bytes: usize) -> Result<(), BackendError> {
        // A log alone: its writes never are in the journal. Another thread may have removed a key since it was seen; it stays so.
        if self.log_end.is_some() && log_end::is_worth_emptying(keys.len(), value_bytes) {
            let empty = |old: Option<&[u8]>| old.map(|_| sled::IVec::default());
            keys.iter().try_for_each(|key| guarded(|| self.tree.update_and_fetch(key, empty)).map(drop))?;
        }
        keys.iter().try_for_each(|key| self.remove(key))
    }

    fn apply(&self, group: &Group) -> Result<(), BackendError> {
        self.journal.apply(&self.tree, group)
    }

    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, BackendError> {
        Ok(guarded(|| self.tree.get(key))?.map(|value| value.to_vec()))
    }

    fn scan(&self, span: Span<'_>, direction: Direction, visit: &mut Visit<'_>) -> Result<(), BackendError> {
        let span = if self.log_end.is_some() { log_end::before(span) } else { span };
        if span.to.is_some_and(|to| to <= span.from) {
            return Ok(());
        }
        let to = span.to.map_or(Bound::Unbounded, Bound::Excluded);
        let range = (Bound::Included(span.from), to);
        let mut iter = self.tree.range::<&[u8], _>(range);
        loop {
            let entry = guarded(|| match direction {
                Direction::Forward => iter.next().transpose(),
                Direction::Back => iter.next_back().transpose(),
            })?;
            let Some((key, value)) = entry else {
                return Ok(());
            };
            if self.log_end.is_some() && log_end::is_beside(&key) {
                continue;
            }
            if let ControlFlow::Break(()) = visit(&key, &value) {
                return Ok(());
            }
        }
    }
}
