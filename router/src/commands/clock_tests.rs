//! A lost node's wall clock is ahead or behind, or this node's is set when it is gone: what it has left is told apart from what it queues
//! while it lives.

use devices::command::{Queued, Step, StepEvent};
use sled_data::CommitNumber;

use super::site_tests::{B, C, Site};
use super::tests::until;
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_arrives_late_is_told_apart_by_the_clock_of_the_lost_node() {
    const HOUR_MS: i64 = 3_600_000;
    const DAY_MS: i64 = 24 * HOUR_MS;
    for (ahead_ms, step_ms) in [(-HOUR_MS, 0), (HOUR_MS, 0), (0, -DAY_MS), (0, DAY_MS)] {
        let site = Site::of_three().await;
        let origin = site[B].log.origin();
        let lost = Lost { origin, term: 1, from_commit: CommitNumber(0), ahead_ms };
        let queue = |number: u8| {
            let at_ms = site[B].room.now().wall.saturating_add_signed(ahead_ms);
            let queued = Queued::new("c", vec![1], at_ms + 24 * 3_600_000, "cli");
            let id = CommandId::v7(at_ms, [number; 10]);
            let step = StepEvent::new(id, at_ms, 1, Step::Queued(Box::new(queued)));
            let mut open = site[B].log.lock();
            super::move_on::append_step(&mut open, &site[B].room.commands, "pump", &step).unwrap();
            drop(open);
            id
        };
        site.ship().await;
        site[C].log.clock().step(step_ms);
        // The first is queued before it is decided, the second later; neither has arrived.
        let first = queue(1);
        // A clock that runs from a start may be a millisecond or two behind one that does not.
        let queued_ms = site[B].room.now().wall;
        until("it is later by both", || (site[C].room.now().steady > queued_ms).then_some(())).await;
        assert_eq!(site[C].room.take_up(lost).unwrap(), 0);
        let decided_ms = site[B].room.now().wall;
        until("time has passed", || (site[B].room.now().wall > decided_ms).then_some(())).await;
        let second = queue(2);
        site.until("the first is taken up", || {
            site[C].room.take_up(lost).unwrap();
            (site[C].steps(first) == ["queued"]).then_some(())
        })
        .await;
        site.ship().await;
        assert_eq!(site[C].room.take_up(lost).unwrap(), 0);
        assert!(site[C].steps(second).is_empty(), "{ahead_ms} {step_ms}: it is of a node that lives");
        site.end().await;
    }
}
