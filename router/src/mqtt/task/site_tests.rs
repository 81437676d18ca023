//! Clients that go from gateway to gateway: two doors whose logs are shipped to each other, by hand or in a loop.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use sled_data::{CommitNumber, MemoryBackend};

use super::tests::{Client, Node, ack, node_in, publish, subscribe};
use crate::event_log::EventLog;
use crate::ingest;

const LONG: Duration = Duration::from_secs(40);

pub(super) fn gateway(seed: u64) -> Node {
    gateway_on(seed, &Arc::new(MemoryBackend::new()))
}

pub(super) fn gateway_on(seed: u64, backend: &Arc<MemoryBackend>) -> Node {
    node_in(Some(1), seed, backend, &ingest::Config::default(), ingest::LanesConfig::default())
}

/// Ships what another gateway has and this one has not, `commits_max` commits at most; how many there were.
pub(super) async fn ship(from: &EventLog, to: &EventLog, commits_max: usize) -> usize {
    let origin = from.origin();
    let next = CommitNumber(to.store().followed_commit(origin).0 + 1);
    let mut commits = from.store().commits_to_ship(origin, next, 1 << 20).unwrap();
    commits.truncate(commits_max);
    let count = commits.len();
    if count > 0 {
        to.follow(commits).await.unwrap();
    }
    count
}

pub(super) async fn ship_all(from: &Node, to: &Node) {
    while ship(&from.log, &to.log, usize::MAX).await > 0 {}
}

/// Ships both ways until it is dropped.
fn shipping(a: &Node, b: &Node) -> tokio::task::JoinHandle<()> {
    let (a, b) = (Arc::clone(&a.log), Arc::clone(&b.log));
    tokio::spawn(async move {
        loop {
            if ship(&a, &b, 3).await + ship(&b, &a, 3).await == 0 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
    })
}

pub(super) async fn until(what: &str, is_so: impl Fn() -> bool) {
    let begin = std::time::Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < LONG, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Waits until a gateway has stored, and synced, that a client has gone whose session began after `after`; when it did.
pub(super) async fn gone(node: &Node, client: &str, after: u64) -> u64 {
    let seen = || node.sessions.seen(client).unwrap().filter(|seen| !seen.device.connected && seen.begun > after);
    until("its going is stored", || seen().is_some()).await;
    let newest = node.log.store().last_commit();
    until("its going is synced", || node.log.store().synced_commit() >= newest).await;
    seen().unwrap().begun
}

pub(super) async fn subscribed(client: &mut Client, filter: &str) {
    client.send(&subscribe(filter, 1, 5)).await;
    assert_eq!(client.next().await.unwrap().0, 0x90, "SUBACK");
}

/// A client has come and gone, and the gateway keeps its session.
pub(super) async fn kept_at(node: &Node) {
    let (mut client, _) = Client::connect(node, "c", 60, 2).await;
    subscribed(&mut client, "t").await;
    drop(client);
    gone(node, "c", 0).await;
}

pub(super) async fn say(client: &mut Client, id: u16, payload: &str) {
    client.send(&publish("t", 1, id, payload.as_bytes())).await;
    assert_eq!(client.next().await.unwrap(), (0x40, id.to_be_bytes().to_vec()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_finds_its_session_at_another_gateway_and_misses_nothing() {
    let (a, b) = (gateway(3), gateway(4));
    let shipper = shipping(&a, &b);
    let (mut client, _) = Client::connect(&a, "c", 60, 2).await;
    subscribed(&mut client, "t").await;
    let (mut at_a, _) = Client::connect(&a, "pa", 0, 10).await;
    let (mut at_b, _) = Client::connect(&b, "pb", 0, 10).await;
    for number in 1..=5 {
        say(&mut at_a, number, &format!("a{number}")).await;
        say(&mut at_b, number, &format!("b{number}")).await;
    }
    // Two are in flight when it goes, and more comes while it is away.
    client.message().await;
    client.message().await;
    drop(client);
    until("it is away", || a.sessions.kept_state("c").is_some()).await;
    for number in 6..=9 {
        say(&mut at_a, number, &format!("a{number}")).await;
        say(&mut at_b, number, &format!("b{number}")).await;
    }
    let seen_at_b = || b.sessions.seen_elsewhere("c", None).unwrap().is_some_and(|found| !found.seen.device.connected);
    until("b knows that it has gone", seen_at_b).await;
    let (mut client, session_present) = Client::connect(&b, "c", 60, 2).await;
    assert!(session_present);
    let mut got: HashMap<char, Vec<u32>> = HashMap::new();
    while got.len() < 2 || got.values().any(|of| !of.contains(&9)) {
        let (id, payload) = client.message().await;
        let text = String::from_utf8(payload).unwrap();
        let (origin, number) = text.split_at(1);
        got.entry(origin.chars().next().unwrap()).or_default().push(number.parse().unwrap());
        client.send(&ack(0x40, id)).await;
    }
    for (origin, mut of) in got {
        // At least once: what comes again comes first, the rest is in order.
        let fresh: Vec<u32> = of.iter().fold(Vec::new(), |mut fresh, number| {
            if fresh.last().is_none_or(|last| number > last) {
                fresh.push(*number);
            }
            fresh
        });
        of.sort_unstable();
        of.dedup();
        assert!((1..=9).all(|number| of.contains(&number) || number <= 2), "{origin}: {of:?}");
        assert!(fresh.windows(2).all(|two| two[1] == two[0] + 1), "{origin}: in order, none left out: {fresh:?}");
    }
    // The gateway that kept it lets it go.
    until("a lets it go", || a.sessions.kept_state("c").is_none()).await;
    shipper.abort();
    a.log.close();
    b.log.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_that_a_client_has_left_closes_its_session() {
    let (a, b) = (gateway(3), gateway(4));
    let shipper = shipping(&a, &b);
    let (mut at_a, _) = Client::connect(&a, "c", 60, 2).await;
    let mut old = Client::connect_as(&a, "old", 4).await;
    subscribed(&mut at_a, "t").await;
    until("b has its session", || b.sessions.seen_elsewhere("old", None).unwrap().is_some()).await;
    let (mut at_b, session_present) = Client::connect(&b, "c", 60, 2).await;
    assert!(session_present, "it is taken from a although a has not closed it yet");
    let _new = Client::connect_as(&b, "old", 4).await;
    let (first, body) = at_a.next().await.unwrap();
    assert_eq!((first, body[0]), (0xe0, 0x8e), "session taken over");
    assert_eq!(at_a.next().await, None);
    assert_eq!(old.next().await, None, "3.1.1 is just closed");
    until("a keeps nothing", || a.sessions.live() == 0 && a.sessions.kept_state("c").is_none()).await;
    // What a kept is gone for good, and b's goes on.
    at_b.send(&publish("v", 1, 1, b"x")).await;
    assert_eq!(at_b.next().await.unwrap(), (0x40, vec![0, 1]));
    let kept_at_a = || a.log.state_get(crate::sessions::KEPT_TREE, b"c").unwrap();
    until("a stores nothing", || kept_at_a().is_none()).await;
    assert!(b.sessions.live_of("c").is_some());
    shipper.abort();
    a.log.close();
    b.log.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_ended_is_not_found_again_through_an_older_record() {
    let (a, b) = (gateway(3), gateway(4));
    kept_at(&a).await;
    ship_all(&a, &b).await;
    // A clean start at b, which is cut off from a from then on.
    let (client, present) = Client::connect(&b, "c", 0, 2).await;
    assert!(!present);
    drop(client);
    let first = gone(&b, "c", 0).await;
    let (client, present) = Client::connect(&b, "c", 60, 2).await;
    assert!(!present, "the older one is over");
    drop(client);
    gone(&b, "c", first).await;
    assert!(b.sessions.kept_state("c").is_some());
    // The connection is back: a learns it, whatever arrives first.
    assert!(a.sessions.kept_state("c").is_some());
    while ship(&b.log, &a.log, 1).await > 0 {}
    assert!(a.sessions.kept_state("c").is_none());
    a.log.close();
    b.log.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_any_cut_a_session_is_found_at_one_gateway() {
    let (a, b) = (gateway(3), gateway(4));
    kept_at(&a).await;
    ship_all(&a, &b).await;
    let (client, present) = Client::connect(&b, "c", 60, 2).await;
    assert!(present);
    drop(client);
    gone(&b, "c", 0).await;
    // Commit by commit: a has what b kept by the time that it lets go of its own.
    let origin = b.log.origin();
    loop {
        let own = a.sessions.kept_state("c").is_some();
        let of_b = a.log.store().state_get_of(origin, crate::sessions::KEPT_TREE, b"c").unwrap().is_some();
        assert!(own || of_b);
        if ship(&b.log, &a.log, 1).await == 0 {
            break;
        }
    }
    let (_client, present) = Client::connect(&a, "c", 60, 2).await;
    assert!(present);
    a.log.close();
    b.log.close();
}

/// A retained PUBLISH at QoS 1; an empty payload removes.
pub(super) async fn retain(client: &mut Client, id: u16, payload: &str) {
    let mut bytes = publish("t", 1, id, payload.as_bytes());
    bytes[0] |= 1;
    client.send(&bytes).await;
    assert_eq!(client.next().await.unwrap(), (0x40, id.to_be_bytes().to_vec()));
}

/// Until what is written next is later by anybody's clock: two gateways' clocks are one here, of whole milliseconds.
pub(super) async fn moment(node: &Node) {
    let now = node.log.clock().wall_ms();
    until("the clock goes on", || node.log.clock().wall_ms() > now).await;
}

pub(super) fn retained(node: &Node) -> Vec<Vec<u8>> {
    let found = node.door.retained.matching("#", None, node.door.now_ms());
    found.into_iter().map(|(_, message)| message.payload.to_vec()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_retained_or_removed_at_any_gateway_is_so_at_all() {
    let backend = Arc::new(MemoryBackend::new());
    let (a, b) = (gateway(3), gateway_on(4, &backend));
    let (mut at_a, _) = Client::connect(&a, "pa", 0, 10).await;
    let (mut at_b, _) = Client::connect(&b, "pb", 0, 10).await;
    retain(&mut at_a, 1, "a1").await;
    ship_all(&a, &b).await;
    assert_eq!(retained(&b), [b"a1"]);
    let (mut client, _) = Client::connect(&b, "c", 0, 10).await;
    subscribed(&mut client, "t").await;
    assert_eq!(client.message().await.1, b"a1");
    // Both go on apart; the later one counts at both, commit by commit.
    retain(&mut at_a, 2, "a2").await;
    moment(&a).await;
    retain(&mut at_b, 1, "b1").await;
    ship_all(&a, &b).await;
    assert_eq!(retained(&b), [b"b1"]);
    while ship(&b.log, &a.log, 1).await > 0 {}
    assert_eq!(retained(&a), [b"b1"]);
    let own = |node: &Node| node.log.state_get("retained", b"t").unwrap();
    until("a stores its older one no more", || own(&a).is_none()).await;
    // A removal at b beats what a has written before and ships later.
    retain(&mut at_a, 3, "a3").await;
    moment(&a).await;
    retain(&mut at_b, 2, "").await;
    ship_all(&a, &b).await;
    assert!(retained(&b).is_empty());
    ship_all(&b, &a).await;
    assert!(retained(&a).is_empty());
    // A restart merges what the trees hold.
    retain(&mut at_a, 4, "a4").await;
    ship_all(&a, &b).await;
    let image = Arc::new(backend.image());
    b.log.close();
    let b = gateway_on(4, &image);
    assert_eq!(retained(&b), [b"a4"]);
    a.log.close();
    b.log.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn qos_2_state_that_may_be_old_is_not_used() {
    for ended in [false, true] {
        let (a, b) = (gateway(3), gateway(4));
        let (mut client, _) = Client::connect(&a, "c", 60, 2).await;
        subscribed(&mut client, "t").await;
        client.send(&publish("u", 2, 7, b"x")).await;
        assert_eq!(client.next().await.unwrap(), (0x50, vec![0, 7]), "PUBREC");
        if ended {
            drop(client);
            gone(&a, "c", 0).await;
        }
        ship_all(&a, &b).await;
        let (mut client, present) = Client::connect(&b, "c", 60, 2).await;
        assert_eq!(present, ended, "all that there is of it is here only where it has ended");
        let (mut publisher, _) = Client::connect(&b, "p", 0, 10).await;
        say(&mut publisher, 1, "y").await;
        if ended {
            assert_eq!(client.message().await.1, b"y");
            client.send(&ack(0x62, 7)).await;
            assert_eq!(client.next().await.unwrap(), (0x70, vec![0, 7]), "PUBCOMP");
        } else {
            // It has no subscription any more.
            subscribed(&mut client, "u").await;
        }
        a.log.close();
        b.log.close();
    }
}
