//! Any packets in any order: bounds hold, nothing panics, and what is kept is taken up as it was.

use super::*;
use proptest::prelude::*;

const RECEIVE_MAXIMUM: u16 = 4;
const INFLIGHT_MAX: u16 = 3;
const SUBSCRIPTIONS_MAX: usize = 3;

fn limits() -> Limits {
    Limits {
        receive_maximum: RECEIVE_MAXIMUM,
        inflight_max: INFLIGHT_MAX,
        subscriptions_max: SUBSCRIPTIONS_MAX,
        topic_alias_maximum: 2,
        ..Limits::default()
    }
}

/// What may happen to a session.
#[derive(Clone, Debug)]
enum Step {
    /// A PUBLISH with this topic alias, if any.
    Publish {
        qos: u8,
        id: u16,
        alias: Option<u16>,
        named: bool,
    },
    PubAcksSent(u32),
    Ack {
        packet: u8,
        id: u16,
        refused: bool,
    },
    Subscribe {
        filter: usize,
        bits: u8,
    },
    Unsubscribe(usize),
    Send,
    Resend,
    Disconnect(Option<u32>),
    Reconnect,
}

const FILTERS: [&str; 6] = ["a/#", "+/b", "#", "a/b", "$share/g/a", "c"];

fn step() -> impl Strategy<Value = Step> {
    let id = 1u16..6;
    prop_oneof![
        6 => (0u8..3, id.clone(), proptest::option::of(0u16..4), any::<bool>())
            .prop_map(|(qos, id, alias, named)| Step::Publish { qos, id, alias, named }),
        3 => (0u32..3).prop_map(Step::PubAcksSent),
        6 => (0u8..4, id, any::<bool>()).prop_map(|(packet, id, refused)| Step::Ack { packet, id, refused }),
        3 => (0..FILTERS.len(), 0u8..3).prop_map(|(filter, bits)| Step::Subscribe { filter, bits }),
        2 => (0..FILTERS.len()).prop_map(Step::Unsubscribe),
        5 => Just(Step::Send),
        2 => Just(Step::Resend),
        1 => proptest::option::of(0u32..9).prop_map(Step::Disconnect),
        1 => Just(Step::Reconnect),
    ]
}

fn reconnect(session: Session, version: Version, end: End) -> Session {
    let kept = session.end(end, NOW).kept;
    let before = kept.clone().unwrap_or_default();
    let read = kept.map(|kept| KeptSession::from_bytes(&kept.to_bytes()).unwrap());
    let asked = properties(&[(PropertyId::SessionExpiry, Value::U32(60))]);
    let list = if version == Version::V5 { asked.view() } else { Properties::NONE };
    let connect = Connect { clean_start: false, properties: list, ..connect(version) };
    let session = accept(&connect, &limits(), read).session;
    let after = session.kept();
    assert_eq!(after.subscriptions, before.subscriptions);
    assert_eq!((after.qos2_held, after.inflight), (before.qos2_held, before.inflight));
    session
}

/// Does one step; an error is a connection that the session closes.
fn take(session: &mut Session, step: &Step) -> Result<Option<End>, Close> {
    let properties = Properties::NONE;
    let packet = match step {
        Step::Publish { qos, id, alias, named } => {
            let qos = Qos::from_bits(*qos).unwrap();
            let list = super::properties(
                &alias.map(|alias| (PropertyId::TopicAlias, Value::U16(alias))).into_iter().collect::<Vec<_>>(),
            );
            let topic = if *named || session.version() == Version::V311 { "a/b" } else { "" };
            let properties = if session.version() == Version::V5 { list.view() } else { Properties::NONE };
            let packet_id = if qos == Qos::AtMostOnce { 0 } else { *id };
            let message = Publish { topic, properties, ..publish(qos, packet_id) };
            let admission = session.admit_publish(&message)?;
            assert_eq!(admission.reply.is_some(), qos != Qos::AtMostOnce);
            assert!(admission.append || qos == Qos::ExactlyOnce);
            return Ok(None);
        }
        Step::PubAcksSent(count) => {
            session.pubacks_sent(*count);
            return Ok(None);
        }
        Step::Send => {
            let free = session.window().free();
            assert_eq!(session.window().push(Some(event(1))).is_some(), free > 0);
            return Ok(None);
        }
        Step::Resend => {
            session.window().resend();
            return Ok(None);
        }
        Step::Ack { packet, id, refused } => {
            let reason = if *refused { Reason::UnspecifiedError } else { Reason::Success };
            let ack = Ack { reason, ..ack(*id) };
            [Packet::PubAck(ack), Packet::PubRec(ack), Packet::PubRel(ack), Packet::PubComp(ack)][usize::from(*packet)]
                .clone()
        }
        Step::Subscribe { filter, bits } => {
            let mut list = FilterBuffer::new(session.version());
            list.put(FILTERS[*filter], SubscribeOptions::plain(Qos::from_bits(*bits).unwrap())).unwrap();
            let filters = list.view();
            session.receive(&Packet::Subscribe(Subscribe { packet_id: 1, properties, filters }), &anything)?;
            return Ok(None);
        }
        Step::Unsubscribe(filter) => {
            let mut list = TopicBuffer::new();
            list.put(FILTERS[*filter]).unwrap();
            let filters = list.view();
            session.receive(&Packet::Unsubscribe(Unsubscribe { packet_id: 1, properties, filters }), &anything)?;
            return Ok(None);
        }
        Step::Disconnect(expiry) => {
            let list = super::properties(
                &expiry.map(|s| (PropertyId::SessionExpiry, Value::U32(s))).into_iter().collect::<Vec<_>>(),
            );
            let notice = Notice { reason: Reason::Success, properties: list.view() };
            return match session.receive(&Packet::Disconnect(notice), &anything)? {
                Action::Disconnect { with_will } => Ok(Some(End::Disconnected { with_will })),
                other => panic!("{other:?}"),
            };
        }
        Step::Reconnect => return Ok(Some(End::Lost)),
    };
    session.receive(&packet, &anything).map(|_| None)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn bounds_hold_whatever_comes(v5 in any::<bool>(), steps in proptest::collection::vec(step(), 0..120)) {
        let version = if v5 { Version::V5 } else { Version::V311 };
        let mut session = reconnect(super::session(version), version, End::Lost);
        for step in &steps {
            match take(&mut session, step) {
                Ok(None) => {}
                Ok(Some(end)) => session = reconnect(session, version, end),
                Err(close) => {
                    prop_assert!(close.reason.is_error());
                    session = reconnect(session, version, End::Lost);
                }
            }
            prop_assert!(session.subscriptions().len() <= SUBSCRIPTIONS_MAX);
            prop_assert!(session.window().len() <= usize::from(INFLIGHT_MAX));
            if v5 {
                prop_assert!(session.inbound_open() <= u32::from(RECEIVE_MAXIMUM));
            }
        }
    }
}
