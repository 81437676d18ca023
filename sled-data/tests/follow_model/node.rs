//! A node that follows: commit by commit, by copies, over a way that damages, repeats and mixes up.

use std::collections::BTreeMap;

use sled_data::{
    CommitNumber, CopyHead, CopyPart, CopyPosition, CopyState, FollowError, FollowedCommit, OriginId, ReadError, Store,
};

use crate::harness::values_within;
use crate::source::{PARTITIONS, Source, TREE};
use crate::{Dice, Place};

/// Most calls until a node must have caught up.
const CALLS_MAX: u64 = 20_000;

/// A copy that is being taken.
struct Copying {
    head: CopyHead,
    position: Option<CopyPosition>,
    /// Which of the sources it is taken from.
    from: usize,
}

pub struct Node {
    place: Place,
    store: Option<Store>,
    copying: BTreeMap<u64, Copying>,
}

impl Node {
    pub fn new(place: Place) -> Node {
        let store = Some(place.open());
        Node { place, store, copying: BTreeMap::new() }
    }

    pub fn store(&self) -> &Store {
        self.store.as_ref().unwrap()
    }

    pub fn step(&mut self, dice: &mut Dice, source: &Source, sources: &[&Store]) {
        let life = source.lives.len() - 1;
        let life = if dice.one_in(4) { dice.below(life as u64 + 1) as usize } else { life };
        match dice.below(20) {
            0..14 => self.advance(dice, source, life, sources),
            14..16 => {
                self.store().sync().unwrap();
                for (_, followed) in self.store().followed() {
                    assert!(followed.synced == followed.commit || followed.copy == CopyState::Taking);
                }
            }
            16 => {
                let id = source.id(life, dice.below(PARTITIONS.into()) as u32);
                let upto = self.store().end_offset(id) * dice.below(256) / 255;
                self.store().trim(id, upto, 2).unwrap();
            }
            17 => self.crash(dice),
            18 if dice.one_in(3) => self.begin_copy(dice, source, life, sources),
            _ => self.check(source),
        }
    }

    /// Goes on with a copy, or follows; begins a copy where it must.
    fn advance(&mut self, dice: &mut Dice, source: &Source, life: usize, sources: &[&Store]) {
        let origin = source.lives[life].origin;
        if self.copying.contains_key(&origin.0) {
            return self.go_on(dice, origin, sources);
        }
        let next = self.store().followed_commit(origin).next();
        // A life that began with state is followed from a copy on; so is one whose copy was cut short.
        let first_contact = life > 0 && next == CommitNumber(1);
        if first_contact || self.copy_state(origin) == Some(CopyState::Taking) {
            return self.begin_copy(dice, source, life, sources);
        }
        let from = sources[dice.below(sources.len() as u64) as usize];
        let commits = match from.commits_to_ship(origin, next, dice.below(4_000) as usize) {
            Ok(commits) => commits,
            Err(ReadError::CommitsTrimmed { .. }) => return self.begin_copy(dice, source, life, sources),
            Err(e) => panic!("{e}"),
        };
        assert!(commits.iter().all(|commit| commit.record.number.0 < source.lives[life].after.len() as u64));
        self.receive(dice, &commits);
    }

    /// What comes over the way is applied in pieces; what is damaged or out of order is found.
    fn receive(&self, dice: &mut Dice, commits: &[FollowedCommit]) {
        let mut rest: Vec<FollowedCommit> = commits.iter().map(|commit| shipped(dice, commit)).collect();
        while !rest.is_empty() {
            let some: Vec<_> = rest.drain(..1 + dice.below(rest.len() as u64) as usize).collect();
            if dice.one_in(10) && some.len() > 1 {
                let mut mixed = some.clone();
                mixed.swap(0, 1);
                assert!(matches!(self.store().follow(&mixed), Err(FollowError::NotNext { .. })));
            }
            if dice.one_in(10) {
                self.refuse_other(&some);
            }
            let before: Vec<u64> = some.iter().flat_map(|c| self.ends(c)).collect();
            let gaps = self.store().follow(&some).unwrap();
            let known = |from: &u64| *from == 0 || before.contains(from) || gaps.iter().any(|gap| gap.to <= *from);
            assert!(gaps.iter().all(|gap| known(&gap.from) && gap.from < gap.to));
            if dice.one_in(10) {
                assert!(matches!(self.store().follow(&some), Err(FollowError::NotNext { .. })));
            }
        }
    }

    fn ends(&self, commit: &FollowedCommit) -> Vec<u64> {
        let appended = commit.record.appended.iter();
        let ends =
            appended.flat_map(|a| [self.store().end_offset(a.partition), a.base_offset, a.base_offset + a.count]);
        ends.collect()
    }

    /// Another history: its digest is not the record's.
    fn refuse_other(&self, commits: &[FollowedCommit]) {
        let mut other = commits.to_vec();
        let last = other.last_mut().unwrap();
        let Some(appended) = last.record.appended.first_mut() else { return };
        let first = |batch: &sled_data::StoredBatch| (batch.envelope().partition, batch.base_offset());
        let whole = last.batches.first().map(first) == Some((appended.partition, appended.base_offset));
        // Where the copy jumps, the digest that the record says is taken.
        if whole && self.store().end_offset(appended.partition) > 0 {
            appended.digest ^= 1;
            let refused = self.store().follow(&other);
            assert!(matches!(refused, Err(FollowError::Different { .. })), "{refused:?}");
        }
    }

    fn copy_state(&self, origin: OriginId) -> Option<CopyState> {
        self.store().followed().into_iter().find(|(of, _)| *of == origin).map(|(_, followed)| followed.copy)
    }

    fn begin_copy(&mut self, dice: &mut Dice, source: &Source, life: usize, sources: &[&Store]) {
        let origin = source.lives[life].origin;
        let from = dice.below(sources.len() as u64) as usize;
        let present = life + 1 == source.lives.len();
        // The state of a life that ended has gone on into the next one, where it was written.
        if !present && from == 0 {
            return;
        }
        let Ok(head) = sources[from].copy_head(origin) else { return };
        if head.commit == CommitNumber(0) && !present {
            return;
        }
        match self.store().begin_copy(&head) {
            Ok(()) => drop(self.copying.insert(origin.0, Copying { head, position: None, from })),
            Err(FollowError::Behind { .. }) => {}
            Err(FollowError::Different { .. }) if from > 0 => {}
            Err(e) => panic!("{e}"),
        }
    }

    fn go_on(&mut self, dice: &mut Dice, origin: OriginId, sources: &[&Store]) {
        let store = self.store.as_ref().unwrap();
        let Some(copying) = self.copying.get_mut(&origin.0) else { return };
        let from = sources[copying.from];
        let ends = |id| store.end_offset(id);
        let read = from.copy_parts(&copying.head, copying.position.as_ref(), &ends, dice.below(3_000) as usize);
        let (parts, position) = match read {
            Ok(read) => read,
            // Its source has begun a copy itself, or a new life.
            Err(ReadError::NotWhole(_)) => return drop(self.copying.remove(&origin.0)),
            Err(e) => panic!("{e}"),
        };
        let parts: Vec<CopyPart> = parts.iter().map(|part| shipped_part(dice, part)).collect();
        store.add_copy(origin, &parts).unwrap();
        if dice.one_in(10) {
            assert_eq!(store.add_copy(origin, &parts).unwrap(), [], "what came already changes nothing");
        }
        match position {
            Some(position) => copying.position = Some(position),
            None => {
                store.end_copy(origin, from.synced_commit_of(origin)).unwrap();
                self.copying.remove(&origin.0);
            }
        }
    }

    fn crash(&mut self, dice: &mut Dice) {
        let synced = |store: &Store| store.followed().into_iter().collect::<Vec<_>>();
        let before = synced(self.store());
        self.store = None;
        self.copying.clear();
        self.place.cut(dice.below(256));
        self.store = Some(self.place.open());
        for (origin, was) in before {
            let now = self.copy_state(origin);
            let kept = self.store().followed_commit(origin) >= was.synced;
            assert!(kept || was.synced == CommitNumber(0), "{origin} had {was:?}, is {now:?}");
        }
    }

    /// Whether what is held is what was written up to the same commit.
    pub fn check(&self, source: &Source) {
        for (origin, followed) in self.store().followed() {
            let number = source.lives.iter().position(|life| life.origin == origin).unwrap();
            let life = &source.lives[number];
            for index in 0..PARTITIONS {
                let id = source.id(number, index);
                let mut at = self.store().start_offset(id);
                while at < self.store().end_offset(id) {
                    for (offset, value) in values_within(self.store(), id, at, 100_000) {
                        assert!(offset == at && value == life.events[index as usize][at as usize], "{id} at {at}");
                        at += 1;
                    }
                }
            }
            if followed.copy == CopyState::Taking {
                continue;
            }
            let after = &life.after[followed.commit.0 as usize];
            for (index, (end, digest)) in (0..).zip(after.ends) {
                let id = source.id(number, index);
                let held = (self.store().end_offset(id), self.store().digest(id));
                // One whose events had all been let go, and whose topic is not here, is not made.
                assert!(held == (end, digest) || held == (0, 0), "{id} of {number}: {held:?} {end}");
            }
            if followed.copy == CopyState::Whole {
                self.check_small(source, number, followed.commit.0 as usize);
            }
        }
        let report = self.store().verify(&mut |_| {}).unwrap();
        assert!(report.is_clean(), "{report:?}");
    }

    fn check_small(&self, source: &Source, number: usize, commit: usize) {
        let (life, store) = (&source.lives[number], self.store());
        let after = &life.after[commit];
        let state = store.state_scan_of(life.origin, TREE, b"", None, 1_000).unwrap();
        assert!(state.iter().map(|(k, v)| (k, v)).eq(after.state.iter()), "state of {number} at {commit}");
        let mut cursors = BTreeMap::new();
        for reader in store.readers_of(life.origin).unwrap() {
            for (id, next) in store.cursors_of(life.origin, &reader).unwrap() {
                // Cursors of earlier lives are in their partitions.
                if id.origin == life.origin {
                    cursors.insert((reader.clone(), id.index), next);
                }
            }
        }
        let began = life.after[0].cursors.clone();
        let moved = |(at, next): (&(String, u32), &u64)| began.get(at) != Some(next) || cursors.contains_key(at);
        let expected: BTreeMap<_, _> =
            after.cursors.iter().filter(|c| moved(*c)).map(|(k, v)| (k.clone(), *v)).collect();
        assert_eq!(cursors, expected, "cursors of {number} at {commit}");
    }

    /// Follows until nothing is left of the present life.
    pub fn catch_up(&mut self, dice: &mut Dice, source: &Source, sources: &[&Store]) {
        let (life, last) = (source.lives.len() - 1, source.store().last_commit());
        let origin = source.lives[life].origin;
        let mut calls = 0;
        while self.store().followed_commit(origin) < last || self.copy_state(origin) != Some(CopyState::Whole) {
            if last == CommitNumber(0) && self.copy_state(origin).is_none() {
                return;
            }
            self.advance(dice, source, life, sources);
            calls += 1;
            assert!(calls < CALLS_MAX);
        }
    }

    /// Whether, at the end, it has the bytes that the source has.
    pub fn check_equal(&self, source: &Source) {
        self.check(source);
        let life = source.lives.len() - 1;
        for index in 0..PARTITIONS {
            let id = source.id(life, index);
            let from = self.store().start_offset(id).max(source.store().start_offset(id));
            let read = |store: &Store| store.read(id, from, usize::MAX).unwrap();
            assert_eq!(read(self.store()), read(source.store()));
        }
    }
}

/// A commit after its way, on which it may be damaged first.
fn shipped(dice: &mut Dice, commit: &FollowedCommit) -> FollowedCommit {
    let mut bytes = Vec::new();
    commit.encode(&mut bytes);
    if dice.one_in(5) {
        let mut damaged = bytes.clone();
        damage(dice, &mut damaged);
        assert!(FollowedCommit::decode(&damaged).is_err());
    }
    FollowedCommit::decode(&bytes).unwrap()
}

fn shipped_part(dice: &mut Dice, part: &CopyPart) -> CopyPart {
    let mut bytes = Vec::new();
    part.encode(&mut bytes);
    if dice.one_in(5) {
        let mut damaged = bytes.clone();
        damage(dice, &mut damaged);
        assert!(CopyPart::decode(&damaged).is_err());
    }
    CopyPart::decode(&bytes).unwrap()
}

fn damage(dice: &mut Dice, bytes: &mut Vec<u8>) {
    let at = dice.below(bytes.len() as u64) as usize;
    if dice.one_in(4) {
        bytes.truncate(at);
    } else {
        bytes[at] ^= 1 << dice.below(8);
    }
}
