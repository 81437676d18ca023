//! What the other nodes hold of lives that nobody writes, this node's own earlier ones among them: before a node leaves, what it alone has of
//! them is with others; and who reads on the log of one that is taken out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sled_data::{CommitNumber, CopyState, OriginId};
use tokio::task::JoinSet;

use super::keeper::longest;
use super::leaving::{HAND_OVER_WAIT, nobody_has};
use super::site::SiteNode;
use crate::admin::ApiError;
use crate::catalog::{Member, MemberState};
use crate::event_log::EventLog;
use crate::replication::{ASK_HOLDINGS, Holdings};
use crate::transport::NodeId;

/// How long a node may take to say what it holds.
const HOLDINGS_WAIT: Duration = Duration::from_secs(2);
/// How often they are asked while something is missing.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Lives that one refusal names.
const NAMED_MAX: usize = 3;

/// How far lives are synced.
type Synced = BTreeMap<OriginId, CommitNumber>;

/// Who may read on the log of a node that is taken out: those who stay and are heard (pure).
fn able(members: &[Member], heard: &[NodeId], of: NodeId) -> Vec<NodeId> {
    let stays = |member: &&Member| member.node != of && member.state == MemberState::Active;
    members.iter().filter(stays).map(|member| member.node).filter(|node| heard.contains(node)).collect()
}

/// What a node that leaves has of another's life, or of an earlier one of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Here {
    /// What was here when the waiting began.
    then: CommitNumber,
    /// What is here now.
    now: CommitNumber,
    /// Who wrote it, where that is known.
    writer: Option<NodeId>,
}

impl Here {
    /// Whether one that has so much of it has all that was here (pure). The one that wrote it may have written on after a restore, and have
    /// as many commits that are others: what it has is followed here, so it is all that is here, or it is not the same.
    fn is_with(&self, node: NodeId, there: CommitNumber) -> bool {
        if self.writer == Some(node) { there == self.now } else { there >= self.then }
    }
}

/// The lives that are not all with another: with the one that writes it now, or with one that holds it (pure).
fn lacking(here: &BTreeMap<OriginId, Here>, written: &Synced, held: &[(NodeId, Holdings)]) -> Vec<OriginId> {
    let is_written = |origin: &OriginId, here: &Here| written.get(origin).is_some_and(|there| *there >= here.then);
    let is_held = |origin: &OriginId, here: &Here| {
        held.iter().any(|(node, holds)| holds.0.get(origin).is_some_and(|there| here.is_with(*node, *there)))
    };
    let lacks = here.iter().filter(|(origin, here)| !is_written(origin, here) && !is_held(origin, here));
    lacks.map(|(origin, _)| *origin).collect()
}

/// The first of these, for people.
fn named<'a>(lives: impl Iterator<Item = &'a OriginId>) -> String {
    lives.take(NAMED_MAX).map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// What is here whole of others' lives and of this node's that have ended, with who wrote it where that is another.
fn whole_here(log: &EventLog) -> BTreeMap<OriginId, (CommitNumber, Option<NodeId>)> {
    let followed = log.store().followed().into_iter();
    let whole = followed
        .filter(|(_, followed)| followed.copy == CopyState::Whole && followed.synced > CommitNumber(0))
        .map(|(origin, followed)| (origin, (followed.synced, Some(NodeId(followed.node)).filter(|node| node.0 != 0))));
    let ended = log.lives_to_tell().into_iter().map(|(origin, last)| (origin, (last, None)));
    whole.chain(ended).collect()
}

impl SiteNode {
    /// Refuses where lives of this node's that have ended hold events that nobody can have from here any more.
    pub(super) fn check_own_lives(&self) -> Result<(), ApiError> {
        let alone = self.log.lives_here_alone();
        if alone.is_empty() {
            return Ok(());
        }
        let (count, events) = (alone.len(), alone.values().sum::<u64>());
        let named = named(alone.keys());
        let what = format!(
            "{events} events of {count} earlier lives of this node ({named}) are here alone, and no other node can take them"
        );
        Err(nobody_has(&what).hint(
            "`edgeway node remove` at another node takes this one out without them; so does `edgeway node leave` when retention has let them go",
        ))
    }

    /// Waits until others who stay have what is here of lives that nobody writes here now. Who writes one has it where it says that it has synced as much: a
    /// restored store may not. Of a node that is lost it may be here alone, and was acknowledged as well.
    pub(super) async fn hand_over_lives(&self) -> Result<(), ApiError> {
        let since = Instant::now();
        let then = whole_here(&self.log);
        loop {
            let here = self.since(&then);
            if lacking(&here, &self.written(), &[]).is_empty() {
                return Ok(());
            }
            let held = self.ask_holdings(self.place.node).await;
            let lacking = lacking(&here, &self.written(), &held);
            if lacking.is_empty() {
                return Ok(());
            }
            if since.elapsed() > HAND_OVER_WAIT {
                let count = lacking.len();
                let named = named(lacking.iter());
                let whose = "of other nodes, or of earlier lives of this one";
                return Err(nobody_has(&format!("no other node has as much of {count} logs {whose} ({named})")));
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// What was here, with how much it is now.
    fn since(&self, then: &BTreeMap<OriginId, (CommitNumber, Option<NodeId>)>) -> BTreeMap<OriginId, Here> {
        let store = self.log.store();
        let here = then.iter().map(|(origin, (then, writer))| {
            (*origin, Here { then: *then, now: store.synced_commit_of(*origin), writer: *writer })
        });
        here.collect()
    }

    /// How far those who are connected have synced what they write, as they said last.
    fn written(&self) -> Synced {
        let states = self.peers().map(|peers| peers.states()).unwrap_or_default();
        let here = states.iter().filter(|peer| peer.is_connected).filter_map(|peer| peer.known.as_ref());
        here.filter_map(|known| Some((OriginId(known.origin), CommitNumber(known.heartbeat.as_ref()?.synced))))
            .collect()
    }

    /// Asks all who stay, besides one, and are heard what they hold: now, as what they said before may be old.
    async fn ask_holdings(&self, besides: NodeId) -> Vec<(NodeId, Holdings)> {
        let Some(peers) = self.peers() else { return Vec::new() };
        let heard: Vec<NodeId> = peers.states().iter().filter(|peer| peer.is_connected).map(|peer| peer.node).collect();
        // All at once: whoever has handed over waits meanwhile.
        let mut asks: JoinSet<_> = able(&self.catalog.members(), &heard, besides)
            .into_iter()
            .map(|node| {
                let peers = Arc::clone(&peers);
                async move { (node, peers.ask(node, ASK_HOLDINGS, &[], HOLDINGS_WAIT).await) }
            })
            .collect();
        let mut held = Vec::new();
        while let Some(asked) = asks.join_next().await {
            let Ok((node, answer)) = asked else { continue };
            held.extend(answer.ok().and_then(|bytes| Holdings::decode(&bytes)).map(|holds| (node, holds)));
        }
        held
    }

    /// Who has most of a node's log, of all who stay and are heard, and up to where.
    pub(super) async fn longest_copy(&self, of: NodeId) -> (NodeId, CommitNumber) {
        let me = self.place.node;
        let members = self.catalog.members();
        let written = members.iter().find(|member| member.node == of).and_then(|member| member.origin).map(OriginId);
        let Some(origin) = written else { return (me, CommitNumber(0)) };
        let here = self.log.store().followed().into_iter().find(|(followed, _)| *followed == origin);
        let here = here.filter(|(_, followed)| followed.copy == CopyState::Whole);
        let mut held = vec![(me, here.map_or(CommitNumber(0), |(_, followed)| followed.synced))];
        let others = self.ask_holdings(of).await;
        held.extend(others.iter().filter_map(|(node, holds)| Some((*node, *holds.0.get(&origin)?))));
        longest(held.into_iter()).unwrap_or((me, CommitNumber(0)))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use sled_data::{MemoryBackend, Options, Store};

    use super::*;
    use crate::clock::Clock;
    use crate::event_log::{AUDIT_TOPIC, Act, Config};

    #[test]
    fn what_is_here_of_own_lives_that_have_ended_is_to_be_with_another() {
        let backend = Arc::new(MemoryBackend::new());
        let open = || {
            let options = Options { seed: Some(5), ..Options::default() };
            let (store, recovered) = Store::on(Arc::clone(&backend) as _, options).unwrap();
            let clock = Arc::new(Clock::starting_after(recovered.last_hlc));
            let log = EventLog::open(Arc::new(store), clock, Config::default()).unwrap();
            log.ensure_topic(AUDIT_TOPIC, None).unwrap();
            log
        };
        let mut expected = BTreeMap::new();
        for _ in 0..2 {
            let log = open();
            let act = Act { who: "test", act: "life", what: "a", outcome: "done", detail: serde_json::Value::Null };
            log.durable_blocking(log.audit(act).unwrap()).unwrap();
            expected.insert(log.origin(), (log.store().synced_commit(), None));
            log.close();
            log.store().end_life("as after a kill").unwrap();
        }
        let log = open();
        let then = whole_here(&log);
        assert_eq!(then, expected);
        let here = then.iter().map(|(origin, (then, writer))| {
            (*origin, Here { then: *then, now: log.store().synced_commit_of(*origin), writer: *writer })
        });
        let (here, lives): (BTreeMap<_, _>, Vec<_>) = (here.collect(), expected.keys().copied().collect());
        assert_eq!(lacking(&here, &Synced::new(), &[]), lives);
        let holds = Holdings(expected.iter().map(|(origin, (last, _))| (*origin, *last)).collect());
        assert_eq!(lacking(&here, &Synced::new(), &[(NodeId(2), holds)]), []);
        log.close();
    }

    #[test]
    fn what_is_here_alone_of_a_life_that_is_left_is_seen() {
        let synced = |all: &[(u64, u64)]| -> Synced {
            all.iter().map(|(origin, commit)| (OriginId(*origin), CommitNumber(*commit))).collect()
        };
        let said = |all: &[(u64, &[(u64, u64)])]| -> Vec<(NodeId, Holdings)> {
            all.iter().map(|(node, holds)| (NodeId(*node), Holdings(synced(holds)))).collect()
        };
        // what is here of a life, when the waiting began and now, all by node 4; what its writers say; what others hold; what is here alone
        for (here, written, others, alone) in [
            (&[][..], &[][..], &[][..], &[][..]),
            (&[(7, 5, 5)], &[], &[], &[7]),
            (&[(7, 5, 5)], &[], &[(2, &[(7, 4)][..]), (3, &[(8, 9)])], &[7]),
            (&[(7, 5, 5)], &[], &[(2, &[(7, 4)]), (3, &[(7, 5)])], &[]),
            (&[(7, 5, 5), (8, 3, 3), (9, 1, 1)], &[], &[(2, &[(7, 6), (9, 0)]), (3, &[(8, 2)])], &[8, 9]),
            // Its writer is there: a restored one has less than is here.
            (&[(7, 5, 9)], &[(7, 4)], &[], &[7]),
            (&[(7, 5, 9)], &[(7, 4)], &[(2, &[(7, 5)])], &[]),
            (&[(7, 5, 9), (8, 2, 2)], &[(7, 5), (8, 3)], &[], &[]),
            // Its writer has begun another life: what it has left of this one is the same once it was followed.
            (&[(7, 5, 5)], &[(8, 1)], &[(4, &[(7, 6)])], &[7]),
            (&[(7, 5, 6)], &[(8, 1)], &[(4, &[(7, 6)])], &[]),
            (&[(7, 5, 5)], &[(8, 1)], &[(4, &[(7, 4)])], &[7]),
        ] {
            let writer = Some(NodeId(4));
            let here = here.iter().map(|(origin, then, now)| {
                (OriginId(*origin), Here { then: CommitNumber(*then), now: CommitNumber(*now), writer })
            });
            let found = lacking(&here.collect(), &synced(written), &said(others));
            let found: Vec<u64> = found.into_iter().map(|origin| origin.0).collect();
            assert_eq!(found, alone, "{written:?} {others:?}");
        }
    }

    #[test]
    fn all_who_stay_and_are_heard_are_asked_for_what_they_hold() {
        let member = |node: u64, state| Member {
            node: NodeId(node),
            name: node.to_string(),
            address: String::new(),
            origin: Some(node * 10),
            voter: node < 4,
            state,
            version: String::new(),
            joined: node,
        };
        let members = [
            member(1, MemberState::Active),
            member(2, MemberState::Active),
            member(3, MemberState::Leaving),
            member(4, MemberState::Active),
            member(5, MemberState::Lost),
            member(6, MemberState::Active),
        ];
        let nodes = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
        for (heard, of, asked) in [
            (&[1, 2, 3, 4, 5, 6][..], 1, &[2, 4, 6][..]),
            (&[2, 3, 5], 1, &[2]),
            (&[1, 2, 4], 9, &[1, 2, 4]),
            (&[3, 5, 7], 1, &[]),
            (&[], 1, &[]),
        ] {
            assert_eq!(able(&members, &nodes(heard), NodeId(of)), nodes(asked), "{heard:?} {of}");
        }
    }
}
