//! The damaged store's files as plain bytes, read and never written. What the disk refuses to read counts as zeros.

use std::fs::File;
use std::path::Path;

use super::SalvageError;
use crate::backend::{TAIL_FILE, read_or_zeros};

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
    /// Opens what holds batches in a store's folder: sled's `db`, what was kept of it before an opening that refused the store, and `blobs/`
    /// should there be any.
    pub(super) fn open(folder: &Path) -> Result<Source, SalvageError> {
        let sled = folder.join("sled");
        if !sled.join("db").is_file() {
            return Err(SalvageError::NoStore(folder.to_owned()));
        }
        let mut paths = vec![sled.join("db")];
        paths.extend(Some(folder.join(TAIL_FILE)).filter(|tail| tail.is_file()));
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
        read_or_zeros(file, place.at, bytes)
    }
}
