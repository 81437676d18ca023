//! Answers to an edge: those of topics that ask for it wait until a quorum of the site has what they tell to be stored.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use sled_data::{Offset, PartitionId};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::Within;
use crate::links::pattern::Pattern;
use crate::links::receiver::Ended;
use crate::links::wire::Answer;
use crate::transport::{FrameSender, NodeId};

/// How long the edge may take to take an answer.
const ANSWER_WAIT: Duration = Duration::from_secs(60);
/// How long the quorum may be out of reach until the edge is sent to another node of the site, which may be with the majority.
const REACH_WAIT: Duration = Duration::from_secs(5);
/// How long nothing may come of what the quorum lacks, until the edge is sent to another node.
const STILL_MAX: Duration = if cfg!(test) { Duration::from_secs(1) } else { Duration::from_secs(30) };
/// How often it looks whether the quorum is in reach, besides when something is stored elsewhere.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The way to who is answered, frame by frame.
pub type Out = tokio::sync::Mutex<FrameSender>;

/// An answer, and what a quorum must have before it is given.
pub struct Told {
    after: BTreeMap<PartitionId, Offset>,
    /// What is said.
    pub answer: Answer,
}

impl Told {
    /// An answer that is given when a quorum has partitions up to these ends.
    pub fn after(after: BTreeMap<PartitionId, Offset>, answer: Answer) -> Self {
        Self { after, answer }
    }
}

/// Gives answers in their order, until one cannot be given.
///
/// # Errors
/// Why not: the edge takes none, or the quorum is out of reach.
pub async fn tell_all(within: Option<&Arc<Within>>, mut told: mpsc::Receiver<Told>, out: &Out) -> Result<(), Ended> {
    while let Some(Told { after, answer }) = told.recv().await {
        if let Some(within) = within.filter(|_| !after.is_empty()) {
            within.await_quorum(&after).await?;
        }
        give(out, &answer).await?;
    }
    Ok(())
}

/// Gives an answer; who takes no answers is done with.
///
/// # Errors
/// The stream's, or that it is not taken.
pub async fn give(out: &Out, answer: &Answer) -> Result<(), Ended> {
    let send = async { out.lock().await.send_frame(&answer.encode()).await };
    match timeout(ANSWER_WAIT, send).await {
        Ok(sent) => Ok(sent?),
        Err(_) => Err(Ended::Again("the other side takes no answers".to_owned())),
    }
}

/// Whether so many of the others have partitions up to these ends (pure).
pub fn have(
    needed: usize,
    others: &[NodeId],
    known: &BTreeMap<NodeId, BTreeMap<PartitionId, Offset>>,
    ends: &BTreeMap<PartitionId, Offset>,
) -> bool {
    let has = |node: &&NodeId, id: &PartitionId, end: Offset| {
        known.get(node).and_then(|ends| ends.get(id)).is_some_and(|known| *known >= end)
    };
    ends.iter().all(|(id, end)| others.iter().filter(|node| has(node, id, *end)).count() >= needed)
}

/// A partition that a node does not have up to its end, and up to where it is known to have it.
type Lacking = (PartitionId, NodeId, Offset);

/// What others lack of these ends (pure).
fn lacking(
    others: &[NodeId],
    known: &BTreeMap<NodeId, BTreeMap<PartitionId, Offset>>,
    ends: &BTreeMap<PartitionId, Offset>,
) -> Vec<Lacking> {
    let of = |(id, end): (&PartitionId, &Offset)| {
        let (id, end) = (*id, *end);
        let known = move |node: &NodeId| known.get(node).and_then(|ends| ends.get(&id)).copied().unwrap_or(0);
        others.iter().map(move |node| (id, *node, known(node))).filter(move |(.., known)| *known < end)
    };
    ends.iter().flat_map(of).collect()
}

impl Within {
    /// Of ends of partitions those of topics that ask for a quorum.
    pub fn to_await(&self, ends: impl Iterator<Item = (PartitionId, Offset)>) -> BTreeMap<PartitionId, Offset> {
        let Some(patterns) = self.quorum.get().filter(|patterns| !patterns.is_empty()) else {
            return BTreeMap::new();
        };
        let asks = |id: &PartitionId| {
            let topic = self.log.topic_by_id(id.topic);
            topic.is_some_and(|topic| patterns.iter().any(|pattern| Pattern::new(pattern).matches(topic.name())))
        };
        ends.filter(|(id, end)| *end > 0 && asks(id)).collect()
    }

    /// Waits until a quorum of the site has partitions up to these ends. Those that are not here any more are not waited for.
    pub(in crate::links) async fn await_quorum(&self, ends: &BTreeMap<PartitionId, Offset>) -> Result<(), Ended> {
        let (mut out_of_reach, mut seen) = (None, (Instant::now(), Vec::new()));
        loop {
            let mut moved = std::pin::pin!(self.moved.notified());
            // From now on nothing is missed.
            moved.as_mut().enable();
            let mut ends = ends.clone();
            ends.retain(|id, _| self.log.partition(*id).is_ok());
            let (needed, others) = self.log.replicas();
            let others: Vec<NodeId> = others.into_iter().map(NodeId).collect();
            let lacking = {
                let known = self.known.lock();
                if have(needed, &others, &known, &ends) {
                    return Ok(());
                }
                lacking(&others, &known, &ends)
            };
            // It is sent on at once, also what was stored before this edge came here.
            ends.keys().for_each(|id| self.note_brought(id.origin));
            if lacking != seen.1 {
                seen = (Instant::now(), lacking);
            }
            if self.log.quorum_is_heard() {
                out_of_reach = None;
                if seen.0.elapsed() > STILL_MAX {
                    return Err(stands_still(&seen.1));
                }
            } else if out_of_reach.get_or_insert_with(Instant::now).elapsed() > REACH_WAIT {
                let text = "too few of the site's nodes are heard here: another one may be with the majority";
                return Err(Ended::Store(text.to_owned()));
            }
            let _ = timeout(LOOK_EVERY, moved).await;
        }
    }
}

fn stands_still(lacking: &[Lacking]) -> Ended {
    let Some((id, node, known)) = lacking.first() else { return Ended::Store("no quorum".to_owned()) };
    let text = format!(
        "node {node} has {id} up to {known} and takes no more of it: the quorum that linked_quorum asks for does not come about ({} such)",
        lacking.len()
    );
    tracing::warn!("{text}");
    Ended::Store(text)
}

#[cfg(test)]
mod tests {
    use sled_data::{OriginId, TopicId};

    use super::*;

    #[test]
    fn enough_of_the_voters_must_have_all_of_it() {
        let id = |index| PartitionId { origin: OriginId(1), topic: TopicId(1), index };
        let ends = |ends: &[(u32, Offset)]| ends.iter().map(|(index, end)| (id(*index), *end)).collect();
        let (a, b, guest) = (NodeId(1), NodeId(2), NodeId(9));
        let known = [(a, ends(&[(0, 5), (1, 2)])), (b, ends(&[(0, 7)])), (guest, ends(&[(0, 9), (1, 9)]))].into();
        let others = [a, b];
        // how many are needed, ends, whether they have it
        let cases = [
            (0, vec![(0, 100)], true),
            (1, vec![(0, 7)], true),
            (1, vec![(0, 8)], false),
            (2, vec![(0, 5)], true),
            (2, vec![(0, 6)], false),
            (1, vec![(0, 7), (1, 2)], true),
            (1, vec![(0, 5), (1, 3)], false),
            (2, vec![(1, 1)], false),
            (usize::MAX, vec![(0, 1)], false),
            (usize::MAX, vec![], true),
        ];
        for (needed, wanted, expected) in cases {
            assert_eq!(have(needed, &others, &known, &ends(&wanted)), expected, "{needed} {wanted:?}");
        }
    }
}
