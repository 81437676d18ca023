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

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::DiskError;
use crate::command::{CommandId, Status};

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
        Ok((Self { path, file, records }, entries))
    }

    /// Writes that a command is begun; it is on the medium when this returns.
    pub(crate) fn begun(&mut self, id: CommandId) -> io::Result<()> {
        self.append(&record(id, None))?;
        self.file.sync_data()
    }

    /// Writes how a command ended.
    pub(crate) fn ended(&mut self, id: CommandId, ended: &Ended) -> io::Result<()> {
        self.append(&record(id, Some(ended)))
    }

    /// How many records there are: when they are twice as many as commands that are remembered, [`Self::rewrite`].
    pub(crate) fn records(&self) -> usize {
        self.records
    }

    /// Writes the file anew.
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
        fs::rename(&new, &self.path)?;
        self.file = File::options().append(true).open(&self.path)?;
        self.records = records;
        // The name, too, must outlive a power cut.
        self.path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.records += 1;
        Ok(())
    }
}

fn record(id: CommandId, ended: Option<&Ended>) -> Vec<u8> {
    let cut = ended.map(|ended| match ended.payload.len() <= RESULT_BYTES_MAX {
        true => ended.clone(),
        false => Ended { payload: Vec::new(), ..ended.clone() },
    });
    // Three short texts and some bytes always encode.
    let body = cut.as_ref().and_then(|ended| postcard::to_stdvec(ended).ok()).unwrap_or_default();
    let mut bytes = vec![u8::from(ended.is_some())];
    bytes.extend_from_slice(id.as_bytes());
    bytes.extend_from_slice(&u16::try_from(body.len()).unwrap_or(0).to_le_bytes());
    bytes.extend_from_slice(&body);
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
        1 => Some(postcard::from_bytes(&bytes[HEAD_BYTES..end]).ok()?),
        _ => return None,
    };
    Some(((id, ended), end + SUM_BYTES))
}

impl Ended {
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
    #![allow(clippy::unwrap_used)]
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
}
