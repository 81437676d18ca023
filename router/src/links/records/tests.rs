//! Invitations, gateways and removed links, on a memory store.

use super::*;
use crate::clock::Clock;
use crate::event_log::Config;

fn log() -> Arc<EventLog> {
    let backend = sled_data::MemoryBackend::new();
    let (store, _) = sled_data::Store::on(Arc::new(backend), sled_data::Options::default()).unwrap();
    let log = EventLog::open(Arc::new(store), Arc::new(Clock::starting_after(0)), Config::default()).unwrap();
    log.ensure_topic(crate::event_log::AUDIT_TOPIC, None).unwrap();
    log
}

fn request(secret: u8) -> Request {
    Request {
        secret: [secret; 32],
        name: "gw".to_owned(),
        site: 5,
        public_key: vec![4],
        program: "0.1".to_owned(),
        protocol: 1,
    }
}

fn hello() -> Hello {
    Hello { protocol: 1, program: "0.1".to_owned(), site: 5, name: "gw".to_owned(), priority: 1, is_first: true }
}

#[test]
fn a_token_lets_one_gateway_in_once_and_a_removed_link_stays_out() {
    let log = log();
    let records = Records::open(Arc::clone(&log)).unwrap();
    let code =
        |result: Result<(String, LinkPeer), Refusal>| result.map_or_else(|refusal| refusal.code, |(name, _)| name);
    assert_eq!(code(records.admit(&request(1), NodeId(1))), "token-unknown");
    assert_eq!(records.invite("a b", request(1).token(), "test"), Err(RecordError::Name("a b".to_owned())));
    records.invite("plant-7", request(1).token(), "test").unwrap();
    let (name, peer) = records.admit(&request(1), NodeId(1)).unwrap();
    assert_eq!((name.as_str(), peer.node), ("plant-7", NodeId(1)));
    assert_eq!(records.admit(&request(1), NodeId(1)), Ok((name, peer)), "it was cut off before it heard");
    assert_eq!(code(records.admit(&request(1), NodeId(2))), "token-used");
    // A second gateway of the site, by a token of its own.
    records.invite("plant-7", request(2).token(), "test").unwrap();
    let (_, second) = records.admit(&request(2), NodeId(2)).unwrap();
    assert_eq!(second.link, peer.link);
    assert_eq!(records.judge(peer, &hello()), Ok("plant-7".to_owned()));
    let stranger = LinkPeer { link: peer.link ^ 1, ..peer };
    assert_eq!(records.judge(stranger, &hello()).unwrap_err().code, "unknown");
    assert_eq!(records.judge(peer, &Hello { protocol: 0, ..hello() }).unwrap_err().code, "version");
    // All of it is there after a restart.
    let records = Records::open(Arc::clone(&log)).unwrap();
    assert_eq!(records.all()[0].nodes.len(), 2);
    records.revoke("plant-7", "test").unwrap();
    assert_eq!(records.revoke("plant-8", "test"), Err(RecordError::Unknown("plant-8".to_owned())));
    for records in [records, Records::open(log).unwrap()] {
        assert_eq!(code(records.admit(&request(1), NodeId(1))), "token-unknown", "its token went with it");
        assert_eq!(records.judge(peer, &hello()).unwrap_err().code, "revoked");
    }
}

#[test]
fn stored_values_have_these_bytes() {
    let link = LinkV1 { link: 300, added_ms: 1, revoked: true, nodes: vec![(NodeId(7), "n".to_owned())] };
    assert_eq!(encode(&link), [1, 0xac, 2, 2, 1, 1, 7, 1, b'n']);
    let token = TokenV1 { name: "p".to_owned(), expires_at_ms: 1, used_by: Some(NodeId(7)) };
    assert_eq!(encode(&token), [1, 1, b'p', 2, 1, 7]);
    assert_eq!(decode(&encode(&link)), Some(link));
    assert_eq!(decode(&encode(&token)), Some(token));
    assert_eq!(decode::<LinkV1>(&[2, 0]), None);
}
