//! Whose clock is far from those of the others, and what that means for retention by age (pure).

use std::time::Duration;

use crate::transport::NodeId;

/// Clocks that are further apart are told of, in milliseconds.
pub(super) const APART_MS_MAX: i64 = 5 * 60_000;
/// A clock that stands before this was not set, and says nothing of others: 2024, in milliseconds since 1970.
const SET_MS: i64 = 1_704_067_200_000;
/// How long after its start a node of a site takes nothing away by age while it has heard no other clock.
const HEAR_WAIT: Duration = Duration::from_secs(3_600);

/// The clock of another node that was heard in this run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct OtherClock {
    pub(super) node: NodeId,
    /// What its wall clock shows now, as far as it was not set since it was heard, in milliseconds since 1970.
    pub(super) wall_ms: i64,
}

/// A clock that is far from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Apart {
    /// This node's is so much ahead of all others, which agree, in milliseconds; behind them where that is negative.
    Own(i64),
    /// Another node's is so much ahead of this one's.
    Other(NodeId, i64),
}

/// Whose clock is far from others.
pub(super) fn apart(own_ms: i64, others: &[OtherClock]) -> Vec<Apart> {
    let far: Vec<Apart> = others
        .iter()
        .map(|other| Apart::Other(other.node, other.wall_ms.saturating_sub(own_ms)))
        .filter(|apart| matches!(apart, Apart::Other(_, ahead_ms) if ahead_ms.abs() > APART_MS_MAX))
        .collect();
    let (first, last) =
        (others.iter().map(|other| other.wall_ms).min(), others.iter().map(|other| other.wall_ms).max());
    match (first, last) {
        (Some(first), Some(last))
            if others.len() > 1 && far.len() == others.len() && last.saturating_sub(first) <= APART_MS_MAX =>
        {
            vec![Apart::Own(own_ms.saturating_sub(last))]
        }
        _ => far,
    }
}

/// By which moment retention judges age, where this node's own clock is not to be trusted with it: one that is far ahead of all others would take
/// away everything at once. `running`: since when the node runs; `is_alone`: its site has no other node.
pub(super) fn judged_by_ms(own_ms: i64, others: &[OtherClock], running: Duration, is_alone: bool) -> Option<i64> {
    let latest = others.iter().map(|other| other.wall_ms).filter(|wall_ms| *wall_ms >= SET_MS).max();
    match latest {
        Some(latest) => (own_ms.saturating_sub(latest) > APART_MS_MAX).then_some(latest),
        // Before anything was written: nothing is old.
        None => (!is_alone && running < HEAR_WAIT).then_some(0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_MS: i64 = SET_MS + 1_000_000_000;
    const DAY_MS: i64 = 24 * 3_600_000;

    fn others(ahead_ms: &[i64]) -> Vec<OtherClock> {
        let other = |(node, ahead_ms): (u64, &i64)| OtherClock { node: NodeId(node), wall_ms: NOW_MS + ahead_ms };
        (2..).zip(ahead_ms).map(other).collect()
    }

    #[test]
    fn who_is_far_from_the_others_is_told() {
        let other = |node, ahead_ms| Apart::Other(NodeId(node), ahead_ms);
        // By how much the clocks of nodes 2, 3 ... are ahead of this one's, and what is told.
        let cases: [(&[i64], Vec<Apart>); 8] = [
            (&[], vec![]),
            (&[APART_MS_MAX, -APART_MS_MAX], vec![]),
            (&[APART_MS_MAX + 1], vec![other(2, APART_MS_MAX + 1)]),
            (&[0, DAY_MS], vec![other(3, DAY_MS)]),
            (&[-DAY_MS, 10 - DAY_MS], vec![Apart::Own(DAY_MS - 10)]),
            (&[DAY_MS, DAY_MS], vec![Apart::Own(-DAY_MS)]),
            (&[DAY_MS, -DAY_MS], vec![other(2, DAY_MS), other(3, -DAY_MS)]),
            (&[-DAY_MS, -DAY_MS, 0], vec![other(2, -DAY_MS), other(3, -DAY_MS)]),
        ];
        for (ahead_ms, told) in cases {
            assert_eq!(apart(NOW_MS, &others(ahead_ms)), told, "{ahead_ms:?}");
        }
    }

    #[test]
    fn a_clock_that_is_far_ahead_of_all_others_judges_no_age() {
        let day = Duration::from_secs(86_400);
        for (what, ahead_ms, running, is_alone, expected) in [
            ("it is ahead of all", &[-400 * DAY_MS / 100, -DAY_MS][..], day, false, Some(NOW_MS - DAY_MS)),
            ("one other agrees", &[-DAY_MS, 0], day, false, None),
            ("it is behind, and keeps more", &[DAY_MS], day, false, None),
            ("the other one has no clock", &[-NOW_MS], day, false, None),
            ("nobody was heard yet", &[], Duration::from_secs(5), false, Some(0)),
            ("nobody is heard for long", &[], day, false, None),
            ("there is nobody", &[], Duration::from_secs(5), true, None),
        ] {
            assert_eq!(judged_by_ms(NOW_MS, &others(ahead_ms), running, is_alone), expected, "{what}");
        }
    }
}
