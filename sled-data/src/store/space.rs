//! Room on the disk: looked at before a commit, so that a full disk refuses work instead of breaking the store.

use super::commit::CommitError;
use super::open::Options;
use crate::backend::Backend;

/// Written bytes after which the disk is looked at again.
const LOOK_EVERY_BYTES: u64 = 4 << 20;
/// Commits after which it is looked at again.
const LOOK_EVERY_COMMITS: u32 = 16;
/// Below this part of the reserve nothing is written but by trims.
const LAST_RESERVE_PART: u64 = 4;
/// How many bytes the backend's files hold for each stored byte, at worst, while it tidies up.
const AMPLIFICATION: u64 = 3;

/// What was seen when the disk was last looked at.
#[derive(Debug, Default)]
pub(super) struct Space {
    bytes_since: u64,
    commits_left: u32,
    full: bool,
}

impl Space {
    /// Whether a commit of `bytes` may be written. `batch_bytes` are the stored bytes of all batches.
    ///
    /// While the disk has less free than the reserve, commits still fit where trims have freed room inside the backend's files, which do not
    /// shrink; below a quarter of the reserve none do.
    pub(super) fn check(
        &mut self,
        backend: &dyn Backend,
        options: &Options,
        bytes: u64,
        batch_bytes: impl Fn() -> u64,
    ) -> Result<(), CommitError> {
        if options.batch_bytes_max.is_some_and(|max| batch_bytes() + bytes > max) {
            return Err(CommitError::Full);
        }
        self.bytes_since += bytes;
        if self.full || self.commits_left == 0 || self.bytes_since > LOOK_EVERY_BYTES {
            self.bytes_since = bytes;
            self.commits_left = LOOK_EVERY_COMMITS;
            self.full = match backend.free_bytes() {
                Some(free) if free < options.reserve_bytes.saturating_add(bytes) => {
                    let slack = slack_bytes(backend, batch_bytes());
                    free < options.reserve_bytes / LAST_RESERVE_PART || slack < options.reserve_bytes
                }
                _ => false,
            };
        }
        self.commits_left = self.commits_left.saturating_sub(1);
        if self.full { Err(CommitError::Full) } else { Ok(()) }
    }
}

/// Bytes inside the backend's files that trims have freed, where batches have `batch_bytes`.
pub(super) fn slack_bytes(backend: &dyn Backend, batch_bytes: u64) -> u64 {
    backend.size_bytes().saturating_sub(batch_bytes.saturating_mul(AMPLIFICATION))
}
