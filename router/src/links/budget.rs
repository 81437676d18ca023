//! Memory that frames of links may take on their way into the store: of one link, and of all together.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::detail::{ALL_REQUESTS_MAX, REQUESTS_MAX};
use super::wire::FRAME_BYTES_MAX;

/// Bytes of a small frame: these have a share of their own, which large ones cannot use up.
const SMALL_BYTES_MAX: usize = 512 << 10;
/// Bytes of frames, small and large, of all links that are being received and stored.
const ALL_BYTES_MAX: [usize; 2] = [32 << 20, 96 << 20];
/// Of one link, by whatever connections: one that is slow, or means ill, leaves room for the others.
const LINK_BYTES_MAX: [usize; 2] = [8 << 20, 24 << 20];
/// Of what is asked for by detail: a small frame has room for each request that there may be, of one link and of all.
const DETAIL_BYTES_MAX: [usize; 2] = [ALL_REQUESTS_MAX * SMALL_BYTES_MAX, 32 << 20];
const DETAIL_OF_LINK_BYTES_MAX: [usize; 2] = [REQUESTS_MAX as usize * SMALL_BYTES_MAX, 24 << 20];
/// Packed frames that are unpacked and not yet stored, of one link and of all: each may be 24 MiB.
const UNPACKED_OF_LINK_MAX: usize = 2;
const UNPACKED_MAX: usize = 8;
/// What is counted: so many bytes each.
const UNIT_BYTES: usize = 1 << 10;

/// What one link may take, and all together.
#[derive(Clone)]
pub struct Budget {
    own: Arc<Share>,
    all: Arc<Share>,
}

struct Share {
    /// Bytes of small and of large frames.
    bytes: [Arc<Semaphore>; 2],
    /// Frames that are unpacked.
    unpacked: Arc<Semaphore>,
    /// Large frames that wait for room among all links.
    waiting: watch::Sender<usize>,
}

/// One large frame that waits, until it is dropped.
struct Waits<'a>(&'a Share);

impl<'a> Waits<'a> {
    fn begin(share: &'a Share) -> Self {
        share.waiting.send_modify(|count| *count += 1);
        Self(share)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.waiting.send_modify(|count| *count -= 1);
    }
}

/// Part of the budget, until it is dropped.
pub struct Held {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

/// What all links may take.
pub struct Budgets {
    all: Arc<Share>,
    of_link_bytes_max: [usize; 2],
    of_links: Mutex<BTreeMap<u64, Budget>>,
}

impl Share {
    fn new(bytes: [usize; 2], unpacked: usize) -> Arc<Self> {
        let bytes = bytes.map(|bytes| Arc::new(Semaphore::new(bytes / UNIT_BYTES)));
        Arc::new(Self { bytes, unpacked: Arc::new(Semaphore::new(unpacked)), waiting: watch::Sender::new(0) })
    }
}

impl Default for Budgets {
    fn default() -> Self {
        Self::new(ALL_BYTES_MAX, LINK_BYTES_MAX)
    }
}

impl Budgets {
    fn new(all: [usize; 2], of_link_bytes_max: [usize; 2]) -> Self {
        Self { all: Share::new(all, UNPACKED_MAX), of_link_bytes_max, of_links: Mutex::default() }
    }

    /// Of what sites send when they are asked for ranges.
    pub fn of_detail() -> Self {
        Self::new(DETAIL_BYTES_MAX, DETAIL_OF_LINK_BYTES_MAX)
    }

    /// That of one link.
    pub fn of(&self, link: u64) -> Budget {
        let own = || Share::new(self.of_link_bytes_max, UNPACKED_OF_LINK_MAX);
        let fresh = || Budget { own: own(), all: Arc::clone(&self.all) };
        self.of_links.lock().entry(link).or_insert_with(fresh).clone()
    }
}

impl Budget {
    /// Waits until there is room for a frame of so many bytes. The link's own share is taken first: who waits for that holds nothing of
    /// the others'.
    pub async fn take(&self, bytes: usize) -> Option<Held> {
        let size = usize::from(is_large(bytes));
        let units = u32::try_from(bytes.min(FRAME_BYTES_MAX).div_ceil(UNIT_BYTES)).ok()?;
        let own = Arc::clone(&self.own.bytes[size]).acquire_many_owned(units).await.ok()?;
        let free = Arc::clone(&self.all.bytes[size]);
        let all = match Arc::clone(&free).try_acquire_many_owned(units) {
            Ok(all) => all,
            Err(_) => {
                let _waits = is_large(bytes).then(|| Waits::begin(&self.all));
                free.acquire_many_owned(units).await.ok()?
            }
        };
        Some(Held { _own: own, _all: all })
    }

    /// Ends when a large frame of any link waits for room: who has some and takes long is to yield.
    pub async fn is_wanted(&self) {
        // The sender is held here.
        let _ = self.all.waiting.subscribe().wait_for(|count| *count > 0).await;
    }

    /// What is free of the link's share of large frames.
    #[cfg(test)]
    pub fn free_large(&self) -> usize {
        self.own.bytes[1].available_permits()
    }

    /// Waits until one more frame may be unpacked. Who holds that waits for nothing else of the budget.
    pub async fn unpack(&self) -> Option<Held> {
        let own = Arc::clone(&self.own.unpacked).acquire_owned().await.ok()?;
        let all = Arc::clone(&self.all.unpacked).acquire_owned().await.ok()?;
        Some(Held { _own: own, _all: all })
    }
}

/// Whether a frame is of those that can use up the room of all links.
pub fn is_large(bytes: usize) -> bool {
    bytes > SMALL_BYTES_MAX
}

const _: () = assert!(FRAME_BYTES_MAX <= LINK_BYTES_MAX[1] && LINK_BYTES_MAX[1] <= ALL_BYTES_MAX[1]);
const _: () =
    assert!(FRAME_BYTES_MAX <= DETAIL_OF_LINK_BYTES_MAX[1] && DETAIL_OF_LINK_BYTES_MAX[1] <= DETAIL_BYTES_MAX[1]);

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn one_link_leaves_room_for_the_others() {
        let budgets = Budgets::default();
        let is_free = async |link: u64, bytes| {
            tokio::time::timeout(Duration::from_millis(20), budgets.of(link).take(bytes)).await.ok().flatten()
        };
        let held = is_free(1, FRAME_BYTES_MAX).await;
        assert!(held.is_some());
        assert!(is_free(1, FRAME_BYTES_MAX).await.is_none(), "its share is taken");
        let mut others = Vec::new();
        for link in 2..=ALL_BYTES_MAX[1] as u64 / FRAME_BYTES_MAX as u64 {
            others.push(is_free(link, FRAME_BYTES_MAX).await.expect("another link's share"));
        }
        assert!(is_free(99, FRAME_BYTES_MAX).await.is_none(), "all together have a bound");
        assert!(is_free(99, SMALL_BYTES_MAX).await.is_some(), "small ones have room");
        let is_wanted =
            async || tokio::time::timeout(Duration::from_millis(20), budgets.of(1).is_wanted()).await.is_ok();
        assert!(!is_wanted().await, "nobody waits any more");
        let waiting = tokio::spawn({
            let budget = budgets.of(98);
            async move { budget.take(FRAME_BYTES_MAX).await }
        });
        tokio::time::timeout(Duration::from_secs(60), budgets.of(1).is_wanted()).await.unwrap();
        waiting.abort();
        let _ = waiting.await;
        assert!(!is_wanted().await);
        drop(held);
        assert!(is_free(99, FRAME_BYTES_MAX).await.is_some());
    }
}
