//! A site whose link is removed, and whose name another gateway gets: what waits for it, and what its gateway had.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::Ordering;

use devices::command::{CommandId, State, Status, WhyCode};
use sled_data::OriginId;

use super::super::tests::{LONG, Node, next_offer, until};
use super::tests::{GATEWAY, LINK, Pair, steps_are};
use super::wire::decode;

/// The gateway that comes by the site's name after the link was removed.
const AGAIN: OriginId = OriginId(78);

async fn is_refused(node: &Node, id: CommandId) {
    let ended = node.room.wait(id, LONG).await.unwrap();
    let why = ended.why.unwrap();
    assert_eq!((ended.state, why.code, why.by.as_str()), (State::Refused, WhyCode::LinkRefused, "link-removed"));
    steps_are(node, id, &["queued", "refused"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_for_a_site_goes_to_nobody_who_gets_its_name_next() {
    // How the node sees that the link is removed, and the site invited again.
    for seen in ["one after the other", "both at once", "both when it starts"] {
        let mut pair = Pair::new();
        let pump = pair.plant().connect("pump").await;
        pair.cut(true);
        let waiting = [pair.give(|_| {}).await, pair.give(|new| new.urgent = true).await];
        if seen == "one after the other" {
            pair.line.is_removed.store(true, Ordering::Relaxed);
            pair.hq().room.links_changed();
            for id in waiting {
                is_refused(pair.hq(), id).await;
            }
            pair.line.is_removed.store(false, Ordering::Relaxed);
        }
        *pair.line.gateways.lock() = Some(vec![AGAIN]);
        match seen {
            "both when it starts" => pair.restart_hq().await,
            _ => pair.hq().room.links_changed(),
        }
        pair.cut(false);
        pair.hq().room.gateway_came("plant", AGAIN);
        for id in waiting {
            is_refused(pair.hq(), id).await;
        }
        assert_eq!(pair.line.asked.load(Ordering::Relaxed), 0, "{seen}");
        // What is given from now on goes there.
        let id = pair.give(|_| {}).await;
        let offer = next_offer(&pump).await;
        assert_eq!(offer.terms.as_ref().map(|terms| terms.id), Some(*id.as_bytes()), "{seen}");
        steps_are(pair.hq(), id, &["queued", "moving", "moved"]).await;
        pair.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_that_the_site_has_besides_changes_nothing() {
    let mut pair = Pair::new();
    let pump = pair.plant().connect("pump").await;
    pair.cut(true);
    let id = pair.give(|_| {}).await;
    *pair.line.gateways.lock() = Some(vec![GATEWAY, AGAIN]);
    pair.restart_hq().await;
    pair.cut(false);
    let offer = next_offer(&pump).await;
    assert_eq!(offer.terms.as_ref().map(|terms| terms.id), Some(*id.as_bytes()));
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ends_is_heard_of_a_gateway_that_has_another_id_by_then_and_is_not_known_before() {
    let other = OriginId(77);
    // The link was removed and the plant invited again; or the plant took a new token alone, and its old gateway is listed still.
    for gateways in [vec![AGAIN], vec![GATEWAY, AGAIN]] {
        let pair = Pair::new();
        let pump = pair.plant().connect("pump").await;
        let id = pair.give(|_| {}).await;
        next_offer(&pump).await.acked();
        steps_are(pair.hq(), id, &["queued", "moving", "moved"]).await;
        pair.cut(true);
        pair.plant().answer(&pump, "pump", id, Status::Failed);
        until("it has ended", || pair.plant().room.has_ended_from_above(LINK).then_some(())).await;
        let (told, _) = pair.plant().room.ended_from_above(LINK, 0).await.unwrap();
        let tell = async |says| {
            let known = pair.hq().room.ended_below(says, &told).await.unwrap();
            decode::<Vec<[u8; 16]>>(&known).unwrap()
        };
        // Before it is known there that the gateway is the plant's, and of one that is not.
        for (listed, says) in [(None, AGAIN), (Some(gateways.clone()), other)] {
            *pair.line.gateways.lock() = listed;
            assert_eq!(tell(says).await, Vec::<[u8; 16]>::new(), "{says} is to say it again");
            assert!(!pair.hq().room.get(id).unwrap().state.is_outcome(), "{says}");
        }
        assert_eq!(tell(AGAIN).await, [*id.as_bytes()], "{gateways:?}");
        assert_eq!(pair.hq().room.get(id).unwrap().state, State::Failed);
        // It has ended: nobody waits for it any more, whoever says so.
        assert_eq!(tell(other).await, [*id.as_bytes()]);
        pair.end().await;
    }
}
