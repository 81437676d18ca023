//! What is to be done about the connections now (pure): whom to dial, whom to cut.
//!
//! Of two nodes the one with the smaller id dials. The other one only knocks, when it has heard nothing for a while: it
//! is sent away, but learns why nobody comes (another process of its own node may sit in its place), and the one that
//! it knocks at dials at once.

use std::time::Duration;

use crate::transport::NodeId;

/// The wait after a first failure.
const BACK_OFF_MIN: Duration = Duration::from_millis(200);
/// The longest wait between two attempts.
const BACK_OFF_MAX: Duration = Duration::from_secs(5);
/// Failures after which the wait does not grow.
const BACK_OFF_DOUBLINGS_MAX: u32 = 5;
/// How long a node that is to be dialled waits before it knocks.
pub(super) const KNOCK_AFTER: Duration = Duration::from_secs(10);
/// The wait between two knocks.
pub(super) const KNOCK_EVERY: Duration = Duration::from_secs(30);

/// How it stands with one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stand {
    pub(super) node: NodeId,
    /// Whether the site's list has it.
    pub(super) is_member: bool,
    pub(super) is_linked: bool,
    /// An attempt is under way.
    pub(super) is_dialling: bool,
    /// When it may be dialled again.
    pub(super) not_before: Duration,
    /// Since when it is as it is, linked or not.
    pub(super) since: Duration,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// Connect.
    Dial(NodeId),
    /// Connect, though the other one should; it ends with being sent away.
    Knock(NodeId),
    /// Cut its connection and forget it.
    Drop(NodeId),
}

/// What is to be done now, and when to look again at the latest.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Plan {
    pub(super) steps: Vec<Step>,
    pub(super) next: Option<Duration>,
}

/// Decides.
pub(super) fn plan(now: Duration, own: NodeId, stands: impl IntoIterator<Item = Stand>) -> Plan {
    let mut plan = Plan::default();
    for stand in stands {
        if !stand.is_member {
            plan.steps.push(Step::Drop(stand.node));
            continue;
        }
        if stand.is_linked || stand.is_dialling {
            continue;
        }
        let (step, at) = if own < stand.node {
            (Step::Dial(stand.node), stand.not_before)
        } else {
            (Step::Knock(stand.node), stand.not_before.max(stand.since + KNOCK_AFTER))
        };
        if at <= now {
            plan.steps.push(step);
        } else {
            plan.next = Some(plan.next.map_or(at, |next| next.min(at)));
        }
    }
    plan
}

/// How long to wait after so many failures in a row; `random` spreads it over the upper half.
pub(super) fn back_off(failures: u32, random: u64) -> Duration {
    let doublings = failures.saturating_sub(1).min(BACK_OFF_DOUBLINGS_MAX);
    let step = (BACK_OFF_MIN * 2_u32.pow(doublings)).min(BACK_OFF_MAX);
    let parts = u32::try_from(random % 1_001).unwrap_or_default();
    (step / 2 + step / 2 * parts / 1_000).max(BACK_OFF_MIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    fn stand(node: u64) -> Stand {
        Stand {
            node: NodeId(node),
            is_member: true,
            is_linked: false,
            is_dialling: false,
            not_before: ms(0),
            since: ms(0),
        }
    }

    #[test]
    fn each_stand_has_its_step() {
        let (dial, knock) = (|node| Some(Step::Dial(NodeId(node))), |node| Some(Step::Knock(NodeId(node))));
        let now = 20_000;
        // (what, stand as seen by node 5 at 20 s, step, when to look again)
        let cases = [
            ("a larger one is dialled", stand(6), dial(6), None),
            ("not while it is linked", Stand { is_linked: true, ..stand(6) }, None, None),
            ("not while it is dialled", Stand { is_dialling: true, ..stand(6) }, None, None),
            ("not before its time", Stand { not_before: ms(20_200), ..stand(6) }, None, Some(20_200)),
            ("at its time", Stand { not_before: ms(20_000), ..stand(6) }, dial(6), None),
            ("a smaller one is waited for", Stand { since: ms(15_000), ..stand(4) }, None, Some(25_000)),
            ("and knocked at in the end", Stand { since: ms(10_000), ..stand(4) }, knock(4), None),
            ("not too often", Stand { not_before: ms(40_000), ..stand(4) }, None, Some(40_000)),
            ("not while it is linked", Stand { is_linked: true, ..stand(4) }, None, None),
            ("one that was removed is cut", Stand { is_member: false, is_linked: true, ..stand(4) }, drop_of(4), None),
            ("while it is dialled too", Stand { is_member: false, is_dialling: true, ..stand(6) }, drop_of(6), None),
        ];
        for (what, stand, step, next) in cases {
            let expected = Plan { steps: step.into_iter().collect(), next: next.map(ms) };
            assert_eq!(plan(ms(now), NodeId(5), [stand]), expected, "{what}");
        }
    }

    fn drop_of(node: u64) -> Option<Step> {
        Some(Step::Drop(NodeId(node)))
    }

    #[test]
    fn the_soonest_of_all_is_the_next() {
        let later = |node, at| Stand { not_before: ms(at), ..stand(node) };
        let plan = plan(ms(10), NodeId(1), [later(2, 300), later(3, 200), later(4, 5), later(5, 400)]);
        assert_eq!(plan, Plan { steps: vec![Step::Dial(NodeId(4))], next: Some(ms(200)) });
    }

    #[test]
    fn waits_grow_from_a_fifth_of_a_second_to_five() {
        for (failures, low, high) in [
            (1, 200, 200),
            (2, 200, 400),
            (3, 400, 800),
            (4, 800, 1_600),
            (5, 1_600, 3_200),
            (6, 2_500, 5_000),
            (99, 2_500, 5_000),
        ] {
            for random in 0..2_002 {
                let wait = back_off(failures, random);
                assert!(wait >= ms(low) && wait <= ms(high), "{failures}: {wait:?}");
            }
            assert!(back_off(failures, 0) <= back_off(failures, 1_000));
        }
    }
}
