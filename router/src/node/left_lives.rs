//! What the other nodes hold of lives whose writers are not there: before a node leaves, what it alone has of them is with others; and who
//! reads on the log of one that is taken out.

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

/// The lives of which nobody has as much as is here (pure).
fn lacking(here: &Synced, held: &[(NodeId, Holdings)]) -> Vec<OriginId> {
    let has = |origin: &OriginId, commit: &CommitNumber| {
        held.iter().any(|(_, holds)| holds.0.get(origin).is_some_and(|there| there >= commit))
    };
    here.iter().filter(|(origin, commit)| !has(origin, commit)).map(|(origin, _)| *origin).collect()
}

impl SiteNode {
    /// Waits until others who stay have what is here of lives that nobody writes now: of a node that is lost it may be here alone, and
    /// was acknowledged as well.
    pub(super) async fn hand_over_lives(&self) -> Result<(), ApiError> {
        let since = Instant::now();
        loop {
            let here = self.left_here();
            if here.is_empty() {
                return Ok(());
            }
            let lacking = lacking(&here, &self.ask_holdings(self.place.node).await);
            if lacking.is_empty() {
                return Ok(());
            }
            if since.elapsed() > HAND_OVER_WAIT {
                let count = lacking.len();
                let named: Vec<String> = lacking.iter().take(NAMED_MAX).map(ToString::to_string).collect();
                let named = named.join(", ");
                return Err(nobody_has(&format!(
                    "no other node has as much of {count} logs of nodes that are gone ({named})"
                )));
            }
            tokio::time::sleep(ASK_EVERY).await;
        }
    }

    /// What is here whole of lives whose writers are not connected.
    fn left_here(&self) -> Synced {
        let states = self.peers().map(|peers| peers.states()).unwrap_or_default();
        let written: Vec<OriginId> = states
            .iter()
            .filter(|peer| peer.is_connected)
            .filter_map(|peer| peer.known.as_ref().map(|known| OriginId(known.origin)))
            .collect();
        let followed = self.log.store().followed().into_iter();
        let left = followed.filter(|(origin, followed)| {
            followed.copy == CopyState::Whole && followed.synced > CommitNumber(0) && !written.contains(origin)
        });
        left.map(|(origin, followed)| (origin, followed.synced)).collect()
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
    use super::*;

    #[test]
    fn what_is_here_alone_of_a_life_that_is_left_is_seen() {
        let synced = |all: &[(u64, u64)]| -> Synced {
            all.iter().map(|(origin, commit)| (OriginId(*origin), CommitNumber(*commit))).collect()
        };
        let said = |all: &[(u64, &[(u64, u64)])]| -> Vec<(NodeId, Holdings)> {
            all.iter().map(|(node, holds)| (NodeId(*node), Holdings(synced(holds)))).collect()
        };
        // what is here, what others say, what is here alone
        for (here, others, alone) in [
            (&[][..], &[][..], &[][..]),
            (&[(7, 5)], &[], &[7]),
            (&[(7, 5)], &[(2, &[(7, 4)][..]), (3, &[(8, 9)])], &[7]),
            (&[(7, 5)], &[(2, &[(7, 4)]), (3, &[(7, 5)])], &[]),
            (&[(7, 5), (8, 3), (9, 1)], &[(2, &[(7, 6), (9, 0)]), (3, &[(8, 2)])], &[8, 9]),
        ] {
            let found: Vec<u64> = lacking(&synced(here), &said(others)).into_iter().map(|origin| origin.0).collect();
            assert_eq!(found, alone, "{here:?} {others:?}");
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
