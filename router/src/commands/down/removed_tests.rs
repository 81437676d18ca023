//! A site whose link is removed, and whose name another gateway gets: what its gateway had.

#![allow(clippy::unwrap_used)]

use devices::command::{State, Status};
use sled_data::OriginId;

use super::super::tests::{next_offer, until};
use super::tests::{GATEWAY, LINK, Pair, steps_are};
use super::wire::decode;

/// The gateway that comes by the site's name after the link was removed.
const AGAIN: OriginId = OriginId(78);

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
