//! The node that writes, and the model of what it wrote.

use std::collections::BTreeMap;

use sled_data::{Commit, CursorMove, OriginId, PartitionId, StateWrite, Store, TopicConfig, TopicId};

use crate::harness::seal;
use crate::node::Node;
use crate::{Dice, Place};

pub const PARTITIONS: u32 = 3;
pub const TREE: &str = "tree";

/// What a life's store holds after some commit.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct After {
    /// End and digest of each partition.
    pub ends: [(u64, u64); PARTITIONS as usize],
    pub cursors: BTreeMap<(String, u32), u64>,
    pub state: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// One life of the source.
pub struct Life {
    pub origin: OriginId,
    /// After each of its commits, from 0 on.
    pub after: Vec<After>,
    /// Values of all events of each partition.
    pub events: [Vec<Vec<u8>>; PARTITIONS as usize],
}

pub struct Source {
    place: Place,
    store: Option<Store>,
    topic: TopicId,
    pub lives: Vec<Life>,
    serial: u64,
}

impl Source {
    pub fn new(place: Place) -> Source {
        let store = place.open();
        let config = TopicConfig { partitions: PARTITIONS, ..TopicConfig::default() };
        let topic = store.create_topic("t", config).unwrap().id;
        let mut source = Source { place, store: None, topic, lives: Vec::new(), serial: 0 };
        source.begin_life(store, After::default());
        source
    }

    fn begin_life(&mut self, store: Store, at: After) {
        let at = After { ends: Default::default(), ..at };
        self.lives.push(Life { origin: store.origin(), after: vec![at], events: Default::default() });
        self.store = Some(store);
    }

    pub fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    pub fn id(&self, life: usize, index: u32) -> PartitionId {
        PartitionId { origin: self.lives[life].origin, topic: self.topic, index }
    }

    fn life(&mut self) -> &mut Life {
        self.lives.last_mut().unwrap()
    }

    pub fn step(&mut self, dice: &mut Dice, nodes: &[Node]) {
        match dice.below(100) {
            0..70 => self.commit(dice),
            70..85 => drop(self.store().sync().unwrap()),
            85..93 => {
                let id = self.id(self.lives.len() - 1, dice.below(PARTITIONS.into()) as u32);
                let upto = self.store().end_offset(id) * dice.below(256) / 255;
                self.store().trim(id, upto, 3).unwrap();
            }
            93..98 => self.crash(dice, nodes),
            98 => {
                self.store().close().unwrap();
                self.crash(dice, nodes);
            }
            _ if dice.one_in(2) => {
                self.store().end_life("a test said so").unwrap();
                let at = self.life().after.last().unwrap().clone();
                self.store = None;
                let store = self.place.open();
                assert_ne!(store.origin(), self.life().origin);
                self.begin_life(store, at);
            }
            _ => {}
        }
    }

    fn commit(&mut self, dice: &mut Dice) {
        let number = self.lives.len() - 1;
        let mut after = self.life().after.last().unwrap().clone();
        self.serial += 1;
        let mut commit = Commit { hlc: self.serial, ..Commit::default() };
        for _ in 0..dice.below(4) {
            let index = dice.below(PARTITIONS.into()) as usize;
            let id = self.id(number, index as u32);
            let values: Vec<Vec<u8>> = (0..1 + dice.below(3)).map(|_| self.value(dice)).collect();
            let refs: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
            let batch = seal(id, after.ends[index].0, &refs);
            let (end, digest) = after.ends[index];
            after.ends[index] = (end + values.len() as u64, digest.wrapping_add(batch.envelope().digest));
            self.life().events[index].extend(values);
            commit.appends.push(batch);
        }
        for _ in 0..dice.below(3) {
            let (reader, index) = (format!("reader-{}", dice.below(3)), dice.below(PARTITIONS.into()) as u32);
            let next = after.ends[index as usize].0 * dice.below(256) / 255;
            after.cursors.insert((reader.clone(), index), next);
            commit.cursors.push(CursorMove { reader, partition: self.id(number, index), next });
        }
        for _ in 0..dice.below(4) {
            let key = vec![dice.below(20) as u8; 1 + dice.below(3) as usize];
            let value = (!dice.one_in(3)).then(|| self.serial.to_be_bytes().to_vec());
            match &value {
                Some(value) => drop(after.state.insert(key.clone(), value.clone())),
                None => drop(after.state.remove(&key)),
            }
            commit.state.push(StateWrite { tree: TREE.into(), key, value });
        }
        let commit = self.store().commit(&commit).unwrap();
        self.life().after.push(after);
        assert_eq!(commit.0 as usize + 1, self.life().after.len());
    }

    fn value(&mut self, dice: &mut Dice) -> Vec<u8> {
        let len = if dice.one_in(40) { 50_000 + dice.below(100_000) } else { dice.below(100) };
        (0..len).map(|_| dice.below(256) as u8).collect()
    }

    /// What was not synced may be gone; nobody has it then.
    fn crash(&mut self, dice: &mut Dice, nodes: &[Node]) {
        let synced = self.store().synced_commit().0;
        self.store = None;
        self.place.cut(dice.below(256));
        let store = self.place.open();
        let (last, origin) = (store.last_commit().0, store.origin());
        assert!(last >= synced, "{last} {synced}");
        assert!(nodes.iter().all(|node| node.store().followed_commit(origin).0 <= last));
        let life = self.life();
        assert_eq!(origin, life.origin);
        life.after.truncate(last as usize + 1);
        let ends = life.after[last as usize].ends;
        for (events, (end, _)) in life.events.iter_mut().zip(ends) {
            events.truncate(end as usize);
        }
        self.store = Some(store);
    }
}
