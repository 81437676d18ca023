//! Room on the disk: looked at before a commit, so that a full disk refuses work instead of breaking the store.

use super::commit::CommitError;
use super::open::Options;
use crate::backend::Backend;

/// Below this part of the reserve nothing is written but by trims,
const LAST_PART: u64 = 4;
/// and below this where that is more: two of sled's segments, as the first trims on a full disk begin one.
const LAST_BYTES_MIN: u64 = 16 << 20;
/// As much must be free for a trim, where nothing is left inside the backend's files; at most half of what is left to trims.
const TRIM_ROOM_BYTES: u64 = 2 << 20;
/// How many bytes the backend's files hold for each stored byte, at worst, while it tidies up.
const AMPLIFICATION: u64 = 3;

/// A store that has no room for so much is called full.
pub(super) const SMALL_COMMIT_BYTES: u64 = 4 << 10;

/// Why nothing is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyFull {
    /// The disk has too little free.
    Disk {
        /// Bytes that are free.
        free: u64,
        /// Bytes that are to stay free, see [`Options::reserve_bytes`].
        reserve: u64,
    },
    /// As much is stored as may be.
    Bound {
        /// Stored bytes of all batches.
        stored: u64,
        /// [`Options::batch_bytes_max`].
        max: u64,
    },
}

/// Whether a commit may be written that has so many bytes of batches, and so many of what goes with them. `batch_bytes` are the stored bytes
/// of all batches.
///
/// While the disk has less free than the reserve, commits still fit where trims have freed room inside the backend's files, which do not
/// shrink; where less would be left than trims need, none do. The disk is looked at each time, which costs a microsecond: others
/// fill it as well.
pub(super) fn check(
    backend: &dyn Backend,
    options: &Options,
    commit: (u64, u64),
    batch_bytes: impl Fn() -> u64,
) -> Result<(), CommitError> {
    why_full(backend, options, commit, batch_bytes).map_or(Ok(()), |_| Err(CommitError::Full))
}

/// Why such a commit may not be written; `None` where it may.
pub(super) fn why_full(
    backend: &dyn Backend,
    options: &Options,
    (batches, small): (u64, u64),
    batch_bytes: impl Fn() -> u64,
) -> Option<WhyFull> {
    if let Some(max) = options.batch_bytes_max {
        let stored = batch_bytes();
        if stored + batches > max {
            return Some(WhyFull::Bound { stored, max });
        }
    }
    let (free, reserve) = (backend.free_bytes()?, options.reserve_bytes);
    let left = free.saturating_sub(batches + small);
    let is_full = left < reserve && (left < last_bytes(options) || slack_bytes(backend, batch_bytes()) < reserve);
    is_full.then_some(WhyFull::Disk { free, reserve })
}

/// The same of what a node cannot start without, however full its disk is: it may use the reserve, but for the last part of it.
pub(super) fn check_last(backend: &dyn Backend, options: &Options, small: u64) -> Result<(), CommitError> {
    let left = backend.free_bytes().map(|free| free.saturating_sub(small));
    match left.is_some_and(|left| left < last_bytes(options)) {
        true => Err(CommitError::Full),
        false => Ok(()),
    }
}

/// Whether a trim may write. It frees room inside the backend's files alone, and takes a little for that: where others have filled the disk to the last
/// byte it would fail half way, and the store with it.
pub(super) fn can_trim(backend: &dyn Backend, options: &Options, batch_bytes: impl Fn() -> u64) -> bool {
    let room = TRIM_ROOM_BYTES.min(last_bytes(options) / 2);
    let is_full = backend.free_bytes().is_some_and(|free| free < room);
    !is_full || slack_bytes(backend, batch_bytes()) >= options.reserve_bytes
}

/// What is left to trims of the reserve: half of it at most, as a disk that was filled once goes on within the room that retention frees.
fn last_bytes(options: &Options) -> u64 {
    (options.reserve_bytes / LAST_PART).max(LAST_BYTES_MIN).min(options.reserve_bytes / 2)
}

/// Whether the disk has less free than the reserve.
pub(super) fn is_tight(backend: &dyn Backend, options: &Options) -> bool {
    backend.free_bytes().is_some_and(|free| free < options.reserve_bytes)
}

/// Bytes inside the backend's files that trims have freed, where batches have `batch_bytes`.
pub(super) fn slack_bytes(backend: &dyn Backend, batch_bytes: u64) -> u64 {
    backend.size_bytes().saturating_sub(batch_bytes.saturating_mul(AMPLIFICATION))
}
