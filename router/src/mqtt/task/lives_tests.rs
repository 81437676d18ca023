//! What other nodes' lives hold that were followed first after they had ended, and what it costs to see who goes on with them.

use std::sync::Arc;

use sled_data::{MemoryBackend, OriginId};

use super::site_tests::{gateway, gateway_on, moment, retained, ship_all, until};
use super::tests::{Client, Node, publish};
use super::will_tests::{bring, copy, killed};

async fn write(node: &Node, tree: &str, entries: impl IntoIterator<Item = (Vec<u8>, Option<Vec<u8>>)>) {
    let ticket = {
        let mut open = node.log.lock();
        for (key, value) in entries {
            open.put_state(tree, &key, value.as_deref());
        }
        open.ticket()
    };
    node.log.durable(ticket).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_removed_does_not_come_back_from_a_life_that_is_copied_after_its_end() {
    for (is_smaller, is_last) in [(true, false), (true, true), (false, false), (false, true)] {
        let (a, life, b) = killed(60, is_smaller).await;
        // So long ago that the mark of it is gone as well.
        write(&b, "retained", [(b"t".to_vec(), None)]).await;
        let (backend, case) = (Arc::new(MemoryBackend::new()), format!("{is_smaller} {is_last}"));
        let new = gateway_on(8, &backend);
        let mut copies = [(b.log.origin(), &b, 2), (life, &a, 0)];
        if !is_last {
            copies.reverse();
        }
        for (of, from, writer) in copies {
            copy(of, from, &new, writer);
        }
        assert!(retained(&new).is_empty(), "{case}");
        let of_b = new.log.store().followed().into_iter().filter(|(_, followed)| followed.node == 2);
        assert_eq!(of_b.count(), 2, "{case}: retention counts both");
        let image = Arc::new(backend.image());
        new.log.close();
        let new = gateway_on(8, &image);
        assert!(retained(&new).is_empty(), "{case}");
        for node in [a, b, new] {
            node.log.close();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_writes_a_life_may_become_known_after_it_was_copied() {
    for is_smaller in [true, false] {
        let (a, life, b) = killed(1, is_smaller).await;
        let has_ended = || {
            b.sessions.expire();
            b.sessions.kept_state("c").is_none()
        };
        until("its session is over", has_ended).await;
        write(&b, "retained", [(b"t".to_vec(), None)]).await;
        // The later life comes from another node first.
        let present = b.log.origin();
        copy(present, &b, &a, 0);
        a.log.set_writer(present, 2).unwrap();
        assert!(retained(&a).is_empty(), "{is_smaller}");
        let (_client, goes_on) = Client::connect(&a, "c", 60, 10).await;
        assert!(!goes_on, "{is_smaller}: what the later life says of a session counts");
        // What comes late of the one before says nothing.
        assert!(a.log.followed_lives().carried_on.contains(&life));
        a.log.close();
        b.log.close();
    }
}

/// As if a node had had so many lives before: what it holds is in each of them.
async fn ended_often(lives: u64, node: &Node, entries: &[(Vec<u8>, Option<Vec<u8>>)]) -> Vec<OriginId> {
    let mut ended = Vec::new();
    for seed in 0..lives {
        let life = gateway(100 + seed);
        write(&life, "retained", entries.iter().cloned()).await;
        copy(life.log.origin(), &life, node, 2);
        ended.push(life.log.origin());
        life.log.close();
    }
    ended
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_life_that_goes_on_with_many_takes_their_place_at_little_cost() {
    const TOPICS: u64 = 300;
    const LIVES: u64 = 20;
    let backend = Arc::new(MemoryBackend::new());
    let (here, present) = (gateway_on(3, &backend), gateway(4));
    let (mut client, _) = Client::connect(&present, "p", 0, 10).await;
    for topic in 0..TOPICS {
        let mut bytes = publish(&format!("t/{topic:03}"), 1, 7, b"x");
        bytes[0] |= 1;
        client.send(&bytes).await;
        assert_eq!(client.next().await.unwrap(), (0x40, vec![0, 7]));
    }
    drop(client);
    let mut entries = Vec::new();
    let walked = present.log.state_walk_of(present.log.origin(), "retained", |key, value| {
        entries.push((key.to_vec(), Some(value.to_vec())));
    });
    walked.unwrap();
    assert_eq!(entries.len() as u64, TOPICS);
    let ended = ended_often(LIVES, &here, &entries).await;
    assert!(
        ended.iter().any(|life| *life > present.log.origin()),
        "by its number one of them is the newest; seeds draw them"
    );
    // Half of it is removed in the present one.
    moment(&present).await;
    let removed = entries.iter().step_by(2).map(|(key, _)| (key.clone(), None));
    write(&present, "retained", removed).await;
    bring(present.log.origin(), &present, &here, 2);
    let reads = backend.reads();
    here.log.show_origin(present.log.origin());
    let reads = backend.reads() - reads;
    // Some for each life, and one of each topic that was removed.
    assert!(reads < LIVES * 30 + TOPICS, "{reads} reads");
    for topic in 0..TOPICS {
        let is_held = here.door.retained.stamp(&format!("t/{topic:03}")).map(|stamp| stamp.origin);
        assert_eq!(is_held, (topic % 2 == 1).then_some(present.log.origin().0), "{topic}");
    }
    // And one that is removed later.
    write(&present, "retained", [(b"t/001".to_vec(), None)]).await;
    let reads = backend.reads();
    ship_all(&present, &here).await;
    assert!(backend.reads() - reads < 100, "{} reads", backend.reads() - reads);
    assert_eq!(here.door.retained.stamp("t/001"), None);
    here.log.close();
    present.log.close();
}
