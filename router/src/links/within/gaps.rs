//! A gap is for good at the node that it goes to: before one goes, the others are asked whether one of them has what is missing here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sled_data::{HoleWhy, LinkedPart, Offset, PartitionId};
use tokio::time::Instant;

use super::NoAnswer;
use super::ends::{Asks, Held, WHOLE_MAX};
use super::level::ask_each;
use super::sender::{Hold, Sender};
use crate::links::lanes::Round;
use crate::links::stand;
use crate::transport::NodeId;

/// How long a partition is held back for a third node to send it: longer than until that one sees the other stand still behind, and less than a
/// quorum is waited for.
const FILLED_WITHIN: Duration = if cfg!(test) { Duration::from_secs(2) } else { Duration::from_secs(25) };
/// How long a partition is held back at a time while a third node does not say what it has: it may be starting, or busy.
const UNHEARD_WAIT: Duration = if cfg!(test) { Duration::from_millis(300) } else { Duration::from_secs(3) };
/// How long a node may give no answer until gaps go without it; one that is away is waited for as long, see `away`.
const UNHEARD_MAX: Duration = if cfg!(test) { Duration::from_secs(4) } else { Duration::from_secs(15) };
/// How long it is not asked then.
const MUTE_FOR: Duration = Duration::from_secs(60);

/// What never came of each partition: ranges, in order.
type Ranges = BTreeMap<PartitionId, Vec<(Offset, Offset)>>;

/// What was asked about gaps.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    /// Up to where gaps of each partition were asked for: each is held back once, lest two nodes wait for each other.
    asked: BTreeMap<PartitionId, Offset>,
    /// Since when a node has given no answer.
    unheard: BTreeMap<NodeId, Instant>,
}

/// What the third nodes say of gaps.
#[derive(Debug, Default)]
struct Told {
    /// Partitions of which one of them has something that lies in a gap here.
    filled: BTreeSet<PartitionId>,
    /// One of them has not said anything, and may soon.
    is_open: bool,
}

impl Gaps {
    /// Gaps that were not asked for yet. What was too old at its edge is with nobody.
    fn new_of(&self, parts: &[LinkedPart]) -> Ranges {
        let mut new = Ranges::new();
        for part in parts {
            let LinkedPart::Hole(id, hole) = part else { continue };
            let is_new = self.asked.get(id).is_none_or(|to| *to < hole.to);
            if is_new && hole.why != HoleWhy::Deadline {
                new.entry(*id).or_default().push((hole.from, hole.to));
            }
        }
        new
    }

    fn note_asked<'a>(&mut self, gaps: impl Iterator<Item = (&'a PartitionId, &'a Vec<(Offset, Offset)>)>) {
        self.asked.extend(gaps.filter_map(|(id, ranges)| Some((*id, ranges.last()?.1))));
    }

    /// Forgets partitions that are not here any more, and that a node was mute long ago.
    pub(super) fn keep(&mut self, here: &BTreeSet<PartitionId>) {
        self.asked.retain(|id, _| here.contains(id));
        self.unheard.retain(|_, since| since.elapsed() < UNHEARD_MAX + MUTE_FOR);
    }

    /// Whether a node has given no answer for so long that it is not asked.
    fn is_mute(&self, node: NodeId) -> bool {
        self.unheard.get(&node).is_some_and(|since| since.elapsed() >= UNHEARD_MAX)
    }

    /// Notes whether a node has answered; whether what it has is open still.
    fn note_heard(&mut self, node: NodeId, has_answered: bool) -> bool {
        if has_answered {
            self.unheard.remove(&node);
            return false;
        }
        self.unheard.entry(node).or_insert_with(Instant::now);
        !self.is_mute(node)
    }
}

/// Whether a node keeps some of a range, of the same partition as it is here (pure).
fn has_some(held: &Held, from: Offset, to: Offset) -> bool {
    let (mut next, to) = (from.max(held.start), to.min(held.end));
    for (hole_from, hole_to) in &held.holes {
        if *hole_from <= next && next < *hole_to {
            next = *hole_to;
        }
    }
    !held.is_other && next < to
}

impl Sender {
    /// Holds a round back that has gaps which a third node can fill, or may, as it has not said anything; whether it does. That one sends what it
    /// has when it sees the other node stand still behind, and then the partition goes on from where it ends there.
    pub(super) async fn holds_back(&self, round: &Round) -> bool {
        let gaps = self.gaps.lock().new_of(&round.parts);
        if gaps.is_empty() {
            return false;
        }
        let Told { filled, is_open } = self.ask_third(&gaps).await;
        // Those that nobody has said to fill are asked for again where one has said nothing.
        self.gaps.lock().note_asked(gaps.iter().filter(|(id, _)| !is_open || filled.contains(id)));
        if filled.is_empty() && !is_open {
            return false;
        }
        tracing::info!(to = %self.to, partitions = filled.len(), is_open, "another node has what is missing here, or may have: it is to send it");
        let now = Instant::now();
        let (mut open, mut lanes) = (self.open.lock(), self.lanes.lock());
        // The rest of the round is read again, from where it ends there.
        for id in round.ends.keys() {
            lanes.remove(*id);
            match (filled.contains(id), is_open && gaps.contains_key(id)) {
                (true, _) => open.hold(*id, Hold::Until(now + FILLED_WITHIN)),
                (false, true) => open.hold(*id, Hold::Until(now + UNHEARD_WAIT)),
                (false, false) => drop(open.asked.remove(id)),
            }
        }
        true
    }

    /// What the third nodes that stay say of gaps.
    async fn ask_third(&self, gaps: &Ranges) -> Told {
        let mut told = Told::default();
        let Some(nodes) = self.within.nodes.get() else { return told };
        let (staying, connected) = (nodes.staying(), nodes.connected());
        let away = self.within.away.lock().look(&staying, &connected, Instant::now());
        told.is_open = away.iter().any(|node| *node != self.to);
        let is_third = |node: &NodeId| *node != self.to && staying.contains(node);
        let all: Vec<_> = gaps.keys().copied().collect();
        for ids in all.chunks(WHOLE_MAX) {
            let asked: Vec<_> =
                connected.iter().copied().filter(|node| is_third(node) && !self.gaps.lock().is_mute(*node)).collect();
            if asked.is_empty() {
                return told;
            }
            let (log, of) = (Arc::clone(&self.within.log), ids.to_vec());
            let stands = move || of.into_iter().map(|id| stand(log.store(), id)).collect();
            let Ok(stands) = tokio::task::spawn_blocking(stands).await else { return told };
            for (node, answer) in ask_each(nodes, asked, &Asks::Whole(stands), ids).await {
                // One whose program is older never answers.
                let is_heard = !matches!(answer, Err(NoAnswer::Failed(_)));
                told.is_open |= self.gaps.lock().note_heard(node, is_heard);
                let fills = |(id, held): &(&PartitionId, Held)| {
                    gaps.get(id).is_some_and(|ranges| ranges.iter().any(|(from, to)| has_some(held, *from, *to)))
                };
                told.filled.extend(ids.iter().zip(answer.unwrap_or_default()).filter(fills).map(|(id, _)| *id));
            }
        }
        told
    }
}

#[cfg(test)]
mod tests {
    use sled_data::{Hole, OriginId, TopicId};

    use super::*;

    #[test]
    fn all_gaps_of_a_round_are_asked_for_until_each_was() {
        let id = |index| PartitionId { origin: OriginId(1), topic: TopicId(1), index };
        let hole = |index, from, to, why| LinkedPart::Hole(id(index), Hole { from, to, why, at_ms: 0 });
        let (old, late) = (HoleWhy::Retention, HoleWhy::Deadline);
        let mut parts =
            vec![hole(0, 1, 3, old), hole(0, 3, 5, HoleWhy::Damage), hole(0, 5, 6, late), hole(0, 8, 9, old)];
        parts.extend((1..=2 * WHOLE_MAX as u32).map(|index| hole(index, 0, 4, old)));
        parts.push(hole(999, 0, 4, late));
        let mut gaps = Gaps::default();
        let new = gaps.new_of(&parts);
        assert_eq!(new.len(), 1 + 2 * WHOLE_MAX);
        assert_eq!(new[&id(0)], [(1, 3), (3, 5), (8, 9)]);
        gaps.note_asked(new.iter().filter(|(of, _)| of.index < 2));
        let again = gaps.new_of(&parts);
        assert_eq!((again.len(), again.contains_key(&id(1))), (2 * WHOLE_MAX - 1, false));
        assert_eq!(gaps.new_of(&[hole(0, 9, 12, old)])[&id(0)], [(9, 12)]);
    }

    #[test]
    fn a_third_node_fills_a_gap_of_which_it_keeps_something() {
        let held = |start, end, holes: &[(Offset, Offset)]| Held { start, end, holes: holes.to_vec(), is_other: false };
        let cases = [
            ("all of it", held(0, 9, &[]), true),
            ("nothing", Held::default(), false),
            ("the same gap", held(0, 9, &[(2, 6)]), false),
            ("a larger one", held(0, 9, &[(1, 7)]), false),
            ("one event of it", held(0, 9, &[(1, 5)]), true),
            ("the first event of it", held(0, 3, &[]), true),
            ("it ends before", held(0, 2, &[]), false),
            ("it begins behind", held(6, 9, &[]), false),
            ("it begins within", held(5, 9, &[]), true),
            ("something else", Held { is_other: true, ..held(0, 9, &[]) }, false),
        ];
        for (case, held, expected) in cases {
            assert_eq!(has_some(&held, 2, 6), expected, "{case}");
        }
    }
}
