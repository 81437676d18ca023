//! Numbered publishes of a connection on a store that refuses commits now and then: each is stored once, in order.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sled_data::{Faults, MemoryBackend};

use super::tests::{Client, Node, node_on, node_with, packet, text};
use crate::catalog::Rule;
use crate::event_log::{NO_HEADERS, NewEvent};
use crate::ingest::{CATCH_ALL_TOPIC, Config, LanesConfig};

const PUBLISHES: u64 = 400;
/// Publishes under way at once.
const WINDOW: usize = 16;

fn numbered(number: u64, id: u16) -> Vec<u8> {
    numbered_to("t", number, id)
}

fn numbered_to(topic: &str, number: u64, id: u16) -> Vec<u8> {
    let property = [&[0x26][..], &text("edgeway-seq"), &text(&format!("1.1.{number}"))].concat();
    let length = u8::try_from(property.len()).unwrap();
    let body = [&text(topic)[..], &id.to_be_bytes(), &[length], &property, &number.to_be_bytes()].concat();
    packet(0x32, &body)
}

fn stored(node: &Node) -> Vec<u64> {
    let topic = node.log.topic(CATCH_ALL_TOPIC).unwrap();
    let partition = topic.partition(0).unwrap();
    let (mut from, mut found) = (0, Vec::new());
    while from < partition.visible_end() {
        for batch in node.log.read(partition.id(), from, 1 << 20).unwrap() {
            for (offset, record) in batch.events_from(from) {
                found.push(u64::from_be_bytes(record.value.unwrap().try_into().unwrap()));
                from = offset + 1;
            }
        }
    }
    found
}

/// The store refuses the commit that this goes into, which takes its time, and would take the next.
fn spoil(node: &Node) {
    let topic = node.log.topic(CATCH_ALL_TOPIC).unwrap();
    let (headers, extra, value) = (&NO_HEADERS, &NO_HEADERS, vec![7; 1 << 20]);
    let large = NewEvent { timestamp_ms: 1, key: None, value: Some(&value), headers, extra, fanned_out: false };
    let mut open = node.log.lock();
    if open.append(&topic, 0, &large).is_ok() {
        open.move_cursor("reader", topic.partition(0).unwrap().id(), u64::MAX);
    }
}

/// A publisher that sends on while earlier publishes are being refused, and those again first when it learns of it.
#[tokio::test]
async fn what_is_sent_on_behind_a_refusal_hides_nothing() {
    let backend = Arc::new(MemoryBackend::new());
    let node = node_on(&backend);
    let (mut client, _) = Client::connect(&node, "pump", 0, 100).await;
    let (mut next, mut id, mut refusals) = (1, 0_u16, 0);
    let mut under_way: VecDeque<(u64, u16)> = VecDeque::new();
    let mut again = Vec::new();
    let mut turns = 0_u32;
    while next <= PUBLISHES || !under_way.is_empty() || !again.is_empty() {
        turns += 1;
        assert!(turns < 200_000, "it comes to an end");
        let full_after_writes = (turns % 64 < 8 && refusals < 2_000).then_some(u64::from(turns / 64 % 4));
        backend.set_faults(Faults { full_after_writes, ..Faults::default() });
        if turns.is_multiple_of(16) && refusals < 2_000 {
            spoil(&node);
        }
        if under_way.is_empty() && !again.is_empty() {
            // All answers are here: the oldest first.
            next = again.drain(..).min().unwrap();
        }
        while again.is_empty() && under_way.len() < WINDOW && next <= PUBLISHES {
            id = id % 60_000 + 1;
            client.send(&numbered(next, id)).await;
            under_way.push_back((next, id));
            next += 1;
        }
        let (number, id) = under_way.pop_front().unwrap();
        let (first, body) = client.next().await.unwrap();
        assert_eq!((first, &body[..2]), (0x40, &id.to_be_bytes()[..]), "in order");
        match body.get(2) {
            None => {}
            Some(0x80 | 0x97) => {
                refusals += 1;
                again.push(number);
            }
            Some(code) => panic!("{number}: {code:#04x}"),
        }
    }
    assert!(refusals > 0, "the store refused commits now and then");
    let expected: Vec<u64> = (1..=PUBLISHES).collect();
    assert_eq!(stored(&node), expected);
    node.log.close();
}

#[tokio::test]
async fn behind_a_lost_publish_nothing_is_taken_before_it_comes_again() {
    let backend = Arc::new(MemoryBackend::new());
    let node = node_on(&backend);
    let (mut client, _) = Client::connect(&node, "pump", 0, 100).await;
    backend.set_faults(Faults { full_after_writes: Some(0), ..Faults::default() });
    client.send(&numbered(1, 1)).await;
    assert_eq!(client.next().await, Some((0x40, vec![0, 1, 0x97])), "full");
    backend.set_faults(Faults::default());
    let until = Instant::now() + Duration::from_secs(10);
    while node.log.lock().check(0).is_err() {
        assert!(Instant::now() < until, "the log takes events again");
        tokio::task::yield_now().await;
    }
    // The client sent 2 and 3 before it knew of 1; then it begins again at 1.
    let cases: [(u64, &[u8]); 6] = [(2, &[0x97]), (3, &[0x97]), (1, &[]), (2, &[]), (3, &[]), (2, &[])];
    for (id, (number, code)) in (2..).zip(cases) {
        client.send(&numbered(number, id)).await;
        let expected = [&id.to_be_bytes()[..], code].concat();
        assert_eq!(client.next().await, Some((0x40, expected)), "{number}");
    }
    assert_eq!(stored(&node), [1, 2, 3]);
    // A new connection begins anew.
    backend.set_faults(Faults { full_after_writes: Some(0), ..Faults::default() });
    client.send(&numbered(4, 20)).await;
    assert_eq!(client.next().await, Some((0x40, vec![0, 20, 0x97])), "full");
    backend.set_faults(Faults::default());
    drop(client);
    while node.log.lock().check(0).is_err() {
        tokio::task::yield_now().await;
    }
    let (mut client, _) = Client::connect(&node, "pump", 0, 100).await;
    client.send(&numbered(5, 1)).await;
    assert_eq!(client.next().await, Some((0x40, vec![0, 1])), "4 was given up");
    assert_eq!(stored(&node), [1, 2, 3, 5]);
    node.log.close();
}

#[tokio::test]
async fn behind_a_refusal_for_good_the_next_number_follows() {
    let rule = Rule { pattern: "plant/{site}".to_owned(), topic: "plant-{site}".to_owned(), key: None };
    let routing = Config { strict: false, rules: vec![rule] };
    let lanes = LanesConfig { devices_max: 1, ..LanesConfig::default() };
    let node = node_with(&Arc::new(MemoryBackend::new()), &routing, lanes);
    // A topic that cannot be, and one that is not for clients; then a device for which there is no room.
    type Publishes = &'static [(&'static str, &'static [u8])];
    let cases: [(&str, Publishes); 2] = [
        ("pump", &[("t", &[]), ("plant/ü", &[0x83]), ("t", &[]), ("edgeway/x", &[0x87]), ("t", &[])]),
        ("other", &[("t", &[0x83]), ("t", &[0x83]), ("t", &[0x83])]),
    ];
    for (device, publishes) in cases {
        let (mut client, _) = Client::connect(&node, device, 0, 100).await;
        for (id, (topic, code)) in (1..).zip(publishes) {
            client.send(&numbered_to(topic, u64::from(id), id)).await;
            let expected = [&id.to_be_bytes()[..], code].concat();
            assert_eq!(client.next().await, Some((0x40, expected)), "{device}: {topic} under number {id}");
        }
    }
    assert_eq!(stored(&node), [1, 3, 5]);
    node.log.close();
}
