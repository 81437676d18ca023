//! PUBLISH from a client, and what must not come from one.

use super::*;

fn admit(session: &mut Session, publish: &Publish<'_>) -> Result<(String, bool, Option<Reply>), Reason> {
    let admission = session.admit_publish(publish).map_err(|close| close.reason)?;
    Ok((admission.topic.to_owned(), admission.append, admission.reply))
}

#[test]
fn every_qos_gets_its_answer() {
    let reason = Reason::Success;
    for version in [Version::V311, Version::V5] {
        let mut session = session(version);
        let cases = [
            (Qos::AtMostOnce, 0, None),
            (Qos::AtLeastOnce, 7, Some(Reply::PubAck { packet_id: 7, reason })),
            (Qos::ExactlyOnce, 8, Some(Reply::PubRec { packet_id: 8, reason })),
        ];
        for (qos, packet_id, reply) in cases {
            assert_eq!(admit(&mut session, &publish(qos, packet_id)), Ok(("a/b".into(), true, reply)));
        }
    }
}

#[test]
fn a_qos_2_message_is_appended_once_until_it_is_released() {
    for version in [Version::V311, Version::V5] {
        let mut session = session(version);
        let message = publish(Qos::ExactlyOnce, 9);
        let again = Publish { dup: true, ..message };
        let reply = Some(Reply::PubRec { packet_id: 9, reason: Reason::Success });
        assert_eq!(admit(&mut session, &message), Ok(("a/b".into(), true, reply)));
        assert_eq!(admit(&mut session, &again), Ok(("a/b".into(), false, reply)));
        assert_eq!((session.kept().qos2_held, session.inbound_open()), (vec![9], 1));
        let release = |session: &mut Session| session.receive(&Packet::PubRel(ack(9)), &anything);
        let complete = |reason| Ok(Action::Release { packet_id: 9, reply: Reply::PubComp { packet_id: 9, reason } });
        assert_eq!(release(&mut session), complete(Reason::Success));
        assert_eq!(release(&mut session), complete(Reason::PacketIdentifierNotFound));
        assert_eq!(session.inbound_open(), 0);
        assert_eq!(admit(&mut session, &message), Ok(("a/b".into(), true, reply)));
    }
}

#[test]
fn held_identifiers_outlive_the_connection() {
    let kept = KeptSession { qos2_held: vec![9], expiry_s: 60, ..KeptSession::default() };
    let again = Connect { clean_start: false, ..connect(Version::V311) };
    let mut session = accept(&again, &Limits::default(), Some(kept)).session;
    assert_eq!(session.inbound_open(), 0);
    let (_, append, _) = admit(&mut session, &publish(Qos::ExactlyOnce, 9)).unwrap();
    assert!(!append);
    assert_eq!(session.inbound_open(), 1);
}

#[test]
fn more_than_receive_maximum_closes_5_0_and_holds_back_3_1_1() {
    let limits = Limits { receive_maximum: 2, ..Limits::default() };
    let mut session = accept(&connect(Version::V5), &limits, None).session;
    admit(&mut session, &publish(Qos::AtLeastOnce, 1)).unwrap();
    admit(&mut session, &publish(Qos::ExactlyOnce, 2)).unwrap();
    assert!(!session.is_inbound_full(), "one of two waits for its PUBACK");
    admit(&mut session, &publish(Qos::AtMostOnce, 0)).unwrap();
    // What is held already is no further message.
    admit(&mut session, &publish(Qos::ExactlyOnce, 2)).unwrap();
    assert_eq!(admit(&mut session, &publish(Qos::AtLeastOnce, 3)), Err(Reason::ReceiveMaximumExceeded));
    session.pubacks_sent(1);
    admit(&mut session, &publish(Qos::AtLeastOnce, 3)).unwrap();
    assert_eq!(admit(&mut session, &publish(Qos::ExactlyOnce, 4)), Err(Reason::ReceiveMaximumExceeded));

    let mut old = accept(&connect(Version::V311), &limits, None).session;
    for id in 1..5 {
        admit(&mut old, &publish(Qos::AtLeastOnce, id)).unwrap();
    }
    assert!(old.is_inbound_full());
    old.pubacks_sent(3);
    assert!(!old.is_inbound_full());
}

#[test]
fn held_messages_do_not_stop_a_3_1_1_client_from_being_read() {
    let limits = Limits { receive_maximum: 2, ..Limits::default() };
    let mut session = accept(&connect(Version::V311), &limits, None).session;
    for id in 1..=5 {
        admit(&mut session, &publish(Qos::ExactlyOnce, id)).unwrap();
    }
    assert!(!session.is_inbound_full(), "the PUBRELs that end them are yet to be read");
    assert_eq!(session.inbound_open(), 5);
    for id in 1..=5 {
        session.receive(&Packet::PubRel(ack(id)), &anything).unwrap();
    }
    assert_eq!(session.inbound_open(), 0);
}

#[test]
fn a_refused_message_is_answered_in_5_0_and_closes_3_1_1() {
    let reason = Reason::QuotaExceeded;
    let mut session = session(Version::V5);
    for (qos, packet_id, reply) in [
        (Qos::AtMostOnce, 0, None),
        (Qos::AtLeastOnce, 1, Some(Reply::PubAck { packet_id: 1, reason })),
        (Qos::ExactlyOnce, 2, Some(Reply::PubRec { packet_id: 2, reason })),
    ] {
        let message = publish(qos, packet_id);
        admit(&mut session, &message).unwrap();
        assert_eq!(session.refuse_publish(&message, reason), Ok(reply));
    }
    assert!(session.kept().qos2_held.is_empty());
    assert_eq!(session.inbound_open(), 1, "until the PUBACK is sent");
    let mut old = super::session(Version::V311);
    admit(&mut old, &publish(Qos::AtLeastOnce, 1)).unwrap();
    assert_eq!(old.refuse_publish(&publish(Qos::AtLeastOnce, 1), reason).unwrap_err().reason, reason);
    assert_eq!(old.refuse_publish(&publish(Qos::AtMostOnce, 0), reason), Ok(None));
}

#[test]
fn topic_aliases_stand_for_the_last_name_that_was_set() {
    let mut session = session(Version::V5);
    let mut send = |topic: &'static str, alias: u16| {
        let list = properties(&[(PropertyId::TopicAlias, Value::U16(alias))]);
        let message = Publish { topic, properties: list.view(), ..publish(Qos::AtMostOnce, 0) };
        admit(&mut session, &message).map(|(topic, ..)| topic)
    };
    assert_eq!(send("", 1), Err(Reason::ProtocolError));
    assert_eq!(send("a", 1), Ok("a".into()));
    assert_eq!(send("b", 32), Ok("b".into()));
    assert_eq!(send("", 1), Ok("a".into()));
    assert_eq!(send("c", 1), Ok("c".into()));
    assert_eq!(send("", 1), Ok("c".into()));
    assert_eq!(send("", 32), Ok("b".into()));
    assert_eq!(send("", 2), Err(Reason::ProtocolError));
    assert_eq!(send("d", 33), Err(Reason::TopicAliasInvalid));
}

#[test]
fn what_a_client_must_not_send_closes_with_its_reason() {
    let notice = Notice { reason: Reason::ReAuthenticate, properties: Properties::NONE };
    let connack = ConnAck { session_present: false, code: 0, properties: Properties::NONE };
    let cases = [
        (Packet::Connect(Box::new(connect(Version::V5))), "MQTT-3.1.0-2"),
        (Packet::Auth(notice), "MQTT-4.12.0-7"),
        (Packet::ConnAck(connack), "section 2.1.2"),
        (Packet::PingResp, "section 2.1.2"),
    ];
    for (packet, statement) in cases {
        let close = session(Version::V5).receive(&packet, &anything).unwrap_err();
        assert_eq!((close.reason, close.rule.statement(Version::V5)), (Reason::ProtocolError, statement));
        let mut out = Vec::new();
        close.frame(Version::V311, &mut out);
        assert!(out.is_empty());
        close.frame(Version::V5, &mut out);
        assert_eq!(out, [0xE0, 1, 0x82]);
    }
}

#[test]
fn ping_is_answered() {
    let action = session(Version::V311).receive(&Packet::PingReq, &anything);
    assert_eq!(action, Ok(Action::Reply(Reply::PingResp)));
}

#[test]
fn a_farewell_is_in_words_where_the_client_takes_as_much() {
    let close = Close::of(crate::mqtt::session::rules::SECOND_CONNECT);
    for (packet_bytes_max, expected) in [(200, Some("a second CONNECT [MQTT-3.1.0-2]")), (20, None)] {
        let asked = properties(&[(PropertyId::MaximumPacketSize, Value::U32(packet_bytes_max))]);
        let connect = Connect { properties: asked.view(), ..connect(Version::V5) };
        let mut out = Vec::new();
        accept(&connect, &Limits::default(), None).session.farewell(&close, &mut out);
        match read(&out, Version::V5) {
            Packet::Disconnect(notice) => {
                assert_eq!(notice.reason, Reason::ProtocolError);
                assert_eq!(notice.properties.text(PropertyId::ReasonString), expected);
            }
            other => panic!("{other:?}"),
        }
    }
    let mut out = Vec::new();
    session(Version::V311).farewell(&close, &mut out);
    assert!(out.is_empty());
}
