//! CONNECT and CONNACK.

use super::*;

fn connack(accepted: &Accepted, version: Version) -> (bool, Vec<(PropertyId, u32)>) {
    match read(&accepted.connack, version) {
        Packet::ConnAck(connack) => {
            assert_eq!(connack.code, 0);
            assert_eq!(connack.session_present, accepted.session_present);
            let number = |(id, _)| connack.properties.number(id).map(|number| (id, number));
            (connack.session_present, connack.properties.iter().filter_map(number).collect())
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_3_1_1_client_gets_four_bytes() {
    let accepted = accept(&connect(Version::V311), &Limits::default(), None);
    assert_eq!(accepted.connack, [0x20, 2, 0, 0]);
    assert!(!accepted.session.is_kept());
}

#[test]
fn a_5_0_client_is_told_what_differs_from_the_defaults() {
    let limits = Limits { session_expiry_s_max: 100, keep_alive_s_max: 30, ..Limits::default() };
    let asked = properties(&[(PropertyId::SessionExpiry, Value::U32(EXPIRY_NEVER))]);
    let accepted = accept(&Connect { properties: asked.view(), ..connect(Version::V5) }, &limits, None);
    let (present, told) = connack(&accepted, Version::V5);
    assert!(!present);
    assert_eq!(
        told,
        [
            (PropertyId::SessionExpiry, 100),
            (PropertyId::ReceiveMaximum, 1024),
            (PropertyId::MaximumPacketSize, 1 << 20),
            (PropertyId::TopicAliasMaximum, 32),
            (PropertyId::SharedAvailable, 0),
            (PropertyId::ServerKeepAlive, 30),
        ]
    );
    assert!(accepted.session.is_kept());
    assert_eq!(accepted.session.silent_at_ms(), Some(NOW + 45_000));
}

#[test]
fn a_client_without_an_identifier_is_told_the_assigned_one() {
    let accepted = accept(&Connect { client_id: "", ..connect(Version::V5) }, &Limits::default(), None);
    match read(&accepted.connack, Version::V5) {
        Packet::ConnAck(connack) => {
            assert_eq!(connack.properties.text(PropertyId::AssignedClientId), Some("assigned-1"))
        }
        other => panic!("{other:?}"),
    }
    assert_eq!(&**accepted.session.client_id(), "assigned-1");
    let accepted = accept(&Connect { client_id: "", ..connect(Version::V311) }, &Limits::default(), None);
    assert_eq!(&**accepted.session.client_id(), "assigned-1");
}

#[test]
fn what_cannot_be_opened_is_refused_with_its_reason() {
    let limits = Limits { client_id_bytes_max: 10, ..Limits::default() };
    let method = properties(&[(PropertyId::AuthMethod, Value::Text("SCRAM"))]);
    let cases = [
        (Connect { client_id: "", clean_start: false, ..connect(Version::V311) }, 0x85, 2),
        (Connect { client_id: "longer than ten", ..connect(Version::V311) }, 0x85, 2),
        (Connect { properties: method.view(), ..connect(Version::V5) }, 0x8C, 5),
    ];
    for (connect, reason, return_code) in cases {
        let close = Opening::new(&connect, &limits, "x").unwrap_err();
        assert_eq!(close.reason.code(), reason);
        for (version, code) in [(Version::V311, return_code), (Version::V5, reason)] {
            let mut out = Vec::new();
            refuse(close.reason, version, &mut out);
            match read(&out, version) {
                Packet::ConnAck(connack) => {
                    assert_eq!((connack.code, connack.session_present), (code, false))
                }
                other => panic!("{other:?}"),
            }
        }
    }
    // A 5.0 client may leave its identifier to the server and still have a session kept.
    assert!(Opening::new(&Connect { client_id: "", clean_start: false, ..connect(Version::V5) }, &limits, "x").is_ok());
}

#[test]
fn a_session_goes_on_only_if_it_is_wanted_there_and_not_expired() {
    let kept = |disconnected_at_ms, expiry_s| {
        Some(KeptSession { client_id: "client".into(), disconnected_at_ms, expiry_s, ..KeptSession::default() })
    };
    let before = Some(NOW - 10_000);
    let cases = [
        (false, kept(before, 11), true),
        (false, kept(before, 10), false),
        (false, kept(before, 9), false),
        (false, kept(Some(0), EXPIRY_NEVER), true),
        (false, kept(None, 1), true),
        (false, None, false),
        (true, kept(before, 11), false),
    ];
    for version in [Version::V311, Version::V5] {
        for (clean_start, kept, expected) in &cases {
            let connect = Connect { clean_start: *clean_start, ..connect(version) };
            let accepted = accept(&connect, &Limits::default(), kept.clone());
            assert_eq!(connack(&accepted, version).0, *expected, "{version:?} {clean_start} {kept:?}");
        }
    }
}

#[test]
fn keep_alive_is_one_and_a_half_times_and_zero_is_none() {
    let mut session = session(Version::V311);
    assert_eq!(session.check_silence(NOW + 89_999), Ok(()));
    let close = session.check_silence(NOW + 90_000).unwrap_err();
    assert_eq!(close.reason, Reason::KeepAliveTimeout);
    session.heard(NOW + 90_000);
    assert_eq!(session.check_silence(NOW + 179_999), Ok(()));
    let without = Connect { keep_alive_s: 0, ..connect(Version::V311) };
    let limits = Limits { keep_alive_s_max: 10, ..Limits::default() };
    let session = accept(&without, &limits, None).session;
    assert_eq!((session.silent_at_ms(), session.check_silence(u64::MAX)), (None, Ok(())));
}

#[test]
fn what_a_client_takes_bounds_what_it_is_sent() {
    let asked = properties(&[
        (PropertyId::ReceiveMaximum, Value::U16(2)),
        (PropertyId::MaximumPacketSize, Value::U32(100)),
        (PropertyId::TopicAliasMaximum, Value::U16(1)),
        (PropertyId::RequestProblemInfo, Value::Byte(0)),
    ]);
    let connect = Connect { properties: asked.view(), ..connect(Version::V5) };
    let mut session = accept(&connect, &Limits::default(), None).session;
    assert!(session.fits(100) && !session.fits(101));
    assert!(!session.client_limits().problem_info);
    assert_eq!(session.window().free(), 2);
    let forms: Vec<TopicForm> = ["a", "b", "a"].iter().map(|topic| session.aliases().form(topic)).collect();
    assert_eq!(forms, [TopicForm::Introduce(1), TopicForm::Name, TopicForm::Alias(1)]);
    let mut plain = super::session(Version::V311);
    assert!(!plain.aliases().is_offered() && plain.fits(usize::try_from(u32::MAX).unwrap()));
    assert_eq!((plain.aliases().form("a"), plain.window().free()), (TopicForm::Name, 1024));
}
