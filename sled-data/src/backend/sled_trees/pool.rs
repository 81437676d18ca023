//! Fewer threads of sled's pool that wake for each write.
//!
//! sled writes its log by a pool of seven threads and wakes all of them for each write: one takes it, the others find nothing, one after the other, and
//! sleep again. That is some 65 us of a core for every commit, and sled has no setting for it. It does have a future that a thread of the pool completes,
//! whose waker is called by that thread: one that takes its time keeps the thread. The pool is the process's, not a store's.
//!
//! Two threads are enough for what is written after a store was opened, nearly always: who takes a new segment of the file may have to wait for a truncation
//! that still waits for a thread, while both threads wait for who takes the segment. So none is kept for more than a second; the next sync keeps it again.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock};
use std::task::{Context, Wake, Waker};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Threads that sled's pool has and never ends, `sled-io-0` to `sled-io-6`.
const THREADS: usize = 7;
const NAME: &str = "sled-io-";
/// Those that are kept at a time. Of the two that are left one may write while another truncates.
const RESTING_MAX: usize = THREADS - 2;
/// How long one is kept, and so how long a write may stand still.
const REST: Duration = Duration::from_secs(1);
/// Opening a store may take more threads, which end when more than seven wait for work. How long none is kept then.
const PAUSE: Duration = Duration::from_secs(5);

static RESTING: AtomicUsize = AtomicUsize::new(0);
/// Whether a thread was asked to call the waker, and has not done so. Until then it may hold the store that it was asked for.
static ASKED: AtomicBool = AtomicBool::new(false);
/// How long who closes a store waits for that at most, and looks for it.
const ASKED_MAX: Duration = Duration::from_secs(2);
const ASKED_LOOK: Duration = Duration::from_millis(1);
static NOT_BEFORE: Mutex<Option<Instant>> = Mutex::new(None);

/// Keeps one more thread of sled's pool for a while, where not enough are kept. Does not wait for it.
pub(super) fn rest(db: &sled::Db) {
    static WAKER: LazyLock<Waker> = LazyLock::new(|| Waker::from(Arc::new(Rest)));
    // One at a time: each needs a thread, and another one for what there is to write.
    if ASKED.swap(true, Ordering::Acquire) {
        return;
    }
    let is_due = NOT_BEFORE.lock().is_none_or(|then| Instant::now() >= then);
    if !is_due || RESTING.load(Ordering::Relaxed) >= RESTING_MAX {
        ASKED.store(false, Ordering::Release);
        return;
    }
    let mut flush = pin!(db.flush_async());
    // A flush that has failed is told by the next one.
    if flush.as_mut().poll(&mut Context::from_waker(&WAKER)).is_ready() {
        ASKED.store(false, Ordering::Release);
    }
}

/// Waits until no thread holds a store that is being closed: the one that lets go of it last writes and syncs what is left.
pub(super) fn let_go() {
    let began = Instant::now();
    while ASKED.load(Ordering::Acquire) && began.elapsed() < ASKED_MAX {
        std::thread::sleep(ASKED_LOOK);
    }
}

/// Keeps the thread that calls it.
struct Rest;

impl Wake for Rest {
    fn wake(self: Arc<Rest>) {
        let number = std::thread::current().name().and_then(|name| name.strip_prefix(NAME)?.parse::<usize>().ok());
        let is_of_seven = number.is_some_and(|number| number < THREADS);
        if !is_of_seven {
            *NOT_BEFORE.lock() = Some(Instant::now() + PAUSE);
        }
        let resting = (is_of_seven && !std::thread::panicking()).then(Resting::begin);
        ASKED.store(false, Ordering::Release);
        if resting.is_some() {
            // What this thread was to reclaim is left to the others.
            crossbeam_epoch::pin().flush();
            std::thread::sleep(REST);
        }
    }
}

/// A thread that rests.
struct Resting;

impl Resting {
    fn begin() -> Resting {
        RESTING.fetch_add(1, Ordering::Relaxed);
        Resting
    }
}

impl Drop for Resting {
    fn drop(&mut self) {
        RESTING.fetch_sub(1, Ordering::Relaxed);
    }
}
