//! Numbered publishes of a connection on a store that is full now and then: each is stored once, in order.
#![allow(clippy::unwrap_used)]

use std::collections::VecDeque;
use std::sync::Arc;

use sled_data::{Faults, MemoryBackend};

use super::tests::{Client, Node, node_on, packet, text};
use crate::ingest::CATCH_ALL_TOPIC;

const PUBLISHES: u64 = 400;
/// Publishes under way at once.
const WINDOW: usize = 16;

fn numbered(number: u64, id: u16) -> Vec<u8> {
    let property = [&[0x26][..], &text("edgeway-seq"), &text(&format!("1.1.{number}"))].concat();
    let length = u8::try_from(property.len()).unwrap();
    let body = [&text("t")[..], &id.to_be_bytes(), &[length], &property, &number.to_be_bytes()].concat();
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
            Some(0x97) => {
                refusals += 1;
                again.push(number);
            }
            Some(code) => panic!("{number}: {code:#04x}"),
        }
    }
    assert!(refusals > 0, "the store was full now and then");
    let expected: Vec<u64> = (1..=PUBLISHES).collect();
    assert_eq!(stored(&node), expected);
    node.log.close();
}
