//! The outbound window against a plain model, and the acknowledgements that a session takes for it.

use super::*;
use proptest::prelude::*;

#[test]
fn acknowledgements_say_what_they_are_for() {
    let mut session = session(Version::V5);
    let first = session.window().push(Some(event(1))).unwrap();
    let second = session.window().push(None).unwrap();
    assert_eq!((first, second), (1, 2));
    let puback = |session: &mut Session, packet_id, reason| {
        session.receive(&Packet::PubAck(Ack { reason, ..ack(packet_id) }), &anything).unwrap()
    };
    let refused = Reason::ImplementationSpecificError;
    assert_eq!(puback(&mut session, 2, refused), Action::Acknowledged { event: None, packet_id: 2, reason: refused });
    let expected = Action::Acknowledged { event: Some(event(1)), packet_id: 1, reason: Reason::Success };
    assert_eq!(puback(&mut session, 1, Reason::Success), expected);
    for unknown in [1, 2, 3, 65_535] {
        assert_eq!(puback(&mut session, unknown, Reason::Success), Action::Nothing);
    }
    assert!(session.window().is_empty());
}

#[test]
fn pubrec_is_a_leftover_or_an_error() {
    let mut session = session(Version::V5);
    let id = session.window().push(None).unwrap();
    for packet in [Packet::PubRec(ack(id)), Packet::PubComp(ack(id))] {
        assert_eq!(session.receive(&packet, &anything).unwrap_err().reason, Reason::ProtocolError);
    }
    let reason = Reason::PacketIdentifierNotFound;
    let release = Action::Reply(Reply::PubRel { packet_id: 9, reason });
    assert_eq!(session.receive(&Packet::PubRec(ack(9)), &anything), Ok(release));
    assert_eq!(session.receive(&Packet::PubComp(ack(9)), &anything), Ok(Action::Nothing));
    let refused = Ack { reason: Reason::QuotaExceeded, ..ack(9) };
    assert_eq!(session.receive(&Packet::PubRec(refused), &anything), Ok(Action::Nothing));
}

#[test]
fn identifiers_wrap_around_without_zero() {
    let mut window = Window::new(3, 65_534);
    assert_eq!([window.push(None), window.push(None), window.push(None)], [Some(65_534), Some(65_535), Some(1)]);
    assert_eq!(window.push(None), None);
    assert_eq!(window.acknowledge(0), Acknowledged::Unknown);
    assert_eq!(window.acknowledge(65_535), Acknowledged::Message(None));
    assert_eq!((window.free(), window.holds(65_535), window.holds(1)), (0, false, true));
    assert_eq!(window.acknowledge(65_534), Acknowledged::Message(None));
    assert_eq!((window.free(), window.len()), (2, 1));
}

#[test]
fn resending_keeps_to_what_the_client_takes_now() {
    let kept: Vec<KeptInflight> =
        (1..=4).map(|id| KeptInflight { packet_id: id, event: event(u64::from(id)) }).collect();
    let mut window = Window::resume(2, &kept, 5);
    assert_eq!([window.resend(), window.resend(), window.resend()], [Some((1, event(1))), Some((2, event(2))), None]);
    assert_eq!(window.acknowledge(1), Acknowledged::Message(Some(event(1))));
    assert_eq!([window.resend(), window.resend()], [Some((3, event(3))), None]);
    window.abandon(4);
    assert_eq!(window.free(), 0);
    window.acknowledge(2);
    window.acknowledge(3);
    assert_eq!((window.free(), window.push(None)), (2, Some(5)));
    assert_eq!(Window::resume(9, &[], 77).push(None), Some(77));
}

#[test]
fn damaged_leftovers_are_dropped() {
    let entry = |packet_id| KeptInflight { packet_id, event: event(u64::from(packet_id)) };
    let mut window = Window::resume(9, &[entry(5), entry(0), entry(4), entry(5), entry(6)], 7);
    assert_eq!([window.resend(), window.resend(), window.resend()], [Some((5, event(5))), Some((6, event(6))), None]);
    assert_eq!(Window::resume(9, &[entry(0)], 0).push(None), Some(1));
}

proptest! {
    #[test]
    fn the_window_does_what_a_list_of_identifiers_does(
        start in 1u16..,
        capacity in 1u16..20,
        steps in proptest::collection::vec((any::<bool>(), 0usize..20), 0..300),
    ) {
        let mut window = Window::new(capacity, start);
        let mut model: Vec<(u16, bool)> = Vec::new();
        let mut next = start;
        for (push, pick) in steps {
            if push {
                let expected = (model.len() < usize::from(capacity)).then_some(next);
                prop_assert_eq!(window.push(Some(event(u64::from(next)))), expected);
                if expected.is_some() {
                    model.push((next, false));
                    next = next.checked_add(1).unwrap_or(1);
                }
            } else if let Some(entry) = model.get_mut(pick) {
                let expected = if entry.1 { Acknowledged::Unknown } else { Acknowledged::Message(Some(event(u64::from(entry.0)))) };
                entry.1 = true;
                prop_assert_eq!(window.acknowledge(entry.0), expected);
                let gone = model.iter().take_while(|entry| entry.1).count();
                model.drain(..gone);
            }
            prop_assert_eq!(window.len(), model.len());
            let (kept, after) = window.kept();
            prop_assert_eq!(after, next);
            let open: Vec<u16> = model.iter().filter(|entry| !entry.1).map(|entry| entry.0).collect();
            prop_assert_eq!(kept.iter().map(|entry| entry.packet_id).collect::<Vec<_>>(), open);
        }
    }
}
