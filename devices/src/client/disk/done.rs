//! Which commands the device has begun and how they ended, on disk: a command that comes again after a restart is
//! answered, not done again.
//!
//! One file, `commands`, of records that are only appended, and written anew when it holds twice as many as are
//! remembered:
//!
//! ```text
//! record:  kind u8 (0 begun, 1 ended) | command id, 16 bytes | length u16 | body | crc32c of all before u32
//! body:    of ended: postcard (status u8, detail text, text text, payload bytes); of begun: empty
//! ```
//!
//! What is begun is synced before the handler runs; an end is not: after a power cut the command counts as begun, and
//! is answered as failed with code `interrupted`.
//!
//! No record ever stands behind a torn one, which would hide it at the next start: what an append that failed has left
//! is cut off at once. Where it cannot be cut off, or a sync has failed, nothing is appended until the file is written
//! anew.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::DiskError;
use crate::command::{CODE_BYTES_MAX, CommandId, Status, TEXT_BYTES_MAX};

/// The file's name within the folder.
const NAME: &str = "commands";
/// Bytes of a record before its body.
const HEAD_BYTES: usize = 1 + 16 + 2;
/// Bytes of a record behind its body.
const SUM_BYTES: usize = 4;
/// Largest result that is remembered, in bytes; of a larger one the status alone is.
const RESULT_BYTES_MAX: usize = 4 * 1024;

/// How a command ended, as it is written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// The place of the status in [`Status::ALL`].
    pub(crate) status: u8,
    pub(crate) detail: String,
    pub(crate) text: String,
    pub(crate) payload: Vec<u8>,
}

/// What the file says of one command: begun, or how it ended.
pub(crate) type Entry = (CommandId, Option<Ended>);

/// The file, open.
#[derive(Debug)]
pub(crate) struct DoneFile {
    path: PathBuf,
    file: File,
    records: usize,
    /// Bytes up to the end of the last whole record.
    length: u64,
    /// What is on the medium is not known: it must be written anew before anything is appended.
    is_broken: bool,
}

impl DoneFile {
    /// Opens it, cuts off a torn end, and gives what it says, the oldest first.
    pub(crate) fn open(folder: &Path) -> Result<(Self, Vec<Entry>), DiskError> {
        let path = folder.join(NAME);
        let bytes = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read.map_err(DiskError::io("read", &path))?,
        };
        let (entries, records, whole) = read(&bytes);
        let file = File::options().create(true).append(true).open(&path).map_err(DiskError::io("open", &path))?;
        if whole < bytes.len() {
            tracing::warn!(file = %path.display(), bytes = bytes.len() - whole, "the torn end of the commands is cut off");
            file.set_len(whole as u64).map_err(DiskError::io("cut", &path))?;
        }
        Ok((Self { path, file, records, length: whole as u64, is_broken: false }, entries))
    }

    /// Writes that a command is begun; it is on the medium when this returns.
    ///
    /// # Errors
    /// When it is not, and the command must not be begun.
    pub(crate) fn begun(&mut self, id: CommandId) -> io::Result<()> {
        self.append(&record(id, None))?;
        let synced = self.file.sync_data();
        self.synced(synced)
    }

    /// Writes how a command ended.
    pub(crate) fn ended(&mut self, id: CommandId, ended: &Ended) -> io::Result<()> {
        self.append(&record(id, Some(ended)))
    }

    /// How many records there are.
    #[cfg(test)]
    pub(crate) fn records(&self) -> usize {
        self.records
    }

    /// Whether [`Self::rewrite`] is due before the next command is begun: there are `records_max` records, or what is
    /// on the medium is not known.
    pub(crate) fn is_due(&self, records_max: usize) -> bool {
        self.is_broken || self.records >= records_max
    }

    /// Writes the file anew.
    ///
    /// # Errors
    /// When it cannot be written; the file then stays as it was, or takes nothing until it is written anew.
    pub(crate) fn rewrite<'a>(
        &mut self,
        entries: impl Iterator<Item = (CommandId, Option<&'a Ended>)>,
    ) -> io::Result<()> {
        let mut bytes = Vec::new();
        let mut records = 0;
        for (id, ended) in entries {
            bytes.extend(record(id, ended));
            records += 1;
        }
        let new = self.path.with_extension("new");
        let mut file = File::create(&new)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        // From the new name on, what is open is not what the next start reads.
        self.is_broken = true;
        fs::rename(&new, &self.path)?;
        self.file = File::options().append(true).open(&self.path)?;
        self.records = records;
        self.length = bytes.len() as u64;
        // The name, too, must outlive a power cut.
        self.path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())?;
        self.is_broken = false;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.is_broken {
            return Err(io::Error::other("the file of commands is to be written anew, after an earlier error"));
        }
        let written = self.file.write_all(bytes);
        self.appended(bytes.len(), written)
    }

    /// Notes how an append went, and cuts off what a failed one may have left.
    fn appended(&mut self, bytes: usize, written: io::Result<()>) -> io::Result<()> {
        if let Err(error) = written {
            self.is_broken = self.file.set_len(self.length).is_err();
            return Err(error);
        }
        self.records += 1;
        self.length += bytes as u64;
        Ok(())
    }

    /// Notes how a sync went: after one that failed, any record that was not synced may be lost or torn.
    fn synced(&mut self, synced: io::Result<()>) -> io::Result<()> {
        self.is_broken |= synced.is_err();
        synced
    }
}

fn record(id: CommandId, ended: Option<&Ended>) -> Vec<u8> {
    // Three short texts and some bytes always encode.
    let body = ended.and_then(|ended| postcard::to_stdvec(&ended.cut()).ok()).unwrap_or_default();
    // It is far shorter than this length can say: each of its parts is bounded.
    let length = u16::try_from(body.len()).unwrap_or_default();
    let mut bytes = vec![u8::from(ended.is_some())];
    bytes.extend_from_slice(id.as_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&body[..usize::from(length)]);
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
    bytes
}

/// What the file's bytes say, how many records there are, and up to where they are whole.
fn read(bytes: &[u8]) -> (Vec<Entry>, usize, usize) {
    let (mut entries, mut records, mut at) = (Vec::new(), 0, 0);
    while let Some((entry, length)) = read_one(&bytes[at..]) {
        entries.push(entry);
        records += 1;
        at += length;
    }
    (entries, records, at)
}

fn read_one(bytes: &[u8]) -> Option<(Entry, usize)> {
    let head = bytes.get(..HEAD_BYTES)?;
    let id = CommandId::from_bytes(head[1..17].try_into().ok()?);
    let length = usize::from(u16::from_le_bytes([head[17], head[18]]));
    let end = HEAD_BYTES + length;
    let sum = bytes.get(end..end + SUM_BYTES)?;
    if crc32c::crc32c(&bytes[..end]).to_le_bytes() != sum {
        return None;
    }
    let ended = match head[0] {
        0 => None,
        // It is whole: one that says nothing must not hide those behind it.
        1 => Some(postcard::from_bytes(&bytes[HEAD_BYTES..end]).unwrap_or_else(|_| Ended::interrupted())),
        _ => return None,
    };
    Some(((id, ended), end + SUM_BYTES))
}

impl Ended {
    /// What is written of it: a payload that is too large is left out, texts are cut.
    fn cut(&self) -> Self {
        let payload = if self.payload.len() <= RESULT_BYTES_MAX { self.payload.clone() } else { Vec::new() };
        let detail = self.detail[..self.detail.floor_char_boundary(CODE_BYTES_MAX)].to_owned();
        let text = self.text[..self.text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned();
        Self { status: self.status, detail, text, payload }
    }

    /// A command that was begun before a restart.
    pub(crate) fn interrupted() -> Self {
        Self {
            status: 3,
            detail: "interrupted".to_owned(),
            text: "the device was restarted while it did it".to_owned(),
            payload: Vec::new(),
        }
    }

    /// The status; failed where its number is unknown.
    pub(crate) fn status(&self) -> Status {
        Status::ALL.get(usize::from(self.status)).copied().unwrap_or(Status::Failed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> CommandId {
        CommandId::from_bytes([n; 16])
    }

    fn done() -> Ended {
        Ended { status: 2, detail: "d".into(), text: "t".into(), payload: b"p".to_vec() }
    }

    #[test]
    fn records_have_these_bytes() {
        let golden = [&[1][..], &[7; 16], &[7, 0], &[2, 1, b'd', 1, b't', 1, b'p']].concat();
        let sum = crc32c::crc32c(&golden).to_le_bytes();
        assert_eq!(record(id(7), Some(&done())), [&golden[..], &sum].concat());
        assert_eq!(Ended::interrupted().status(), Status::Failed);
    }

    #[test]
    fn what_was_written_is_read_and_a_torn_end_is_cut() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, entries) = DoneFile::open(folder.path()).unwrap();
        assert!(entries.is_empty());
        file.begun(id(1)).unwrap();
        file.ended(id(1), &done()).unwrap();
        file.begun(id(2)).unwrap();
        let path = folder.path().join(NAME);
        let whole = fs::read(&path).unwrap();
        for cut in 0..whole.len() {
            fs::write(&path, &whole[..cut]).unwrap();
            let (file, entries) = DoneFile::open(folder.path()).unwrap();
            let (_, records, end) = read(&whole[..cut]);
            assert_eq!((entries.len(), file.records()), (records, records), "cut at {cut}");
            assert_eq!(fs::metadata(&path).unwrap().len(), end as u64);
        }
        fs::write(&path, &whole).unwrap();
        let (_, entries) = DoneFile::open(folder.path()).unwrap();
        assert_eq!(entries, [(id(1), None), (id(1), Some(done())), (id(2), None)]);
    }

    #[test]
    fn it_is_written_anew_with_what_counts() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, _) = DoneFile::open(folder.path()).unwrap();
        (1..=9).for_each(|n| file.begun(id(n)).unwrap());
        let large = Ended { payload: vec![0; RESULT_BYTES_MAX + 1], ..done() };
        file.rewrite([(id(8), Some(&large)), (id(9), None)].into_iter()).unwrap();
        file.begun(id(10)).unwrap();
        assert_eq!(file.records(), 3);
        drop(file);
        let (_, entries) = DoneFile::open(folder.path()).unwrap();
        let small = Ended { payload: Vec::new(), ..done() };
        assert_eq!(entries, [(id(8), Some(small)), (id(9), None), (id(10), None)]);
    }

    #[test]
    fn a_failed_append_leaves_nothing_that_hides_what_comes_behind_it() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, _) = DoneFile::open(folder.path()).unwrap();
        file.begun(id(1)).unwrap();
        // The disk takes a part of a record, and no more.
        let torn = &record(id(2), Some(&done()))[..9];
        file.file.write_all(torn).unwrap();
        assert!(file.appended(torn.len(), Err(io::ErrorKind::StorageFull.into())).is_err());
        assert!(!file.is_due(9), "what it left is cut off");
        file.begun(id(3)).unwrap();
        drop(file);
        let (_, entries) = DoneFile::open(folder.path()).unwrap();
        assert_eq!(entries, [(id(1), None), (id(3), None)]);
    }

    #[test]
    fn nothing_is_begun_before_a_broken_file_is_written_anew() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, _) = DoneFile::open(folder.path()).unwrap();
        file.begun(id(1)).unwrap();
        // It can be neither written nor cut.
        file.file = File::open(folder.path().join(NAME)).unwrap();
        assert!(file.begun(id(2)).is_err());
        file.file = File::options().append(true).open(folder.path().join(NAME)).unwrap();
        assert!(file.is_due(9));
        assert!(file.begun(id(3)).is_err());
        assert!(file.ended(id(1), &done()).is_err());
        file.rewrite([(id(1), None)].into_iter()).unwrap();
        assert!(file.synced(Err(io::ErrorKind::Other.into())).is_err());
        assert!(file.is_due(9), "after a failed sync, too");
        file.rewrite([(id(1), None)].into_iter()).unwrap();
        file.begun(id(4)).unwrap();
        drop(file);
        let (_, entries) = DoneFile::open(folder.path()).unwrap();
        assert_eq!(entries, [(id(1), None), (id(4), None)]);
    }

    #[test]
    fn the_longest_end_is_cut_and_hides_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (mut file, _) = DoneFile::open(folder.path()).unwrap();
        let long = "\u{e4}".repeat(40_000);
        let ended = Ended { status: 3, detail: long.clone(), text: long, payload: vec![1; RESULT_BYTES_MAX] };
        file.ended(id(1), &ended).unwrap();
        file.begun(id(2)).unwrap();
        drop(file);
        let (_, entries) = DoneFile::open(folder.path()).unwrap();
        assert_eq!(entries, [(id(1), Some(ended.cut())), (id(2), None)]);
        assert_eq!(ended.cut().text.len(), TEXT_BYTES_MAX);
        // One that is whole and cannot be read hides nothing either.
        let mut empty = record(id(1), None);
        empty[0] = 1;
        empty.truncate(HEAD_BYTES);
        empty.extend_from_slice(&crc32c::crc32c(&empty).to_le_bytes());
        let (entries, ..) = read(&[empty, record(id(2), None)].concat());
        assert_eq!(entries, [(id(1), Some(Ended::interrupted())), (id(2), None)]);
    }
}
