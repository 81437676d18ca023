//! Whether this node may stand for election: it asks before, as openraft does not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::Consensus;
use super::network::AskError;
use super::wire::{About, Answer, No};
use crate::catalog::roles;
use crate::transport::NodeId;

impl Consensus {
    /// Other nodes are heard by other ways than this one, each for the last time before so long: whether this node may stand for election
    /// follows from it, and from what they say when they are asked whether they hear a leader.
    pub(in crate::catalog) fn hear(self: &Arc<Self>, silences: &BTreeMap<NodeId, Duration>) {
        let Some(raft) = self.raft() else { return };
        let (voters, leads) = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow();
            let voters = metrics.membership_config.membership().get_joint_config().clone();
            (voters, metrics.current_leader == Some(self.book.me))
        };
        let now = Instant::now();
        let heard_at = |node: &NodeId| silences.get(node).and_then(|silence| now.checked_sub(*silence));
        let is_majority_heard_since = |since: Instant| {
            roles::is_majority(&voters, |node| node == self.book.me || heard_at(&node).is_some_and(|at| at >= since))
        };
        let is_alone = roles::is_majority(&voters, |node| node == self.book.me);
        let votes = voters.iter().any(|set| set.contains(&self.book.me));
        let timing = &self.book.timing;
        let is_heard = now.checked_sub(timing.fresh()).is_none_or(is_majority_heard_since);
        let is_to_ask = {
            let mut touch = self.book.touch.lock();
            touch.hear(is_heard, now);
            raft.runtime_config().elect(is_alone || touch.may_stand(is_majority_heard_since, timing.beat, now));
            let times = (timing.beat, timing.ask_wait());
            votes && !leads && !is_alone && touch.begin_asking(is_majority_heard_since, times, now)
        };
        if is_to_ask {
            tokio::spawn(Arc::clone(self).ask_whether_led(voters));
        }
    }

    /// Asks those who vote whether they hear a leader; ends when a majority has said that it hears none, or all have answered or had their time. Who
    /// does not know the question counts as hearing none, and who does not answer as hearing one.
    async fn ask_whether_led(self: Arc<Self>, voters: Vec<BTreeSet<NodeId>>) {
        let (me, wait) = (self.book.me, self.book.timing.ask_wait());
        let others: BTreeSet<NodeId> = voters.iter().flatten().copied().filter(|node| *node != me).collect();
        let asked = others.into_iter().map(|node| {
            let network = self.network.clone();
            async move { (node, network.ask(node, About::Led, wait).await) }
        });
        let mut asked: JoinSet<_> = asked.collect();
        let (mut unled, mut is_certain) = (BTreeSet::from([me]), true);
        while let Some(answered) = asked.join_next().await {
            let Ok((node, answer)) = answered else { continue };
            match answer {
                Ok(Answer::Led(false)) => {}
                Err(AskError::No(No::Unreadable)) => is_certain = false,
                _ => continue,
            }
            unled.insert(node);
            if roles::is_majority(&voters, |node| unled.contains(&node)) {
                return self.book.touch.lock().end_asking(Some(is_certain), Instant::now());
            }
        }
        self.book.touch.lock().end_asking(None, Instant::now());
    }
}
