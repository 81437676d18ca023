//! A disk that does not answer for a while.

use std::ops::ControlFlow;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};
use sled_data::{BackendError, Direction, Mark, Span, Tree};

use super::site::{Site, fast, until};
use super::*;
use crate::catalog::consensus::leavings;

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);

/// A disk whose syncs hang once there is a key with these bytes in it, until nobody wants that any more.
struct Hanging {
    memory: MemoryBackend,
    at: Mutex<(Option<&'static [u8]>, bool)>,
    turned: Condvar,
}

impl Hanging {
    fn at(memory: &MemoryBackend, key: &'static [u8]) -> Arc<Self> {
        let at = Mutex::new((Some(key), false));
        Arc::new(Self { memory: memory.clone(), at, turned: Condvar::new() })
    }

    fn hangs(&self) -> bool {
        self.at.lock().1
    }

    fn go_on(&self) {
        *self.at.lock() = (None, false);
        self.turned.notify_all();
    }

    fn has(&self, part: &[u8]) -> Result<bool, BackendError> {
        let mut found = false;
        for name in self.memory.tree_names() {
            self.memory.tree(&name)?.scan(Span::ALL, Direction::Forward, &mut |key, _| {
                found |= key.windows(part.len()).any(|window| window == part);
                ControlFlow::Continue(())
            })?;
        }
        Ok(found)
    }
}

impl Backend for Hanging {
    fn tree(&self, name: &[u8]) -> Result<Arc<dyn Tree>, BackendError> {
        self.memory.tree(name)
    }

    fn tree_names(&self) -> Vec<Vec<u8>> {
        self.memory.tree_names()
    }

    fn drop_tree(&self, name: &[u8]) -> Result<(), BackendError> {
        self.memory.drop_tree(name)
    }

    fn sync(&self) -> Result<(), BackendError> {
        let mut at = self.at.lock();
        while let Some(key) = at.0
            && self.has(key)?
        {
            at.1 = true;
            if self.turned.wait_for(&mut at, LONG).timed_out() {
                return Err(BackendError::Io("nobody has let it go on".into()));
            }
        }
        drop(at);
        self.memory.sync()
    }

    fn size_bytes(&self) -> u64 {
        self.memory.size_bytes()
    }

    fn free_bytes(&self) -> Option<u64> {
        self.memory.free_bytes()
    }

    fn set_mark(&self, mark: Mark) -> Result<(), BackendError> {
        self.memory.set_mark(mark)
    }

    fn sync_mark(&self) -> Result<(), BackendError> {
        self.memory.sync_mark()
    }

    fn mark(&self) -> Option<Mark> {
        self.memory.mark()
    }

    fn alarm(&self) -> Option<String> {
        self.memory.alarm()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_goes_on_alone_makes_changes_beside_nobody() {
    let site = Site::new(fast());
    let node = site.start(1);
    node.change(add("x")).await.unwrap();
    let backend = site.stop(node).await;
    // Three changes are in the log, and are made at the start; the disk hangs at the first of them.
    let log = open_log(&backend);
    ["a", "b", "c"].iter().for_each(|device| leavings::leave_entry(&log, NodeId(1), add(device)));
    log.close();
    let disk = Hanging::at(&backend, b"device/a");
    let log = open_log(&disk);
    let node = site.start_with(1, backend, log);
    until("the disk hangs", || disk.hangs()).await;
    let group = leavings::group(&node.log);
    let refused = node.catalog.consensus.take_alone("cli", BTreeSet::new()).await;
    assert!(refused.is_err(), "a change is being made");
    assert_eq!(leavings::group(&node.log), group, "nothing was changed");
    assert!(node.catalog.consensus_status().stopped.is_some());
    // It is made when the disk answers, and is the last one.
    disk.go_on();
    until("it is made", || node.catalog.is_enrolled("a")).await;
    tokio::time::sleep(site.timing.beat * 2).await;
    assert_eq!(node.devices(), ["a", "x"]);
    node.catalog.consensus.take_alone("cli", BTreeSet::new()).await.unwrap();
    assert_ne!(leavings::group(&node.log), group);
    until("all of the log is made", || node.devices() == ["a", "b", "c", "x"]).await;
    node.change(add("d")).await.unwrap();
    assert_eq!(node.acts("device.add").len(), 5, "each is told of once");
    site.stop(node).await;
}
