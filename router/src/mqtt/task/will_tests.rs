//! Wills of clients that have gone to another gateway: what their newer session retains stays.

use std::sync::Arc;

use sled_data::{MemoryBackend, Options, OriginId, Store};

use super::site_tests::{gateway, gateway_on, moment, retain, retained, say, ship, ship_all, subscribed, until};
use super::tests::{Client, Node, ack, text};
use crate::mqtt::session::KeptSession;
use crate::sessions::{KEPT_TREE, KeptRecord, Knows};

/// Two gateways: a client with a will has left one without a word, and says at the other that it is online.
async fn moved() -> (Node, Client, Node, Client) {
    let (a, b) = (gateway(3), gateway(4));
    let mut at_b = Client::connect_with_will(&b, "c", 0, "offline").await;
    retain(&mut at_b, 1, "online at b").await;
    moment(&b).await;
    let mut at_a = Client::connect_as(&a, "c", 5).await;
    retain(&mut at_a, 1, "online").await;
    moment(&a).await;
    (b, at_b, a, at_a)
}

async fn is_online_at_all(a: &Node, b: &Node) {
    // The will was published, and has been stored.
    let newest = b.log.store().last_commit();
    until("it is synced", || b.log.store().synced_commit() >= newest).await;
    ship_all(a, b).await;
    ship_all(b, a).await;
    assert_eq!(retained(a), [b"online"]);
    assert_eq!(retained(b), [b"online"]);
    a.log.close();
    b.log.close();
}

/// What a gateway itself has appended, of what is visible.
pub(super) fn appended(node: &Node) -> u64 {
    let topic = node.log.topic(crate::ingest::CATCH_ALL_TOPIC).unwrap();
    let own = |partition: &Arc<crate::event_log::PartitionLog>| partition.id().origin == node.log.origin();
    topic.all_partitions().iter().filter(|partition| own(partition)).map(|partition| partition.visible_end()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_will_of_a_session_that_is_taken_over_elsewhere_is_older_than_what_that_one_retains() {
    let (b, mut at_b, a, _at_a) = moved().await;
    // b hears that it has come to a, and not yet what it says there: only its connection is told to end.
    while b.sessions.newer_than("c", 0).is_none() {
        assert_eq!(ship(&a.log, &b.log, 1).await, 1);
    }
    assert_eq!(at_b.next().await.unwrap().0, 0xe0, "DISCONNECT");
    assert_eq!(at_b.next().await, None);
    until("its will is published", || appended(&b) == 2).await;
    is_online_at_all(&a, &b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_will_that_is_late_is_not_told_behind_what_its_client_has_said_elsewhere() {
    let backend = Arc::new(MemoryBackend::new());
    let (a, b) = (gateway(3), gateway_on(4, &backend));
    let mut at_b = Client::connect_with_will(&b, "c", 60, "offline").await;
    retain(&mut at_b, 1, "online at b").await;
    let image = Arc::new(backend.image());
    b.log.close();
    let later_ms = b.log.clock().wall_ms() + 300;
    until("it is later by anybody's clock", || b.log.clock().wall_ms() > later_ms).await;
    let _at_a = {
        let mut at_a = Client::connect_as(&a, "c", 5).await;
        retain(&mut at_a, 1, "online").await;
        at_a
    };
    // It is back, and hears of both before it publishes what it has found.
    let b = gateway_on(4, &image);
    b.sessions.await_others();
    ship_all(&a, &b).await;
    b.sessions.tell_known(Knows::All);
    let is_over = || {
        b.door.look_after();
        kept(&b).is_none_or(|kept| kept.will.is_none())
    };
    until("it is due, and over", is_over).await;
    let (mut other, _) = Client::connect(&b, "p", 0, 10).await;
    say(&mut other, 1, "x").await;
    assert_eq!(appended(&b), 2, "what it has said at b, and the other client's word");
    is_online_at_all(&a, &b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_will_at_a_gateway_that_is_cut_off_is_as_old_as_what_was_heard_of_its_client() {
    let (b, at_b, a, _at_a) = moved().await;
    // b does not hear of it, and finds the silent connection broken later.
    drop(at_b);
    until("its will is published", || appended(&b) == 2).await;
    assert_eq!(retained(&b), [b"offline"]);
    is_online_at_all(&a, &b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_will_of_a_gateway_that_was_cut_off_is_told_where_its_client_has_said_nothing_since() {
    for (says, expected) in [(true, ["online", "x"]), (false, ["offline", "x"])] {
        let (a, b) = (gateway(3), gateway(4));
        let at_b = Client::connect_with_will(&b, "c", 0, "offline").await;
        moment(&b).await;
        let mut at_a = Client::connect_as(&a, "c", 5).await;
        if says {
            retain(&mut at_a, 1, "online").await;
        }
        moment(&a).await;
        let (mut watcher, _) = Client::connect(&a, "w", 0, 10).await;
        subscribed(&mut watcher, "t").await;
        // b does not hear of it, and finds the silent connection broken later.
        drop(at_b);
        until("its will is published", || appended(&b) == 1).await;
        ship_all(&b, &a).await;
        let (mut other, _) = Client::connect(&a, "p", 0, 10).await;
        say(&mut other, 1, "x").await;
        for payload in expected {
            let (id, told) = watcher.message().await;
            assert_eq!(String::from_utf8(told).unwrap(), payload, "{says}");
            watcher.send(&ack(0x40, id)).await;
        }
        a.log.close();
        b.log.close();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wills_found_at_a_start_wait_until_it_is_known_where_their_clients_are() {
    let backend = Arc::new(MemoryBackend::new());
    let (a, b) = (gateway(3), gateway_on(4, &backend));
    let mut at_b = Client::connect_with_will(&b, "c", 60, "offline").await;
    retain(&mut at_b, 1, "online at b").await;
    ship_all(&b, &a).await;
    let image = Arc::new(backend.image());
    image.power_cut(0);
    b.log.close();
    let (mut at_a, present) = Client::connect(&a, "c", 60, 10).await;
    assert!(present, "its session goes on");
    retain(&mut at_a, 1, "online").await;
    // It is back and has heard nothing of it yet.
    let b = gateway_on(4, &image);
    b.sessions.await_others();
    b.door.look_after();
    let (mut other, _) = Client::connect(&b, "p", 0, 10).await;
    say(&mut other, 1, "x").await;
    assert_eq!(appended(&b), 2, "no will is among it");
    ship_all(&a, &b).await;
    b.sessions.tell_known(Knows::OfHeard);
    b.door.look_after();
    say(&mut other, 2, "y").await;
    assert_eq!(appended(&b), 3, "nor now: the session goes on elsewhere");
    is_online_at_all(&a, &b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_will_found_at_a_start_is_published_where_its_client_is_nowhere() {
    let backend = Arc::new(MemoryBackend::new());
    let b = gateway_on(4, &backend);
    let mut at_b = Client::connect_with_will(&b, "c", 60, "offline").await;
    retain(&mut at_b, 1, "online").await;
    let image = Arc::new(backend.image());
    image.power_cut(0);
    b.log.close();
    let b = gateway_on(4, &image);
    b.sessions.await_others();
    b.door.look_after();
    assert_eq!(retained(&b), [b"online"]);
    b.sessions.tell_known(Knows::All);
    b.door.look_after();
    assert_eq!(retained(&b), [b"offline"]);
    b.log.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_will_that_waits_is_called_off_where_its_session_goes_on_and_published_at_once_where_it_ends() {
    for (goes_on, expected) in [(true, &[][..]), (false, &[b"offline".to_vec()][..])] {
        let node = gateway(3);
        let will = [&[5, 0x18][..], &600_u32.to_be_bytes(), &text("t"), &text("offline")].concat();
        let properties = [&[5, 0x11][..], &3_600_u32.to_be_bytes()].concat();
        let at_node = Client::connect_by(&node, &[&[5, 0x2c, 0, 0][..], &properties, &text("c"), &will].concat()).await;
        drop(at_node);
        until("its session is kept", || node.sessions.kept_state("c").is_some()).await;
        let (_client, present) = Client::connect(&node, "c", if goes_on { 60 } else { 0 }, 10).await;
        assert_eq!(present, goes_on);
        assert_eq!(retained(&node), expected, "{goes_on}");
        node.log.clock().pass(1_000_000);
        node.door.look_after();
        let (mut other, _) = Client::connect(&node, "p", 0, 10).await;
        say(&mut other, 1, "x").await;
        assert_eq!(
            appended(&node),
            expected.len() as u64 + 1,
            "{goes_on}: it is published once, and the other client's word"
        );
        node.log.close();
    }
}

/// The session of `c` as it is stored.
fn kept(node: &Node) -> Option<KeptSession> {
    let record = KeptRecord::decode(&node.log.state_get(KEPT_TREE, b"c").unwrap()?)?;
    KeptSession::from_bytes(&record.state).ok()
}

async fn all_is_synced(node: &Node) {
    let newest = node.log.store().last_commit();
    until("all is synced", || node.log.store().synced_commit() >= newest).await;
}

/// Until a gateway has stored that the session that it found has ended.
async fn found_is_stored(node: &Node) {
    until("it has ended", || kept(node).is_some_and(|kept| kept.disconnected_at_ms.is_some())).await;
    all_is_synced(node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_will_found_at_a_start_is_published_though_the_node_stops_again_before_that() {
    for is_orderly in [false, true] {
        let backend = Arc::new(MemoryBackend::new());
        let mut b = gateway_on(4, &backend);
        let mut at_b = Client::connect_with_will(&b, "c", 60, "offline").await;
        retain(&mut at_b, 1, "online").await;
        let mut image = Arc::new(backend.image());
        image.power_cut(0);
        b.log.close();
        // It starts twice, and stops each time before it knows where its clients are.
        for _ in 0..2 {
            b = gateway_on(4, &image);
            b.sessions.await_others();
            b.door.look_after();
            assert_eq!(retained(&b), [b"online"]);
            found_is_stored(&b).await;
            if is_orderly {
                b.log.close();
            }
            image = Arc::new(image.image());
            image.power_cut(0);
            b.log.close();
        }
        b = gateway_on(4, &image);
        b.door.look_after();
        assert_eq!(retained(&b), [b"offline"], "orderly: {is_orderly}");
        // It is published once.
        until("its will is published", || appended(&b) == 2).await;
        until("and forgotten", || kept(&b).is_some_and(|kept| kept.will.is_none())).await;
        all_is_synced(&b).await;
        image = Arc::new(image.image());
        b.log.close();
        b = gateway_on(4, &image);
        b.door.look_after();
        assert_eq!(appended(&b), 2, "orderly: {is_orderly}");
        b.log.close();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_will_that_is_found_at_a_second_start_is_as_old_as_what_was_heard_before_the_first() {
    let backend = Arc::new(MemoryBackend::new());
    let (a, b) = (gateway(3), gateway_on(4, &backend));
    let mut at_b = Client::connect_with_will(&b, "c", 60, "offline").await;
    retain(&mut at_b, 1, "online at b").await;
    let mut image = Arc::new(backend.image());
    image.power_cut(0);
    b.log.close();
    // Its client goes to a, of which b does not hear. With each opening a store's clock goes on by a quarter of a second at most.
    let later_ms = b.log.clock().wall_ms() + 300;
    until("it is later by anybody's clock", || b.log.clock().wall_ms() > later_ms).await;
    let mut at_a = Client::connect_as(&a, "c", 5).await;
    retain(&mut at_a, 1, "online").await;
    moment(&a).await;
    let b = gateway_on(4, &image);
    b.sessions.await_others();
    found_is_stored(&b).await;
    image = Arc::new(image.image());
    b.log.close();
    let b = gateway_on(4, &image);
    b.door.look_after();
    assert_eq!(retained(&b), [b"offline"]);
    until("its will is published", || appended(&b) == 2).await;
    is_online_at_all(&a, &b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_will_that_waits_after_a_start_outlives_its_session() {
    let backend = Arc::new(MemoryBackend::new());
    let b = gateway_on(4, &backend);
    let mut at_b = Client::connect_with_will(&b, "c", 1, "offline").await;
    retain(&mut at_b, 1, "online").await;
    let mut image = Arc::new(backend.image());
    image.power_cut(0);
    b.log.close();
    let b = gateway_on(4, &image);
    b.sessions.await_others();
    found_is_stored(&b).await;
    let ends_ms = b.door.now_ms() + 1_000;
    until("its session is over", || b.door.now_ms() >= ends_ms).await;
    b.door.look_after();
    // A later commit than what was looked after.
    let (mut other, _) = Client::connect(&b, "p", 0, 10).await;
    say(&mut other, 1, "x").await;
    image = Arc::new(image.image());
    image.power_cut(0);
    b.log.close();
    let b = gateway_on(4, &image);
    b.door.look_after();
    assert_eq!(retained(&b), [b"offline"]);
    assert!(b.sessions.kept_state("c").is_none(), "its session is over");
    b.log.close();
}

/// A gateway is killed while a client with a will is connected, and begins a new life, whose number is the smaller one or not; another one has
/// all of the life before, and knows that it is of node 2.
pub(super) async fn killed(expiry_s: u32, is_smaller: bool) -> (Node, OriginId, Node) {
    killed_beside(&Arc::new(MemoryBackend::new()), expiry_s, is_smaller).await
}

/// The same; what the other one stores is in a backend.
async fn killed_beside(beside: &Arc<MemoryBackend>, expiry_s: u32, is_smaller: bool) -> (Node, OriginId, Node) {
    let backend = Arc::new(MemoryBackend::new());
    let (a, b) = (gateway_on(3, beside), gateway_on(4, &backend));
    let mut at_b = Client::connect_with_will(&b, "c", expiry_s, "offline").await;
    retain(&mut at_b, 1, "online").await;
    ship_all(&b, &a).await;
    let life = b.log.origin();
    a.log.store().set_follow_node(life, 2).unwrap();
    let image = backend.image();
    b.log.close();
    let store = Store::on(Arc::new(image.clone()), Options::default()).unwrap().0;
    store.end_life("as after a kill").unwrap();
    drop(store);
    for seed in 5.. {
        let b = gateway_on(seed, &Arc::new(image.image()));
        if (b.log.origin() < life) == is_smaller {
            assert_eq!(b.log.ended_lives(), [life], "seed {seed}");
            return (a, life, b);
        }
        b.log.close();
    }
    unreachable!("a new life has any number")
}

/// Takes a copy of a life from another gateway, as first contact does.
pub(super) fn copy(life: OriginId, from: &Node, to: &Node, writer: u64) {
    bring(life, from, to, writer);
    to.log.show_origin(life);
}

/// The same, and does not show it yet.
pub(super) fn bring(life: OriginId, from: &Node, to: &Node, writer: u64) {
    let (from, store) = (from.log.store(), to.log.store());
    from.sync().unwrap();
    let head = from.copy_head(life).unwrap();
    store.begin_copy(&head).unwrap();
    let (parts, _) = from.copy_parts(&head, None, &|_| 0, usize::MAX).unwrap();
    store.add_copy(life, &parts).unwrap();
    store.end_copy(life, head.commit).unwrap();
    store.set_follow_node(life, writer).unwrap();
    store.sync().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_takes_its_own_life_before_for_no_other_gateway() {
    for (is_smaller, is_back_first) in [(true, false), (false, false), (true, true), (false, true)] {
        let (a, life, b) = killed(60, is_smaller).await;
        let case = format!("{is_smaller} {is_back_first}");
        b.sessions.await_others();
        if is_back_first {
            copy(life, &a, &b, 0);
        }
        b.door.look_after();
        assert_eq!(retained(&b), [b"online"], "{case}");
        b.sessions.tell_known(Knows::All);
        b.door.look_after();
        assert_eq!(retained(&b), [b"offline"], "{case}");
        if !is_back_first {
            copy(life, &a, &b, 0);
        }
        assert_eq!(retained(&b), [b"offline"], "{case}");
        assert!(b.sessions.kept_state("c").is_some(), "{case}: its session goes on here");
        let has_end = || {
            let kept = b.log.state_get(KEPT_TREE, b"c").unwrap().and_then(|kept| KeptRecord::decode(&kept));
            kept.is_some_and(|kept| kept.expires_at_ms.is_some())
        };
        until("it is stored when it ends", has_end).await;
        a.log.close();
        b.log.close();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_ended_in_a_gateways_next_life_has_ended_everywhere() {
    for (is_smaller, is_back) in [(true, false), (false, false), (true, true)] {
        let (a, life, b) = killed(1, is_smaller).await;
        if is_back {
            copy(life, &a, &b, 0);
        }
        let has_ended = || {
            b.sessions.expire();
            b.sessions.kept_state("c").is_none()
        };
        until("its time is over", has_ended).await;
        copy(b.log.origin(), &b, &a, 2);
        let (_client, present) = Client::connect(&a, "c", 60, 10).await;
        assert!(!present, "{is_smaller} {is_back}");
        a.log.close();
        b.log.close();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_gateway_has_removed_in_its_next_life_does_not_come_back_from_the_one_before() {
    for (is_smaller, is_back) in [(true, false), (false, false), (true, true)] {
        let beside = Arc::new(MemoryBackend::new());
        let (a, life, b) = killed_beside(&beside, 60, is_smaller).await;
        if is_back {
            copy(life, &a, &b, 0);
        }
        // It was removed so long ago that the mark of that is gone as well.
        let ticket = {
            let mut open = b.log.lock();
            open.put_state("retained", b"t", None);
            open.ticket()
        };
        b.log.durable(ticket).await.unwrap();
        assert_eq!(retained(&a), [b"online"]);
        copy(b.log.origin(), &b, &a, 2);
        assert!(retained(&a).is_empty(), "{is_smaller} {is_back}");
        // Nor where the one before is copied behind it.
        let new = gateway(8);
        for (of, from) in [(b.log.origin(), &b), (life, &a)] {
            copy(of, from, &new, 2);
            assert!(retained(&new).is_empty(), "{is_smaller} {is_back}");
        }
        new.log.close();
        let image = Arc::new(beside.image());
        a.log.close();
        let a = gateway_on(3, &image);
        assert!(retained(&a).is_empty(), "{is_smaller} {is_back}");
        a.log.close();
        b.log.close();
    }
}
