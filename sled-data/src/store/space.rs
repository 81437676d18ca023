//! Room on the disk: looked at before a commit, so that a full disk refuses work instead of breaking the store.

use super::commit::CommitError;
use super::open::Options;
use crate::backend::Backend;

/// Below this part of the reserve nothing is written but by trims.
const LAST_RESERVE_PART: u64 = 4;
/// How many bytes the backend's files hold for each stored byte, at worst, while it tidies up.
const AMPLIFICATION: u64 = 3;

/// Whether a commit may be written that has so many bytes of batches, and so many of what goes with them. `batch_bytes` are the stored bytes
/// of all batches.
///
/// While the disk has less free than the reserve, commits still fit where trims have freed room inside the backend's files, which do not
/// shrink; where less than a quarter of the reserve would be left, none do. The disk is looked at each time, which costs a microsecond: others
/// fill it as well.
pub(super) fn check(
    backend: &dyn Backend,
    options: &Options,
    (batches, small): (u64, u64),
    batch_bytes: impl Fn() -> u64,
) -> Result<(), CommitError> {
    if options.batch_bytes_max.is_some_and(|max| batch_bytes() + batches > max) {
        return Err(CommitError::Full);
    }
    let left = backend.free_bytes().map(|free| free.saturating_sub(batches + small));
    let is_full = left.filter(|left| *left < options.reserve_bytes).is_some_and(|left| {
        let slack = slack_bytes(backend, batch_bytes());
        left < options.reserve_bytes / LAST_RESERVE_PART || slack < options.reserve_bytes
    });
    if is_full { Err(CommitError::Full) } else { Ok(()) }
}

/// Bytes inside the backend's files that trims have freed, where batches have `batch_bytes`.
pub(super) fn slack_bytes(backend: &dyn Backend, batch_bytes: u64) -> u64 {
    backend.size_bytes().saturating_sub(batch_bytes.saturating_mul(AMPLIFICATION))
}
