//! How far a stream has come, for who looks whether anything comes of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Bytes of a frame on its way by which it has come further: a line that brings fewer in the time that a claim has is as good as none, and who
/// has nothing to send does not hold a claim up byte by byte.
const STEP_BYTES: u64 = 64 << 10;

/// How far a stream has come.
#[derive(Debug, Default)]
pub struct Progress {
    /// Bytes that have come, and are stored.
    stored: AtomicU64,
    /// Bytes of the frame that is on its way.
    begun: AtomicU64,
    /// Whether the store here is waited for.
    is_storing: AtomicBool,
}

/// While it lives, the store here is waited for.
pub struct Storing<'a>(&'a Progress);

impl Progress {
    /// So many more bytes are stored.
    pub fn stored(&self, bytes: usize) {
        self.stored.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// So many bytes have come of the frame that is on its way; 0: none is.
    pub fn begun(&self, bytes: usize) {
        self.begun.store(bytes as u64, Ordering::Relaxed);
    }

    /// The store here is waited for from now on.
    pub fn storing(&self) -> Storing<'_> {
        self.is_storing.store(true, Ordering::Relaxed);
        Storing(self)
    }

    /// What has come, in bytes: all that is stored, and of the frame on its way as far as that goes in steps. `None`: the store here is waited
    /// for, and what comes says nothing of who sends.
    pub fn came(&self) -> Option<u64> {
        let begun = self.begun.load(Ordering::Relaxed) / STEP_BYTES * STEP_BYTES;
        (!self.is_storing.load(Ordering::Relaxed)).then(|| self.stored.load(Ordering::Relaxed).saturating_add(begun))
    }
}

impl Drop for Storing<'_> {
    fn drop(&mut self) {
        self.0.is_storing.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sled_data::OriginId;

    use super::*;
    use crate::replication::book::Book;
    use crate::replication::follower::Follower;
    use crate::replication::stream_tests::{link, log, until};
    use crate::replication::wire::Said;
    use crate::transport::NodeId;

    #[tokio::test]
    async fn a_large_commit_on_a_thin_line_comes_further_before_it_is_whole() {
        let (link, came) = (link().await, Arc::<Progress>::default());
        let (out, from) = link.dialled.open().await.unwrap_or_else(|error| panic!("{error}"));
        let follower = Follower {
            log: log(7),
            book: Arc::new(Book::default()),
            origin: OriginId(9),
            node: NodeId(1),
            is_writer: false,
            live_percent: 150,
            came: Arc::clone(&came),
        };
        let following = tokio::spawn(async move { follower.run(out, from).await });
        let (mut out, _from) = link.taken.accept().await.unwrap_or_else(|error| panic!("{error}"));
        // Of six MiB three steps come, and the rest does not.
        let (length, step) = (6_u32 << 20, usize::try_from(STEP_BYTES).unwrap_or(usize::MAX));
        let begun = [&length.to_le_bytes()[..], &[Said::COMMIT], &vec![0; 3 * step]].concat();
        out.send_head(&begun).await.unwrap_or_else(|error| panic!("{error}"));
        until("it has come further", || came.came() == Some(3 * STEP_BYTES)).await;
        following.abort();
    }

    #[test]
    fn what_is_on_its_way_counts_in_steps_until_it_is_stored() {
        let progress = Progress::default();
        let step = usize::try_from(STEP_BYTES).unwrap_or(usize::MAX);
        for (begun, came) in [(0, 0), (step - 1, 0), (step, STEP_BYTES), (3 * step - 1, 2 * STEP_BYTES), (0, 0)] {
            progress.begun(begun);
            assert_eq!(progress.came(), Some(came), "{begun}");
        }
        progress.stored(7);
        progress.begun(step);
        assert_eq!(progress.came(), Some(7 + STEP_BYTES));
        let storing = progress.storing();
        assert_eq!(progress.came(), None);
        drop(storing);
        assert_eq!(progress.came(), Some(7 + STEP_BYTES));
    }
}
