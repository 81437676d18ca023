//! Whether all is here that the site's other nodes had written when they were heard last (pure, but for what is left out).
//!
//! A node that is back must know what others have taken up of its own before it goes on. What was applied and is not synced does not count, nor
//! does a copy before it is whole: its head has the number of its last commit from the beginning.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sled_data::{CommitNumber, CopyState, Followed, OriginId};

use crate::event_log::EventLog;
use crate::replication::Following;
use crate::replication::peers::PeerState;
use crate::sessions::Knows;
use crate::transport::NodeId;

/// How long a node is not heard before it is not waited for, by one that has just started.
const SILENT_AFTER: Duration = Duration::from_secs(4);
/// After how long people are told of what is missing and of which nothing comes.
const MISSED_AFTER: Duration = Duration::from_secs(60);

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

/// Lives of which nothing is waited for, whatever others have of them.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// The present life, and those before it whose rest is here, or that left nothing.
    own: BTreeSet<OriginId>,
    /// Own lives of which others have more, and the commit up to which they are here: a copy that ends before it is not taken.
    outlived: BTreeMap<OriginId, CommitNumber>,
    /// Copies that differ: nothing more of them is taken until people have looked.
    stopped: BTreeSet<OriginId>,
}

impl LeftOut {
    /// As the log and the book of replication have it.
    pub fn of(log: &EventLog, following: &BTreeMap<OriginId, Following>) -> Self {
        let store = log.store();
        let spent = log.spent_lives().into_iter().map(|(life, _)| life);
        // Of what cannot be read nothing is left out.
        let is_outlived = |(life, _): &(OriginId, CommitNumber)| log.was_outlived(*life).unwrap_or(false);
        let is_stopped = |(_, how): &(&OriginId, &Following)| matches!(how, Following::Stopped(_));
        Self {
            own: log.ended_lives().iter().copied().chain([log.origin()]).chain(spent).collect(),
            outlived: store
                .ended_lives()
                .into_iter()
                .chain(store.ended_lives_without_events())
                .filter(is_outlived)
                .collect(),
            stopped: following.iter().filter(is_stopped).map(|(origin, _)| *origin).collect(),
        }
    }

    fn has(&self, origin: OriginId, commit: CommitNumber) -> bool {
        let never_comes = self.outlived.get(&origin).is_some_and(|here| *here > commit);
        never_comes || self.own.contains(&origin) || self.stopped.contains(&origin)
    }

    /// Whether a node writes a life now of which nothing more is taken: what it has seen since is not known here.
    pub fn has_present(&self, peers: &[PeerState]) -> bool {
        peers.iter().filter_map(|peer| peer.known.as_ref()).any(|known| self.stopped.contains(&OriginId(known.origin)))
    }
}

/// Up to where others' lives are to be here: as those who write them said when they were heard last, and as far as any of them `holds` what
/// others wrote: but for what is `left_out`. `None` while one has not said it. Who is silent for long is not waited for.
pub fn others_wrote(
    peers: &[PeerState],
    holds: &BTreeMap<NodeId, BTreeMap<OriginId, CommitNumber>>,
    left_out: &LeftOut,
    now: Duration,
) -> Option<BTreeMap<OriginId, CommitNumber>> {
    let mut needed = BTreeMap::new();
    let mut need = |origin: OriginId, commit: CommitNumber| {
        if left_out.has(origin, commit) {
            return;
        }
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
        holds.get(&peer.node)?.iter().for_each(|(origin, commit)| need(*origin, *commit));
    }
    Some(needed)
}

/// A life of which something is missing, and nothing comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed {
    /// The life.
    pub origin: OriginId,
    /// Up to which commit it is here, and up to which another node has it.
    pub commits: (CommitNumber, CommitNumber),
}

/// Since when of each life that is missing nothing has come.
#[derive(Debug, Default)]
pub struct Missing(BTreeMap<OriginId, (CommitNumber, Duration)>);

impl Missing {
    /// Looks at what is needed and what is followed, while something is missing (pure but for what it remembers): the first of those of which
    /// nothing has come for a minute.
    pub fn look(
        &mut self,
        needed: &BTreeMap<OriginId, CommitNumber>,
        followed: &[(OriginId, Followed)],
        now: Duration,
    ) -> Option<Missed> {
        let here = |origin: &OriginId| {
            let life = followed.iter().find(|(followed, _)| followed == origin).map(|(_, life)| life);
            life.map_or((CommitNumber(0), true), |life| (life.synced, life.copy == CopyState::Whole))
        };
        // What is on its way as a copy has a minute of its own from the follower.
        let lacks = needed.iter().filter(|(origin, commit)| {
            let (synced, is_whole) = here(origin);
            is_whole && synced < **commit
        });
        let lacks: Vec<Missed> =
            lacks.map(|(origin, commit)| Missed { origin: *origin, commits: (here(origin).0, *commit) }).collect();
        self.0.retain(|origin, (synced, _)| {
            lacks.iter().any(|missed| missed.origin == *origin && missed.commits.0 == *synced)
        });
        for missed in &lacks {
            self.0.entry(missed.origin).or_insert((missed.commits.0, now));
        }
        let is_late = |missed: &&Missed| {
            self.0.get(&missed.origin).is_some_and(|(_, since)| now.saturating_sub(*since) >= MISSED_AFTER)
        };
        lacks.iter().find(is_late).copied()
    }
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
    /// How much of what the others have written is known here; `has_arrived`: all that they said, with those left out that are silent for long;
    /// `lacks_present`: nothing more is taken of a life that one of them writes.
    pub fn look(&mut self, peers: &[PeerState], has_arrived: bool, lacks_present: bool) -> Knows {
        let connected = || peers.iter().filter(|peer| peer.is_connected);
        if has_arrived {
            self.has_been = true;
            self.over = connected().map(|peer| (peer.node, peer.since)).collect();
        }
        let is_here = |peer: &PeerState| self.over.get(&peer.node) == Some(&peer.since);
        match self.has_been && connected().all(is_here) {
            false => Knows::Part,
            true if connected().count() == peers.len() && !lacks_present => Knows::All,
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
    use std::sync::Arc;

    use sled_data::{MemoryBackend, Options, Store};

    use super::*;
    use crate::clock::Clock;
    use crate::event_log::{Config, Outliver};
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
            wall_ahead_ms: 0,
            steady_ahead_ms: 0,
        };
        PeerState {
            node: NodeId(2),
            name: String::new(),
            address: String::new(),
            is_connected,
            since: Duration::from_secs(since),
            error: None,
            calls_copy: false,
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
            let left_out = LeftOut { own: [OWN].into(), ..LeftOut::default() };
            let found = others_wrote(&peers, holds, &left_out, now);
            let expected = expected.map(|all| all.into_iter().map(|(id, number)| (id, CommitNumber(number))).collect());
            assert_eq!(found, expected, "{case}");
        }
    }

    #[test]
    fn what_can_never_come_is_not_waited_for() {
        let holds = BTreeMap::from([(NodeId(2), BTreeMap::from([(LOST, CommitNumber(4))]))]);
        let peers = [peer(true, 19, Some(7))];
        let outlived = |here| LeftOut { outlived: [(LOST, CommitNumber(here))].into(), ..LeftOut::default() };
        let stopped = |origin| LeftOut { stopped: [origin].into(), ..LeftOut::default() };
        for (left_out, expected, lacks_present) in [
            (LeftOut::default(), &[(LOST, 4), (ONE, 7)][..], false),
            (outlived(3), &[(LOST, 4), (ONE, 7)], false),
            (outlived(4), &[(LOST, 4), (ONE, 7)], false),
            (outlived(5), &[(ONE, 7)], false),
            (stopped(LOST), &[(ONE, 7)], false),
            (stopped(ONE), &[(LOST, 4)], true),
        ] {
            let expected = expected.iter().map(|(origin, commit)| (*origin, CommitNumber(*commit))).collect();
            let found = others_wrote(&peers, &holds, &left_out, Duration::from_secs(20));
            assert_eq!(found, Some(expected), "{left_out:?}");
            assert_eq!(left_out.has_present(&peers), lacks_present, "{left_out:?}");
        }
    }

    #[tokio::test]
    async fn what_this_node_has_left_in_a_short_life_or_one_that_was_outlived_is_not_waited_for() {
        let backend = Arc::new(MemoryBackend::new());
        let mut left_out = Vec::new();
        for seed in [5, 6, 7, 8] {
            let options = Options { seed: Some(seed), ..Options::default() };
            let store = Store::on(Arc::clone(&backend) as _, options).unwrap().0;
            let clock = Arc::new(Clock::starting_after(0));
            let log = EventLog::open(Arc::new(store), clock, Config::default()).unwrap();
            let ticket = {
                let mut open = log.lock();
                open.put_state("tree", b"key", Some(&[seed as u8]));
                open.ticket()
            };
            log.durable(ticket).await.unwrap();
            if seed == 6 {
                log.note_end_of_life(Outliver::Site).await.unwrap();
            }
            left_out.push((log.origin(), LeftOut::of(&log, &BTreeMap::new())));
            log.close();
            log.store().end_life("as after a kill").unwrap();
        }
        let [(first, _), (outlived, _), (third, third_knows), _] = &left_out[..] else { panic!("four lives") };
        let commit = third_knows.outlived.get(outlived).copied().unwrap();
        assert!(commit > CommitNumber(1), "{third_knows:?}");
        let has = |origin: &OriginId, commit| third_knows.has(*origin, CommitNumber(commit));
        assert!(has(third, u64::MAX), "the present one");
        assert!(has(outlived, commit.0 - 1) && !has(outlived, commit.0), "others have more of it");
        let (_, second_knows) = &left_out[1];
        assert!(second_knows.has(*first, CommitNumber(u64::MAX)), "a life without events is followed back by nobody");
        let stopped = BTreeMap::from([(LOST, Following::Stopped(String::new())), (ONE, Following::Copy(NodeId(2)))]);
        let log = EventLog::open(
            Arc::new(Store::on(Arc::new(MemoryBackend::new()), Options::default()).unwrap().0),
            Arc::new(Clock::starting_after(0)),
            Config::default(),
        )
        .unwrap();
        assert_eq!(LeftOut::of(&log, &stopped).stopped, [LOST].into());
        log.close();
    }

    #[test]
    fn of_what_is_missing_it_is_told_when_nothing_comes() {
        let needed = |commit| BTreeMap::from([(ONE, CommitNumber(commit)), (LOST, CommitNumber(3))]);
        let life = |origin, synced, copy| {
            let (commit, synced) = (CommitNumber(synced), CommitNumber(synced));
            (origin, Followed { commit, synced, hlc: 0, node: 0, copy })
        };
        let (second, mut missing) = (Duration::from_secs(1), Missing::default());
        // A life on its way as a copy, and one of which something comes each minute but the last.
        for at in 0..300_u32 {
            let here = [life(LOST, 0, CopyState::Taking), life(ONE, u64::from(at / 50).min(4), CopyState::Whole)];
            let found = missing.look(&needed(9), &here, second * at);
            let expected = Missed { origin: ONE, commits: (CommitNumber(4), CommitNumber(9)) };
            assert_eq!(found, (at >= 260).then_some(expected), "{at}");
        }
        let all = [life(LOST, 3, CopyState::Whole), life(ONE, 9, CopyState::Whole)];
        assert_eq!(missing.look(&needed(9), &all, second * 300), None);
        assert!(missing.0.is_empty());
        // One that is not followed at all.
        assert_eq!(missing.look(&needed(9), &all[1..], second * 301), None);
        assert!(missing.look(&needed(9), &all[1..], second * 361).is_some_and(|missed| missed.origin == LOST));
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
            let was_known = caught_up.over.clone();
            assert_eq!(caught_up.look(&peers, has_arrived, false), expected, "{case}");
            // Of one of them nothing more is taken.
            let mut doubts = CaughtUp { over: was_known, has_been: caught_up.has_been };
            let less = if expected == Knows::All { Knows::OfHeard } else { expected };
            assert_eq!(doubts.look(&peers, has_arrived, true), less, "{case}");
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
