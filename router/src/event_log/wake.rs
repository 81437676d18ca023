//! Wakes one task from any thread, and says what for.

use std::sync::atomic::{AtomicU32, Ordering};
use std::task::Waker;

use atomic_waker::AtomicWaker;

/// A task's doorbell: flags say what happened, and one ring answers any number of them.
#[derive(Debug, Default)]
pub struct Wake {
    waker: AtomicWaker,
    flags: AtomicU32,
}

impl Wake {
    /// Something that was appended is durable, or was refused.
    pub const SETTLED: u32 = 1;
    /// There is something to deliver.
    pub const DELIVER: u32 = 2;
    /// There is a message for the session itself.
    pub const MAIL: u32 = 4;

    /// Adds `flag` and wakes the task, unless the flag was up already.
    pub fn ring(&self, flag: u32) {
        if self.flags.fetch_or(flag, Ordering::AcqRel) & flag == 0 {
            self.waker.wake();
        }
    }

    /// Remembers who is to be woken; call before `take`, so that no ring falls between.
    pub fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    /// Takes the flags that are up; 0 when none is.
    pub fn take(&self) -> u32 {
        self.flags.swap(0, Ordering::AcqRel)
    }
}
