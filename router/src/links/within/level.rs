//! Being level with the site's other nodes, before an edge is told where partitions end here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sled_data::{Offset, OriginId, PartitionId};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::ends::{self, ASKED_MAX, Asks, Held, Question};
use super::mute::MUTE_MAX;
use super::{NoAnswer, Nodes, Within};
use crate::links::begin::{Begin, Stand, begin};
use crate::links::receiver::Ended;
use crate::links::waiting::mine;
use crate::transport::NodeId;

/// How long a node may take to say how far it is.
const ASK_WAIT: Duration = Duration::from_secs(2);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often those are asked again that did not answer, or are not connected.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How long those that are connected may give no answer, until the edge is sent to another node.
const HEAR_MAX: Duration = if cfg!(test) { Duration::from_secs(3) } else { Duration::from_secs(20) };
/// How often it is said again what is wanted.
const WANT_EVERY: Duration = Duration::from_secs(2);
/// How long nothing may come from those who have more, until an edge is told how it is here all the same.
const STILL_MAX: Duration = if cfg!(test) { Duration::from_secs(2) } else { Duration::from_secs(5) };
/// How long an edge waits while something comes; then it is sent to another node, which may have it.
const LEVEL_MAX: Duration = Duration::from_secs(30);
/// How long what did not come is not waited for again.
const STUCK_FOR: Duration = Duration::from_secs(60);

/// What others have more of than this node.
#[derive(Debug, Default)]
struct Ahead {
    /// Up to where.
    ends: BTreeMap<PartitionId, Offset>,
    /// Who they are.
    by: BTreeSet<NodeId>,
}

impl Within {
    /// Waits until this node has what others of the site have of partitions of a link. An edge that is told of ends that are behind would send
    /// again what the site has, over a line that may be thin, and tell a gap where it has let go of that.
    ///
    /// # Errors
    /// When that takes long, or is not known: the edge is to try another node.
    pub async fn level(&self, link: u64, ids: &[PartitionId]) -> Result<(), Ended> {
        let turn = Arc::clone(self.turns.lock().entry(link).or_default());
        let levelled = match timeout(HEAR_MAX, turn.lock()).await {
            Ok(_turn) => self.level_in_turn(ids).await,
            Err(_) => Err(Ended::Store("others of the link are told where it ends: try another node".to_owned())),
        };
        drop(turn);
        self.turns.lock().retain(|_, turn| Arc::strong_count(turn) > 1);
        levelled
    }

    async fn level_in_turn(&self, ids: &[PartitionId]) -> Result<(), Ended> {
        let mut ahead = self.hear_all(ids).await?;
        {
            let mut stuck = self.stuck.lock();
            stuck.retain(|_, since| since.elapsed() < STUCK_FOR);
            ahead.ends.retain(|id, _| !stuck.contains_key(id));
        }
        let before = self.ends(&ahead);
        let (began, mut wanted_at, mut last) = (Instant::now(), None, (Instant::now(), before.clone()));
        let mut wants = JoinSet::new();
        loop {
            ahead.ends.retain(|id, end| self.log.visible_end(*id) < *end);
            if ahead.ends.is_empty() {
                return Ok(());
            }
            if wanted_at.is_none_or(|at: Instant| at.elapsed() > WANT_EVERY) {
                wanted_at = Some(Instant::now());
                self.want(&ahead, &mut wants);
            }
            let ends = self.ends(&ahead);
            if ends != last.1 {
                last = (Instant::now(), ends);
            }
            let moved_at = self.came_last(&ahead).map_or(last.0, |at| at.max(last.0));
            if moved_at.elapsed() > STILL_MAX {
                let partitions = ahead.ends.len();
                tracing::warn!(
                    partitions,
                    "other nodes have more of what a link brings, and it does not come from there"
                );
                self.note_stuck(ahead.ends.into_keys());
                return Ok(());
            }
            if began.elapsed() > LEVEL_MAX {
                self.note_stuck(did_not_come(&before, &self.ends(&ahead)).into_iter());
                let text = "other nodes of the site have more of what the link brings, and it is on its way: try them";
                return Err(Ended::Store(text.to_owned()));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Hears all others: those that are connected, unless they have not answered for long, and those that are away for so short a time that
    /// they may be soon.
    async fn hear_all(&self, ids: &[PartitionId]) -> Result<Ahead, Ended> {
        let mut ahead = Ahead::default();
        let Some(nodes) = self.nodes.get().filter(|_| !ids.is_empty()) else { return Ok(ahead) };
        let (began, mut heard) = (Instant::now(), BTreeSet::new());
        loop {
            let connected = nodes.connected();
            let away = self.away.lock().look(&nodes.staying(), &connected, Instant::now());
            let mut open = self.mute.lock().ask(&connected, Instant::now());
            open.retain(|node| !heard.contains(node));
            let mut silent = 0;
            for (node, answer) in ask_each(nodes, open, &Asks::Ends, ids).await {
                match answer {
                    Ok(all) => self.note_ahead(&mut ahead, node, ids, all),
                    Err(NoAnswer::Older) => {}
                    Err(NoAnswer::Failed(why)) => {
                        silent += usize::from(self.is_waited_for(node, &why));
                        continue;
                    }
                }
                self.mute.lock().answered(node);
                heard.insert(node);
            }
            if silent == 0 && away.is_empty() {
                return Ok(ahead);
            }
            if silent > 0 && began.elapsed() > HEAR_MAX {
                let text = "another node of the site does not say what it has of what the link brings: try others";
                return Err(Ended::Store(text.to_owned()));
            }
            sleep(ASK_EVERY).await;
        }
    }

    /// Notes that a node gave no answer; whether it is waited for. One that is connected and answers nothing would else keep all links of the
    /// site from standing, at each of its nodes.
    fn is_waited_for(&self, node: NodeId, why: &str) -> bool {
        tracing::debug!(%node, why, "a node does not say how far it is with linked partitions");
        let mut mute = self.mute.lock();
        if mute.unanswered(node, Instant::now()) {
            tracing::warn!(%node, why, "a node is connected and has not said for {} s what it has of what links brought: links go \
                on without it. Where it alone has what their edges have let go of, the others have a gap there", MUTE_MAX.as_secs());
        }
        !mute.is_given_up(node)
    }

    fn note_ahead(&self, ahead: &mut Ahead, node: NodeId, ids: &[PartitionId], all: Vec<Held>) {
        for (id, held) in ids.iter().zip(all).filter(|(id, held)| held.end > self.log.visible_end(**id)) {
            ahead.by.insert(node);
            let most = ahead.ends.entry(*id).or_insert(held.end);
            *most = held.end.max(*most);
        }
    }

    /// Says to those who have more that it is wanted at once. What fails is said again.
    fn want(&self, ahead: &Ahead, wants: &mut JoinSet<()>) {
        let Some(nodes) = self.nodes.get() else { return };
        while wants.try_join_next().is_some() {}
        let ids: Vec<PartitionId> = ahead.ends.keys().copied().collect();
        for node in &ahead.by {
            let (nodes, node, ids) = (Arc::clone(nodes), *node, ids.clone());
            wants.spawn(async move { drop(ask(&*nodes, node, &Asks::Wants, &ids).await) });
        }
    }

    fn ends(&self, ahead: &Ahead) -> BTreeMap<PartitionId, Offset> {
        ahead.ends.keys().map(|id| (*id, self.log.visible_end(*id))).collect()
    }

    /// When something came last from those who have more, or of the origins of which they do.
    fn came_last(&self, ahead: &Ahead) -> Option<Instant> {
        let origins: BTreeSet<OriginId> = ahead.ends.keys().map(|id| id.origin).collect();
        let came = self.came.lock();
        let of_it = came.iter().filter(|((node, origin), _)| ahead.by.contains(node) || origins.contains(origin));
        of_it.map(|(_, at)| *at).max()
    }

    fn note_stuck(&self, ids: impl Iterator<Item = PartitionId>) {
        let now = Instant::now();
        self.stuck.lock().extend(ids.map(|id| (id, now)));
    }

    /// What is here of a partition that ends so at the one who asks.
    fn held(&self, id: PartitionId, stand: &Stand) -> Held {
        let store = self.log.store();
        Held {
            end: self.log.visible_end(id),
            start: store.reach(id).start,
            holes: store.holes(id).into_iter().map(|hole| (hole.from, hole.to)).collect(),
            is_other: begin(stand, &mine(store, id, stand)) == Begin::Forked,
        }
    }

    /// Answers another node's question; `None` where it cannot be read. Reads the store.
    pub async fn answer(self: &Arc<Self>, from: NodeId, body: &[u8]) -> Option<Vec<u8>> {
        let Question { asks, ids } = Question::decode(body)?;
        let ends = |id: PartitionId| Held { end: self.log.visible_end(id), ..Held::default() };
        let all = match asks {
            Asks::Ends => ids.into_iter().map(ends).collect(),
            Asks::Wants => {
                ids.iter().for_each(|id| self.note_wanted(from, id.origin));
                ids.into_iter().map(ends).collect()
            }
            Asks::Whole(stands) => {
                let within = Arc::clone(self);
                let whole = move || {
                    let held = |(id, stand): (PartitionId, Stand)| match within.had(id, &stand) {
                        // All of it came here, and retention has taken it.
                        true => Held { end: stand.end, start: stand.end, ..Held::default() },
                        false => within.held(id, &stand),
                    };
                    ids.into_iter().zip(stands).map(held).collect()
                };
                tokio::task::spawn_blocking(whole).await.ok()?
            }
        };
        Some(ends::encode_answer(all))
    }
}

/// Of partitions that are still behind those that did not move, where none of their origin did: what comes of an origin comes in the order of
/// its commits, and so one partition after another (pure).
fn did_not_come(before: &BTreeMap<PartitionId, Offset>, now: &BTreeMap<PartitionId, Offset>) -> Vec<PartitionId> {
    let has_moved = |id: &PartitionId, end: &Offset| before.get(id).is_none_or(|before| before < end);
    let moved: BTreeSet<OriginId> =
        now.iter().filter(|(id, end)| has_moved(id, end)).map(|(id, _)| id.origin).collect();
    now.keys().filter(|id| !moved.contains(&id.origin)).copied().collect()
}

/// What each of these nodes says.
pub(super) async fn ask_each(
    nodes: &Arc<dyn Nodes>,
    of: Vec<NodeId>,
    asks: &Asks,
    ids: &[PartitionId],
) -> Vec<(NodeId, Result<Vec<Held>, NoAnswer>)> {
    let mut all = JoinSet::new();
    for node in of {
        let (nodes, asks, ids) = (Arc::clone(nodes), asks.clone(), ids.to_vec());
        all.spawn(async move { (node, ask(&*nodes, node, &asks, &ids).await) });
    }
    all.join_all().await
}

/// What a node has of partitions. What it is asked for all that is there must go into one question.
async fn ask(nodes: &dyn Nodes, node: NodeId, asks: &Asks, ids: &[PartitionId]) -> Result<Vec<Held>, NoAnswer> {
    let mut all = Vec::with_capacity(ids.len());
    for some in ids.chunks(ASKED_MAX) {
        let question = Question { asks: asks.clone(), ids: some.to_vec() };
        let answer = timeout(ASK_WAIT, nodes.ask(node, question.encode())).await;
        let bytes = answer.unwrap_or_else(|_| Err(NoAnswer::Failed("no answer in time".to_owned())))?;
        let unread = || NoAnswer::Failed("its answer cannot be read".to_owned());
        all.extend(ends::decode_answer(&bytes, some.len()).ok_or_else(unread)?);
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use sled_data::TopicId;

    use super::*;

    #[test]
    fn what_stands_still_is_not_waited_for_again_unless_its_origin_comes() {
        let id = |origin, index| PartitionId { origin: OriginId(origin), topic: TopicId(1), index };
        let ends = |ends: &[(u64, u32, Offset)]| ends.iter().map(|(o, i, end)| (id(*o, *i), *end)).collect();
        let before = ends(&[(1, 0, 5), (1, 1, 5), (2, 0, 3), (2, 1, 3)]);
        let cases = [
            // Origin 2's partition 0 has come whole meanwhile, and so is not among them.
            (vec![(1, 0, 5), (1, 1, 6), (2, 1, 3)], vec![id(2, 1)]),
            (vec![(1, 0, 5), (1, 1, 5)], vec![id(1, 0), id(1, 1)]),
            (vec![(1, 0, 6), (2, 1, 4)], vec![]),
        ];
        for (now, expected) in cases {
            assert_eq!(did_not_come(&before, &ends(&now)), expected, "{now:?}");
        }
    }
}
