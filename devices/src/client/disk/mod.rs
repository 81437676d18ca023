//! The buffer on disk: numbered publishes that outlive the device's process.
//!
//! A folder belongs to one client at a time (`lock`). In it, each lane has segments that are written one after the
//! other, and deleted when everything in them is acknowledged:
//!
//! ```text
//! lock                             locked while a client runs
//! boot                             the newest boot, as 20 decimal digits; written and synced at each start
//! commands                         which commands were begun, and how they ended (see `done`)
//! positions                        how far each lane is acknowledged; written anew by rename, not synced
//! 1-00000000000000000007.segment   lane 1, the seventh segment
//!
//! segment:    magic "EDGWBUF1" | boot_add u64 | crc32c of these 16 bytes u32 | records ...
//! record:     length of the body u32 | crc32c of length and body u32 | body
//! body:       version, 1 byte: 1 | postcard: boot u64, seq u64, timestamp_ms i64, topic, payload, properties
//! positions:  version, 1 byte: 1 | of each lane: segment u64, offset u64 | crc32c of what is before u32
//! ```
//!
//! Integers outside of postcard are little-endian. `boot_add` is added to the boot of every record of the segment:
//! it is how all that is held gets a later boot when the node knows one already.
//!
//! **What may be lost.** A publish that was taken is in the operating system's page cache at least: `kill -9` loses
//! none. A power cut loses what was not synced ([`Sync`]). After a crash, some of what was acknowledged last is sent
//! again; the node recognises it by its number.
//!
//! **What is damaged.** A segment's torn end is cut off at the start, and logged. A damaged record in the middle is
//! skipped and counted, and so is everything up to the next whole record. Nothing of it stops the client.
//!
//! **How much.** [`Disk::bytes_max`] bounds the records that are not acknowledged. Files may take one segment for
//! each lane more, as a segment is deleted as a whole. Where the disk itself is full, publish() says so and nothing of
//! the publish is kept; room is made as soon as all of a lane is acknowledged. In memory are at most 512 records or
//! 512 KiB of each lane that wait, what is on its way, and one segment of each lane while it is read.

mod done;
mod folder;
mod keep;
mod lane_log;
mod record;
mod segment;
mod store;
#[cfg(test)]
mod tests;

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(super) use done::{DoneFile, Ended};
pub(super) use keep::keep;
pub(crate) use store::Store;
use thiserror::Error;

/// When what is written is synced to the medium.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sync {
    /// When the operating system thinks so, and at a stop: a power cut may lose half a minute or so.
    Never,
    /// From time to time, but for 10 ms at least: a power cut loses what was published within the last interval.
    Every(Duration),
    /// Before a publish is taken: a power cut loses nothing. Each publish costs a sync.
    Always,
}

/// The bounds of a buffer on disk.
#[derive(Clone, Debug)]
pub struct Disk {
    /// The folder, of which the client makes the last level where it is missing.
    pub folder: PathBuf,
    /// The size that a segment is meant to have, in bytes: 4 KiB to 64 MiB. A larger record has one of its own.
    pub segment_bytes: u64,
    /// Most bytes of records that are not acknowledged; at least `segment_bytes`.
    pub bytes_max: u64,
    /// When it is synced.
    pub sync: Sync,
}

impl Disk {
    /// A buffer of 256 MiB in segments of 1 MiB, synced every 100 ms.
    pub fn new(folder: impl Into<PathBuf>) -> Self {
        Self {
            folder: folder.into(),
            segment_bytes: 1 << 20,
            bytes_max: 256 << 20,
            sync: Sync::Every(Duration::from_millis(100)),
        }
    }

    /// What is wrong with the bounds.
    pub(super) fn wrong(&self) -> Option<&'static str> {
        let rules = [
            ((4 << 10..=64 << 20).contains(&self.segment_bytes), "disk.segment_bytes lies between 4 KiB and 64 MiB"),
            (self.bytes_max >= self.segment_bytes, "disk.bytes_max is at least disk.segment_bytes"),
        ];
        rules.into_iter().find(|(holds, _)| !holds).map(|(_, rule)| rule)
    }
}

/// Why a buffer on disk cannot be opened.
#[derive(Debug, Error)]
pub enum DiskError {
    /// Another client has it.
    #[error("the buffer {} is in use by another client; give each its own folder", .0.display())]
    InUse(PathBuf),
    /// The boot that was given does not rise.
    #[error("boot {given} is not after boot {used}, which the buffer has seen; give a later one, or none")]
    Boot {
        /// The boot of the configuration.
        given: u64,
        /// The newest boot that was used with the buffer.
        used: u64,
    },
    /// The operating system refuses something.
    #[error("{}: cannot {what}: {error}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why not.
        error: io::Error,
    },
}

impl DiskError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |error| Self::Io { what, path, error }
    }
}
