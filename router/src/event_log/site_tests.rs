//! The event log in a site: commits of other origins, topics by id, acknowledgement by quorum.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sled_data::{
    CommitNumber, Durability, Linked, LinkedPart, MemoryBackend, Options, OriginId, PartitionId, Store, TopicConfig,
    TopicId,
};

use super::*;

fn log(seed: u64) -> Arc<EventLog> {
    let options = Options { seed: Some(seed), ..Options::default() };
    let (store, recovered) = Store::on(Arc::new(MemoryBackend::new()), options).unwrap();
    let clock = Arc::new(Clock::starting_after(recovered.last_hlc));
    let log = EventLog::open(Arc::new(store), clock, Config::default()).unwrap();
    log.set_site(1);
    log
}

fn append(log: &EventLog, topic: &Topic, value: &str) -> Result<Ticket, AppendError> {
    let event = NewEvent {
        timestamp_ms: 1_000,
        key: Some(b"k"),
        value: Some(value.as_bytes()),
        headers: &NO_HEADERS,
        extra: &NO_HEADERS,
        fanned_out: false,
    };
    let mut open = log.lock();
    open.append_keyed(topic, &event)?;
    Ok(open.ticket())
}

/// The values of all origins, by origin.
fn values(log: &EventLog, topic: &Topic) -> Vec<String> {
    let read = |partition: &Arc<PartitionLog>| log.read(partition.id(), 0, 1 << 20).unwrap();
    let batches: Vec<Batch> = log.partitions_of(topic).iter().flat_map(read).collect();
    let text = |value: Option<&[u8]>| String::from_utf8(value.unwrap().to_vec()).unwrap();
    batches.iter().flat_map(|batch| batch.events_from(0).map(|(_, r)| text(r.value)).collect::<Vec<_>>()).collect()
}

fn config(durability: Durability) -> TopicConfig {
    TopicConfig { partitions: 1, durability, ..TopicConfig::default() }
}

#[derive(Default)]
struct Onlooker {
    handed: Mutex<Vec<(String, u32)>>,
    followed: Mutex<Vec<CommitNumber>>,
}

impl Observer for Onlooker {
    fn committed(&self, committed: &Arc<Committed>) {
        let told = committed.batches.iter().map(|found| (found.partition.topic().to_string(), found.batch.count()));
        self.handed.lock().extend(told);
    }

    fn is_listening(&self) -> bool {
        true
    }

    fn followed(&self, commits: &[sled_data::FollowedCommit]) {
        self.followed.lock().extend(commits.iter().map(|commit| commit.record.number));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_origin_wrote_is_read_and_handed_out_here() {
    let (there, here) = (log(1), log(2));
    let written = there.create_topic("line", config(Durability::Sync)).unwrap();
    let first = append(&there, &written, "a").unwrap();
    there.durable(first).await.unwrap();
    let second = append(&there, &written, "b").unwrap();
    there.durable(second).await.unwrap();
    let onlooker = Arc::new(Onlooker::default());
    here.observe(Arc::clone(&onlooker) as _);
    let origin = there.store().origin();
    let commits = there.store().commits_to_ship(origin, CommitNumber(1), 1 << 20).unwrap();
    let count = commits.len();
    // The topic is not known yet: what comes is kept, and shown when it is.
    here.follow(commits[..1].to_vec()).await.unwrap();
    here.adopt_topic(written.info().clone()).unwrap();
    let topic = here.topic("line").unwrap();
    assert_eq!(values(&here, &topic), ["a"]);
    let (mut shown, mut internal) = (here.watch(), here.watch_internal());
    let own = append(&here, &topic, "c").unwrap();
    here.durable(own).await.unwrap();
    shown.mark_unchanged();
    internal.mark_unchanged();
    assert_eq!(here.follow(commits[1..].to_vec()).await.unwrap(), []);
    assert!(shown.has_changed().unwrap() && !internal.has_changed().unwrap(), "readings alone have come");
    let mut all = values(&here, &topic);
    all.sort();
    assert_eq!(all, ["a", "b", "c"]);
    assert_eq!(here.store().synced_commit_of(origin), commits.last().unwrap().record.number);
    assert_eq!(onlooker.followed.lock().len(), count);
    let handed = onlooker.handed.lock().iter().filter(|(topic, _)| topic == "line").count();
    assert_eq!(handed, 2, "one of its own, one that was followed when its topic was known");
    // Again, and out of order: refused, and nothing is changed.
    assert!(matches!(here.follow(commits).await, Err(FollowFailed::Store(_))));
    assert_eq!(values(&here, &topic).len(), 3);
    here.delete_topic("line").unwrap();
    assert!(here.partitions_of(&topic).is_empty());
    for log in [there, here] {
        log.close();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_on_to_a_deleted_topic_elsewhere_stays_nowhere() {
    let (there, here, late, full) = (log(1), log(2), log(3), log(4));
    let written = there.create_topic("line", config(Durability::Sync)).unwrap();
    for value in ["a", "b"] {
        there.durable(append(&there, &written, value).unwrap()).await.unwrap();
    }
    let origin = there.store().origin();
    let commits = there.store().commits_to_ship(origin, CommitNumber(1), 1 << 20).unwrap();
    let holds = |log: &EventLog| log.store().partitions().iter().any(|id| id.topic == written.id());
    // It is deleted here before the other node hears of that.
    here.follow(commits[..1].to_vec()).await.unwrap();
    here.adopt_topic(written.info().clone()).unwrap();
    here.delete_topic("line").unwrap();
    // Here it is known by the name alone.
    late.raise_deletions("line", 1).unwrap();
    assert!(matches!(late.adopt_topic(written.info().clone()), Err(TopicError::Unknown(_))));
    for (log, from) in [(&here, 1), (&late, 0)] {
        assert_eq!(log.follow(commits[from..].to_vec()).await.unwrap(), []);
        assert_eq!(log.store().last_commit_of(origin), commits.last().unwrap().record.number);
        assert!(!holds(log) && log.unknown_topics().is_empty());
    }
    // And here it could not be made: its events are kept until it is known to be deleted.
    full.follow(commits).await.unwrap();
    assert!(holds(&full));
    assert_eq!(full.unknown_topics().into_iter().collect::<Vec<_>>(), [written.id()]);
    full.delete_unknown(written.id()).unwrap();
    assert!(!holds(&full));
    for log in [there, here, late, full] {
        log.close();
    }
}

#[test]
fn nodes_that_make_a_topic_apart_agree_on_its_id() {
    let (one, other) = (log(1), log(2));
    let made = one.ensure_topic("line", None).unwrap();
    assert_eq!(other.ensure_topic("line", None).unwrap().id(), made.id());
    one.delete_topic("line").unwrap();
    assert_ne!(one.ensure_topic("line", None).unwrap().id(), made.id());
    let refused = other.adopt_topic(one.topic("line").unwrap().info().clone());
    assert!(matches!(refused, Err(TopicError::Exists(_))));
    one.close();
    other.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_quorum_topic_is_acknowledged_and_seen_when_enough_nodes_have_it() {
    let log = log(1);
    let [local, quorum] = [("local", Durability::Sync), ("quorum", Durability::Quorum)]
        .map(|(name, durability)| log.create_topic(name, config(durability)).unwrap());
    // Alone, its own sync is the quorum.
    let alone = append(&log, &quorum, "0").unwrap();
    log.replicated(alone).await.unwrap();
    assert_eq!(values(&log, &quorum), ["0"]);

    log.set_replicas(&[7, 8], 1);
    let before = log.store().synced_commit();
    let waits = append(&log, &quorum, "1").unwrap();
    let goes = append(&log, &local, "1").unwrap();
    log.durable(waits).await.unwrap();
    log.replicated(goes).await.unwrap();
    assert_eq!(values(&log, &local), ["1"], "one that is acknowledged here waits for nobody");
    assert_eq!(log.acknowledged(waits), None);
    assert_eq!(values(&log, &quorum), ["0"]);
    let number = log.store().synced_commit();
    log.follower_synced(9, number);
    assert_eq!(log.acknowledged(waits), None, "one that has no vote");
    log.follower_synced(8, before);
    assert_eq!(log.acknowledged(waits), None, "too little");
    log.follower_synced(8, number);
    log.replicated(waits).await.unwrap();
    assert_eq!(values(&log, &quorum), ["0", "1"]);

    let mut internal = log.watch_internal();
    internal.mark_unchanged();
    let late = append(&log, &quorum, "2").unwrap();
    log.durable(late).await.unwrap();
    assert!(!internal.has_changed().unwrap(), "it waits, and is of readings alone");
    log.tell_late(Duration::from_secs(60));
    assert_eq!(log.acknowledged(late), None);
    log.tell_late(Duration::ZERO);
    assert!(matches!(log.acknowledged(late), Some(Err(CommitFailed::Unreplicated(_)))));
    // Who follows is heard and that far behind: nothing more is taken that would wait behind it, until it has come.
    assert!(log.quorum_is_heard() && !log.quorum_in_reach());
    assert!(matches!(append(&log, &quorum, "3"), Err(AppendError::NoQuorum { .. })));
    log.follower_synced(8, log.store().synced_commit());
    assert!(log.quorum_in_reach());
    let late = append(&log, &quorum, "3").unwrap();
    log.durable(late).await.unwrap();
    log.set_quorum_in_reach(false);
    assert!(matches!(append(&log, &quorum, "3"), Err(AppendError::NoQuorum { .. })));
    append(&log, &local, "3").unwrap();
    // The member that was lost is taken out: its vote is needed no more.
    log.set_replicas(&[], 0);
    log.set_quorum_in_reach(true);
    log.replicated(late).await.unwrap();
    let last = append(&log, &quorum, "4").unwrap();
    log.replicated(last).await.unwrap();
    assert_eq!(values(&log, &quorum), ["0", "1", "2", "3", "4"]);
    log.close();
}

#[tokio::test]
#[allow(clippy::await_holding_lock, reason = "the committer's thread is to wait, and nobody else takes it")]
async fn memory_of_what_is_on_its_way_is_held_though_nobody_waits_for_it_any_more() {
    let log = log(1);
    let id = PartitionId { origin: OriginId(50), topic: TopicId(1), index: 0 };
    let part = |base| vec![LinkedPart::Batch(rubbish::sound(id, base, 70, &["a"]).into())];
    let linked = Linked { link: 5, hlc: 0, path: vec![1] };
    // What was stored first cannot be shown, so what comes after it waits.
    let showing = log.showing.lock();
    let first = tokio::spawn({
        let (log, linked, part) = (Arc::clone(&log), linked.clone(), part(0));
        async move { log.take_linked(id.origin, linked, part).await }
    });
    until(|| log.store.end_offset(id) == 1).await;
    let held: Held = Arc::new(());
    let second = log.take_linked_held(id.origin, linked, part(1), (Comes::ByLink, Arc::clone(&held)));
    assert!(tokio::time::timeout(Duration::from_millis(20), second).await.is_err(), "it is cut off");
    assert_eq!(Arc::strong_count(&held), 2, "what it has brought is in memory still");
    drop(showing);
    until(|| Arc::strong_count(&held) == 1).await;
    first.await.unwrap().unwrap();
    assert_eq!(log.store.end_offset(id), 2, "it was under way, and is stored");
    log.close();
}

#[test]
fn nothing_is_appended_to_another_sites_topic_and_that_is_known_before() {
    let log = log(1);
    let own = log.ensure_topic("out", None).unwrap();
    let info = sled_data::TopicInfo { id: TopicId(9), name: "hq/recipes".to_owned(), config: TopicConfig::default() };
    let linked = log.adopt_linked_topic(info).unwrap();
    assert!(log.lock().check_topic(&own).is_ok());
    // Who asks first, so as to append to several or to none, must be told then.
    assert!(matches!(log.lock().check_topic(&linked), Err(AppendError::NoPartition { .. })));
    assert!(matches!(append(&log, &linked, "a"), Err(AppendError::NoPartition { .. })));
    log.close();
}

async fn until(done: impl Fn() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), wait).await.unwrap();
}
