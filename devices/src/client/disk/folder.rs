//! The folder: its lock, and the two small files beside the segments.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use super::DiskError;
use crate::sequence::LANES;

const POSITIONS_VERSION: u8 = 1;
const POSITIONS_BYTES: usize = 1 + 16 * LANES as usize + 4;

/// A place in a lane's segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    pub(super) segment: u64,
    pub(super) offset: u64,
}

/// Every lane's place up to which all is acknowledged.
pub(super) type Positions = [Place; LANES as usize];

/// The folder, as long as it is this client's.
#[derive(Debug)]
pub(super) struct Folder {
    pub(super) path: PathBuf,
    _lock: File,
    pub(super) positions: Arc<PositionsFile>,
}

/// The file of positions. It may outlive the lock by a write that is under way, and is then written no more.
#[derive(Debug)]
pub(super) struct PositionsFile {
    folder: PathBuf,
    /// The newest positions that were written, by their number.
    written: Mutex<u64>,
}

impl Folder {
    /// Makes the folder where it is missing, and takes it.
    pub(super) fn take(path: &Path) -> Result<Self, DiskError> {
        match fs::create_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(DiskError::io("make the folder", path)(error));
            }
            _ => {}
        }
        let name = path.join("lock");
        let lock = File::options().create(true).append(true).open(&name).map_err(DiskError::io("open", &name))?;
        match lock.try_lock() {
            Ok(()) => {
                let positions = PositionsFile { folder: path.to_owned(), written: Mutex::new(0) };
                Ok(Self { path: path.to_owned(), _lock: lock, positions: Arc::new(positions) })
            }
            Err(TryLockError::WouldBlock) => Err(DiskError::InUse(path.to_owned())),
            Err(TryLockError::Error(error)) => Err(DiskError::io("lock", &name)(error)),
        }
    }

    /// Makes new names durable.
    fn sync(&self) -> io::Result<()> {
        sync_names(&self.path)
    }

    /// The boot of the last start; `None` at the first, and where the file says nothing.
    pub(super) fn boot(&self) -> Result<Option<u64>, DiskError> {
        let path = self.path.join("boot");
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(DiskError::io("read", &path))?,
        };
        let boot = std::str::from_utf8(&text).ok().and_then(|text| text.trim().parse().ok());
        if boot.is_none() {
            tracing::warn!(path = %path.display(), "the counter of boots is damaged; it goes on from the clock");
        }
        Ok(boot)
    }

    /// Writes the boot, durably; all boots have one length.
    pub(super) fn set_boot(&self, boot: u64) -> io::Result<()> {
        replace(&self.path, "boot", format!("{boot:020}\n").as_bytes(), true)?;
        self.sync()
    }
}

/// Writes a file anew. Where a full disk has no place for a new one, the old one, of the same length, is written over.
fn replace(folder: &Path, name: &str, bytes: &[u8], synced: bool) -> io::Result<()> {
    let (new, path) = (folder.join(format!("{name}.new")), folder.join(name));
    let write = |mut file: File| {
        file.write_all(bytes)?;
        if synced { file.sync_all() } else { Ok(()) }
    };
    match File::create(&new).and_then(write) {
        Ok(()) => fs::rename(new, path),
        Err(error) => {
            // An empty file at most is left of it; the next time writes it again.
            let _ = fs::remove_file(new);
            File::options().write(true).open(path).and_then(write).map_err(|_| error)
        }
    }
}

/// Makes a folder's new names durable.
pub(super) fn sync_names(folder: &Path) -> io::Result<()> {
    if cfg!(unix) { File::open(folder)?.sync_all() } else { Ok(()) }
}

impl PositionsFile {
    /// The positions; where there are none that can be read, the beginning of all: it is all sent again.
    pub(super) fn read(&self) -> Positions {
        fs::read(self.folder.join("positions")).ok().and_then(|bytes| parse_positions(&bytes)).unwrap_or_default()
    }

    /// Writes positions, unless newer ones were written.
    pub(super) fn write(&self, number: u64, positions: &Positions) -> io::Result<()> {
        let mut written = self.written.lock().unwrap_or_else(PoisonError::into_inner);
        if *written >= number {
            return Ok(());
        }
        replace(&self.folder, "positions", &positions_bytes(positions), false)?;
        *written = number;
        Ok(())
    }

    /// Sees to it that there is a file, so that a disk that fills up later can take positions all the same.
    pub(super) fn prepare(&self) -> io::Result<()> {
        let path = self.folder.join("positions");
        if path.exists() {
            Ok(())
        } else {
            replace(&self.folder, "positions", &positions_bytes(&Positions::default()), false)
        }
    }

    /// Writes no more.
    pub(super) fn close(&self) {
        *self.written.lock().unwrap_or_else(PoisonError::into_inner) = u64::MAX;
    }
}

fn positions_bytes(positions: &Positions) -> Vec<u8> {
    let mut bytes = vec![POSITIONS_VERSION];
    for place in positions {
        bytes.extend_from_slice(&place.segment.to_le_bytes());
        bytes.extend_from_slice(&place.offset.to_le_bytes());
    }
    let sum = crc32c::crc32c(&bytes);
    bytes.extend_from_slice(&sum.to_le_bytes());
    bytes
}

fn parse_positions(bytes: &[u8]) -> Option<Positions> {
    let (rest, sum) = bytes.split_last_chunk::<4>()?;
    if bytes.len() != POSITIONS_BYTES
        || bytes[0] != POSITIONS_VERSION
        || crc32c::crc32c(rest) != u32::from_le_bytes(*sum)
    {
        return None;
    }
    let number = |at: usize| -> Option<u64> { Some(u64::from_le_bytes(rest.get(at..at + 8)?.try_into().ok()?)) };
    let mut positions = Positions::default();
    for (lane, place) in positions.iter_mut().enumerate() {
        *place = Place { segment: number(1 + 16 * lane)?, offset: number(9 + 16 * lane)? };
    }
    Some(positions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_have_golden_bytes_and_damage_is_seen() {
        let place = |segment, offset| Place { segment, offset };
        let positions = [place(1, 20), place(300, 5), Place::default()];
        let bytes = positions_bytes(&positions);
        let mut expected = vec![1, 1, 0, 0, 0, 0, 0, 0, 0, 20, 0, 0, 0, 0, 0, 0, 0, 44, 1, 0, 0, 0, 0, 0, 0, 5];
        expected.resize(49, 0);
        assert_eq!(bytes[..49], expected);
        assert_eq!(bytes[49..], [0x31, 0xfd, 0x47, 0x48]);
        assert_eq!(parse_positions(&bytes), Some(positions));
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 0x10;
            assert_eq!(parse_positions(&broken), None, "byte {at}");
            assert_eq!(parse_positions(&bytes[..at]), None, "cut at {at}");
        }
    }

    #[test]
    fn older_positions_do_not_replace_newer_ones() {
        let home = tempfile::tempdir().unwrap();
        let file = Folder::take(home.path()).unwrap().positions;
        assert_eq!(file.read(), Positions::default());
        let at = |segment| [Place { segment, offset: 20 }; 3];
        file.write(2, &at(2)).unwrap();
        file.write(1, &at(1)).unwrap();
        assert_eq!(file.read(), at(2));
        file.close();
        file.write(3, &at(3)).unwrap();
        assert_eq!(file.read(), at(2));
    }

    #[test]
    fn a_folder_is_one_clients_and_the_boot_is_kept() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("buffer");
        let folder = Folder::take(&path).unwrap();
        assert!(matches!(Folder::take(&path), Err(DiskError::InUse(_))));
        assert_eq!(folder.boot().unwrap(), None);
        folder.set_boot(17).unwrap();
        assert_eq!(folder.boot().unwrap(), Some(17));
        fs::write(path.join("boot"), "x").unwrap();
        assert_eq!(folder.boot().unwrap(), None);
        drop(folder);
        Folder::take(&path).unwrap();
        let nowhere = Folder::take(&home.path().join("a/b")).unwrap_err().to_string();
        assert!(nowhere.contains("cannot make the folder"), "{nowhere}");
    }
}
