//! The damaged store's files as plain bytes, read and never written. What the disk refuses to read counts as zeros.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;

use super::SalvageError;

/// What is tried alone where a larger read fails.
const SECTOR_BYTES: usize = 4 << 10;
/// Most files in `blobs/` that are looked at; that folder ought to be empty.
const BLOBS_MAX: usize = 256;

/// Where bytes lie.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// Which file.
    pub file: u32,
    /// Where in it.
    pub at: u64,
}

/// The files, with their lengths.
pub(super) struct Source {
    files: Vec<(File, u64)>,
}

impl Source {
    /// Opens what holds batches in a store's folder: sled's `db`, and `blobs/` should there be any.
    pub(super) fn open(folder: &Path) -> Result<Source, SalvageError> {
        let sled = folder.join("sled");
        if !sled.join("db").is_file() {
            return Err(SalvageError::NoStore(folder.to_owned()));
        }
        let mut paths = vec![sled.join("db")];
        if let Ok(blobs) = std::fs::read_dir(sled.join("blobs")) {
            let mut blobs: Vec<_> = blobs.flatten().map(|entry| entry.path()).filter(|path| path.is_file()).collect();
            blobs.sort();
            blobs.truncate(BLOBS_MAX);
            paths.extend(blobs);
        }
        let open = |path: &std::path::PathBuf| {
            let file = File::open(path)?;
            let len = file.metadata()?.len();
            Ok((file, len))
        };
        let files = paths.iter().map(open).collect::<std::io::Result<_>>().map_err(SalvageError::Read)?;
        Ok(Source { files })
    }

    /// Bytes of all files.
    pub(super) fn bytes(&self) -> u64 {
        self.files.iter().map(|(_, len)| len).sum()
    }

    /// The lengths of the files, in order.
    pub(super) fn lengths(&self) -> impl Iterator<Item = (u32, u64)> {
        (0..).zip(self.files.iter().map(|(_, len)| *len))
    }

    /// Fills `bytes` from a place; how many of them could not be read.
    pub(super) fn read(&self, place: Place, bytes: &mut [u8]) -> u64 {
        let Some((file, _)) = self.files.get(place.file as usize) else {
            bytes.fill(0);
            return bytes.len() as u64;
        };
        if file.read_exact_at(bytes, place.at).is_ok() {
            return 0;
        }
        let mut unreadable = 0;
        for (number, sector) in (0_u64..).zip(bytes.chunks_mut(SECTOR_BYTES)) {
            if file.read_exact_at(sector, place.at + number * SECTOR_BYTES as u64).is_err() {
                sector.fill(0);
                unreadable += sector.len() as u64;
            }
        }
        unreadable
    }
}
