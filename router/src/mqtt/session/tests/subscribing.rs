//! SUBSCRIBE, UNSUBSCRIBE, and which subscription delivers what.

use super::*;

/// Subscribes with raw option bits (QoS 0-1, no local 2, retain as published 3, retain handling 4-5).
fn subscribe(session: &mut Session, id: Option<u32>, filters: &[(&str, u8)]) -> (Vec<u8>, Subscribed) {
    let version = session.version();
    let mut list = FilterBuffer::new(version);
    for (filter, bits) in filters {
        let options = SubscribeOptions {
            qos: Qos::from_bits(bits & 3).unwrap(),
            no_local: bits & 4 != 0,
            retain_as_published: bits & 8 != 0,
            retain_handling: match bits >> 4 {
                0 => RetainHandling::Always,
                1 => RetainHandling::IfNew,
                _ => RetainHandling::Never,
            },
        };
        list.put(filter, options).unwrap();
    }
    let list_of_ids =
        properties(&id.map(|id| (PropertyId::SubscriptionId, Value::Variable(id))).into_iter().collect::<Vec<_>>());
    let packet = Subscribe { packet_id: 5, properties: list_of_ids.view(), filters: list.view() };
    let may = |filter: &str| !filter.starts_with("secret");
    match session.receive(&Packet::Subscribe(packet), &may).unwrap() {
        Action::Subscribed { subscribed, frame } => {
            let codes = match read(&frame, version) {
                Packet::SubAck(suback) => {
                    assert_eq!(suback.packet_id, 5);
                    suback.codes.to_vec()
                }
                other => panic!("{other:?}"),
            };
            (codes, subscribed)
        }
        other => panic!("{other:?}"),
    }
}

fn delivery(session: &Session, name: &str, own: bool) -> Option<(u8, bool, Vec<u32>)> {
    let mut ids = vec![77];
    let found = session.subscriptions().delivery(name, own, &mut ids)?;
    ids.sort_unstable();
    Some((found.qos.bits(), found.retain_as_published, ids))
}

#[test]
fn qos_2_is_granted_as_1_and_refusals_have_their_codes() {
    let limits = Limits { subscriptions_max: 4, ..Limits::default() };
    let deep = "a/".repeat(200);
    let asked = [
        ("a", 0),
        ("b", 1),
        ("c", 2),
        ("secret/x", 1),
        (deep.as_str(), 0),
        ("$share/g/a", 0),
        ("d", 0),
        ("e", 0),
        ("a", 1),
    ];
    let mut session = accept(&connect(Version::V5), &limits, None).session;
    let (codes, subscribed) = subscribe(&mut session, None, &asked);
    assert_eq!(codes, [0, 1, 1, 0x87, 0x8F, 0x9E, 0, 0x97, 1]);
    assert_eq!(subscribed.granted, ["a", "b", "c", "d", "a"]);
    let mut old = accept(&connect(Version::V311), &limits, None).session;
    let (codes, _) = subscribe(&mut old, None, &asked);
    assert_eq!(codes, [0, 1, 1, 0x80, 0x80, 0, 0x80, 0x80, 1], "$share is a filter like any other");
}

#[test]
fn filters_are_bounded_in_bytes_too() {
    let limits = Limits { subscription_bytes_max: 10, ..Limits::default() };
    for (version, full) in [(Version::V5, 0x97), (Version::V311, 0x80)] {
        let mut session = accept(&connect(version), &limits, None).session;
        let (codes, _) = subscribe(&mut session, None, &[("12345678901", 0), ("1234567890", 0), ("a", 0)]);
        assert_eq!(codes, [full, 0, full]);
        assert_eq!(subscribe(&mut session, None, &[("1234567890", 1)]).0, [1], "it has its room already");
        // A resumed session counts what it has; what is given up makes room.
        let resuming = Connect { clean_start: false, ..connect(version) };
        let mut session = accept(&resuming, &limits, Some(session.kept())).session;
        assert_eq!(subscribe(&mut session, None, &[("a", 0)]).0, [full]);
        session.subscriptions.unsubscribe("1234567890");
        assert_eq!(subscribe(&mut session, None, &[("a", 0), ("123456789", 0)]).0, [0, 0]);
    }
}

#[test]
fn retained_messages_are_sent_as_the_subscription_asks() {
    let mut session = session(Version::V5);
    let wanted = |session: &mut Session, bits| !subscribe(session, Some(3), &[("a/#", bits)]).1.retained.is_empty();
    assert!(wanted(&mut session, 0x10), "if new: it is");
    assert!(!wanted(&mut session, 0x10), "if new: it is not");
    assert!(!wanted(&mut session, 0x20), "never");
    assert!(wanted(&mut session, 0x00), "always");
    let (_, subscribed) = subscribe(&mut session, Some(3), &[("b", 2)]);
    assert_eq!(subscribed.retained, [RetainedWanted { filter: "b".into(), qos: Qos::AtLeastOnce, id: Some(3) }]);
}

#[test]
fn one_delivery_has_the_highest_qos_and_all_identifiers() {
    let mut session = session(Version::V5);
    subscribe(&mut session, Some(1), &[("a/+", 0)]);
    subscribe(&mut session, Some(2), &[("a/#", 1 | 8)]);
    subscribe(&mut session, None, &[("#", 0)]);
    subscribe(&mut session, Some(4), &[("c", 4), ("$x/#", 0)]);
    assert_eq!(delivery(&session, "a/b", false), Some((1, true, vec![1, 2])));
    assert_eq!(delivery(&session, "b", false), Some((0, false, vec![])));
    assert_eq!(delivery(&session, "c", false), Some((0, false, vec![4])));
    assert_eq!(delivery(&session, "c", true), Some((0, false, vec![])));
    assert_eq!(delivery(&session, "$x", true), Some((0, false, vec![4])));
    assert_eq!(delivery(&session, "$y", true), None);
    assert!(session.subscriptions().wants("b") && !session.subscriptions().wants("$y"));
}

#[test]
fn no_local_alone_delivers_nothing_of_ones_own() {
    let mut session = session(Version::V5);
    subscribe(&mut session, Some(1), &[("a", 1 | 4)]);
    assert_eq!(delivery(&session, "a", true), None);
    assert_eq!(delivery(&session, "a", false), Some((1, false, vec![1])));
}

#[test]
fn a_new_subscription_to_the_same_filter_replaces_the_old_one() {
    let mut session = session(Version::V5);
    subscribe(&mut session, Some(1), &[("a", 1)]);
    subscribe(&mut session, None, &[("a", 0)]);
    assert_eq!(session.subscriptions().len(), 1);
    assert_eq!(delivery(&session, "a", false), Some((0, false, vec![])));
    assert!(subscribe(&mut session, None, &[("a", 0)]).1.granted.is_empty());
}

#[test]
fn unsubscribing_says_what_was_there() {
    for (version, expected) in [(Version::V5, vec![0, 0x11, 0x11]), (Version::V311, vec![])] {
        let mut session = session(version);
        subscribe(&mut session, None, &[("a/#", 0), ("b", 1)]);
        let mut list = TopicBuffer::new();
        for filter in ["a/#", "a/+", "$share/g/a"] {
            list.put(filter).unwrap();
        }
        let packet = Unsubscribe { packet_id: 6, properties: Properties::NONE, filters: list.view() };
        match session.receive(&Packet::Unsubscribe(packet), &anything).unwrap() {
            Action::Unsubscribed { removed, frame } => {
                assert_eq!(removed, ["a/#"]);
                match read(&frame, version) {
                    Packet::UnsubAck(unsuback) => {
                        assert_eq!((unsuback.packet_id, unsuback.codes), (6, &expected[..]))
                    }
                    other => panic!("{other:?}"),
                }
            }
            other => panic!("{other:?}"),
        }
        assert_eq!(delivery(&session, "a/x", false), None);
        assert!(delivery(&session, "b", false).is_some());
        assert_eq!(session.subscriptions().iter().map(|(filter, _)| filter).collect::<Vec<_>>(), ["b"]);
    }
}
