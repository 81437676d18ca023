//! Whether all is here that the site's other nodes had written when they were heard last (pure).
//!
//! A node that is back must know what others have taken up of its own before it goes on. What was applied and is not synced does not count, nor
//! does a copy before it is whole: its head has the number of its last commit from the beginning.

use std::collections::BTreeMap;
use std::time::Duration;

use sled_data::{CommitNumber, CopyState, Followed, OriginId};

use crate::replication::peers::PeerState;
use crate::sessions::Knows;
use crate::transport::NodeId;

/// How long a node is not heard before it is not waited for, by one that has just started.
const SILENT_AFTER: Duration = Duration::from_secs(4);

/// How far what others wrote has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Arrived {
    /// All of it is here, and synced.
    All,
    /// Some of it is on its way as a copy.
    BeingCopied,
    /// Something is missing.
    NotYet,
}

/// Up to where others' lives are to be here: as those who write them said when they were heard last, and as far as any of them `holds` what
/// others wrote: not of what this node has written, in its present life or before. `None` while one has not said it. Who is silent for long is
/// not waited for.
pub fn others_wrote(
    peers: &[PeerState],
    holds: &BTreeMap<NodeId, BTreeMap<OriginId, CommitNumber>>,
    own: &[OriginId],
    now: Duration,
) -> Option<BTreeMap<OriginId, CommitNumber>> {
    let mut needed = BTreeMap::new();
    let mut need = |origin: OriginId, commit: CommitNumber| {
        let needed = needed.entry(origin).or_insert(commit);
        *needed = commit.max(*needed);
    };
    for peer in peers {
        let Some(known) = peer.known.as_ref().filter(|_| peer.is_connected) else {
            match now.saturating_sub(peer.since) >= SILENT_AFTER {
                true => continue,
                false => return None,
            }
        };
        need(OriginId(known.origin), CommitNumber(known.heartbeat.as_ref()?.synced));
        let held = holds.get(&peer.node)?.iter().filter(|(origin, _)| !own.contains(origin));
        held.for_each(|(origin, commit)| need(*origin, *commit));
    }
    Some(needed)
}

/// Whether it is here, by what is followed.
pub fn arrived(needed: &BTreeMap<OriginId, CommitNumber>, followed: &[(OriginId, Followed)]) -> Arrived {
    let mut all = Arrived::All;
    for (origin, commit) in needed.iter().filter(|(_, commit)| **commit > CommitNumber(0)) {
        let here = followed.iter().find(|(followed, _)| followed == origin).map(|(_, followed)| followed);
        match here {
            Some(here) if here.copy == CopyState::Whole && here.synced >= *commit => {}
            Some(here) if here.copy != CopyState::Whole => return Arrived::BeingCopied,
            _ => all = Arrived::NotYet,
        }
    }
    all
}

/// Over which connections all has come that was written before they were made.
#[derive(Debug, Default)]
pub struct CaughtUp {
    /// Since when each stands.
    over: BTreeMap<NodeId, Duration>,
    has_been: bool,
}

impl CaughtUp {
    /// How much of what the others have written is known here; `has_arrived`: all that they said, with those left out that are silent for long.
    pub fn look(&mut self, peers: &[PeerState], has_arrived: bool) -> Knows {
        let connected = || peers.iter().filter(|peer| peer.is_connected);
        if has_arrived {
            self.has_been = true;
            self.over = connected().map(|peer| (peer.node, peer.since)).collect();
        }
        let is_here = |peer: &PeerState| self.over.get(&peer.node) == Some(&peer.since);
        match self.has_been && connected().all(is_here) {
            false => Knows::Part,
            true if connected().count() == peers.len() => Knows::All,
            true => Knows::OfHeard,
        }
    }
}

/// Whether the node that wrote a life is back in another one, and has all of it: what of it comes late is that node's own to go on with. Not where that life
/// was outlived, as `was_outlived` says by the life that it writes now: it has that back from others like any other, and goes on with none of it.
pub fn goes_on_itself(
    writer: NodeId,
    life: OriginId,
    peers: &[PeerState],
    holds: &BTreeMap<NodeId, BTreeMap<OriginId, CommitNumber>>,
    was_outlived: impl Fn(OriginId) -> bool,
) -> bool {
    let Some(peer) = peers.iter().find(|peer| peer.node == writer && peer.is_connected) else { return false };
    let holds_it = holds.get(&writer).is_some_and(|holds| holds.contains_key(&life));
    holds_it && !peer.known.as_ref().is_some_and(|known| was_outlived(OriginId(known.origin)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::peers::{Heartbeat, Known};

    const ONE: OriginId = OriginId(10);
    const LOST: OriginId = OriginId(90);
    const OWN: OriginId = OriginId(1);

    fn peer(is_connected: bool, since: u64, synced: Option<u64>) -> PeerState {
        let heartbeat = synced.map(|synced| Heartbeat { incarnation: 1, synced, quorum: 0, hybrid: 0, wall_ms: 0 });
        let known = Known {
            origin: ONE.0,
            incarnation: 1,
            program: String::new(),
            protocol_max: 1,
            heard: Duration::ZERO,
            heartbeat,
            clock_ahead_ms: 0,
            steady_ahead_ms: 0,
        };
        PeerState {
            node: NodeId(2),
            name: String::new(),
            address: String::new(),
            is_connected,
            since: Duration::from_secs(since),
            error: None,
            known: Some(known),
            connection: None,
        }
    }

    #[test]
    fn who_is_heard_is_waited_for_and_who_is_silent_is_not() {
        let holds = BTreeMap::from([(NodeId(2), BTreeMap::from([(LOST, CommitNumber(4)), (OWN, CommitNumber(9))]))]);
        let now = Duration::from_secs(20);
        let all = Some(vec![(ONE, 7), (LOST, 4)]);
        for (case, peers, holds, expected) in [
            ("nobody", vec![], &holds, Some(vec![])),
            ("it is heard", vec![peer(true, 19, Some(7))], &holds, all),
            ("it has said nothing", vec![peer(true, 1, None)], &holds, None),
            ("nor what it holds", vec![peer(true, 1, Some(7))], &BTreeMap::new(), None),
            ("it has just gone", vec![peer(false, 19, Some(7))], &holds, None),
            ("it has gone", vec![peer(false, 16, Some(7))], &holds, Some(vec![])),
        ] {
            let found = others_wrote(&peers, holds, &[OWN], now);
            let expected = expected.map(|all| all.into_iter().map(|(id, number)| (id, CommitNumber(number))).collect());
            assert_eq!(found, expected, "{case}");
        }
    }

    #[test]
    fn what_is_copied_or_not_synced_is_not_here() {
        let needed = BTreeMap::from([(ONE, CommitNumber(7)), (LOST, CommitNumber(0))]);
        let followed = |commit, synced, copy| {
            let (commit, synced) = (CommitNumber(commit), CommitNumber(synced));
            vec![(ONE, Followed { commit, synced, hlc: 0, node: 0, copy })]
        };
        for (case, here, expected) in [
            ("nothing", vec![], Arrived::NotYet),
            ("all", followed(7, 7, CopyState::Whole), Arrived::All),
            ("more", followed(9, 8, CopyState::Whole), Arrived::All),
            ("not synced", followed(7, 6, CopyState::Whole), Arrived::NotYet),
            ("a copy's head", followed(7, 0, CopyState::Taking), Arrived::BeingCopied),
            ("a copy", followed(8, 8, CopyState::Until(CommitNumber(9))), Arrived::BeingCopied),
        ] {
            assert_eq!(arrived(&needed, &here), expected, "{case}");
        }
        assert_eq!(arrived(&BTreeMap::new(), &[]), Arrived::All);
    }

    #[test]
    fn what_was_known_is_not_known_any_more_when_a_node_was_away() {
        let mut caught_up = CaughtUp::default();
        for (case, peers, has_arrived, expected) in [
            ("a start", vec![peer(false, 0, None)], false, Knows::Part),
            ("it is connected", vec![peer(true, 1, None)], false, Knows::Part),
            ("all is here", vec![peer(true, 1, Some(7))], true, Knows::All),
            ("it writes on", vec![peer(true, 1, Some(8))], false, Knows::All),
            ("it is gone", vec![peer(false, 5, Some(8))], false, Knows::OfHeard),
            ("it is gone for long", vec![peer(false, 5, Some(8))], true, Knows::OfHeard),
            ("it is back", vec![peer(true, 9, None)], false, Knows::Part),
            ("all of it is here", vec![peer(true, 9, Some(9))], true, Knows::All),
            ("nobody", vec![], true, Knows::All),
        ] {
            assert_eq!(caught_up.look(&peers, has_arrived), expected, "{case}");
        }
    }

    #[test]
    fn who_is_back_with_all_of_its_life_before_goes_on_with_it() {
        let holds = |life| BTreeMap::from([(NodeId(2), BTreeMap::from([(life, CommitNumber(4))]))]);
        for (peers, holds, expected) in [
            (vec![peer(true, 1, None)], holds(LOST), true),
            (vec![peer(true, 1, None)], holds(ONE), false),
            (vec![peer(false, 1, None)], holds(LOST), false),
            (vec![], holds(LOST), false),
            (vec![peer(true, 1, None)], BTreeMap::new(), false),
        ] {
            assert_eq!(goes_on_itself(NodeId(2), LOST, &peers, &holds, |_| false), expected, "{holds:?}");
            assert!(!goes_on_itself(NodeId(2), LOST, &peers, &holds, |present| present == ONE), "it was outlived");
        }
    }
}
