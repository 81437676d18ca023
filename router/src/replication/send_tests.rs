//! Several followers of one log under load: what is sent from memory and from the store, at once and in groups, comes to each of them whole and
//! once.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use sled_data::{Durability, TopicConfig};

use super::stream_tests::{follow_as, is_level, link, log, until};
use crate::event_log::{EventLog, NO_HEADERS, NewEvent, Topic};
use crate::transport::pair::Pair;

/// Bytes of an event of which a few are load.
const LOAD_BYTES: usize = 12 << 10;
/// Bytes of a commit that is too large to be kept in memory, in events of a batch each.
const LARGE: (usize, usize) = (20, 48 << 10);

/// Appends events of so many bytes to one commit.
fn append(log: &EventLog, topic: &Topic, count: usize, bytes: usize) {
    let value = vec![7; bytes];
    let mut open = log.lock();
    for _ in 0..count {
        let event = NewEvent {
            timestamp_ms: 1_000,
            key: None,
            value: Some(&value),
            headers: &NO_HEADERS,
            extra: &NO_HEADERS,
            fanned_out: false,
        };
        open.append_keyed(topic, &event).unwrap();
    }
    let ticket = open.ticket();
    drop(open);
    log.durable_blocking(ticket).unwrap();
}

struct Followers {
    link: Pair,
    logs: Vec<Arc<EventLog>>,
}

impl Followers {
    /// One more node follows.
    async fn join(&mut self, there: &Arc<EventLog>, node: u64) {
        let here = log(100 + node);
        // What ends the stream of one is seen as its log stands still.
        let _following = follow_as(&self.link, &here, there, there.store().origin(), node).await;
        self.logs.push(here);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_follows_gets_all_whatever_is_kept_and_whoever_is_waited_for() {
    let there = log(1);
    let of = |durability| Some(TopicConfig { partitions: 1, durability, ..TopicConfig::default() });
    let quorum = there.ensure_topic("quorum", of(Durability::Quorum)).unwrap();
    let memory = there.ensure_topic("memory", of(Durability::Memory)).unwrap();
    let mut followers = Followers { link: link().await, logs: Vec::new() };
    // Voters 2 to 5 of five nodes; 9 follows and counts for nothing.
    there.set_replicas(&[2, 3, 4, 5], 2);
    let write = |there: &Arc<EventLog>, times: usize| {
        let (there, quorum, memory) = (Arc::clone(there), Arc::clone(&quorum), Arc::clone(&memory));
        tokio::task::spawn_blocking(move || {
            for n in 0..times {
                append(&there, &quorum, 1, LOAD_BYTES);
                if n % 7 == 3 {
                    append(&there, &memory, 3, 100);
                }
                if n % 50 == 20 {
                    append(&there, &quorum, LARGE.0, LARGE.1);
                }
            }
        })
    };
    followers.join(&there, 2).await;
    let first = write(&there, 200);
    followers.join(&there, 3).await;
    followers.join(&there, 9).await;
    first.await.unwrap();
    // All that is kept has gone by, and two come in the middle of what is kept now; the quorum's size changes under way.
    let second = write(&there, 200);
    followers.join(&there, 4).await;
    there.set_replicas(&[2, 3, 4, 5], 3);
    followers.join(&there, 5).await;
    second.await.unwrap();
    let third = write(&there, 60);
    there.set_replicas(&[2], 1);
    third.await.unwrap();
    // The last word is one of a memory topic, which is synced later.
    append(&there, &memory, 1, 10);
    for (place, here) in followers.logs.iter().enumerate() {
        until(&format!("follower {place} of {}", followers.logs.len()), || {
            is_level(here, &there, there.store().origin())
        })
        .await;
    }
    until("what waits", || there.quorum_bytes() == 0).await;
    followers.link.dialled.close(0, "done");
    followers.logs.iter().for_each(|log| log.close());
    there.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_is_larger_than_any_is_closed_now_is_taken_all_the_same() {
    let there = log(1);
    let compression = sled_data::Compression::None;
    let plain = Some(TopicConfig { partitions: 1, compression, ..TopicConfig::default() });
    let topic = there.ensure_topic("plain", plain).unwrap();
    append(&there, &topic, 3, 100);
    let mut followers = Followers { link: link().await, logs: Vec::new() };
    followers.join(&there, 2).await;
    until("what is small", || is_level(&followers.logs[0], &there, there.store().origin())).await;
    for (count, bytes) in [(40, 1 << 20), (1, 100), (6, (16 << 20) - 64)] {
        append(&there, &topic, count, bytes);
    }
    until("what is large", || is_level(&followers.logs[0], &there, there.store().origin())).await;
    followers.link.dialled.close(0, "done");
    followers.logs.iter().for_each(|log| log.close());
    there.close();
}
