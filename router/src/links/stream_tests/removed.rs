//! A link's end is removed at the edge, whatever state it is in.

use std::collections::BTreeMap;

use super::lab::{Site, until};
use super::link;
use crate::links::book::State;
use crate::links::config::LinkConfig;
use crate::links::edge::PauseError;
use crate::links::folder::{self, FACTS_FILE, folder};
use crate::links::forget::place;
use crate::links::topics::link_of;

/// What is noted by the local name of a link whose upstream is another one than before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_noted_of_a_removed_link_is_not_taken_for_another_ones() {
    let (mut plant, mut hq, other) = (Site::new(1).await, Site::new(2).await, Site::new(3).await);
    plant.feed(&hq, "plant", vec![link(&["telemetry"], &[])]).await;
    plant.append_to("telemetry", 0, "1").await;
    hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
    let (store, origin) = (plant.log.store(), plant.log.origin());
    let id = plant.log.topic("telemetry").unwrap().partition(0).unwrap().id();
    until("it is known to be stored", || plant.edge().views()[0].lag.events == 0).await;
    hq.cut().await;
    until("it is noted", || store.cursor("link:up", id).unwrap() == Some(1)).await;
    plant.stop_edge().await;
    // As an earlier program noted it.
    store.note_apart(origin, "up", 1).unwrap();
    let of = |plant: &Site| place(link_of(&folder::read(&folder(&plant.data(), "up")).unwrap().0));
    let hqs = of(&plant);
    // Nobody answers there.
    let silent = || vec![LinkConfig { address: "127.0.0.1:9".to_owned(), ..link(&["telemetry"], &[]) }];
    plant.feed_again(silent());
    let store = plant.log.store();
    assert!(store.is_apart(origin, &hqs) && store.is_apart(origin, "up"), "earlier programs find it as well");
    assert_eq!((plant.edge().views()[0].lag.events, plant.edge().floors()), (0, BTreeMap::new()));
    let entry = [&b"up\0"[..], &id.to_bytes()].concat();
    let ticket = {
        let mut open = plant.log.lock();
        open.put_state("link_ahead", &entry, Some(b"\x01"));
        open.ticket()
    };
    plant.log.durable(ticket).await.unwrap();
    assert!(plant.edge().remove("up").await.unwrap());
    let kept = |plant: &Site| {
        let cursors = plant.log.store().cursors("link:up").unwrap().len();
        (cursors, plant.log.state_get("link_ahead", &entry).unwrap())
    };
    assert_eq!(kept(&plant), (0, None));
    assert!(!plant.log.store().is_apart(origin, "up"), "the name may be another link's");
    plant.accept(&other, "plant").await;
    assert_eq!(plant.edge().views()[0].lag.events, 1, "nothing is there before it has said so");
    assert_eq!(plant.edge().floors(), BTreeMap::from([(id, 0)]));
    assert!(!plant.log.store().is_apart(origin, &of(&plant)));
    assert!(plant.log.store().is_apart(origin, &hqs), "of the first one it is known still");
    // A crash came between the folder and the store.
    let ticket = {
        let mut open = plant.log.lock();
        open.move_cursor("link:up", id, 1);
        open.put_state("link_ahead", &entry, Some(b"\x01"));
        open.ticket()
    };
    plant.log.durable(ticket).await.unwrap();
    plant.stop_edge().await;
    std::fs::remove_dir_all(folder(&plant.data(), "up")).unwrap();
    plant.feed_again(silent());
    plant.append(&["others"], "all before is stored").await;
    assert_eq!(kept(&plant), (0, None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_does_not_start_can_be_removed_and_accepted_anew() {
    let (mut plant, hq) = (Site::new(1).await, Site::new(2).await);
    plant.feed(&hq, "plant", vec![link(&["*"], &[])]).await;
    plant.append(&["telemetry"], "before").await;
    hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
    plant.stop_edge().await;
    // A crash came in the midst of a removal, or the disk has lost it.
    std::fs::remove_file(folder(&plant.data(), "up").join(FACTS_FILE)).unwrap();
    plant.feed_again(vec![link(&["*"], &[])]);
    assert_eq!(plant.edge().views()[0].state, State::Broken);
    let token = hq.invite("plant").await;
    let there = plant.edge().accept(&token, "up").await.unwrap_err().to_string();
    assert!(there.contains("already"), "{there}");
    assert!(plant.edge().remove("up").await.unwrap(), "it is a link, though it does not run");
    assert!(!plant.edge().remove("up").await.unwrap());
    assert_eq!(plant.edge().accept(&token, "up").await.unwrap(), "plant");
    plant.append(&["telemetry"], "after").await;
    hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_does_not_start_is_shown_holds_what_waits_and_goes_on_when_it_is_mended() {
    let (mut plant, hq) = (Site::new(1).await, Site::new(2).await);
    let links = || vec![link(&["*"], &[]), LinkConfig { name: "other".to_owned(), ..link(&["*"], &[]) }];
    plant.feed(&hq, "plant", links()).await;
    plant.append(&["telemetry"], "before").await;
    hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
    plant.stop_edge().await;
    let certificate = folder(&plant.data(), "up").join("node.crt");
    let whole = std::fs::read(&certificate).unwrap();
    for is_gone in [false, true] {
        match is_gone {
            true => std::fs::remove_file(&certificate).unwrap(),
            false => std::fs::write(&certificate, "none").unwrap(),
        }
        plant.feed_again(links());
        plant.append(&["telemetry"], &format!("meanwhile {is_gone}")).await;
        let views = plant.edge().views();
        let [up, other] = views.as_slice() else { panic!("{views:?}") };
        assert_eq!((up.name.as_str(), up.state), ("up", State::Broken));
        for said in ["it does not start: ", "links/up", "`edgeway link resume up`", "`edgeway link remove up`"] {
            assert!(up.reason.contains(said), "{}", up.reason);
        }
        assert!(up.lag.events > 0 && !plant.edge().floors().is_empty(), "{up:?}");
        assert_eq!((other.name.as_str(), other.state), ("other", State::NotAccepted));
        assert!(other.reason.contains("`edgeway link accept TOKEN --name other`"), "{}", other.reason);
        assert!(matches!(plant.edge().pause("other", true), Err(PauseError::NotAccepted(_))));
        // It is tried again when people ask for it, and says why it does not go on.
        plant.edge().pause("up", true).unwrap();
        let error = plant.edge().pause("up", false).unwrap_err();
        assert!(matches!(&error, PauseError::Broken { why, .. } if *why == up.reason), "{error}");
        plant.edge().pause("up", true).unwrap();
        plant.stop_edge().await;
    }
    plant.feed_again(links());
    std::fs::write(&certificate, whole).unwrap();
    plant.edge().pause("up", false).unwrap();
    hq.until_fed_by(&plant, &[("telemetry", "plant/telemetry")]).await;
    assert_eq!(plant.edge().views()[0].state, State::Connected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_nodes_of_the_site_keep_nothing_of_it() {
    let (plant, other, hq) = (Site::node(1, 1).await, Site::node(4, 1).await, Site::new(2).await);
    plant.feed(&hq, "plant", vec![link(&["telemetry"], &[])]).await;
    plant.append_to("telemetry", 0, "1").await;
    let id = plant.log.topic("telemetry").unwrap().partition(0).unwrap().id();
    let (origin, store) = (plant.log.store().origin(), other.log.store());
    until("it is noted", || plant.log.store().cursor("link:up", id).unwrap() == Some(1)).await;
    let ticket = {
        let mut open = plant.log.lock();
        open.move_cursor("plugin:mean", id, 1);
        open.ticket()
    };
    plant.log.durable(ticket).await.unwrap();
    other.follow(&plant).await;
    assert_eq!(store.readers_of(origin).unwrap(), ["link:up", "plugin:mean"]);
    assert!(plant.edge().remove("up").await.unwrap());
    other.follow(&plant).await;
    assert_eq!(store.cursors_of(origin, "link:up").unwrap(), [(id, 1)], "commits do not tell of it");
    other.upstream().forget_one().unwrap();
    assert_eq!(store.readers_of(origin).unwrap(), ["plugin:mean"]);
}
