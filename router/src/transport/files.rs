//! Files of keys and certificates: whole or not there, bounded, and no key that anybody may read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Largest file, in bytes.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// A key: for its owner alone.
pub(super) const KEY_MODE: u32 = 0o600;
/// What anybody may see.
pub(super) const OPEN_MODE: u32 = 0o644;

/// Why a file of a key or a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// A file cannot be read or made.
    #[error("{path} cannot be {what}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// `read` or `made`.
        what: &'static str,
        /// Why.
        source: io::Error,
    },
    /// Anybody may read the key.
    #[error("the private key {path} may be read by anybody (mode {mode:03o}); run: chmod 600 {path}")]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
}

pub(super) fn failed(path: &Path, what: &'static str) -> impl Fn(io::Error) -> FileError {
    move |source| FileError::File { path: path.to_owned(), what, source }
}

/// The name under which something is made before it is whole.
pub(super) fn unfinished(path: &Path) -> PathBuf {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    PathBuf::from(new)
}

/// Writes under another name first: a file that exists is whole.
pub(super) fn write_file(path: &Path, bytes: &[u8], mode: u32) -> Result<(), FileError> {
    let failed = failed(path, "made");
    let new = unfinished(path);
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new).map_err(&failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(&failed)?;
    fs::rename(&new, path).map_err(failed)
}

/// Reads a file of at most `bytes_max` bytes.
pub(super) fn read_file(path: &Path, bytes_max: u64) -> Result<Vec<u8>, FileError> {
    let failed = failed(path, "read");
    let length = fs::metadata(path).map_err(&failed)?.len();
    let bytes_max = bytes_max.min(FILE_BYTES_MAX);
    if length > bytes_max {
        return Err(failed(io::Error::other(format!("it has {length} bytes, at most {bytes_max} are taken"))));
    }
    fs::read(path).map_err(failed)
}

/// A key that others than its owner and group can read is not used.
pub(super) fn read_key_file(path: &Path, bytes_max: u64) -> Result<Vec<u8>, FileError> {
    let about = fs::metadata(path);
    let mode = about.map_or(0, |about| about.permissions().mode() & 0o777);
    if mode & 0o007 != 0 {
        return Err(FileError::TooOpen { path: path.to_owned(), mode });
    }
    read_file(path, bytes_max)
}

/// Makes the names in a folder outlive a power cut.
pub(super) fn sync_folder(folder: &Path) -> Result<(), FileError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed(folder, "made"))
}
