//! Kept sessions at a gateway that does not know what others have seen of their clients, and clocks that are days apart.

use std::sync::Arc;
use std::time::Duration;

use devices::stamp::Stamp;
use sled_data::{MemoryBackend, OriginId};

use super::site_tests::{gateway, gateway_on, gone, kept_at, ship_all, subscribed, until};
use super::tests::{Client, Node, ack, packet, publish, text};
use super::will_tests::appended;
use crate::mqtt::session::KeptSession;
use crate::sessions::{Heard, KEPT_TREE, KeptRecord, Knows};

const DAY_MS: i64 = 24 * 3_600_000;
/// Long enough for a client that does not wait to be let in.
const MOMENT: Duration = Duration::from_millis(100);

/// Two gateways: b keeps a session with a QoS 2 message in flight, which its client has ended at a since. b has not heard of it.
async fn stale() -> (Node, Node) {
    let (a, b) = (gateway(3), gateway(4));
    let (mut client, _) = Client::connect(&b, "c", 60, 2).await;
    client.send(&publish("u", 2, 7, b"x")).await;
    assert_eq!(client.next().await.unwrap(), (0x50, vec![0, 7]), "PUBREC");
    drop(client);
    gone(&b, "c", 0).await;
    ship_all(&b, &a).await;
    ship_all(&a, &b).await;
    let (mut client, present) = Client::connect(&a, "c", 60, 2).await;
    assert!(present);
    client.send(&ack(0x62, 7)).await;
    assert_eq!(client.next().await.unwrap(), (0x70, vec![0, 7]), "PUBCOMP");
    subscribed(&mut client, "t").await;
    drop(client);
    gone(&a, "c", 0).await;
    (a, b)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_session_that_another_gateway_may_have_more_of_is_not_used_for_qos_2() {
    for (knows, goes_on) in [(Knows::All, true), (Knows::OfHeard, false), (Knows::Part, false)] {
        let (a, b) = stale().await;
        b.sessions.tell_known(knows);
        let (mut client, present) = Client::connect(&b, "c", 60, 2).await;
        assert_eq!(present, goes_on, "{knows:?}");
        // A new message: its client has long ended the one before.
        client.send(&publish("u", 2, 7, b"y")).await;
        assert_eq!(client.next().await.unwrap(), (0x50, vec![0, 7]), "PUBREC");
        if !goes_on {
            assert_eq!(appended(&b), 2, "{knows:?}: what is acknowledged is stored");
        }
        a.log.close();
        b.log.close();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_waits_until_a_gateway_that_has_started_knows_of_its_session_elsewhere() {
    let (a, b) = stale().await;
    b.sessions.await_others();
    let door = Arc::new(b);
    let b = Arc::clone(&door);
    let mut coming = tokio::spawn(async move { Client::connect(&door, "c", 60, 2).await });
    assert!(tokio::time::timeout(MOMENT, &mut coming).await.is_err(), "it is not let in yet");
    ship_all(&a, &b).await;
    b.sessions.tell_known(Knows::All);
    let (mut client, present) = coming.await.unwrap();
    assert!(present);
    assert_eq!(b.sessions.live_of("c").unwrap().filters, ["t"], "what it subscribed to at a");
    client.send(&publish("u", 2, 7, b"y")).await;
    assert_eq!(client.next().await.unwrap(), (0x50, vec![0, 7]), "PUBREC");
    assert_eq!(appended(&b), 2);
    a.log.close();
    b.log.close();
}

/// Hears one node, whose clock is ahead.
struct Ahead(OriginId, i64);

impl Heard for Ahead {
    fn is_heard(&self, origin: OriginId) -> bool {
        origin == self.0
    }

    fn clocks(&self) -> Vec<(OriginId, i64)> {
        vec![(self.0, self.1)]
    }
}

/// As if a gateway's clock had been ahead when it wrote its kept session of `c`.
async fn write_ahead(node: &Node, ahead_ms: i64, left_ms: i64) {
    let stored = node.log.state_get(KEPT_TREE, b"c").unwrap().unwrap();
    let mut record = KeptRecord::decode(&stored).unwrap();
    let mut state = KeptSession::from_bytes(&record.state).unwrap();
    let ends_ms = node.log.clock().wall_ms() + ahead_ms + left_ms;
    record.expires_at_ms = Some(ends_ms);
    state.disconnected_at_ms = Some(u64::try_from(ends_ms).unwrap() - u64::from(state.expiry_s) * 1_000);
    record.state = state.to_bytes();
    let ticket = {
        let mut open = node.log.lock();
        assert!(open.put_state(KEPT_TREE, b"c", Some(&record.encode())));
        open.ticket()
    };
    node.log.durable(ticket).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_session_ends_by_the_clock_that_it_was_written_by() {
    for ahead_ms in [-DAY_MS, 0, DAY_MS] {
        for (left_ms, goes_on) in [(30_000, true), (-30_000, false)] {
            let (a, b) = (gateway(3), gateway(4));
            kept_at(&a).await;
            write_ahead(&a, ahead_ms, left_ms).await;
            ship_all(&a, &b).await;
            b.sessions.set_heard(Arc::new(Ahead(a.log.origin(), ahead_ms)));
            let (_client, present) = Client::connect(&b, "c", 60, 2).await;
            assert_eq!(present, goes_on, "{ahead_ms} {left_ms}");
            a.log.close();
            b.log.close();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_retained_expires_by_the_clock_that_it_was_written_by() {
    for ahead_ms in [-DAY_MS, DAY_MS] {
        let (a, b) = (gateway(3), gateway(4));
        let (mut client, _) = Client::connect(&a, "p", 0, 10).await;
        let retained = |id: u16, expiry_s: u32| {
            let properties = [&[5, 2][..], &expiry_s.to_be_bytes()].concat();
            packet(0x33, &[&text("t"), &id.to_be_bytes()[..], &properties, b"x"].concat())
        };
        client.send(&retained(1, 3_600)).await;
        assert_eq!(client.next().await.unwrap(), (0x40, vec![0, 1]));
        ship_all(&a, &b).await;
        let left_s = || {
            let found = b.door.retained.matching("t", None, b.door.now_ms());
            found.into_iter().next()?.1.expiry_left_s(b.door.now_ms())
        };
        assert!(left_s().is_some_and(|left_s| left_s <= 3_600));
        // As a's clock is ahead, what it wrote is to be over by so much sooner here, or later.
        b.sessions.set_heard(Arc::new(Ahead(a.log.origin(), ahead_ms)));
        b.door.look_after();
        match ahead_ms < 0 {
            true => assert!(left_s().is_some_and(|left_s| left_s > 24 * 3_600)),
            false => assert_eq!(left_s(), None),
        }
        a.log.close();
        b.log.close();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_expires_after_a_start_until_clocks_are_known() {
    let b = gateway(4);
    let (mut client, _) = Client::connect(&b, "p", 0, 10).await;
    let properties = [&[5, 2][..], &1_u32.to_be_bytes()].concat();
    client.send(&packet(0x33, &[&text("t"), &1_u16.to_be_bytes()[..], &properties, b"x"].concat())).await;
    assert_eq!(client.next().await.unwrap(), (0x40, vec![0, 1]));
    let at_ms = b.door.now_ms() + 1_000;
    until("it has expired", || b.door.now_ms() >= at_ms).await;
    let held = || b.door.retained.stamp("t");
    b.sessions.await_others();
    b.door.look_after();
    assert!(held().is_some());
    b.sessions.tell_known(Knows::All);
    b.door.look_after();
    assert_eq!(held(), None::<Stamp>);
    b.log.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_expires_because_the_wall_clock_is_set() {
    for step_ms in [DAY_MS, -DAY_MS] {
        let (a, b) = (gateway(3), gateway(4));
        b.sessions.set_heard(Arc::new(Ahead(a.log.origin(), 0)));
        kept_at(&a).await;
        let (mut client, _) = Client::connect(&a, "p", 0, 10).await;
        let properties = [&[5, 2][..], &3_600_u32.to_be_bytes()].concat();
        client.send(&packet(0x33, &[&text("t"), &1_u16.to_be_bytes()[..], &properties, b"x"].concat())).await;
        assert_eq!(client.next().await.unwrap(), (0x40, vec![0, 1]));
        ship_all(&a, &b).await;
        let (client, _) = Client::connect(&b, "own", 60, 2).await;
        drop(client);
        gone(&b, "own", 0).await;
        // Of others is known what was heard before.
        b.log.clock().step(step_ms);
        b.door.look_after();
        let found = b.door.retained.matching("t", None, b.door.now_ms());
        let left_s = found.into_iter().next().and_then(|(_, message)| message.expiry_left_s(b.door.now_ms()));
        assert!(left_s.is_some_and(|left_s| (1..=3_600).contains(&left_s)), "{step_ms}: {left_s:?}");
        for client in ["own", "c"] {
            let (_client, present) = Client::connect(&b, client, 60, 2).await;
            assert!(present, "{client} {step_ms}");
        }
        a.log.close();
        b.log.close();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_kept_after_the_wall_clock_was_set_ends_in_its_time() {
    for step_ms in [DAY_MS, -DAY_MS] {
        let (a, b) = (gateway(3), gateway(4));
        a.log.clock().step(step_ms);
        kept_at(&a).await;
        ship_all(&a, &b).await;
        // By what is stored, and by what its gateway says of the clock that it goes by.
        b.sessions.set_heard(Arc::new(Ahead(a.log.origin(), 0)));
        let stored = a.log.state_get(KEPT_TREE, b"c").unwrap().unwrap();
        let record = KeptRecord::decode(&stored).unwrap();
        let left_ms = record.expires_at_ms.unwrap() - i64::try_from(b.door.now_ms()).unwrap();
        assert!((1..=60_000).contains(&left_ms), "{left_ms}");
        let (_client, present) = Client::connect(&b, "c", 60, 2).await;
        assert!(present, "{step_ms}");
        a.log.close();
        b.log.close();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_process_before_has_kept_ends_when_a_gateway_that_started_without_the_time_has_it() {
    for step_ms in [0, 2 * DAY_MS] {
        let backend = Arc::new(MemoryBackend::new());
        let a = gateway_on(3, &backend);
        // What it stores is of days ahead of the clock that the next process starts with.
        a.log.clock().step(2 * DAY_MS);
        for client in ["own", "other"] {
            let (client_, _) = Client::connect(&a, client, 3_600, 2).await;
            drop(client_);
            gone(&a, client, 0).await;
        }
        let (mut client, _) = Client::connect(&a, "p", 0, 10).await;
        let properties = [&[5, 2][..], &3_600_u32.to_be_bytes()].concat();
        client.send(&packet(0x33, &[&text("t"), &1_u16.to_be_bytes()[..], &properties, b"x"].concat())).await;
        assert_eq!(client.next().await.unwrap(), (0x40, vec![0, 1]));
        a.log.store().sync().unwrap();
        let image = Arc::new(backend.image());
        a.log.close();
        let b = gateway_on(3, &image);
        b.door.look_after();
        assert!(b.sessions.kept_state("own").is_some() && b.door.retained.stamp("t").is_some());
        let (client, _) = Client::connect(&b, "new", 3_600, 2).await;
        drop(client);
        gone(&b, "new", 0).await;
        b.log.clock().step(step_ms);
        let (_client, present) = Client::connect(&b, "other", 3_600, 2).await;
        assert_eq!(present, step_ms == 0);
        b.door.look_after();
        let found = (b.sessions.kept_state("own").is_some(), b.door.retained.stamp("t").is_some());
        assert_eq!(found, (step_ms == 0, step_ms == 0));
        assert!(b.sessions.kept_state("new").is_some(), "it was kept by the clock that this process goes by");
        b.log.close();
    }
}
