//! Which of the site's nodes are connected and give no answer, and for how long they are waited for (pure).

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::transport::NodeId;

/// How long a node that is connected may give no answer until the others go on without it. It may have what an edge has let go of, so that
/// is longer than a busy disk takes; and all links stand still meanwhile.
pub const MUTE_MAX: Duration = if cfg!(test) { Duration::from_secs(4) } else { Duration::from_secs(60) };
/// Questions in a row that it left unanswered by then, at least.
const UNANSWERED_MIN: u32 = 6;
/// How long after a question that was left unanswered the next one counts as one of the same row.
const ROW_MAX: Duration = Duration::from_secs(120);
/// How often one that is not waited for is asked still: each question takes time.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// Since when each one is mute.
#[derive(Debug, Default)]
pub struct Mute(BTreeMap<NodeId, Row>);

/// Questions in a row that a node left unanswered.
#[derive(Debug, Clone, Copy)]
struct Row {
    first: Instant,
    last: Instant,
    unanswered: u32,
    is_told: bool,
}

impl Row {
    fn is_given_up(&self) -> bool {
        self.unanswered >= UNANSWERED_MIN && self.last.duration_since(self.first) >= MUTE_MAX
    }
}

impl Mute {
    /// Of those who are connected, whom to ask.
    pub fn ask(&mut self, connected: &[NodeId], now: Instant) -> Vec<NodeId> {
        // One that comes again is as any other.
        self.0.retain(|node, row| connected.contains(node) && now.duration_since(row.last) < ROW_MAX);
        let is_due = |node: &NodeId| {
            self.0.get(node).is_none_or(|row| !row.is_given_up() || now.duration_since(row.last) >= ASK_EVERY)
        };
        connected.iter().copied().filter(is_due).collect()
    }

    /// Whether a node is not waited for until it answers.
    pub fn is_given_up(&self, node: NodeId) -> bool {
        self.0.get(&node).is_some_and(Row::is_given_up)
    }

    /// A node has answered.
    pub fn answered(&mut self, node: NodeId) {
        self.0.remove(&node);
    }

    /// A node gave no answer; whether it is given up with this one.
    pub fn unanswered(&mut self, node: NodeId, now: Instant) -> bool {
        let row = self.0.entry(node).or_insert(Row { first: now, last: now, unanswered: 0, is_told: false });
        row.unanswered = row.unanswered.saturating_add(1);
        row.last = now;
        let is_new = row.is_given_up() && !row.is_told;
        row.is_told |= is_new;
        is_new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_is_given_up_that_was_asked_often_and_for_long_and_has_not_answered() {
        let (a, b, began) = (NodeId(1), NodeId(2), Instant::now());
        let at = |parts: f64| began + MUTE_MAX.mul_f64(parts);
        let mut mute = Mute::default();
        for n in 0..=9 {
            assert_eq!(mute.ask(&[a, b], at(f64::from(n) / 10.0)), [a, b], "{n}");
            assert!(!mute.unanswered(a, at(f64::from(n) / 10.0)) && !mute.is_given_up(a), "{n}");
        }
        assert!(mute.unanswered(a, at(1.0)), "it is told once");
        assert!(!mute.unanswered(a, at(1.1)));
        assert!(mute.is_given_up(a) && !mute.is_given_up(b));
        // It is asked now and then.
        assert_eq!(mute.ask(&[a, b], at(1.1)), [b]);
        assert_eq!(mute.ask(&[a, b], at(1.1) + ASK_EVERY), [a, b]);
        mute.answered(a);
        assert!(!mute.is_given_up(a) && mute.ask(&[a], at(1.2)) == [a]);
        // Few questions are no row, nor are those that are far apart, nor is one that was lost meanwhile.
        assert!(!mute.unanswered(a, at(2.0)) && !mute.unanswered(a, at(4.0)));
        assert_eq!(mute.ask(&[b], at(4.0)), [b]);
        for n in 0..20 {
            let now = at(5.0) + (ROW_MAX + Duration::from_secs(1)) * n;
            assert_eq!((mute.ask(&[a], now), mute.unanswered(a, now)), (vec![a], false), "{n}");
        }
    }
}
