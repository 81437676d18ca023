//! Random work against a plain model, with crashes and reopenings: on sled and on memory alike.
#![allow(clippy::unwrap_used)]

mod harness;

use std::collections::BTreeMap;
use std::sync::Arc;

use harness::{partition, seal};
use proptest::prelude::*;
use sled_data::{
    Commit, CommitNumber, CursorMove, MemoryBackend, Options, PartitionId, StateWrite, Store, TopicConfig, TopicInfo,
};

const PARTITIONS: u32 = 3;
const READERS: [&str; 2] = ["one", "two"];

/// One thing that is done to the store.
#[derive(Clone, Debug)]
enum Step {
    /// Appends: partition, and the lengths of its values. Cursors: reader, partition, share of the end in 255ths. State: key, value.
    Commit {
        appends: Vec<(u32, Vec<usize>)>,
        cursors: Vec<(usize, u32, u8)>,
        state: Vec<(u8, Option<u8>)>,
    },
    Sync,
    Trim {
        partition: u32,
        share: u8,
    },
    /// Ends the process; on memory the power goes too, and this share of the unsynced writes stays.
    Crash {
        keep: u8,
    },
    CloseAndOpen,
}

fn step() -> impl Strategy<Value = Step> {
    let length = prop_oneof![20 => 0..200_usize, 1 => 60_000..70_000_usize, 1 => 150_000..200_000_usize];
    let append = (0..PARTITIONS, proptest::collection::vec(length, 1..5));
    let cursor = (0..READERS.len(), 0..PARTITIONS, any::<u8>());
    let state = (0..6_u8, proptest::option::weighted(0.8, any::<u8>()));
    let commit = (
        proptest::collection::vec(append, 0..4),
        proptest::collection::vec(cursor, 0..3),
        proptest::collection::vec(state, 0..3),
    );
    prop_oneof![
        10 => commit.prop_map(|(appends, cursors, state)| Step::Commit { appends, cursors, state }),
        3 => Just(Step::Sync),
        1 => (0..PARTITIONS, any::<u8>()).prop_map(|(partition, share)| Step::Trim { partition, share }),
        2 => any::<u8>().prop_map(|keep| Step::Crash { keep }),
        1 => Just(Step::CloseAndOpen),
    ]
}

/// What the store ought to hold after some commit.
#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    commits: u64,
    events: BTreeMap<u32, Vec<Vec<u8>>>,
    cursors: BTreeMap<(usize, u32), u64>,
    state: BTreeMap<u8, u8>,
}

struct Run<'a> {
    open: &'a dyn Fn() -> Store,
    store: Option<Store>,
    topic: TopicInfo,
    /// The model after each commit since the last sync, the synced one first.
    history: Vec<Model>,
    /// Trims may or may not outlive a crash: a partition starts at one of these.
    starts: BTreeMap<u32, Vec<u64>>,
    serial: u64,
}

impl Run<'_> {
    fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    fn partition(&self, index: u32) -> PartitionId {
        partition(self.store(), &self.topic, index)
    }

    fn commit(&mut self, appends: &[(u32, Vec<usize>)], cursors: &[(usize, u32, u8)], state: &[(u8, Option<u8>)]) {
        let mut model = self.history.last().unwrap().clone();
        let mut commit = Commit { hlc: model.commits + 1, ..Commit::default() };
        for (index, lengths) in appends {
            let events = model.events.entry(*index).or_default();
            let base = events.len() as u64;
            for length in lengths {
                self.serial += 1;
                let serial = self.serial;
                // Not compressible, so that long values take several parts.
                let value = (0..*length as u64).map(|i| (serial.wrapping_mul(i ^ 0x9e37_79b9_7f4a_7c15) >> 29) as u8);
                events.push(value.collect());
            }
            let new: Vec<&[u8]> = events[base as usize..].iter().map(Vec::as_slice).collect();
            commit.appends.push(seal(self.partition(*index), base, &new));
        }
        for (reader, index, share) in cursors {
            let end = model.events.get(index).map_or(0, Vec::len) as u64;
            let next = end * u64::from(*share) / 255;
            model.cursors.insert((*reader, *index), next);
            let partition = self.partition(*index);
            commit.cursors.push(CursorMove { reader: READERS[*reader].into(), partition, next });
        }
        for (key, value) in state {
            match value {
                Some(value) => model.state.insert(*key, *value),
                None => model.state.remove(key),
            };
            let value = value.map(|v| vec![v; 3]);
            commit.state.push(StateWrite { tree: "tree".into(), key: vec![*key], value });
        }
        model.commits += 1;
        assert_eq!(self.store().commit(&commit).unwrap(), CommitNumber(model.commits));
        self.history.push(model);
        self.check();
    }

    fn sync(&mut self) {
        let synced = self.store().sync().unwrap();
        self.history.drain(..self.history.len() - 1);
        assert_eq!(synced.0, self.history[0].commits);
        for starts in self.starts.values_mut() {
            starts.drain(..starts.len() - 1);
        }
    }

    fn trim(&mut self, index: u32, share: u8) {
        let p = self.partition(index);
        let upto = self.store().end_offset(p) * u64::from(share) / 255;
        let before = self.store().start_offset(p);
        self.store().trim(p, upto, 3).unwrap();
        let start = self.store().start_offset(p);
        assert!(start >= before && start <= upto.max(before));
        self.starts.entry(index).or_insert_with(|| vec![0]).push(start);
        self.check();
    }

    /// Whatever commit the crash left, it is one of those since the last sync, and whole.
    fn crash(&mut self, cut: &dyn Fn()) {
        self.store = None;
        cut();
        self.store = Some((self.open)());
        let last = self.store().last_commit().0;
        let model = self.history.iter().find(|m| m.commits == last).expect("a commit since the last sync").clone();
        self.history = vec![model];
        for (index, starts) in self.starts.clone() {
            let start = self.store().start_offset(self.partition(index));
            assert!(starts.contains(&start), "{start} is none of {starts:?}");
            self.starts.insert(index, vec![start]);
        }
        self.check();
        self.sync();
    }

    fn check(&self) {
        let (store, model) = (self.store(), self.history.last().unwrap());
        assert_eq!(store.last_commit().0, model.commits);
        for index in 0..PARTITIONS {
            let p = self.partition(index);
            let none = Vec::new();
            let events = model.events.get(&index).unwrap_or(&none);
            let start = store.start_offset(p);
            assert_eq!(store.end_offset(p), events.len() as u64);
            assert_eq!(start, self.starts.get(&index).map_or(0, |s| *s.last().unwrap()));
            let mut at = start;
            while at < store.end_offset(p) {
                for (offset, value) in harness::values_within(store, p, at, 100_000) {
                    assert!(offset == at && value == events[offset as usize], "{p} at {offset}");
                    at += 1;
                }
            }
            for (reader, name) in READERS.iter().enumerate() {
                assert_eq!(store.cursor(name, p).unwrap(), model.cursors.get(&(reader, index)).copied());
            }
        }
        let state = store.state_scan("tree", b"", None, 100).unwrap();
        let expected: Vec<_> = model.state.iter().map(|(k, v)| (vec![*k], vec![*v; 3])).collect();
        assert_eq!(state, expected);
        let commits = store.commits(CommitNumber(1), usize::MAX).unwrap();
        assert_eq!(commits.len() as u64, model.commits);
        assert!(commits.iter().all(|c| c.hlc == c.number.0));
    }
}

fn run(steps: &[Step], open: &dyn Fn() -> Store, cut: &dyn Fn(u8)) {
    let store = open();
    let config = TopicConfig { partitions: PARTITIONS, ..TopicConfig::default() };
    let topic = store.create_topic("t", config).unwrap();
    let history = vec![Model::default()];
    let mut run = Run { open, store: Some(store), topic, history, starts: BTreeMap::new(), serial: 0 };
    for step in steps {
        match step {
            Step::Commit { appends, cursors, state } => run.commit(appends, cursors, state),
            Step::Sync => run.sync(),
            Step::Trim { partition, share } => run.trim(*partition, *share),
            Step::Crash { keep } => run.crash(&|| cut(*keep)),
            Step::CloseAndOpen => {
                run.store().close().unwrap();
                run.sync_history();
                run.crash(&|| {});
            }
        }
    }
    let report = run.store().verify(&mut |_| {}).unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert_eq!(run.store().alarm(), None);
}

impl Run<'_> {
    /// Closing synced everything.
    fn sync_history(&mut self) {
        self.history.drain(..self.history.len() - 1);
        for starts in self.starts.values_mut() {
            starts.drain(..starts.len() - 1);
        }
    }
}

fn options() -> Options {
    Options { seed: Some(7), ..Options::default() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn memory_does_as_the_model(steps in proptest::collection::vec(step(), 1..40)) {
        let memory = MemoryBackend::new();
        let open = || Store::on(Arc::new(memory.clone()), options()).unwrap().0;
        run(&steps, &open, &|keep| {
            let keep = memory.unsynced_writes() * usize::from(keep) / 255;
            memory.power_cut(keep);
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn sled_does_as_the_model(steps in proptest::collection::vec(step(), 1..40)) {
        let folder = tempfile::tempdir().unwrap();
        let open = || Store::open(folder.path(), options()).unwrap().0;
        run(&steps, &open, &|_| {});
    }
}
