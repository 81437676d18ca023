//! A source and a follower over a real connection: commits as they come, a copy first, and what is refused.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use sled_data::{CommitNumber, MemoryBackend, Options, OriginId, Store};
use tokio::task::JoinHandle;

use super::book::{Book, Following};
use super::follower::{Ended, Follower};
use super::source::Source;
use super::wire::{Asked, Follow, RefusedCode, Said, VERSION};
use crate::clock::Clock;
use crate::event_log::{Config, EventLog, NO_HEADERS, NewEvent, Topic};
use crate::transport::NodeId;
use crate::transport::pair::{Pair, pair};

const LONG: Duration = Duration::from_secs(40);

pub(super) fn open(backend: MemoryBackend, seed: u64, options: Options) -> Arc<EventLog> {
    let (store, recovered) = Store::on(Arc::new(backend), Options { seed: Some(seed), ..options }).unwrap();
    let clock = Arc::new(Clock::starting_after(recovered.last_hlc));
    let log = EventLog::open(Arc::new(store), clock, Config::default()).unwrap();
    log.set_site(1);
    log
}

pub(super) fn log(seed: u64) -> Arc<EventLog> {
    open(MemoryBackend::new(), seed, Options::default())
}

async fn append(log: &EventLog, topic: &Topic, value: &str) {
    let event = NewEvent {
        timestamp_ms: 1_000,
        key: Some(value.as_bytes()),
        value: Some(value.as_bytes()),
        headers: &NO_HEADERS,
        extra: &NO_HEADERS,
        fanned_out: false,
    };
    let ticket = {
        let mut open = log.lock();
        open.append_keyed(topic, &event).unwrap();
        open.put_state("last", b"value", Some(value.as_bytes()));
        open.ticket()
    };
    log.durable(ticket).await.unwrap();
}

/// Appends to one partition; durable on return.
pub(super) fn append_blocking(log: &EventLog, topic: &Topic, partition: u32, value: &str) {
    let (key, value) = (None, Some(value.as_bytes()));
    let event =
        NewEvent { timestamp_ms: 1_000, key, value, headers: &NO_HEADERS, extra: &NO_HEADERS, fanned_out: false };
    let ticket = {
        let mut open = log.lock();
        open.append(topic, partition, &event).unwrap();
        open.ticket()
    };
    log.durable_blocking(ticket).unwrap();
}

pub(super) async fn link() -> Pair {
    pair(NodeId(1), NodeId(2)).await
}

/// Has `here` follow `origin` from `there`.
async fn follow(link: &Pair, here: &Arc<EventLog>, there: &Arc<EventLog>, origin: OriginId) -> JoinHandle<Ended> {
    follow_as(link, here, there, origin, 2).await
}

/// The same, as that node.
pub(super) async fn follow_as(
    link: &Pair,
    here: &Arc<EventLog>,
    there: &Arc<EventLog>,
    origin: OriginId,
    node: u64,
) -> JoinHandle<Ended> {
    let (out, from) = link.dialled.open().await.unwrap();
    let book = Arc::new(Book::default());
    let follower = Follower {
        log: Arc::clone(here),
        book,
        origin,
        node: NodeId(1),
        is_writer: false,
        live_percent: 150,
        came: Arc::default(),
    };
    let following = tokio::spawn(async move { follower.run(out, from).await });
    let (out, from) = link.taken.accept().await.unwrap();
    let source = Source { log: Arc::clone(there), book: Arc::new(Book::default()), live_percent: 150 };
    tokio::spawn(async move { source.serve(NodeId(node), out, from).await });
    following
}

pub(super) async fn until(what: &str, done: impl Fn() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(LONG, wait).await.unwrap_or_else(|_| panic!("{what} takes too long"));
}

fn values(log: &EventLog, topic: &str) -> Vec<String> {
    let topic = log.topic(topic).unwrap();
    let mut found = Vec::new();
    for partition in log.partitions_of(&topic) {
        let mut next = log.start_offset(partition.id());
        while next < partition.visible_end() {
            for batch in log.read(partition.id(), next, 1 << 20).unwrap() {
                let text = |value: Option<&[u8]>| String::from_utf8(value.unwrap().to_vec()).unwrap();
                found.extend(batch.events_from(next).map(|(_, record)| text(record.value)));
                next = batch.next_offset();
            }
        }
    }
    found.sort();
    found
}

/// Whether one has all that the other has, and shows it.
pub(super) fn is_level(here: &EventLog, there: &EventLog, origin: OriginId) -> bool {
    let ids = there.store().partitions().into_iter().filter(|id| id.origin == origin);
    here.store().synced_commit_of(origin) == there.store().synced_commit_of(origin)
        && ids.into_iter().all(|id| here.visible_end(id) == here.store().end_offset(id))
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| format!("{n:05}")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_comes_first_then_commits_as_they_are_written() {
    let (there, here, third) = (log(1), log(2), log(3));
    let origin = there.store().origin();
    let topic = there.ensure_topic("line", None).unwrap();
    for value in numbers(0..50) {
        append(&there, &topic, &value).await;
    }
    let link = link().await;
    let following = follow(&link, &here, &there, origin).await;
    for value in numbers(50..100) {
        append(&there, &topic, &value).await;
    }
    until("following", || is_level(&here, &there, origin)).await;
    assert_eq!(values(&here, "line"), numbers(0..100));
    assert_eq!(here.store().state_get_of(origin, "last", b"value").unwrap().unwrap(), b"00099");
    // A third one gets it from the second.
    let again = follow(&link, &third, &here, origin).await;
    until("following a copy", || is_level(&third, &there, origin)).await;
    append(&there, &topic, "00100").await;
    until("following on", || is_level(&third, &there, origin)).await;
    assert_eq!(values(&third, "line"), numbers(0..101));
    assert_eq!(third.store().state_get_of(origin, "last", b"value").unwrap().unwrap(), b"00100");
    link.dialled.close(0, "done");
    for ended in [following, again] {
        assert!(matches!(ended.await.unwrap(), Ended::Stream(_)));
    }
    for log in [there, here, third] {
        log.close();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_writes_a_life_is_known_from_first_contact_on() {
    let there = log(1);
    let origin = there.store().origin();
    let topic = there.ensure_topic("line", None).unwrap();
    append(&there, &topic, "a").await;
    for (is_writer, node) in [(true, 1), (false, 0)] {
        let here = log(2);
        let link = link().await;
        let (out, from) = link.dialled.open().await.unwrap();
        let (log, book) = (Arc::clone(&here), Arc::new(Book::default()));
        let follower =
            Follower { log, book, origin, node: NodeId(1), is_writer, live_percent: 150, came: Arc::default() };
        let following = tokio::spawn(async move { follower.run(out, from).await });
        let (out, from) = link.taken.accept().await.unwrap();
        let source = Source { log: Arc::clone(&there), book: Arc::new(Book::default()), live_percent: 150 };
        tokio::spawn(async move { source.serve(NodeId(2), out, from).await });
        until("following", || is_level(&here, &there, origin)).await;
        let nodes = here.store().followed().into_iter().map(|(origin, followed)| (origin, followed.node));
        assert_eq!(nodes.collect::<Vec<_>>(), [(origin, node)], "{is_writer}");
        link.dialled.close(0, "done");
        following.await.unwrap();
        here.close();
    }
    there.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_away_goes_on_where_it_was_or_takes_a_copy() {
    let few_records = Options { commit_records_max: 20, ..Options::default() };
    let (there, here) = (open(MemoryBackend::new(), 1, few_records), log(2));
    let origin = there.store().origin();
    let topic = there.ensure_topic("line", None).unwrap();
    let mut written = 0;
    for (away, is_copy) in [(5, true), (10, false), (200, true), (15, false)] {
        for value in numbers(written..written + away) {
            append(&there, &topic, &value).await;
        }
        written += away;
        let link = link().await;
        let (out, from) = link.dialled.open().await.unwrap();
        let book = Arc::new(Book::default());
        let follower = Follower {
            log: Arc::clone(&here),
            book: Arc::clone(&book),
            origin,
            node: NodeId(1),
            is_writer: false,
            live_percent: 150,
            came: Arc::default(),
        };
        let following = tokio::spawn(async move { follower.run(out, from).await });
        let (out, mut from) = link.taken.accept().await.unwrap();
        let asked = from.receive_frame(1 << 20).await.unwrap().unwrap();
        let super::wire::Asked::Follow(asked) = super::wire::Asked::decode(&asked).unwrap() else {
            panic!("{asked:?}")
        };
        let source = Source { log: Arc::clone(&there), book: Arc::new(Book::default()), live_percent: 150 };
        assert_eq!(matches!(source.how(&asked).await.unwrap(), super::begin::Begin::Copy), is_copy, "{away} away");
        tokio::spawn(async move { source.go_on(NodeId(2), asked, out, from).await });
        until("following", || is_level(&here, &there, origin)).await;
        assert_eq!(values(&here, "line"), numbers(0..written));
        until("the book", || book.following().get(&origin) == Some(&Following::Commits(NodeId(1)))).await;
        link.dialled.close(0, "away");
        following.await.unwrap();
    }
    there.close();
    here.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_store_is_told_apart_and_nothing_is_taken_from_it() {
    let backend = MemoryBackend::new();
    let there = open(backend.clone(), 1, Options::default());
    let here = log(2);
    let origin = there.store().origin();
    let topic = there.ensure_topic("line", None).unwrap();
    append(&there, &topic, "old").await;
    let image = backend.image();
    append(&there, &topic, "new").await;
    let first = link().await;
    let following = follow(&first, &here, &there, origin).await;
    until("following", || is_level(&here, &there, origin)).await;
    first.dialled.close(0, "lost");
    following.await.unwrap();
    there.close();
    // An older image of it comes up, and writes what its number had meant something else for.
    let restored = open(image, 1, Options::default());
    assert_eq!(restored.store().origin(), origin);
    for values in [vec![], vec!["other", "more", "and more"]] {
        let topic = restored.ensure_topic("line", None).unwrap();
        for value in values {
            append(&restored, &topic, value).await;
        }
        let link = link().await;
        let ended = follow(&link, &here, &restored, origin).await;
        match tokio::time::timeout(LONG, ended).await.unwrap().unwrap() {
            Ended::Refused(refused) => assert_eq!(refused.code, RefusedCode::Forked),
            other => panic!("{other}"),
        }
        assert_eq!(values_of_line(&here), ["new", "old"]);
    }
    restored.close();
    here.close();
}

fn values_of_line(log: &EventLog) -> Vec<String> {
    values(log, "line")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_no_commit_is_refused_and_stored_nowhere() {
    let (there, here) = (log(1), log(2));
    let origin = there.store().origin();
    let topic = there.ensure_topic("line", None).unwrap();
    append(&there, &topic, "a").await;
    let mut commit = vec![];
    commit.push(super::wire::Said::COMMIT);
    there.store().commits_to_ship(origin, CommitNumber(1), 1).unwrap()[0].encode(&mut commit);
    let mut flipped = commit.clone();
    let at = flipped.len() / 2;
    flipped[at] ^= 1;
    for (case, frame) in [("flipped", flipped), ("cut", commit[..commit.len() - 3].to_vec()), ("unknown", vec![99, 1])]
    {
        let link = link().await;
        let (out, from) = link.dialled.open().await.unwrap();
        let book = Arc::new(Book::default());
        let follower = Follower {
            log: Arc::clone(&here),
            book,
            origin,
            node: NodeId(1),
            is_writer: false,
            live_percent: 150,
            came: Arc::default(),
        };
        let following = tokio::spawn(async move { follower.run(out, from).await });
        let (mut out, _from) = link.taken.accept().await.unwrap();
        out.send_frame(&frame).await.unwrap();
        let ended = tokio::time::timeout(LONG, following).await.unwrap().unwrap();
        assert!(matches!(ended, Ended::Wrong(_)), "{case}: {ended}");
        assert_eq!(here.store().last_commit_of(origin), CommitNumber(0));
    }
    there.close();
    here.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_names_those_partitions_alone_of_which_it_has_something() {
    let (there, here) = (log(1), log(2));
    let origin = there.store().origin();
    let topic = there.ensure_topic("line", None).unwrap();
    append(&there, &topic, "a").await;
    for is_first in [true, false] {
        let link = link().await;
        let (out, from) = link.dialled.open().await.unwrap();
        let (log, book, came) = (Arc::clone(&here), Arc::new(Book::default()), Arc::default());
        let follower = Follower { log, book, origin, node: NodeId(1), is_writer: true, live_percent: 150, came };
        let following = tokio::spawn(async move { follower.run(out, from).await });
        let (mut out, mut from) = link.taken.accept().await.unwrap();
        from.receive_frame(1 << 20).await.unwrap().unwrap();
        let head = there.store().copy_head(origin).unwrap();
        let has_some: Vec<_> = head
            .partitions
            .iter()
            .filter(|extent| extent.end > 0)
            .map(|extent| (extent.partition, extent.end))
            .collect();
        assert!(!has_some.is_empty());
        let mut bytes = Vec::new();
        head.encode(&mut bytes);
        out.send_frame(&Said::CopyHead(bytes).encode()).await.unwrap();
        let ends = Asked::decode(&from.receive_frame(1 << 20).await.unwrap().unwrap()).unwrap();
        assert_eq!(ends, Asked::Ends(if is_first { Vec::new() } else { has_some }));
        link.dialled.close(0, "done");
        following.await.unwrap();
        // All of it comes, and another copy is begun after that.
        let whole = self::link().await;
        let following = follow(&whole, &here, &there, origin).await;
        until("following", || is_level(&here, &there, origin)).await;
        whole.dialled.close(0, "done");
        following.await.unwrap();
    }
    there.close();
    here.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_counts_as_having_a_copy_when_it_says_so() {
    let there = log(1);
    let origin = there.store().origin();
    let topic = there.ensure_topic("line", None).unwrap();
    for value in numbers(0..5) {
        append(&there, &topic, &value).await;
    }
    let link = link().await;
    let (mut out, mut from) = link.dialled.open().await.unwrap();
    let follow = Follow { version: VERSION, origin: origin.0, have: 0, hlc: 0, whole: false };
    out.send_frame(&Asked::Follow(follow).encode()).await.unwrap();
    let (theirs_out, theirs_from) = link.taken.accept().await.unwrap();
    let book = Arc::new(Book::default());
    let source = Source { log: Arc::clone(&there), book: Arc::clone(&book), live_percent: 150 };
    tokio::spawn(async move { source.serve(NodeId(2), theirs_out, theirs_from).await });
    let whole_at = loop {
        match Said::decode(from.receive_frame(1 << 20).await.unwrap().unwrap()).unwrap() {
            Said::CopyHead(_) => out.send_frame(&Asked::Ends(Vec::new()).encode()).await.unwrap(),
            Said::CopyEnd(whole_at) => break whole_at,
            _ => {}
        }
    };
    let synced = || book.followers(origin).first().map(|(_, follower)| follower.synced);
    until("coming", || synced().is_some()).await;
    assert_eq!(synced(), Some(CommitNumber(0)), "it was sent, and is not stored there");
    out.send_frame(&Asked::Synced(whole_at).encode()).await.unwrap();
    until("the copy", || synced() == Some(CommitNumber(whole_at))).await;
    there.close();
}

/// An observer that holds the committer back while a gate is shut.
#[derive(Default)]
struct Held {
    gate: parking_lot::Mutex<()>,
}

impl crate::event_log::Observer for Held {
    fn committed(&self, _: &Arc<crate::event_log::Committed>) {
        drop(self.gate.lock());
    }

    fn is_listening(&self) -> bool {
        true
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[expect(clippy::await_holding_lock, reason = "it holds the committer back, which is a thread of its own")]
async fn what_a_dropped_stream_has_left_on_its_way_is_stored_and_synced_before_it_is_counted() {
    let (there, here) = (log(1), log(2));
    let origin = there.store().origin();
    let topic = there.ensure_topic("line", None).unwrap();
    for value in numbers(0..5) {
        append(&there, &topic, &value).await;
    }
    let commits = there.store().commits_to_ship(origin, CommitNumber(1), 1 << 20).unwrap();
    let last = commits.last().unwrap().record.number;
    // The committer is held back while what an earlier stream brought is in its queue; the stream is dropped.
    let held = Arc::new(Held::default());
    here.observe(Arc::clone(&held) as _);
    let gate = held.gate.lock();
    let own = here.ensure_topic("own", None).unwrap();
    let blocked = {
        let here = Arc::clone(&here);
        tokio::spawn(async move { append(&here, &own, "1").await })
    };
    let own_end =
        || here.partitions_of(&here.topic("own").unwrap()).iter().any(|partition| partition.visible_end() > 0);
    until("the committer", own_end).await;
    {
        let mut brought = std::pin::pin!(here.follow(commits));
        assert!(futures_now(brought.as_mut()).is_none(), "it waits for the committer");
    }
    let link = link().await;
    let (out, from) = link.dialled.open().await.unwrap();
    let follower = Follower {
        log: Arc::clone(&here),
        book: Arc::default(),
        origin,
        node: NodeId(1),
        is_writer: true,
        live_percent: 150,
        came: Arc::default(),
    };
    let following = tokio::spawn(async move { follower.run(out, from).await });
    let release = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        drop(gate);
    };
    // The stream is seen by its first frame.
    let asking = async {
        let (_out, mut from) = link.taken.accept().await.unwrap();
        from.receive_frame(1 << 20).await
    };
    let (asked, ()) = tokio::join!(asking, release);
    let Asked::Follow(asked) = Asked::decode(&asked.unwrap().unwrap()).unwrap() else { panic!("something else") };
    assert_eq!(CommitNumber(asked.have), last, "all that was on its way");
    assert_eq!(here.store().synced_commit_of(origin), last);
    link.dialled.close(0, "done");
    following.await.unwrap();
    blocked.await.unwrap();
    for log in [there, here] {
        log.close();
    }
}

fn futures_now<F: Future>(future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match future.poll(&mut context) {
        std::task::Poll::Ready(output) => Some(output),
        std::task::Poll::Pending => None,
    }
}
