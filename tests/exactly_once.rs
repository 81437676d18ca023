//! Numbered events: whatever is sent again, after a lost acknowledgement, a reconnect or a crash, is stored once.

use std::collections::VecDeque;

use crate::harness::log::assert_dense;
use crate::harness::mqtt::{Client, Connect, Message, Value, Version, id};
use crate::harness::{Event, Node, http};

const PROPERTY: &str = "edgeway-seq";

fn numbered(topic: &str, number: &str) -> Message {
    let value = Value::Pair(PROPERTY.to_owned(), number.to_owned());
    Message::new(topic, number).qos(1).with(id::USER, value)
}

fn sequences(events: &[Event]) -> Vec<&str> {
    events.iter().filter_map(|event| event.0["headers"]["sequence"].as_str()).collect()
}

fn metric(node: &Node, name: &str) -> u64 {
    let text = http::get(node.http, "/metrics", None).unwrap().body;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not in\n{text}")).parse().unwrap()
}

#[test]
fn what_comes_again_is_answered_and_stored_once() {
    let mut node = Node::start();
    let events = [("1.7.1", 1), ("1.7.2", 2), ("0.7.1", 1), ("1.7.9", 1), ("1.8.0", 0), ("2.8.0", 2)];
    let send_all = |node: &Node, known: bool| {
        let mut client = Client::simple(node.mqtt, Version::V5, "pump-7");
        for (number, qos) in events {
            // Of an earlier boot than the lane's last it is when it comes again; what is of this boot is known.
            let stale = known && number.starts_with("1.7.");
            let code = client.publish(&numbered("a/b", number).qos(qos));
            assert_eq!(code, if stale { 0x87 } else { 0 }, "{number}, known: {known}");
        }
        client.disconnect();
    };
    send_all(&node, false);
    send_all(&node, true);
    node.kill();
    node.run();
    send_all(&node, true);
    assert_eq!(metric(&node, "edgeway_events_known_total"), 3);
    assert_eq!(metric(&node, "edgeway_events_refused_total{reason=\"stale_boot\"}"), 3);
    assert_eq!(metric(&node, "edgeway_numbering_devices"), 1);
    assert!(node.stop().success());
    node.run();
    send_all(&node, true);
    let stored = node.events("mqtt");
    assert_eq!(sequences(&stored), events.map(|(number, _)| number));
    assert!(stored.iter().all(|event| event.0["headers"].get("mqtt.user").is_none()), "{stored:?}");
    // Another device's numbers are its own.
    let mut other = Client::simple(node.mqtt, Version::V5, "pump-8");
    assert_eq!(other.publish(&numbered("a/b", "1.1.1")), 0);
    assert_eq!(node.events("mqtt").len(), events.len() + 1);
}

#[test]
fn a_number_that_is_none_is_refused_and_the_connection_goes_on() {
    let node = Node::start();
    let mut client = Client::simple(node.mqtt, Version::V5, "pump-7");
    for number in ["", "1.1", "3.1.1", "1.1.18446744073709551616", "1.-1.1", "1.1.1 "] {
        assert_eq!(client.publish(&numbered("a", number)), 0x99, "{number:?}");
    }
    let twice = numbered("a", "1.1.1").with(id::USER, Value::Pair(PROPERTY.to_owned(), "1.1.1".to_owned()));
    assert_eq!(client.publish(&twice), 0x99);
    let mut nameless = Client::simple(node.mqtt, Version::V5, "");
    assert_eq!(nameless.publish(&numbered("a", "1.1.1")), 0x99, "it has another name at each connection");
    assert_eq!(nameless.publish(&Message::new("a", "plain").qos(1)), 0);
    assert_eq!(client.publish(&numbered("$own", "1.1.1")), 0x87, "not allowed");
    assert_eq!(client.publish(&numbered("a", "1.1.1")), 0, "what is refused has used up no number");
    assert_eq!(metric(&node, "edgeway_events_refused_total{reason=\"malformed_sequence\"}"), 8);
    assert_eq!(node.events("mqtt").len(), 2);
}

#[test]
fn subscribers_do_not_see_the_number_and_a_retained_message_is_not_set_back() {
    let node = Node::start();
    let mut client = Client::simple(node.mqtt, Version::V5, "pump-7");
    let unit = || Value::Pair("unit".to_owned(), "bar".to_owned());
    let mut near = Client::simple(node.mqtt, Version::V5, "near");
    near.subscribe("#", 1);
    for number in ["1.1.1", "1.1.2", "1.1.1"] {
        assert_eq!(client.publish(&numbered("a", number).with(id::USER, unit()).retain()), 0);
    }
    assert_eq!(client.publish(&Message::new("end", "").qos(1)), 0);
    let live: Vec<Message> = (0..3).map(|_| near.message()).collect();
    assert_eq!(live.iter().map(Message::text).collect::<Vec<_>>(), ["1.1.1", "1.1.2", ""]);
    let mut late = Client::simple(node.mqtt, Version::V5, "late");
    late.subscribe("#", 1);
    let retained = late.message();
    assert_eq!(retained.text(), "1.1.2");
    for message in [&live[0], &live[1], &retained] {
        assert_eq!(message.properties.all(id::USER), [&unit()], "{message:?}");
    }
}

#[test]
fn there_is_room_for_so_many_devices() {
    let node = Node::start_with("[lanes]\ndevices_max = 1\n");
    let mut first = Client::simple(node.mqtt, Version::V5, "first");
    let mut second = Client::simple(node.mqtt, Version::V5, "second");
    assert_eq!(first.publish(&numbered("a", "1.1.1")), 0);
    for number in ["1.1.1", "1.1.2", "1.1.1"] {
        assert_eq!(second.publish(&numbered("a", number)), 0x83, "{number}");
    }
    assert_eq!(second.publish(&Message::new("a", "plain").qos(1)), 0);
    assert_eq!(first.publish(&numbered("a", "1.1.2")), 0);
    assert_eq!(metric(&node, "edgeway_events_refused_total{reason=\"too_many_devices\"}"), 3);
    assert_eq!(metric(&node, "edgeway_events_refused_total{reason=\"behind\"}"), 0);
}

/// A device with a buffer that outlives it: it keeps each event until it is acknowledged.
struct Device {
    random: u64,
    boot: u64,
    next: [u64; 3],
    unacknowledged: VecDeque<String>,
    /// Everything that it ever sent, by lane.
    sent: [Vec<String>; 3],
}

impl Device {
    /// A number below `bound`, by seed (SplitMix64).
    fn below(&mut self, bound: u64) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.random;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn produce(&mut self) {
        let lane = usize::try_from(self.below(3)).unwrap();
        // Gaps are fine.
        self.next[lane] += 1 + self.below(10) / 9 * 5;
        let number = format!("{lane}.{}.{}", self.boot, self.next[lane]);
        self.sent[lane].push(number.clone());
        self.unacknowledged.push_back(number);
    }

    fn restart(&mut self) {
        self.boot += 1;
        self.next = [0; 3];
    }

    fn send(client: &mut Client, number: &str) {
        let mut message = numbered(&format!("lane/{}", &number[..1]), number);
        message.id = client.next_id();
        client.send(&message.encode(Version::V5));
    }

    /// One connection: sends again what is unacknowledged, then more, and reads `acks` acknowledgements.
    fn connection(&mut self, node: &Node, more: u64, acks: usize) -> Client {
        let mut client = Client::connect(node.mqtt, &Connect::new(Version::V5, "pump-7"));
        for number in &self.unacknowledged {
            Self::send(&mut client, number);
        }
        for _ in 0..more {
            self.produce();
            Self::send(&mut client, self.unacknowledged.back().unwrap());
        }
        for id in 1..=acks.min(self.unacknowledged.len()) {
            let code = client.wait_ack(4, u16::try_from(id).unwrap());
            let number = self.unacknowledged.pop_front().unwrap();
            // What comes again from behind a restart is stored, and looks like a second device of the same name.
            let may_be_stale = number.split('.').nth(1) != Some(&self.boot.to_string());
            assert!(code == 0 || (code == 0x87 && may_be_stale), "{number}: {code:#04x}");
        }
        client
    }
}

#[test]
fn a_device_that_sends_everything_again_is_stored_once_over_crashes() {
    for seed in [20_260_913, 20_260_914, 20_260_915] {
        println!("seed {seed}");
        crashes(seed);
    }
}

fn crashes(seed: u64) {
    const ROUNDS: u64 = 24;
    let mut node = Node::start();
    let (next, sent) = ([0; 3], [const { Vec::new() }; 3]);
    let mut device = Device { random: seed, boot: 1, next, unacknowledged: VecDeque::new(), sent };
    let mut known = 0;
    for _ in 0..ROUNDS {
        let (more, acks) = (device.below(400), usize::try_from(device.below(500)).unwrap());
        let connection = device.connection(&node, more, acks);
        match device.below(5) {
            0 | 1 => {
                known += metric(&node, "edgeway_events_known_total");
                // Much is under way then.
                node.kill();
                drop(connection);
                node.run();
            }
            2 => device.restart(),
            _ => {}
        }
    }
    device.connection(&node, 1, usize::MAX);
    assert!(device.unacknowledged.is_empty());
    known += metric(&node, "edgeway_events_known_total");
    assert!(known > 0, "seed {seed}: something came again");
    let stored = node.events("mqtt");
    assert_dense(&stored);
    for (lane, sent) in device.sent.iter().enumerate() {
        let key = format!("lane/{lane}");
        let of_lane: Vec<String> = stored.iter().filter(|event| event.key() == key).map(Event::text).collect();
        assert_eq!(&of_lane, sent, "seed {seed}, lane {lane}: each once, in order");
    }
}
