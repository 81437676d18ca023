//! Copies of an origin: for who begins to follow it, and for who has fallen behind, while its source goes on writing.
#![allow(clippy::unwrap_used)]

mod harness;

use std::collections::BTreeMap;
use std::sync::Arc;

use harness::{append, on_both, partition, seal, values};
use sled_data::{
    Commit, CommitNumber, CopyHead, CopyPart, CopyPosition, CopyState, CursorMove, Faults, FollowError, MemoryBackend,
    Options, OriginId, PartitionId, ReadError, StateWrite, Store, TopicConfig,
};

fn memory() -> (MemoryBackend, Store) {
    let backend = MemoryBackend::new();
    let store = on(&backend);
    (backend, store)
}

fn on(backend: &MemoryBackend) -> Store {
    Store::on(Arc::new(backend.clone()), Options { commit_records_max: 20, ..Options::default() }).unwrap().0
}

/// What writes at a source.
struct Writer {
    n: u64,
    ids: Vec<PartitionId>,
}

impl Writer {
    fn new(store: &Store) -> Writer {
        let topic = store.create_topic("t", TopicConfig::default()).unwrap();
        Writer { n: 0, ids: (0..3).map(|index| partition(store, &topic, index)).collect() }
    }

    /// Commits that append to three partitions in turn, move a cursor, and put and remove state; all synced.
    fn write(&mut self, store: &Store, commits: u64) {
        for _ in 0..commits {
            self.n += 1;
            let (n, id) = (self.n, self.ids[self.n as usize % 3]);
            let end = store.end_offset(id);
            let appends = vec![seal(id, end, &[b"one", &n.to_be_bytes()]), seal(id, end + 2, &[b"three"])];
            let cursors = vec![CursorMove { reader: format!("r{}", n % 5), partition: id, next: end + 1 }];
            let write = |key, value| StateWrite { tree: format!("s{}", n % 2), key: vec![key], value };
            let state = vec![write(n as u8 % 50, Some(n.to_be_bytes().to_vec())), write((n * 7) as u8 % 50, None)];
            store.commit(&Commit { hlc: n, appends, cursors, state }).unwrap();
        }
        store.sync().unwrap();
    }
}

type Events = Vec<(u64, Vec<u8>)>;
type State = Vec<(Vec<u8>, Vec<u8>)>;

/// Everything that a store holds of an origin.
#[derive(Debug, PartialEq)]
struct All {
    commit: CommitNumber,
    /// End, digest, events.
    events: BTreeMap<PartitionId, (u64, u64, Events)>,
    cursors: Vec<(String, Vec<(PartitionId, u64)>)>,
    state: Vec<State>,
}

fn all(store: &Store, origin: OriginId) -> All {
    let ids = store.partitions().into_iter().filter(|id| id.origin == origin);
    let events = |id| (store.end_offset(id), store.digest(id), values(store, id, store.start_offset(id)));
    let readers = store.readers_of(origin).unwrap();
    All {
        commit: store.last_commit_of(origin),
        events: ids.map(|id| (id, events(id))).collect(),
        cursors: readers.iter().map(|r| (r.clone(), store.cursors_of(origin, r).unwrap())).collect(),
        state: ["s0", "s1"].map(|tree| store.state_scan_of(origin, tree, b"", None, 1_000).unwrap()).to_vec(),
    }
}

/// Follows all that can be followed.
fn follow(source: &Store, store: &Store, origin: OriginId) {
    loop {
        let next = store.followed_commit(origin).next();
        let commits = source.commits_to_ship(origin, next, 2_000).unwrap();
        if commits.is_empty() {
            return;
        }
        store.follow(&commits).unwrap();
    }
}

/// Takes a copy in parts of `bytes_max`, and lets `meanwhile` do something after each.
fn take(source: &Store, store: &Store, origin: OriginId, bytes_max: usize, meanwhile: &mut dyn FnMut(usize)) {
    let head = source.copy_head(origin).unwrap();
    store.begin_copy(&head).unwrap();
    let (mut position, mut steps): (Option<CopyPosition>, usize) = (None, 0);
    loop {
        let read = source.copy_parts(&head, position.as_ref(), &|id| store.end_offset(id), bytes_max).unwrap();
        let parts: Vec<CopyPart> = read.0.iter().map(reencoded).collect();
        store.add_copy(origin, &parts).unwrap();
        meanwhile(steps);
        steps += 1;
        position = read.1;
        if position.is_none() {
            break;
        }
    }
    store.end_copy(origin, source.synced_commit_of(origin)).unwrap();
}

fn reencoded(part: &CopyPart) -> CopyPart {
    let mut bytes = Vec::new();
    part.encode(&mut bytes);
    CopyPart::decode(&bytes).unwrap()
}

#[test]
fn a_copy_brings_who_follows_to_the_head_and_commits_bring_it_on() {
    on_both(|open| {
        for bytes_max in [1, 400, usize::MAX] {
            let (_, source) = memory();
            let mut writer = Writer::new(&source);
            writer.write(&source, 100);
            let origin = source.origin();
            let store = open(Options::default());
            let gone = source.commits_to_ship(origin, CommitNumber(1), 1);
            assert!(matches!(gone, Err(ReadError::CommitsTrimmed { .. })), "{gone:?}");
            take(&source, &store, origin, bytes_max, &mut |_| {});
            assert_eq!(all(&source, origin), all(&store, origin));
            assert_eq!(store.followed_commit(origin), CommitNumber(100));
            let followed = store.followed().into_iter().find(|(of, _)| *of == origin).unwrap().1;
            assert_eq!((followed.copy, followed.hlc, followed.synced), (CopyState::Whole, 100, CommitNumber(0)));
            store.sync().unwrap();
            assert_eq!(store.synced_commit_of(origin), CommitNumber(100));
            writer.write(&source, 10);
            follow(&source, &store, origin);
            store.sync().unwrap();
            drop(store);
            let store = open(Options::default());
            assert_eq!(all(&source, origin), all(&store, origin));
            assert!(store.verify(&mut |_| {}).unwrap().is_clean());
        }
    });
}

#[test]
fn the_source_may_write_trim_and_delete_while_a_copy_is_taken() {
    for bytes_max in [1, 300, 5_000] {
        let (_, source) = memory();
        let mut writer = Writer::new(&source);
        writer.write(&source, 60);
        let origin = source.origin();
        let other = source.create_topic("other", TopicConfig::default()).unwrap();
        let doomed = source.create_topic("doomed", TopicConfig::default()).unwrap();
        let (other, doomed) = (partition(&source, &other, 1), partition(&source, &doomed, 0));
        source.commit(&append(seal(doomed, 0, &[b"a", b"b"]))).unwrap();
        source.trim(writer.ids[0], 12, 100).unwrap();
        let store = memory().1;
        let mut left = 15;
        take(&source, &store, origin, bytes_max, &mut |step| {
            if left > 0 {
                left -= 1;
                writer.write(&source, 1);
            }
            match step {
                // Partitions are made, trimmed before and behind where the reading is, and deleted.
                2 => drop(source.commit(&append(seal(other, 0, &[b"new"]))).unwrap()),
                3 => drop(source.trim(writer.ids[1], 40, 100).unwrap()),
                4 => source.delete_topic(doomed.topic).unwrap(),
                6 => drop(source.trim(writer.ids[0], u64::MAX, 100).unwrap()),
                _ => {}
            }
            source.sync().unwrap();
        });
        let until = source.synced_commit_of(origin);
        if store.followed_commit(origin) < until {
            assert_eq!(store.followed()[0].1.copy, CopyState::Until(until));
            assert!(matches!(store.copy_head(origin), Err(ReadError::NotWhole(_))));
        }
        follow(&source, &store, origin);
        assert_eq!(store.followed()[0].1.copy, CopyState::Whole);
        let ids = writer.ids.iter().chain([&other]);
        for id in ids {
            assert_eq!((store.end_offset(*id), store.digest(*id)), (source.end_offset(*id), source.digest(*id)));
            let from = source.start_offset(*id).max(store.start_offset(*id));
            assert_eq!(values(&store, *id, from), values(&source, *id, from), "{bytes_max}");
        }
        let (here, there) = (all(&store, origin), all(&source, origin));
        assert_eq!((here.commit, here.cursors, here.state), (there.commit, there.cursors, there.state));
        assert!(store.verify(&mut |_| {}).unwrap().is_clean());
    }
}

#[test]
fn a_fork_is_seen_before_anything_is_added_to_it() {
    let (backend, source) = memory();
    let mut writer = Writer::new(&source);
    writer.write(&source, 15);
    let origin = source.origin();
    let twin = on(&backend.image());
    writer.write(&source, 30);
    // As many events as there are at the source, of other commits.
    let mut other = Writer { n: 99, ids: writer.ids.clone() };
    other.write(&twin, 3);
    let (_, store) = memory();
    follow(&twin, &store, origin);
    let head = source.copy_head(origin).unwrap();
    store.begin_copy(&head).unwrap();
    let before: Vec<u64> = writer.ids.iter().map(|id| store.end_offset(*id)).collect();
    let (parts, _) = source.copy_parts(&head, None, &|id| store.end_offset(id), usize::MAX).unwrap();
    for part in &parts {
        if matches!(part, CopyPart::Jump { .. }) {
            let fork = store.add_copy(origin, std::slice::from_ref(part));
            assert!(matches!(fork, Err(FollowError::Different { .. })), "{fork:?}");
        }
    }
    assert!(matches!(store.add_copy(origin, &parts), Err(FollowError::Different { .. })));
    let after: Vec<u64> = writer.ids.iter().map(|id| store.end_offset(*id)).collect();
    assert_eq!(before, after);
}

#[test]
fn a_copy_that_lacks_what_is_here_takes_nothing_from_it() {
    let source = memory().1;
    let origin = source.origin();
    let mut writer = Writer::new(&source);
    writer.write(&source, 10);
    let store = memory().1;
    store.create_topic_as(source.topics().remove(0)).unwrap();
    follow(&source, &store, origin);
    let before = all(&store, origin);
    let head = source.copy_head(origin).unwrap();
    let lacking = |partitions: Vec<_>| CopyHead { commit: CommitNumber(90), partitions, ..head.clone() };
    for head in [lacking(Vec::new()), lacking(head.partitions[1..].to_vec())] {
        assert!(matches!(store.begin_copy(&head), Err(FollowError::Lacking { .. })));
        assert_eq!(all(&store, origin), before);
        assert_eq!(store.followed()[0].1.copy, CopyState::Whole);
    }
    // Where its topic is deleted, nothing of it is missed.
    store.delete_topic(writer.ids[0].topic).unwrap();
    store.begin_copy(&lacking(Vec::new())).unwrap();
}

#[test]
fn what_is_here_and_agrees_stays_and_what_differs_is_refused() {
    let (_, source) = memory();
    let mut writer = Writer::new(&source);
    writer.write(&source, 15);
    let origin = source.origin();
    let (backend, store) = memory();
    follow(&source, &store, origin);
    let image = on(&backend.image());
    writer.write(&source, 50);
    let head = source.copy_head(origin).unwrap();
    store.begin_copy(&head).unwrap();
    store.sync().unwrap();
    assert_eq!(store.synced_commit_of(origin), CommitNumber(0), "nothing is whole while a copy is taken");
    assert_eq!((store.readers_of(origin).unwrap().len(), store.followed()[0].1.copy), (0, CopyState::Taking));
    let (parts, _) = source.copy_parts(&head, None, &|id| store.end_offset(id), usize::MAX).unwrap();
    let bases: Vec<u64> = parts
        .iter()
        .filter_map(|part| if let CopyPart::Batch(batch) = part { Some(batch.base_offset()) } else { None })
        .collect();
    assert!(bases.iter().all(|base| *base >= 15), "only what is not here is sent");
    // Taken twice, or over what is here, a part changes nothing; a hole is refused.
    assert!(
        matches!(parts[0], CopyPart::Jump { to: 15, .. }),
        "where the follower's events end, it is told the digest there"
    );
    let hole = store.add_copy(origin, &parts[2..]);
    assert!(matches!(hole, Err(FollowError::Different { .. })), "{hole:?}");
    store.add_copy(origin, &parts[..3]).unwrap();
    store.add_copy(origin, &parts).unwrap();
    let commits = source.commits_to_ship(origin, CommitNumber(66), 1).unwrap();
    assert_eq!(commits, []);
    writer.write(&source, 1);
    let commits = source.commits_to_ship(origin, CommitNumber(66), 1).unwrap();
    assert_eq!(store.follow(&commits), Err(FollowError::Taking(origin)));
    store.end_copy(origin, CommitNumber(65)).unwrap();
    assert_eq!(store.synced_commit_of(origin), CommitNumber(0), "the parts are not synced yet");
    store.sync().unwrap();
    assert_eq!(store.synced_commit_of(origin), CommitNumber(65));
    assert_eq!(store.end_copy(origin, CommitNumber(65)), Err(FollowError::NotTaking(origin)));
    assert_eq!(store.add_copy(origin, &[]), Err(FollowError::NotTaking(origin)));
    store.follow(&commits).unwrap();
    assert_eq!(all(&source, origin), all(&store, origin));

    // From a source that has less.
    let behind = store.begin_copy(&image.copy_head(origin).unwrap());
    assert!(matches!(behind, Err(FollowError::Behind { .. })), "{behind:?}");
    assert_eq!(store.begin_copy(&head).map_err(|e| e.to_string().len() > 10), Err(true));
    let mut other = source.copy_head(origin).unwrap();
    other.partitions[1].digest ^= 1;
    assert!(matches!(store.begin_copy(&other), Err(FollowError::Different { .. })));
    other.partitions[1].digest ^= 1;
    other.partitions[1].end -= 1;
    assert!(matches!(store.begin_copy(&other), Err(FollowError::Different { .. })));
    assert_eq!(source.begin_copy(&head), Err(FollowError::Own(origin)));
    assert_eq!(store.followed()[0].1.copy, CopyState::Whole);
    // Events that are not the same are found at the partition's end.
    let fake = PartitionId { origin, ..writer.ids[0] };
    let fresh = memory().1;
    fresh.begin_copy(&head).unwrap();
    let forged = CopyPart::Batch(seal(fake, 0, &[b"other", b"other"]).into());
    let end = CopyPart::End { partition: fake, end: 2, digest: 1 };
    assert!(matches!(fresh.add_copy(origin, &[forged, end]), Err(FollowError::Different { .. })));
    let foreign = CopyPart::Batch(seal(PartitionId { origin: OriginId(3), ..fake }, 0, &[b"x"]).into());
    assert!(matches!(fresh.add_copy(origin, &[foreign]), Err(FollowError::MalformedCopy(_))));
    assert_eq!(fresh.end_offset(fake), 0);
}

#[test]
fn a_power_cut_at_any_write_leaves_a_copy_that_is_begun_again() {
    let (_, source) = memory();
    let mut writer = Writer::new(&source);
    writer.write(&source, 25);
    let origin = source.origin();
    let (backend, store) = memory();
    take(&source, &store, origin, usize::MAX, &mut |_| {});
    store.sync().unwrap();
    let before = all(&store, origin);
    drop(store);
    writer.write(&source, 40);
    let head: CopyHead = source.copy_head(origin).unwrap();
    let mut cuts = 0;
    for writes in 0_u64.. {
        let backend = backend.image();
        let store = on(&backend);
        backend.set_faults(Faults { fail_after_writes: Some(writes), ..Faults::default() });
        let done = store.begin_copy(&head).and_then(|()| {
            let mut position = None;
            loop {
                let ends = |id| store.end_offset(id);
                let (parts, next) = source.copy_parts(&head, position.as_ref(), &ends, 600).unwrap();
                store.add_copy(origin, &parts)?;
                position = next;
                if position.is_none() {
                    return store.end_copy(origin, source.synced_commit_of(origin));
                }
            }
        });
        let keep = backend.unsynced_writes();
        backend.power_cut(keep * (writes as usize % 4) / 3);
        drop(store);
        let store = on(&backend);
        match store.followed()[0].1.copy {
            CopyState::Whole if store.followed_commit(origin) == before.commit => {
                assert_eq!(all(&store, origin), before)
            }
            CopyState::Whole => assert_eq!(all(&store, origin), all(&source, origin)),
            CopyState::Taking => cuts += 1,
            CopyState::Until(commit) => panic!("nothing was written meanwhile, and it is not whole before {commit}"),
        }
        take(&source, &store, origin, 600, &mut |_| {});
        assert_eq!(all(&source, origin), all(&store, origin));
        assert!(store.verify(&mut |_| {}).unwrap().is_clean());
        if done.is_ok() {
            break;
        }
    }
    assert!(cuts > 30, "{cuts}");
}

#[test]
fn records_are_held_for_a_copy_up_to_a_bound() {
    let (_, source) = memory();
    let mut writer = Writer::new(&source);
    writer.write(&source, 30);
    let origin = source.origin();
    let first = || source.first_kept_commit_of(origin).0;
    assert_eq!(first(), 11);
    let one = source.hold_commits(origin, CommitNumber(25));
    writer.write(&source, 50);
    assert_eq!(first(), 25, "twenty are kept, and what is held");
    let other = source.hold_commits(origin, CommitNumber(40));
    writer.write(&source, 50);
    assert_eq!(first(), 51, "eighty are kept at most");
    // The one that ends first takes nothing from the other.
    source.release_commits(origin, one);
    writer.write(&source, 1);
    assert_eq!(first(), 52);
    source.release_commits(origin, other);
    writer.write(&source, 30);
    assert_eq!(first(), 142);
}

#[test]
fn an_origin_is_forgotten_with_all_that_was_kept_of_it() {
    on_both(|open| {
        let (_, source) = memory();
        let mut writer = Writer::new(&source);
        writer.write(&source, 30);
        let origin = source.origin();
        let store = open(Options::default());
        let own = Writer::new(&store).ids[0];
        take(&source, &store, origin, usize::MAX, &mut |_| {});
        let cursor = |partition, next| CursorMove { reader: "own".into(), partition, next };
        let cursors = vec![cursor(writer.ids[0], 3), cursor(own, 1)];
        store.commit(&Commit { appends: vec![seal(own, 0, &[b"own"])], cursors, ..Commit::default() }).unwrap();
        assert_eq!(store.forget_followed(store.origin()), Err(FollowError::Own(store.origin())));
        store.forget_followed(origin).unwrap();
        store.forget_followed(origin).unwrap();
        store.sync().unwrap();
        let check = |store: &Store| {
            assert_eq!(store.followed(), []);
            assert_eq!(store.partitions(), [own]);
            assert_eq!(store.cursors("own").unwrap(), [(own, 1)]);
            let nothing = all(store, origin);
            assert_eq!((nothing.commit, nothing.cursors), (CommitNumber(0), Vec::new()));
            assert!(nothing.state.iter().all(Vec::is_empty));
        };
        check(&store);
        drop(store);
        let store = open(Options::default());
        check(&store);
        take(&source, &store, origin, usize::MAX, &mut |_| {});
        assert_eq!(all(&source, origin), all(&store, origin));
    });
}
