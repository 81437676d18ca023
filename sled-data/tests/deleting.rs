//! Topics that are deleted while others write.
#![allow(clippy::unwrap_used)]

mod harness;

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use harness::linked::{edge, parts, topic_of};
use harness::{append, partition, seal, values};
use parking_lot::Mutex;
use sled_data::{
    Backend, BackendError, Direction, Faults, Linked, LinkedError, Mark, MemoryBackend, Options, Span, Store,
    TopicConfig, Tree,
};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(20);
/// More than one step removes.
const BATCHES: u64 = 1_200;

/// A backend that takes its time for dropping a tree: as long as nobody says that it goes on.
struct Slow {
    memory: MemoryBackend,
    /// Told how many values the tree still has.
    begun: Mutex<Sender<usize>>,
    go_on: Mutex<Receiver<()>>,
    /// What a kill in the midst of each sync leaves.
    synced: Arc<Mutex<Vec<MemoryBackend>>>,
}

/// The store's backend, who hears when a tree is dropped, and who says that it goes on.
fn slow() -> (Slow, Receiver<usize>, Sender<()>) {
    let ((begun, has_begun), (say_go_on, go_on)) = (channel(), channel());
    let (memory, synced) = (MemoryBackend::new(), Arc::default());
    (Slow { memory, begun: Mutex::new(begun), go_on: Mutex::new(go_on), synced }, has_begun, say_go_on)
}

impl Backend for Slow {
    fn tree(&self, name: &[u8]) -> Result<Arc<dyn Tree>, BackendError> {
        self.memory.tree(name)
    }

    fn tree_names(&self) -> Vec<Vec<u8>> {
        self.memory.tree_names()
    }

    fn drop_tree(&self, name: &[u8]) -> Result<(), BackendError> {
        let mut left = 0;
        self.memory.tree(name)?.scan(Span::ALL, Direction::Forward, &mut |_, _| {
            left += 1;
            ControlFlow::Continue(())
        })?;
        self.begun.lock().send(left).unwrap();
        self.go_on.lock().recv_timeout(LONG).map_err(|_| BackendError::Io("nobody could write meanwhile".into()))?;
        self.memory.drop_tree(name)
    }

    fn sync(&self) -> Result<(), BackendError> {
        self.synced.lock().push(self.memory.image());
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

#[test]
fn commits_go_on_while_a_large_topic_is_deleted_and_a_kill_leaves_nothing_of_it() {
    // Each step is synced where the disk is tight; where it is not, commits do not wait for as many syncs.
    for is_tight in [false, true] {
        large_is_deleted(is_tight);
    }
}

fn large_is_deleted(is_tight: bool) {
    let (slow, has_begun, say_go_on) = slow();
    let (memory, synced) = (slow.memory.clone(), Arc::clone(&slow.synced));
    let store = Store::on(Arc::new(slow), Options::default()).unwrap().0;
    let [large, other] = ["large", "other"].map(|name| store.create_topic(name, TopicConfig::default()).unwrap());
    let (doomed, stays) = (partition(&store, &large, 0), partition(&store, &other, 0));
    for offset in 0..BATCHES {
        store.commit(&append(seal(doomed, offset, &[b"x"]))).unwrap();
    }
    synced.lock().clear();
    let free_bytes = is_tight.then_some(Options::default().reserve_bytes - 1);
    memory.set_faults(Faults { free_bytes, ..Faults::default() });
    std::thread::scope(|scope| {
        let deleting = scope.spawn(|| store.delete_topic(large.id));
        assert_eq!(has_begun.recv_timeout(LONG), Ok(0), "it is empty when it is dropped");
        // As it was before it was gone for good, and in the midst of its batches' removal.
        let steps: Vec<MemoryBackend> = synced.lock().drain(..).collect();
        assert_eq!(steps.len() > 5, is_tight, "{} syncs", steps.len());
        memory.set_faults(Faults::default());
        for (step, killed) in steps.into_iter().enumerate() {
            let (store, _) = Store::on(Arc::new(killed.clone()), Options::default()).unwrap();
            assert_eq!((store.partitions(), store.topics().len()), (Vec::new(), 1), "{step}");
            assert_eq!(killed.tree_names().len(), 1, "meta alone: {:?}", killed.tree_names());
        }
        store.commit(&append(seal(stays, 0, &[b"meanwhile"]))).unwrap();
        store.sync().unwrap();
        let killed = memory.image();
        say_go_on.send(()).unwrap();
        deleting.join().unwrap().unwrap();
        for backend in [memory.clone(), killed] {
            let (store, found) = Store::on(Arc::new(backend.clone()), Options::default()).unwrap();
            assert_eq!((store.partitions(), found.dropped_trees <= 1), (vec![stays], true));
            assert_eq!(values(&store, stays, 0), [(0, b"meanwhile".to_vec())]);
            assert_eq!(backend.tree_names().len(), 2, "meta and one partition: {:?}", backend.tree_names());
        }
    });
}

#[test]
fn what_comes_of_a_deleted_partition_again_waits_alone() {
    let (slow, has_begun, say_go_on) = slow();
    let store = Store::on(Arc::new(slow), Options::default()).unwrap().0;
    let (edge, id, batches) = edge(1);
    let (own, linked) = (partition(&store, &store.create_topic("own", TopicConfig::default()).unwrap(), 0), || {
        (id.origin, Linked { link: 5, hlc: 0, path: vec![1] }, parts(&batches))
    });
    let take = || {
        let (origin, from, parts) = linked();
        store.take_linked(origin, &from, &parts)
    };
    store.create_topic_as(topic_of(&edge, id)).unwrap();
    take().unwrap();
    std::thread::scope(|scope| {
        let deleting = scope.spawn(|| store.delete_topic(id.topic));
        has_begun.recv_timeout(LONG).unwrap();
        // A link that stands brings it again.
        store.create_topic_as(topic_of(&edge, id)).unwrap();
        assert_eq!(take(), Err(LinkedError::Clearing(id)));
        store.commit(&append(seal(own, 0, &[b"meanwhile"]))).unwrap();
        say_go_on.send(()).unwrap();
        deleting.join().unwrap().unwrap();
        store.clear_dropped(id).unwrap();
        take().unwrap();
    });
    assert_eq!(store.end_offset(id), 2);
}
