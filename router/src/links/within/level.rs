//! Being level with the site's other nodes: before an edge is told where partitions end here, and before this node leaves.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sled_data::{Offset, PartitionId};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use super::ends::{self, ASKED_MAX, Held, Keeps, Question, lacks};
use super::{Nodes, Within};
use crate::links::receiver::Ended;
use crate::transport::NodeId;

/// How long a node may take to say how far it is.
const ASK_WAIT: Duration = Duration::from_secs(2);
/// How often it looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How often the others are asked again by a node that leaves.
const ASK_EVERY: Duration = Duration::from_millis(200);
/// How long nothing may come of what others have, until an edge is told how it is here all the same.
const STILL_MAX: Duration = if cfg!(test) { Duration::from_secs(2) } else { Duration::from_secs(5) };
/// How long an edge waits while something comes; then it is sent to another node, which may have it.
const LEVEL_MAX: Duration = Duration::from_secs(30);

impl Within {
    /// Waits until this node has what others of the site have of partitions. An edge that is told of ends that are behind would send again
    /// what the site has, over a line that may be thin, and tell a gap where it has let go of that.
    ///
    /// # Errors
    /// When that takes long: the edge is to try another node.
    pub async fn level(&self, ids: &[PartitionId]) -> Result<(), Ended> {
        let mut ahead = self.ahead(ids, false).await;
        if ahead.is_empty() {
            return Ok(());
        }
        let wanted: Vec<PartitionId> = ahead.keys().copied().collect();
        self.ahead(&wanted, true).await;
        let ends = || wanted.iter().map(|id| self.log.visible_end(*id)).collect::<Vec<_>>();
        let (began, mut moved_at, mut before) = (Instant::now(), Instant::now(), ends());
        loop {
            ahead.retain(|id, end| self.log.visible_end(*id) < *end);
            let now = ends();
            if now != before {
                (moved_at, before) = (Instant::now(), now);
            }
            if ahead.is_empty() {
                return Ok(());
            }
            if moved_at.elapsed() > STILL_MAX {
                let partitions = ahead.len();
                tracing::warn!(
                    partitions,
                    "other nodes have more of what a link brings, and it does not come from there"
                );
                return Ok(());
            }
            if began.elapsed() > LEVEL_MAX {
                let text = "other nodes of the site have more of what the link brings, and it is on its way: try them";
                return Err(Ended::Store(text.to_owned()));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    /// Of partitions those that others have more of, and how much; they may be told that it is wanted at once.
    async fn ahead(&self, ids: &[PartitionId], wants: bool) -> BTreeMap<PartitionId, Offset> {
        let mut ahead = BTreeMap::new();
        for (_, held) in self.ask_all(ids, wants).await {
            for (id, held) in ids.iter().zip(held) {
                if held.end > self.log.visible_end(*id) {
                    let most = ahead.entry(*id).or_insert(held.end);
                    *most = held.end.max(*most);
                }
            }
        }
        ahead
    }

    /// What all who are connected have of partitions; those that do not say it are left out.
    async fn ask_all(&self, ids: &[PartitionId], wants: bool) -> Vec<(NodeId, Vec<Held>)> {
        let Some(nodes) = self.nodes.get() else { return Vec::new() };
        let mut asks = JoinSet::new();
        for node in nodes.connected() {
            let (nodes, ids) = (Arc::clone(nodes), ids.to_vec());
            asks.spawn(async move { Some((node, ask(&*nodes, node, &ids, wants).await?)) });
        }
        let answers = asks.join_all().await;
        answers.into_iter().flatten().collect()
    }

    /// Answers another node's question; `None` where it cannot be read.
    pub fn answer(&self, from: NodeId, body: &[u8]) -> Option<Vec<u8>> {
        let question = Question::decode(body)?;
        if question.wants {
            question.ids.iter().for_each(|id| self.note_wanted(from, id.origin));
        }
        Some(ends::encode_answer(question.ids.into_iter().map(|id| self.held(id)).collect()))
    }

    fn held(&self, id: PartitionId) -> Held {
        let holes = self.log.store().holes(id).into_iter().map(|hole| (hole.from, hole.to)).collect();
        Held { end: self.log.visible_end(id), holes }
    }

    /// All that links have brought and that is kept here.
    fn keeps(&self) -> BTreeMap<PartitionId, Keeps> {
        let store = self.log.store();
        let linked = store.partitions().into_iter().filter(|id| store.linked_origin(id.origin).is_some());
        let keeps = |id| (id, Keeps { start: store.reach(id).start, held: self.held(id) });
        linked.map(keeps).filter(|(_, keeps)| keeps.start < keeps.held.end).collect()
    }

    /// Waits until other nodes have all that links have brought and that is kept here. No edge may bring more meanwhile.
    ///
    /// # Errors
    /// What is with no other node after the wait, in words.
    pub async fn hand_over(&self, wait: Duration) -> Result<(), String> {
        self.hands_over.store(true, Ordering::Relaxed);
        let handed = timeout(wait, self.await_kept()).await;
        self.hands_over.store(false, Ordering::Relaxed);
        if handed.is_ok() {
            return Ok(());
        }
        let (all, lacking) = (self.keeps().len(), self.kept_here_alone().await);
        match lacking {
            0 => Ok(()),
            _ => Err(format!(
                "{lacking} of {all} partitions of other sites, brought by links, are whole on no other node"
            )),
        }
    }

    async fn await_kept(&self) {
        while self.kept_here_alone().await > 0 {
            sleep(ASK_EVERY).await;
        }
    }

    /// How many partitions no other node has all of that is kept here.
    async fn kept_here_alone(&self) -> usize {
        let all: Vec<(PartitionId, Keeps)> = self.keeps().into_iter().collect();
        let mut alone = 0;
        for some in all.chunks(ASKED_MAX) {
            let ids: Vec<PartitionId> = some.iter().map(|(id, _)| *id).collect();
            let answers = self.ask_all(&ids, false).await;
            let is_alone = |(place, (_, keeps)): &(usize, &(PartitionId, Keeps))| {
                answers.iter().all(|(_, held)| held.get(*place).is_none_or(|theirs| lacks(keeps, theirs)))
            };
            alone += some.iter().enumerate().filter(is_alone).count();
        }
        alone
    }
}

/// What a node has of partitions, where it says so.
async fn ask(nodes: &dyn Nodes, node: NodeId, ids: &[PartitionId], wants: bool) -> Option<Vec<Held>> {
    let mut all = Vec::with_capacity(ids.len());
    for some in ids.chunks(ASKED_MAX) {
        let question = Question { wants, ids: some.to_vec() };
        let answer = timeout(ASK_WAIT, nodes.ask(node, question.encode())).await;
        match answer.unwrap_or_else(|_| Err("no answer in time".to_owned())) {
            Ok(bytes) => all.extend(ends::decode_answer(&bytes, some.len())?),
            Err(why) => {
                tracing::debug!(%node, why, "a node does not say how far it is with linked partitions");
                return None;
            }
        }
    }
    Some(all)
}
