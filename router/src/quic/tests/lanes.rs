//! `edgeway/1`: events in, each once and durable when acknowledged.

use std::net::UdpSocket;

use bytes::Bytes;
use devices::headers;
use devices::native::{Datagram, Event, LaneReply, LaneState, Publish, Refusal, Refused, Reset};
use devices::sequence::{Lane, Sequence};
use quinn::{ReadError, VarInt};
use sled_data::Faults;

use super::device::{acked, framed, number, publish, twenty_under_way};
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_are_durable_when_they_are_acknowledged_and_carry_what_they_came_with() {
    let node = Node::start();
    let device = node.device("d").await;
    assert!(device.lanes.is_empty(), "nothing is known of a new device");
    let (mut lane, last) = device.lane(Lane::NORMAL).await;
    assert_eq!(last, None);
    let event = |skipped, later_ms, payload, properties| Event { skipped, later_ms, payload, properties };
    let events = vec![event(0, 0, &b"1"[..], vec![("unit", "C")]), event(4, 30, b"2", Vec::new())];
    lane.write(&framed(&Publish { topic: "line/1", boot: 3, first: 10, timestamp_ms: 1_000, events })).await;
    lane.acked(number(3, 15)).await;
    assert_eq!(node.payloads("line/1"), ["1", "2"]);
    let topic = node.log.topic(crate::ingest::CATCH_ALL_TOPIC).unwrap();
    let partition = topic.partition(sled_data::partition_for_key(b"line/1", topic.partitions())).unwrap();
    let batches = node.log.read(partition.id(), 0, 1 << 20).unwrap();
    let records: Vec<_> = batches.iter().flat_map(|batch| batch.events_from(0)).map(|(_, record)| record).collect();
    assert_eq!(records.iter().map(|record| record.timestamp_ms).collect::<Vec<_>>(), [1_000, 1_030]);
    assert_eq!(records[0].headers.get(headers::MQTT_CLIENT), Some(&b"d"[..]));
    assert_eq!(records[0].headers.get(headers::MQTT_QOS), None, "as by QoS 1");
    let property = records[0].headers.get(headers::MQTT_USER).and_then(headers::decode_user_property);
    assert_eq!(property, Some(("unit", "C")));
    let sequence = records[1].headers.get(headers::SEQUENCE).and_then(Sequence::from_header);
    assert_eq!(sequence, Some(Sequence { lane: Lane::NORMAL, number: number(3, 15) }));
    assert_eq!(node.sessions.list()[0].device.protocol, "edgeway/1");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_again_is_acknowledged_and_stored_once() {
    let node = Node::start();
    let device = node.device("d").await;
    let (mut lane, _) = device.lane(Lane::NORMAL).await;
    lane.write(&publish("t", 1, 0, &["0", "1", "2"])).await;
    lane.acked(number(1, 2)).await;
    // A part of it again with something new, on a stream that takes the other's place.
    let (mut again, last) = device.lane(Lane::NORMAL).await;
    assert_eq!(last, Some(number(1, 2)));
    again.write(&publish("t", 1, 1, &["1", "2", "3"])).await;
    assert_eq!(again.reply().await, acked(1, 3));
    assert_eq!(lane.frame().await, Err(ReadError::Reset(VarInt::from_u32(0))), "its place is taken");
    drop(device);
    // And all of it by another connection; the lanes are told apart.
    let device = node.device("d").await;
    assert_eq!(device.lanes, [LaneState { lane: 1, last: number(1, 3) }]);
    let (mut lane, _) = device.lane(Lane::NORMAL).await;
    lane.write(&publish("t", 1, 0, &["0", "1", "2", "3"])).await;
    assert_eq!(lane.reply().await, acked(1, 3));
    let (mut urgent, last) = device.lane(Lane::URGENT).await;
    assert_eq!(last, None);
    urgent.write(&publish("t", 1, 0, &["alarm"])).await;
    urgent.acked(number(1, 0)).await;
    assert_eq!(node.payloads("t"), ["0", "1", "2", "3", "alarm"]);
    // An earlier boot's numbers are none.
    let (mut stale, _) = device.lane(Lane::NORMAL).await;
    stale.write(&publish("t", 0, 5, &["x", "y"])).await;
    let refused = Refused { boot: 0, first: 5, last: 6, why: Refusal::StaleBoot };
    assert_eq!(stale.acked(number(0, 6)).await, [LaneReply::Refused(refused)]);
    assert_eq!(node.payloads("t").len(), 5);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_refused_is_told_in_its_turn_and_the_rest_goes_on() {
    let node = Node::start();
    let device = node.device("d").await;
    let (mut lane, _) = device.lane(Lane::NORMAL).await;
    // (topic, why)
    let cases = [
        ("a/+", Some(Refusal::TopicInvalid)),
        ("good/1", None),
        ("$SYS/x", Some(Refusal::NotAllowed)),
        ("edgeway/command/d/x", Some(Refusal::NotAllowed)),
        ("good/2", None),
        ("", Some(Refusal::TopicInvalid)),
    ];
    let mut expected = Vec::new();
    for (n, (topic, why)) in (0..).zip(cases) {
        lane.write(&publish(topic, 1, 2 * n, &["x", "y"])).await;
        let refused = |why| LaneReply::Refused(Refused { boot: 1, first: 2 * n, last: 2 * n + 1, why });
        expected.extend(why.map(refused));
    }
    assert_eq!(lane.acked(number(1, 11)).await, expected);
    assert_eq!((node.payloads("good/1").len(), node.payloads("good/2").len()), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_is_reset_while_the_store_is_full_and_nothing_is_lost_or_doubled() {
    let node = Node::start();
    let device = node.device("d").await;
    let (mut lane, _) = device.lane(Lane::NORMAL).await;
    lane.write(&publish("t", 1, 0, &["0"])).await;
    lane.acked(number(1, 0)).await;
    node.backend.set_faults(Faults { full_after_writes: Some(0), ..Faults::default() });
    for n in 1..5_u64 {
        // The lane may be reset before the last of them.
        let _ = lane.send.write_all(&publish("t", 1, n, &[&n.to_string()])).await;
    }
    // Nothing is said of what could not be stored.
    let reset = lane.frame().await.unwrap_err();
    assert_eq!(reset, ReadError::Reset(VarInt::from_u32(Reset::TryAgain as u32)));
    assert!(read(&node.stats.lanes_reset) >= 1);
    node.backend.set_faults(Faults::default());
    let begin = Instant::now();
    loop {
        let (mut lane, last) = device.lane(Lane::NORMAL).await;
        assert_eq!(last, Some(number(1, 0)), "nothing behind the last acknowledgement");
        let _ = lane.send.write_all(&publish("t", 1, 1, &["1", "2", "3", "4", "5"])).await;
        match lane.frame().await {
            Ok(frame) => {
                assert_eq!(frame, Some(framed(&acked(1, 5))[1..].to_vec()));
                break;
            }
            Err(error) => assert_eq!(error, reset),
        }
        assert!(begin.elapsed() < LONG, "the store does not recover");
    }
    assert_eq!(node.payloads("t"), ["0", "1", "2", "3", "4", "5"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_urgent_does_not_wait_for_what_is_stuck() {
    let node = Node::start();
    let device = node.device("d").await;
    let (mut bulk, _) = device.lane(Lane::BULK).await;
    // A frame that does not end, and replies that nobody reads.
    let large = "x".repeat(200_000);
    let whole = publish("bulk", 1, 0, &[&large]);
    bulk.write(&whole[..whole.len() - 1]).await;
    let (mut urgent, _) = device.lane(Lane::URGENT).await;
    for n in 0..100_u64 {
        urgent.write(&publish("alarm", 1, n, &[&n.to_string()])).await;
        assert_eq!(urgent.reply().await, acked(1, n));
    }
    bulk.write(&whole[whole.len() - 1..]).await;
    bulk.acked(number(1, 0)).await;
    assert_eq!(node.payloads("bulk"), [large]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_address_loses_nothing() {
    const FRAMES: u64 = 600;
    let node = Node::start();
    let device = node.device("d").await;
    let (mut lane, _) = device.lane(Lane::NORMAL).await;
    let mut acknowledged = 0;
    for n in 0..FRAMES {
        lane.write(&publish("truck", 1, n, &[&n.to_string()])).await;
        if n % 200 == 100 {
            device.endpoint.rebind(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        }
        // Within the credit.
        while n + 1 - acknowledged >= 32 {
            let LaneReply::Acked { up_to } = lane.reply().await else { panic!("refused") };
            acknowledged = up_to.seq + 1;
        }
    }
    lane.acked(number(1, FRAMES - 1)).await;
    let all: Vec<String> = (0..FRAMES).map(|n| n.to_string()).collect();
    assert_eq!(node.payloads("truck"), all, "each once, in order");
    assert_eq!(read(&node.stats.connected), 1, "on the same connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_the_client_ends_is_acknowledged_to_its_last() {
    let node = Node::start();
    let (hold, _device, mut lane) = twenty_under_way(&node).await;
    lane.send.finish().unwrap();
    hold.set(false);
    lane.acked(number(1, 19)).await;
    assert_eq!(lane.frame().await, Ok(None), "the node ends its side in order");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn datagrams_are_taken_as_they_come() {
    let node = Node::start();
    let device = node.device("d").await;
    let datagram = |topic, payload| Datagram { topic, timestamp_ms: 0, payload };
    let send = |bytes: Vec<u8>| device.connection.send_datagram(Bytes::from(bytes)).unwrap();
    send(postcard::to_stdvec(&datagram("t", b"1")).unwrap());
    send(postcard::to_stdvec(&datagram("t", b"2")).unwrap());
    send(b"\xff\xff".to_vec());
    send(postcard::to_stdvec(&datagram("a/+", b"3")).unwrap());
    node.counted(|stats| read(&stats.datagrams_dropped), 2).await;
    node.counted(|stats| read(&stats.datagrams), 2).await;
    let ticket = node.log.lock().ticket();
    let (mut lane, _) = device.lane(Lane::NORMAL).await;
    lane.write(&publish("t", 1, 0, &["x"])).await;
    lane.acked(number(1, 0)).await;
    assert!(node.log.outcome(ticket).is_some());
    assert_eq!(node.payloads("t"), ["1", "2", "x"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_property_that_mqtt_cannot_carry_is_refused_with_its_event_alone() {
    let node = Node::start();
    let device = node.device("d").await;
    let (mut lane, _) = device.lane(Lane::NORMAL).await;
    let long = "v".repeat(65_536);
    let event = |payload, name, value| Event { skipped: 0, later_ms: 0, payload, properties: vec![(name, value)] };
    let events =
        vec![event(&b"1"[..], "n", "v"), event(b"2", "n", "a\0b"), event(b"3", "n", &long), event(b"4", "", "")];
    lane.write(&framed(&Publish { topic: "t", boot: 1, first: 1, timestamp_ms: 0, events })).await;
    let refused = Refused { boot: 1, first: 2, last: 3, why: Refusal::TooLarge };
    assert_eq!(lane.acked(number(1, 4)).await, [LaneReply::Refused(refused)]);
    assert_eq!(node.payloads("t"), ["1", "4"]);
}
