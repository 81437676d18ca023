//! Gateways of sites that feed this one, and what an earlier program kept of them, on a memory store.

use super::*;
use crate::clock::Clock;
use crate::event_log::Config;

fn open() -> (Arc<EventLog>, Arc<Catalog>) {
    let backend = sled_data::MemoryBackend::new();
    let (store, _) = sled_data::Store::on(Arc::new(backend), sled_data::Options::default()).unwrap();
    let log = EventLog::open(Arc::new(store), Arc::new(Clock::starting_after(0)), Config::default()).unwrap();
    log.ensure_topic(crate::event_log::AUDIT_TOPIC, None).unwrap();
    let catalog = Catalog::open(Arc::clone(&log), catalog::Config::default()).unwrap();
    (log, catalog)
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_is_let_in_and_known_at_each_node_until_its_link_is_removed() {
    let (log, catalog) = open();
    let records = Records::open(Arc::clone(&log), Arc::clone(&catalog)).unwrap();
    let other = Records::open(Arc::clone(&log), catalog).unwrap();
    let unknown = records.admit(&request(1), NodeId(1)).await.unwrap_err();
    assert_eq!(unknown.code, "token-unknown");
    assert_eq!(records.invite("a b", request(1).token(), "test").await.unwrap_err().code(), "bad_request");
    records.invite("plant-7", request(1).token(), "test").await.unwrap();
    // Any node of the site may be asked.
    let (name, peer) = other.admit(&request(1), NodeId(1)).await.unwrap();
    assert_eq!((name.as_str(), peer.node), ("plant-7", NodeId(1)));
    assert_eq!(records.admit(&request(1), NodeId(1)).await, Ok((name, peer)), "it was cut off before it heard");
    assert_eq!(records.admit(&request(1), NodeId(2)).await.unwrap_err().code, "token-used");
    assert_eq!(records.judge(peer, &hello()), Ok("plant-7".to_owned()));
    let stranger = LinkPeer { link: peer.link ^ 1, ..peer };
    assert_eq!(records.judge(stranger, &hello()).unwrap_err().code, "unknown");
    assert_eq!(records.judge(peer, &Hello { protocol: 0, ..hello() }).unwrap_err().code, "version");
    other.revoke("plant-7", "test").await.unwrap();
    assert_eq!(records.judge(peer, &hello()).unwrap_err().code, "revoked");
    assert_eq!(records.may_stay(peer).unwrap_err().code, "revoked");
    assert_eq!(records.revoke("plant-8", "test").await.unwrap_err().code(), "not_found");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_earlier_program_kept_counts_and_comes_into_the_catalog() {
    let (log, catalog) = open();
    let link = LinkV1 { link: 300, added_ms: 1, revoked: false, nodes: vec![(NodeId(7), "n".to_owned())] };
    let bytes = [1, 0xac, 2, 2, 0, 1, 7, 1, b'n'];
    assert_eq!(decode(&bytes), Some(link));
    let ticket = {
        let mut open = log.lock();
        open.put_state(TREE, b"lplant", Some(&bytes));
        // A token of it is left where it is.
        open.put_state(TREE, &[&b"t"[..], &[9; 32]].concat(), Some(&[1, 1, b'p', 2, 0]));
        open.ticket()
    };
    log.durable(ticket).await.unwrap();
    let records = Records::open(Arc::clone(&log), Arc::clone(&catalog)).unwrap();
    let peer = LinkPeer { node: NodeId(7), link: 300 };
    assert_eq!(records.judge(peer, &hello()), Ok("plant".to_owned()), "it counts before it is agreed on");
    assert_eq!((records.all().len(), catalog.links().len()), (1, 0));
    records.import().await;
    assert_eq!((records.all().len(), catalog.links().len()), (1, 1));
    assert_eq!(records.judge(peer, &hello()), Ok("plant".to_owned()));
    records.revoke("plant", "test").await.unwrap();
    // It is not brought in a second time.
    let records = Records::open(log, catalog).unwrap();
    records.import().await;
    assert_eq!(records.judge(peer, &hello()).unwrap_err().code, "revoked");
    assert_eq!(decode::<LinkV1>(&[2, 0]), None);
}

/// What an earlier program kept: the names and ids of links, each with gateway 7.
async fn keep_own(log: &EventLog, links: &[(&str, u64)]) {
    let ticket = {
        let mut open = log.lock();
        for (name, id) in links {
            let link = LinkV1 { link: *id, added_ms: 1, revoked: false, nodes: vec![(NodeId(7), "n".to_owned())] };
            open.put_state(TREE, &[b"l", name.as_bytes()].concat(), Some(&encode(&link)));
        }
        open.ticket()
    };
    log.durable(ticket).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_the_catalog_refuses_holds_up_no_other_and_can_be_removed() {
    let (log, catalog) = open();
    keep_own(&log, &[("a b", 300), ("plant", 301)]).await;
    let records = Records::open(Arc::clone(&log), Arc::clone(&catalog)).unwrap();
    records.import().await;
    let peer = |link| LinkPeer { node: NodeId(7), link };
    assert_eq!(catalog.links().len(), 1, "the one behind it came");
    assert_eq!(records.judge(peer(301), &hello()), Ok("plant".to_owned()));
    assert_eq!(records.judge(peer(300), &hello()), Ok("a b".to_owned()));
    records.revoke("a b", "test").await.unwrap();
    assert_eq!(records.judge(peer(300), &hello()).unwrap_err().code, "revoked");
    let again = Records::open(log, catalog).unwrap();
    assert_eq!(again.judge(peer(300), &hello()).unwrap_err().code, "revoked", "that is stored");
    assert_eq!(again.judge(peer(301), &hello()), Ok("plant".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_was_removed_before_it_came_into_the_catalog_comes_in_removed() {
    let (log, catalog) = open();
    keep_own(&log, &[("plant", 300), ("other", 301)]).await;
    let records = Records::open(Arc::clone(&log), Arc::clone(&catalog)).unwrap();
    records.revoke("plant", "test").await.unwrap();
    // The other one is on its way when people remove it.
    let link = records.own.lock().get("other").unwrap().clone();
    records.revoke_own("other").await.unwrap();
    records.bring("other", &link).await.unwrap();
    records.import().await;
    assert_eq!(records.own.lock().len(), 0);
    for (name, id) in [("plant", 300), ("other", 301)] {
        let (found, link) = catalog.link_of(id).unwrap();
        assert!(*found == *name && link.is_revoked && link.nodes.is_empty(), "{name}");
    }
}
