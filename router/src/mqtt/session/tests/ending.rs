//! DISCONNECT, lost connections, take-over, wills and what is kept.

use super::*;

/// A session with a will of this delay that is kept for this long.
fn with_will(delay_s: u32, expiry_s: u32) -> Session {
    let of_will = properties(&[
        (PropertyId::WillDelay, Value::U32(delay_s)),
        (PropertyId::ContentType, Value::Text("text/plain")),
    ]);
    let will = Will { topic: "w", payload: b"bye", qos: Qos::AtLeastOnce, retain: true, properties: of_will.view() };
    let asked = properties(&[(PropertyId::SessionExpiry, Value::U32(expiry_s))]);
    let connect = Connect { will: Some(will), properties: asked.view(), ..connect(Version::V5) };
    accept(&connect, &Limits::default(), None).session
}

#[test]
fn a_will_is_published_on_anything_but_a_clean_disconnect() {
    let clean = End::Disconnected { with_will: false };
    let asked = End::Disconnected { with_will: true };
    let resumed = End::TakenOver { clean_start: false };
    let restarted = End::TakenOver { clean_start: true };
    // How it ends, the will's delay and the session's expiry in seconds; then when it is published, in ms from now.
    let cases = [
        (clean, 0, 100, None),
        (asked, 0, 100, Some(0)),
        (asked, 5, 100, Some(5000)),
        (End::Lost, 0, 0, Some(0)),
        (End::Lost, 5, 100, Some(5000)),
        (End::Lost, 500, 100, Some(100_000)),
        (End::Lost, 5, 0, Some(0)),
        (resumed, 0, 100, Some(0)),
        (resumed, 5, 100, None),
        (resumed, 5, 0, Some(0)),
        (restarted, 5, 100, Some(0)),
    ];
    for (end, delay_s, expiry_s, expected) in cases {
        let ended = with_will(delay_s, expiry_s).end(end, NOW);
        let case = format!("{end:?} {delay_s} {expiry_s}");
        assert_eq!(ended.will.as_ref().map(|due| due.at_ms - NOW), expected, "{case}");
        assert_eq!(ended.kept.is_some(), expiry_s > 0 && end != restarted, "{case}");
        let pending = ended.kept.and_then(|kept| kept.will).map(|(_, at_ms)| at_ms - NOW);
        assert_eq!(pending, expected.filter(|&ms| ms > 0), "{case}");
        if let Some(DueWill { will, .. }) = ended.will {
            assert_eq!(
                (will.topic.as_str(), &will.payload[..], will.qos, will.retain),
                ("w", &b"bye"[..], Qos::AtLeastOnce, true)
            );
            let published: Vec<_> = will.properties().iter().collect();
            assert_eq!(published, [(PropertyId::ContentType, Value::Text("text/plain"))]);
        }
    }
}

#[test]
fn disconnect_may_change_the_expiry_but_not_from_zero() {
    let leave = |session: &mut Session, expiry_s, reason| {
        let list = properties(&[(PropertyId::SessionExpiry, Value::U32(expiry_s))]);
        let notice = Notice { reason, properties: list.view() };
        session.receive(&Packet::Disconnect(notice), &anything)
    };
    let mut session = with_will(0, 100);
    assert_eq!(leave(&mut session, 7, Reason::Success), Ok(Action::Disconnect { with_will: false }));
    assert_eq!(
        session.end(End::Disconnected { with_will: false }, NOW).kept.unwrap().expires_at_ms(),
        Some(NOW + 7000)
    );
    let mut session = with_will(0, 100);
    assert_eq!(leave(&mut session, 0, Reason::DisconnectWithWill), Ok(Action::Disconnect { with_will: true }));
    assert_eq!(session.end(End::Disconnected { with_will: true }, NOW).kept, None);
    let mut session = with_will(0, 0);
    assert_eq!(leave(&mut session, 7, Reason::Success).unwrap_err().reason, Reason::ProtocolError);
    assert_eq!(leave(&mut session, 0, Reason::Success), Ok(Action::Disconnect { with_will: false }));
    let old = super::session(Version::V311)
        .receive(&Packet::Disconnect(Notice { reason: Reason::Success, properties: Properties::NONE }), &anything);
    assert_eq!(old, Ok(Action::Disconnect { with_will: false }));
}

#[test]
fn a_kept_session_is_stored_read_and_resumed_as_it_was() {
    let asked = Connect { clean_start: false, ..connect(Version::V311) };
    let mut session = accept(&asked, &Limits::default(), None).session;
    let mut list = FilterBuffer::new(Version::V311);
    list.put("a/#", SubscribeOptions::plain(Qos::AtLeastOnce)).unwrap();
    let subscribe = Subscribe { packet_id: 1, properties: Properties::NONE, filters: list.view() };
    session.receive(&Packet::Subscribe(subscribe), &anything).unwrap();
    session.admit_publish(&publish(Qos::ExactlyOnce, 40)).unwrap();
    for offset in 0..4 {
        session.window().push(Some(event(offset))).unwrap();
    }
    session.receive(&Packet::PubAck(ack(2)), &anything).unwrap();
    let kept = session.end(End::Lost, NOW).kept.unwrap();
    assert_eq!(KeptSession::from_bytes(&kept.to_bytes()), Ok(kept.clone()));

    let mut accepted = accept(&asked, &Limits::default(), Some(kept.clone()));
    assert!(accepted.session_present);
    let again = accepted.session.kept();
    assert_eq!(again, KeptSession { disconnected_at_ms: None, ..kept });
    let window = accepted.session.window();
    assert_eq!((window.free(), window.push(None)), (0, None), "what was sent before goes first");
    let resent: Vec<_> = std::iter::from_fn(|| window.resend()).collect();
    assert_eq!(resent, [(1, event(0)), (3, event(2)), (4, event(3))]);
    assert_eq!(window.push(None), Some(5));
}

#[test]
fn a_stored_session_is_read_by_its_version_and_never_with_a_panic() {
    // Version 1: identifier, expiry, end, no subscriptions, held 9, nothing in flight, next identifier 10, no will.
    let golden = [1, 1, b'c', 60, 1, 5, 0, 1, 9, 0, 10, 0];
    let session = KeptSession {
        client_id: "c".into(),
        expiry_s: 60,
        disconnected_at_ms: Some(5),
        qos2_held: vec![9],
        next_packet_id: 10,
        ..KeptSession::default()
    };
    assert_eq!(session.to_bytes(), golden);
    assert_eq!(KeptSession::from_bytes(&golden), Ok(session));
    assert_eq!(KeptSession::from_bytes(&[2, 0]), Err(KeptError::Newer(2)));
    for cut in 0..golden.len() {
        assert_eq!(KeptSession::from_bytes(&golden[..cut]), Err(KeptError::Damaged));
    }
}

#[test]
fn a_session_that_was_killed_with_its_node_ends_when_it_is_found() {
    let mut kept = with_will(5, 100).kept();
    assert_eq!(kept.expires_at_ms(), None);
    kept.found_without_end(NOW, NOW - 7);
    assert_eq!(kept.expires_at_ms(), Some(NOW + 100_000));
    assert_eq!(kept.will.as_ref().map(|(_, at_ms)| *at_ms), Some(NOW + 5000));
    kept.found_without_end(NOW + 1, NOW);
    assert_eq!(kept.disconnected_at_ms, Some(NOW));
    let mut at_once = with_will(0, 100).kept();
    at_once.found_without_end(NOW, NOW - 7);
    assert_eq!(at_once.disconnected_at_ms, Some(NOW));
    assert_eq!(at_once.will.as_ref().map(|(_, at_ms)| *at_ms), Some(NOW - 7));
    at_once.found_without_end(NOW + 1, NOW);
    assert_eq!(at_once.will.map(|(_, at_ms)| at_ms), Some(NOW - 7));
}
