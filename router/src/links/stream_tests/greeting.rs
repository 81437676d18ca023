//! Who may take a gateway's place upstream: one who was greeted. And whose certificate is renewed: not that of one who shows an older one.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::forged::BOUNDS;
use super::lab::{LONG, Site, until};
use super::link;
use crate::event_log::AUDIT_TOPIC;
use crate::links::connected::Connected;
use crate::links::newest::Newest;
use crate::links::upstream::Close;
use crate::links::wire::Said;
use crate::links::{State, folder};
use crate::transport::{Bounds, Ended, LinkPeer, NodeId, NodeKey, Way, dial_link};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_is_not_greeted_takes_nobodys_place() {
    let (plant, hq) = (Site::new(1).await, Site::new(2).await);
    plant.feed(&hq, "plant", vec![link(&["*"], &[])]).await;
    until("the link stands", || hq.upstream().views()[0].state == State::Connected).await;
    let (identity, _) = folder::read(&folder::folder(&plant.data(), "up")).unwrap();
    // It is looked at, and asks for a certificate without a greeting.
    let other = dial_link(hq.address(), &identity, BOUNDS, None, Way::Quic).await.unwrap();
    let (mut out, _from) = other.open().await.unwrap();
    out.send_frame(&Said::Renew(NodeKey::draw().unwrap().public().to_vec()).encode()).await.unwrap();
    match tokio::time::timeout(LONG, other.ended()).await.unwrap() {
        Ended::Closed { code, text } => assert_eq!(code, Close::Garbage as u32, "{text}"),
        ended => panic!("{ended:?}"),
    }
    plant.append(&["telemetry"], "1").await;
    hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
    assert_eq!((plant.edge().views()[0].connections, hq.upstream().views()[0].connections), (1, 1));
    assert_eq!(hq.upstream().gateways("plant").unwrap().2.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_nothing_keeps_no_other_plant_out() {
    let (silent, plant, hq) = (Site::new(1).await, Site::new(3).await, Site::new(2).await);
    silent.feed(&hq, "silent", vec![link(&["*"], &[])]).await;
    silent.stop_edge().await;
    let (identity, _) = folder::read(&folder::folder(&silent.data(), "up")).unwrap();
    let bounds = Bounds { ping_after: Some(Duration::from_secs(1)), ..BOUNDS };
    let (tell, mut ended) = tokio::sync::mpsc::unbounded_channel();
    // More than there are places, some of them by TCP.
    for n in 0..20 {
        let way = if n % 4 == 3 { Way::Tcp } else { Way::Quic };
        let connection = dial_link(hq.address(), &identity, bounds, None, way).await.unwrap();
        let tell = tell.clone();
        tokio::spawn(async move { tell.send(connection.ended().await) });
    }
    // All but two make room.
    for _ in 0..18 {
        match tokio::time::timeout(LONG, ended.recv()).await.unwrap().unwrap() {
            Ended::Closed { code, text } => assert_eq!(code, Close::Busy as u32, "{text}"),
            ended => panic!("{ended:?}"),
        }
    }
    assert!(ended.try_recv().is_err(), "two may stay until they greet");
    plant.feed(&hq, "plant", vec![link(&["*"], &[])]).await;
    plant.append(&["telemetry"], "1").await;
    hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_is_in_when_its_certificate_was_judged() {
    let (plant, hq) = (Site::new(1).await, Site::new(2).await);
    plant.feed(&hq, "plant", vec![link(&["*"], &[])]).await;
    let (identity, _) = folder::read(&folder::folder(&plant.data(), "up")).unwrap();
    let connection = dial_link(hq.address(), &identity, BOUNDS, None, Way::Quic).await.unwrap();
    let all: Arc<Connected> = Arc::default();
    let entry = all.entry(identity.peer(), &connection);
    let is_judged = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let second = || {
            assert!(!entry.enter(|| panic!("it is judged twice")));
            assert!(is_judged.load(Ordering::SeqCst) && entry.is_in(), "another stream waits for it");
        };
        let judge = || {
            assert!(!entry.is_in() && all.nodes().is_empty(), "nothing is given before it is judged");
            scope.spawn(second);
            // Whoever goes by without waiting does so within that.
            std::thread::sleep(Duration::from_millis(50));
            is_judged.store(true, Ordering::SeqCst);
        };
        assert!(entry.enter(judge));
    });
    assert!(entry.is_in() && all.nodes() == [identity.peer().node]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_certificate_than_was_shown_is_told_over_a_restart_too() {
    let hq = Site::new(2).await;
    let peer = |node| LinkPeer { node: NodeId(node), link: 9 };
    let newest = Newest::open(hq.log.clone());
    // (the gateway, until when what it shows is good, whether it has shown nothing newer)
    let cases =
        [(1, Some(50), true), (1, Some(50), true), (2, Some(40), true), (1, Some(90), true), (1, Some(50), false)];
    for (node, until_s, is_newest) in cases {
        assert_eq!(newest.shown(peer(node), "plant", until_s), is_newest, "{node} {until_s:?}");
    }
    hq.append(&["sync"], "all before is stored").await;
    let newest = Newest::open(hq.log.clone());
    assert!(!newest.shown(peer(1), "plant", Some(89)));
    assert!(newest.shown(peer(1), "plant", None), "for ever is newer than any");
    assert!(!newest.shown(peer(1), "plant", Some(90)));
    assert!(newest.shown(peer(2), "plant", Some(41)));
    // Who goes on coming with it is told once.
    for _ in 0..9 {
        assert!(!newest.shown(peer(1), "plant", Some(90)));
    }
    hq.append(&["sync"], "the audit as well").await;
    let told = || hq.values(AUDIT_TOPIC).iter().filter(|line| line.contains("link.certificate")).count();
    tokio::time::timeout(Duration::from_secs(20), async { until("it is told", || told() == 3).await }).await.unwrap();
}
