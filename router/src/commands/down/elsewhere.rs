//! Gateways that are connected to another node of this site: which they are, and how they are asked through it.
//!
//! A command that a gateway may have is asked about, and ended, by the node that has asked first, wherever the link leads by then. So
//! nothing has to be agreed on between the nodes when a gateway goes from one to another: only the question takes another way. The
//! others are asked for their gateways as long as commands wait here for one that is not connected to this node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sled_data::OriginId;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::super::Commands;
use super::super::forward::{Forward, ForwardError};
use super::super::mail::Mail;
use super::super::table::{Now, Table};
use super::DownWay;
use super::wire::{decode, encode};

/// The version byte before the question for a node's gateways, and before its answer.
pub(in crate::commands) const VERSION_GATEWAYS: u8 = 4;
/// The version byte before a question that a node hands on to a gateway of its own, and before what came of it.
pub(in crate::commands) const VERSION_THROUGH: u8 = 5;
/// Time between two questions for the others' gateways, in milliseconds.
const LOOK_EVERY_MS: u64 = 1_000;
/// Gateways that one node tells of: as many as may be connected to it.
const TOLD_MAX: usize = 1_024;
/// Sites whose commands wait for a gateway: as many as there are links.
const SOUGHT_MAX: usize = 1_024;
/// Questions through other nodes at once: each takes one of the few places between two nodes for as long as the link is slow.
const THROUGH_MAX: usize = 8;

/// What came of a question that another node has handed on. Frozen: another shape is another version.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
enum ThroughV1 {
    /// The gateway's answer.
    Answered(Vec<u8>),
    /// The gateway is not there: it was not asked.
    NotAsked,
    /// It was asked, and has not answered.
    Unanswered,
}

/// What is known of other nodes' gateways.
pub(super) struct Elsewhere {
    known: Mutex<Known>,
    places: Semaphore,
}

/// The same, by nodes (pure).
#[derive(Debug, Default)]
struct Known {
    /// Of each node its gateways with their sites, each with the number under which it was heard first.
    nodes: BTreeMap<OriginId, BTreeMap<(String, OriginId), u64>>,
    last_heard: u64,
    /// Sites whose commands wait here and found no gateway.
    sought: BTreeSet<String>,
    /// When the others are asked next, on the steady clock.
    look_ms: u64,
    is_looking: bool,
}

impl Default for Elsewhere {
    fn default() -> Self {
        Self { known: Mutex::default(), places: Semaphore::new(THROUGH_MAX) }
    }
}

impl Known {
    /// The gateways of a node, as it says now, at most [`TOLD_MAX`]; those that have come to it since it was heard last.
    fn hear(&mut self, node: OriginId, told: Vec<(String, OriginId)>) -> Vec<(String, OriginId)> {
        let (before, mut new) = (self.nodes.remove(&node).unwrap_or_default(), Vec::new());
        let mut now = BTreeMap::new();
        for one in told.into_iter().take(TOLD_MAX) {
            let heard = before.get(&one).copied().unwrap_or_else(|| {
                new.push(one.clone());
                self.last_heard += 1;
                self.last_heard
            });
            now.insert(one, heard);
        }
        self.nodes.insert(node, now);
        new
    }

    /// A gateway is not at the node that it was said to be at.
    fn lose(&mut self, node: OriginId, gateway: OriginId) {
        if let Some(known) = self.nodes.get_mut(&node) {
            known.retain(|(_, id), _| *id != gateway);
        }
    }

    fn gateway(&self, site: &str, listed: &BTreeSet<OriginId>) -> Option<OriginId> {
        let mut all = self.nodes.values().flat_map(BTreeMap::keys);
        all.find(|(name, gateway)| name == site && listed.contains(gateway)).map(|(_, gateway)| *gateway)
    }

    /// The node that a gateway has come to last: one that it has left may not know that yet.
    fn node_of(&self, gateway: OriginId) -> Option<OriginId> {
        let all = self.nodes.iter().flat_map(|(node, known)| known.iter().map(move |one| (node, one)));
        let of_it = all.filter(|(_, ((_, id), _))| *id == gateway);
        of_it.max_by_key(|(_, (_, heard))| **heard).map(|(node, _)| *node)
    }

    fn seek(&mut self, site: &str) {
        if self.sought.len() < SOUGHT_MAX && !self.sought.contains(site) {
            self.sought.insert(site.to_owned());
        }
    }
}

impl Elsewhere {
    /// A gateway of a site at another node, of those that are listed.
    pub(super) fn gateway(&self, site: &str, listed: &BTreeSet<OriginId>) -> Option<OriginId> {
        self.known.lock().gateway(site, listed)
    }

    /// All gateways at other nodes.
    pub(super) fn gateways(&self) -> Vec<OriginId> {
        let known = self.known.lock();
        known.nodes.values().flat_map(BTreeMap::keys).map(|(_, gateway)| *gateway).collect()
    }

    /// A site's commands wait, and no gateway of it is known.
    pub(super) fn seek(&self, site: &str) {
        self.known.lock().seek(site);
    }

    /// Asks a gateway through the node that it is at.
    pub(super) async fn ask(
        &self,
        forward: Option<&dyn Forward>,
        gateway: OriginId,
        question: &[u8],
    ) -> Result<Vec<u8>, ForwardError> {
        let not_asked = |why: &str| Err(ForwardError::Unreachable(why.to_owned()));
        let node = self.known.lock().node_of(gateway);
        let (Some(forward), Some(node)) = (forward, node) else { return not_asked("no node is known that it is at") };
        let Ok(_place) = self.places.try_acquire() else { return not_asked("too much is asked through other nodes") };
        let request = [&[VERSION_THROUGH][..], &gateway.0.to_be_bytes(), question].concat();
        let answer = forward.submit_and_wait(node, request).await?;
        match answer.strip_prefix(&[VERSION_THROUGH]).and_then(decode::<ThroughV1>) {
            Some(ThroughV1::Answered(answer)) => Ok(answer),
            Some(ThroughV1::Unanswered) => Err(ForwardError::Unanswered("the gateway has not answered".to_owned())),
            Some(ThroughV1::NotAsked) => {
                self.known.lock().lose(node, gateway);
                not_asked("it is not at that node any more")
            }
            None => Err(ForwardError::Unanswered("the answer cannot be read".to_owned())),
        }
    }
}

/// Asks all others for their gateways, and says which have come.
async fn look(elsewhere: Arc<Elsewhere>, forward: Arc<dyn Forward>, others: Vec<OriginId>, mail: Arc<Mail>) {
    let mut asked = JoinSet::new();
    for node in others {
        let (elsewhere, forward, mail) = (Arc::clone(&elsewhere), Arc::clone(&forward), Arc::clone(&mail));
        asked.spawn(async move {
            // One that is not heard, or is of an older release, has none.
            let answer = forward.submit(node, vec![VERSION_GATEWAYS]).await.unwrap_or_default();
            let told = answer.strip_prefix(&[VERSION_GATEWAYS]).and_then(decode::<Vec<(String, u64)>>);
            let told = told.unwrap_or_default().into_iter().map(|(site, gateway)| (site, OriginId(gateway)));
            let new = elsewhere.known.lock().hear(node, told.collect());
            new.iter().for_each(|(site, gateway)| mail.gateway_came(site, *gateway));
        });
    }
    while asked.join_next().await.is_some() {}
    elsewhere.known.lock().is_looking = false;
    mail.arrived.notify_one();
}

impl Commands {
    /// When the others are asked for their gateways next, on the steady clock; `None` where nothing here waits for one.
    pub(in crate::commands) fn look_ms(&self, table: &Table) -> Option<u64> {
        let way = self.down.way()?;
        self.forward.get()?;
        let mut known = self.down.elsewhere.known.lock();
        known.sought.retain(|site| table.waits_for_site(site) && way.gateway(site).is_none());
        let with_commands = table.gateways_with_commands();
        let is_elsewhere = || {
            let here: BTreeSet<OriginId> = way.gateways().into_iter().map(|(_, gateway)| gateway).collect();
            with_commands.iter().any(|gateway| !here.contains(gateway))
        };
        (!known.is_looking && (!known.sought.is_empty() || !with_commands.is_empty() && is_elsewhere()))
            .then_some(known.look_ms)
    }

    /// Asks the others for their gateways, where that is due.
    pub(in crate::commands) fn look_elsewhere(&self, now: Now) {
        let is_due = self.look_ms(&self.table.lock()).is_some_and(|due| due <= now.steady);
        let (Some(forward), true) = (self.forward.get().map(Arc::clone), is_due) else { return };
        let (elsewhere, mail, others) = (Arc::clone(&self.down.elsewhere), Arc::clone(&self.mail), self.log.others());
        {
            let mut known = elsewhere.known.lock();
            (known.is_looking, known.look_ms) = (true, now.steady + LOOK_EVERY_MS);
            known.nodes.retain(|node, _| others.contains(node));
        }
        tokio::spawn(look(elsewhere, forward, others, mail));
    }

    /// The gateways that are connected to this node, for another one.
    pub(in crate::commands) fn tell_gateways(&self) -> Vec<u8> {
        let all = self.down.way().map(|way| way.gateways()).unwrap_or_default();
        let told: Vec<(String, u64)> = all.into_iter().take(TOLD_MAX).map(|(site, id)| (site, id.0)).collect();
        [&[VERSION_GATEWAYS][..], &encode(&told)].concat()
    }

    /// Hands another node's question on to a gateway that is connected to this one.
    pub(in crate::commands) async fn ask_for_another(&self, request: &[u8]) -> Vec<u8> {
        let read = request.strip_prefix(&[VERSION_THROUGH]).and_then(<[u8]>::split_first_chunk::<8>);
        let through = match (read, self.down.way()) {
            (Some((gateway, question)), Some(way)) => {
                match way.ask(OriginId(u64::from_be_bytes(*gateway)), question.to_vec()).await {
                    Ok(answer) => ThroughV1::Answered(answer),
                    Err(ForwardError::Unreachable(_)) => ThroughV1::NotAsked,
                    Err(ForwardError::Unanswered(_)) => ThroughV1::Unanswered,
                }
            }
            _ => ThroughV1::NotAsked,
        };
        [&[VERSION_THROUGH][..], &encode(&through)].concat()
    }
}

/// Asks a gateway, from here or through another node.
pub(super) async fn ask(
    way: Option<Arc<dyn DownWay>>,
    forward: Option<Arc<dyn Forward>>,
    elsewhere: &Elsewhere,
    gateway: OriginId,
    question: Vec<u8>,
) -> Result<Vec<u8>, ForwardError> {
    match way {
        Some(way) if way.gateways().iter().any(|(_, id)| *id == gateway) => way.ask(gateway, question).await,
        _ => elsewhere.ask(forward.as_deref(), gateway, &question).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: OriginId = OriginId(1);
    const B: OriginId = OriginId(2);
    const FIRST: OriginId = OriginId(70);
    const SECOND: OriginId = OriginId(71);

    #[test]
    fn questions_and_answers_have_these_bytes() {
        let told = vec![("plant".to_owned(), 70_u64)];
        assert_eq!(encode(&told), b"\x01\x01\x05plant\x46");
        for (through, bytes) in [
            (ThroughV1::Answered(vec![7]), &[1, 0, 1, 7][..]),
            (ThroughV1::NotAsked, &[1, 1]),
            (ThroughV1::Unanswered, &[1, 2]),
        ] {
            assert_eq!((encode(&through), decode(bytes)), (bytes.to_vec(), Some(through)));
        }
    }

    #[test]
    fn a_gateway_is_where_it_was_heard_last_and_comes_once() {
        let (mut known, listed) = (Known::default(), BTreeSet::from([FIRST, SECOND]));
        let of = |gateways: &[(&str, OriginId)]| gateways.iter().map(|(site, id)| ((*site).to_owned(), *id)).collect();
        // Who says what, what is new by that, where the first gateway is then.
        let cases = [
            (A, vec![("plant", FIRST)], 1, Some(A)),
            (A, vec![("plant", FIRST)], 0, Some(A)),
            // It has gone from one to the other, which knows that first.
            (B, vec![("plant", FIRST), ("mill", SECOND)], 2, Some(B)),
            (A, vec![("plant", FIRST)], 0, Some(B)),
            (A, vec![], 0, Some(B)),
            (B, vec![("mill", SECOND)], 0, None),
            (A, vec![("plant", FIRST)], 1, Some(A)),
        ];
        for (node, told, new, at) in cases {
            assert_eq!((known.hear(node, of(&told)).len(), known.node_of(FIRST)), (new, at), "{node} {told:?}");
            assert_eq!(known.gateway("plant", &listed), at.map(|_| FIRST));
            assert_eq!(known.gateway("plant", &BTreeSet::from([SECOND])), None, "it is not listed");
        }
        known.lose(B, FIRST);
        assert_eq!(known.node_of(FIRST), Some(A), "it is at the other");
        known.lose(A, FIRST);
        assert_eq!((known.gateway("plant", &listed), known.gateway("mill", &listed)), (None, Some(SECOND)));
        let many = (0..2 * TOLD_MAX as u64).map(|n| (format!("s{n}"), OriginId(n))).collect();
        assert_eq!(known.hear(A, many).len(), TOLD_MAX);
        (0..2 * SOUGHT_MAX).for_each(|n| known.seek(&format!("s{n}")));
        assert_eq!(known.sought.len(), SOUGHT_MAX);
    }
}
