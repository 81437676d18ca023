//! What the other nodes hold of lives that nobody writes, this node's own earlier ones among them: before a node leaves, what it alone has of
//! them is with others; and who reads on the log of one that is taken out.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sled_data::{CommitNumber, CopyState, OriginId};
use tokio::task::JoinSet;

use super::keeper::longest;
use super::leaving::{HAND_OVER_WAIT, nobody_has};
use super::site::SiteNode;
use crate::admin::ApiError;
use crate::catalog::{Member, MemberRefusal, MemberState, Refusal, WorkRefusal};
use crate::event_log::EventLog;
use crate::replication::peers::{AskError, PeerState, Peers};
use crate::replication::{ASK_HOLDINGS, ASK_SAME, Holdings, Point, SAME_LOGS_MAX, decode_answer, encode_question};
use crate::transport::NodeId;

/// How long a node may take to say what it holds.
const HOLDINGS_WAIT: Duration = Duration::from_secs(2);
/// How often they are asked while something is missing.
const ASK_EVERY: Duration = Duration::from_millis(500);
/// Lives that one refusal names.
const NAMED_MAX: usize = 3;

/// Who may read on the log of a node that is taken out: those who stay and are heard (pure).
fn able(members: &[Member], heard: &[NodeId], of: NodeId) -> Vec<NodeId> {
    let stays = |member: &&Member| member.node != of && member.state == MemberState::Active;
    members.iter().filter(stays).map(|member| member.node).filter(|node| heard.contains(node)).collect()
}

/// Whether a change was refused as the one that was chosen to read on goes as well, or as nobody was chosen for what the node writes now: then another one
/// is to be chosen (pure).
pub(super) fn is_no_heir(heir: NodeId, refusal: &Refusal) -> bool {
    match refusal {
        Refusal::Work(WorkRefusal::NotActive(_) | WorkRefusal::NoHeir(_)) => true,
        Refusal::Member(MemberRefusal::Removed(gone) | MemberRefusal::Unknown(gone)) => *gone == heir,
        _ => false,
    }
}

/// What a node that leaves has of another's life, or of an earlier one of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Here {
    /// What was here when the waiting began.
    then: CommitNumber,
    /// What is here now, and by which clock it is known.
    now: Point,
    /// Who wrote it, where that is known.
    writer: Option<NodeId>,
}

type Lives = BTreeMap<OriginId, Here>;

/// A node that has answered.
struct Answered {
    node: NodeId,
    /// The life that it writes.
    writes: Option<OriginId>,
    /// Whether it stays, and is heard.
    stays: bool,
    said: Said,
}

/// What a node has said of lives.
enum Said {
    /// These it has up to what is here, and the same.
    Same(BTreeSet<OriginId>),
    /// It is of an older program, which knows numbers alone: how far it has synced what it writes, and what it holds.
    Numbers(CommitNumber, Holdings),
}

impl Answered {
    /// Whether it stays, and has all of a life that is here (pure). One that leaves as well does not count, nor for what it writes: it may count on this node
    /// for that.
    fn has(&self, origin: OriginId, here: &Here) -> bool {
        if !self.stays {
            return false;
        }
        match &self.said {
            Said::Same(same) => same.contains(&origin),
            Said::Numbers(synced, _) if self.writes == Some(origin) => *synced >= here.then,
            Said::Numbers(_, holds) => {
                let there = holds.0.get(&origin);
                // The one that wrote it may have written on after a restore, and have as many commits that are others: what it has is
                // followed here, so it is all that is here, or it is not the same.
                let is_all = |there: &&CommitNumber| match here.writer == Some(self.node) {
                    true => **there == here.now.commit,
                    false => **there >= here.then,
                };
                there.filter(is_all).is_some()
            }
        }
    }
}

/// The lives that are not all with another (pure).
fn lacking(here: &Lives, answered: &[Answered]) -> Vec<OriginId> {
    let is_with_one = |origin: &OriginId, here: &Here| answered.iter().any(|one| one.has(*origin, here));
    here.iter().filter(|(origin, here)| !is_with_one(origin, here)).map(|(origin, _)| *origin).collect()
}

/// What a node says of these logs; `None` where it says nothing.
async fn ask_one(peers: &Peers, peer: &PeerState, points: &[Point]) -> Option<Said> {
    let answer = match peers.ask(peer.node, ASK_SAME, &encode_question(points), HOLDINGS_WAIT).await {
        Ok(answer) => decode_answer(&answer, points.len())?,
        Err(AskError::UnknownKind) => {
            let holds = peers.ask(peer.node, ASK_HOLDINGS, &[], HOLDINGS_WAIT).await.ok();
            let holds = holds.and_then(|bytes| Holdings::decode(&bytes)).unwrap_or_default();
            let said = peer.known.as_ref().and_then(|known| known.heartbeat);
            return Some(Said::Numbers(CommitNumber(said.map_or(0, |said| said.synced)), holds));
        }
        Err(_) => return None,
    };
    let same = points.iter().zip(answer).filter(|(_, is_same)| *is_same);
    Some(Said::Same(same.map(|(point, _)| point.origin).collect()))
}

/// The first of these, for people.
fn named(lives: impl Iterator<Item = String>) -> String {
    lives.take(NAMED_MAX).collect::<Vec<_>>().join(", ")
}

/// What is here whole of others' lives and of this node's that have ended. Reads the store.
fn whole_here(log: &EventLog) -> Lives {
    let store = log.store();
    let whole = store.followed().into_iter().filter(|(_, followed)| followed.copy == CopyState::Whole);
    let some = whole.filter(|(_, followed)| followed.synced > CommitNumber(0));
    let here = some.map(|(origin, followed)| {
        let now = Point { origin, commit: followed.commit, hlc: followed.hlc };
        let writer = Some(NodeId(followed.node)).filter(|node| node.0 != 0);
        (origin, Here { then: followed.synced, now, writer })
    });
    let ended = log.lives_to_tell().into_iter().map(|(origin, last)| {
        // One whose last record cannot be read is the same as nobody's.
        let record = store.commits_to_ship(origin, last, 1).unwrap_or_default();
        let hlc = record.first().map_or(0, |commit| commit.record.hlc);
        (origin, Here { then: last, now: Point { origin, commit: last, hlc }, writer: None })
    });
    here.chain(ended).collect()
}

/// The own lives that have ended and are followed now, with a copy that is not whole.
fn half_here(log: &EventLog) -> Vec<OriginId> {
    let half = log.store().followed().into_iter().filter(|(_, followed)| followed.copy != CopyState::Whole);
    half.map(|(origin, _)| origin).filter(|origin| log.ended_lives().contains(origin)).collect()
}

impl SiteNode {
    /// Refuses where lives of this node's that have ended hold events that nobody can have from here any more, or are being taken back from
    /// another node and are not whole: what is here of them may be here alone.
    pub(super) fn check_own_lives(&self) -> Result<(), ApiError> {
        let half = half_here(&self.log);
        if !half.is_empty() {
            let (count, named) = (half.len(), named(half.iter().map(ToString::to_string)));
            let what = format!(
                "{count} earlier lives of this node ({named}) are being taken back from another node and are not whole here"
            );
            return Err(nobody_has(&what).hint(
                "try again when they are: see `edgeway node status`. `edgeway node remove` at another node takes this one out without them",
            ));
        }
        let alone = self.log.lives_here_alone();
        if alone.is_empty() {
            return Ok(());
        }
        let (count, events) = (alone.len(), alone.values().sum::<u64>());
        let named = named(alone.keys().map(ToString::to_string));
        let what = format!(
            "{events} events of {count} earlier lives of this node ({named}) are here alone, and no other node can take them"
        );
        Err(nobody_has(&what).hint(
            "`edgeway node remove` at another node takes this one out without them; so does `edgeway node leave` when retention has let them go",
        ))
    }

    /// Waits until others have what is here of lives that nobody writes here now, and the same: one that was restored and wrote on has as many commits, and not
    /// what is here. Of a node that is lost it may be here alone, and was acknowledged as well.
    pub(super) async fn hand_over_lives(&self) -> Result<(), ApiError> {
        let since = Instant::now();
        let mut here = whole_here(&self.log);
        while !here.is_empty() {
            let lacking = lacking(&here, &self.ask_same(&here).await);
            if lacking.is_empty() {
                break;
            }
            if since.elapsed() > HAND_OVER_WAIT {
                return Err(self.nobody_has_lives(&lacking));
            }
            tokio::time::sleep(ASK_EVERY).await;
            self.look_again(&mut here);
        }
        Ok(())
    }

    fn nobody_has_lives(&self, lacking: &[OriginId]) -> ApiError {
        let members = self.catalog.members();
        let named = |origin: &OriginId| match members.iter().find(|member| member.origin == Some(origin.0)) {
            Some(member) => format!("{origin} of {}", member.name),
            None => origin.to_string(),
        };
        let (count, named) = (lacking.len(), self::named(lacking.iter().map(named)));
        let whose = "of other nodes, or of earlier lives of this one";
        nobody_has(&format!("no other node has as much of {count} logs {whose} ({named})")).hint(
            "what another node can take it takes from here: see `edgeway node status`, and try again. One that was restored and wrote on has \
             something else under the same numbers, and cannot take it: let a new node join, which has it from here, and try again then",
        )
    }

    /// Takes note of how much is here now of what was here.
    fn look_again(&self, here: &mut Lives) {
        let now = whole_here(&self.log);
        for (origin, here) in here.iter_mut() {
            here.now = now.get(origin).map_or(here.now, |now| now.now);
        }
    }

    /// Asks all who are heard whether they have all that is here, and the same: now, as what they said before may be old.
    async fn ask_same(&self, here: &Lives) -> Vec<Answered> {
        let Some(peers) = self.peers() else { return Vec::new() };
        let states = peers.states();
        let heard: Vec<NodeId> = states.iter().filter(|peer| peer.is_connected).map(|peer| peer.node).collect();
        let staying = able(&self.catalog.members(), &heard, self.place.node);
        let points: Arc<Vec<Point>> = Arc::new(here.values().map(|here| here.now).take(SAME_LOGS_MAX).collect());
        // All at once: whoever has handed over waits meanwhile.
        let mut asks: JoinSet<Option<Answered>> = JoinSet::new();
        for peer in states.into_iter().filter(|peer| peer.is_connected) {
            let (peers, points, stays) = (Arc::clone(&peers), Arc::clone(&points), staying.contains(&peer.node));
            asks.spawn(async move {
                let said = ask_one(&peers, &peer, &points).await?;
                let writes = peer.known.as_ref().map(|known| OriginId(known.origin));
                Some(Answered { node: peer.node, writes, stays, said })
            });
        }
        let mut answered = Vec::new();
        while let Some(asked) = asks.join_next().await {
            answered.extend(asked.ok().flatten());
        }
        answered
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
        // One that leaves itself takes nothing up.
        let stays = members.iter().any(|member| member.node == me && member.state == MemberState::Active);
        let synced = here.map_or(CommitNumber(0), |(_, followed)| followed.synced);
        let mut held = Vec::from_iter(stays.then_some((me, synced)));
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
        let mut expected = Lives::new();
        for _ in 0..2 {
            let log = open();
            let act = Act { who: "test", act: "life", what: "a", outcome: "done", detail: serde_json::Value::Null };
            log.durable_blocking(log.audit(act).unwrap()).unwrap();
            let (origin, last) = (log.origin(), log.store().synced_commit());
            let hlc = log.store().commits_to_ship(origin, last, 1).unwrap()[0].record.hlc;
            assert!(hlc > 0);
            expected.insert(origin, Here { then: last, now: Point { origin, commit: last, hlc }, writer: None });
            log.close();
            log.store().end_life("as after a kill").unwrap();
        }
        let log = open();
        let here = whole_here(&log);
        assert_eq!(here, expected);
        let lives: Vec<_> = expected.keys().copied().collect();
        assert_eq!(lacking(&here, &[]), lives);
        let same = Said::Same(lives.iter().copied().collect());
        assert_eq!(lacking(&here, &[Answered { node: NodeId(2), writes: None, stays: true, said: same }]), []);
        log.close();
    }

    #[test]
    fn who_goes_as_well_reads_on_for_nobody() {
        let (goes, heir) = (NodeId(1), NodeId(2));
        for (refusal, is_chosen_anew) in [
            (Refusal::from(WorkRefusal::NotActive(heir)), true),
            (WorkRefusal::NoHeir(goes).into(), true),
            (MemberRefusal::Removed(heir).into(), true),
            (MemberRefusal::Removed(goes).into(), false),
            (MemberRefusal::Last(goes).into(), false),
            (Refusal::UnknownOutcome, false),
        ] {
            assert_eq!(is_no_heir(heir, &refusal), is_chosen_anew, "{refusal}");
        }
    }

    #[test]
    fn an_own_life_that_is_half_taken_back_is_told() {
        let open = |backend: &Arc<MemoryBackend>| {
            let (store, recovered) = Store::on(Arc::clone(backend) as _, Options::default()).unwrap();
            let clock = Arc::new(Clock::starting_after(recovered.last_hlc));
            let log = EventLog::open(Arc::new(store), clock, Config::default()).unwrap();
            log.ensure_topic(AUDIT_TOPIC, None).unwrap();
            log
        };
        let backend = Arc::new(MemoryBackend::new());
        let log = open(&backend);
        let act = Act { who: "test", act: "life", what: "a", outcome: "done", detail: serde_json::Value::Null };
        log.durable_blocking(log.audit(act).unwrap()).unwrap();
        let life = log.origin();
        log.close();
        log.store().end_life("as after a kill").unwrap();
        let log = open(&backend);
        assert_eq!((half_here(&log), log.ended_lives()), (vec![], &[life][..]));
        // Another has all of it, and goes before all has come.
        let head = log.store().copy_head(life).unwrap();
        log.store().begin_copy(&head).unwrap();
        assert!(log.lives_here_alone().is_empty() && !whole_here(&log).contains_key(&life));
        assert_eq!(half_here(&log), [life]);
        log.store().end_copy(life, head.commit).unwrap();
        log.store().sync().unwrap();
        assert!(half_here(&log).is_empty() && whole_here(&log).contains_key(&life));
        log.close();
    }

    fn lives(all: &[(u64, u64, u64)]) -> Lives {
        let here = |(origin, then, now): &(u64, u64, u64)| {
            let now = Point { origin: OriginId(*origin), commit: CommitNumber(*now), hlc: 0 };
            (OriginId(*origin), Here { then: CommitNumber(*then), now, writer: Some(NodeId(4)) })
        };
        all.iter().map(here).collect()
    }

    fn found_alone(here: &[(u64, u64, u64)], answered: &[Answered]) -> Vec<u64> {
        lacking(&lives(here), answered).into_iter().map(|origin| origin.0).collect()
    }

    #[test]
    fn a_life_counts_as_kept_where_one_has_the_same() {
        let one = |node, writes: u64, stays, same: &[u64]| Answered {
            node: NodeId(node),
            writes: Some(OriginId(writes)),
            stays,
            said: Said::Same(same.iter().copied().map(OriginId).collect()),
        };
        let here = [(7, 5, 5), (8, 3, 9)];
        for (answered, alone) in [
            (vec![], &[7, 8][..]),
            (vec![one(2, 1, true, &[7])], &[8]),
            (vec![one(2, 1, true, &[7]), one(3, 1, true, &[8])], &[]),
            // It writes on, and has something else: that it has more does not count.
            (vec![one(4, 7, true, &[8])], &[7]),
            // It leaves as well, and may count on this node for what it writes.
            (vec![one(4, 7, false, &[7, 8])], &[7, 8]),
            (vec![one(4, 7, true, &[7, 8])], &[]),
        ] {
            assert_eq!(found_alone(&here, &answered), alone);
        }
    }

    #[test]
    fn of_older_programs_it_is_known_by_numbers() {
        // what is here of a life, when the waiting began and now, all by node 4; who writes which and has synced how much; what others hold
        type Holds = &'static [(u64, u64)];
        type Case = (&'static [(u64, u64, u64)], &'static [(u64, u64, u64, Holds)], &'static [u64]);
        let cases: [Case; 11] = [
            (&[], &[], &[]),
            (&[(7, 5, 5)], &[], &[7]),
            (&[(7, 5, 5)], &[(2, 1, 0, &[(7, 4)]), (3, 1, 0, &[(8, 9)])], &[7]),
            (&[(7, 5, 5)], &[(2, 1, 0, &[(7, 4)]), (3, 1, 0, &[(7, 5)])], &[]),
            (&[(7, 5, 5), (8, 3, 3), (9, 1, 1)], &[(2, 1, 0, &[(7, 6), (9, 0)]), (3, 1, 0, &[(8, 2)])], &[8, 9]),
            // Its writer is there: a restored one has less than is here.
            (&[(7, 5, 9)], &[(4, 7, 4, &[])], &[7]),
            (&[(7, 5, 9)], &[(4, 7, 4, &[]), (2, 1, 0, &[(7, 5)])], &[]),
            (&[(7, 5, 9), (8, 2, 2)], &[(4, 7, 5, &[]), (2, 8, 3, &[])], &[]),
            // Its writer has begun another life: what it has left of this one is the same once it was followed.
            (&[(7, 5, 5)], &[(4, 8, 1, &[(7, 6)])], &[7]),
            (&[(7, 5, 6)], &[(4, 8, 1, &[(7, 6)])], &[]),
            (&[(7, 5, 5)], &[(4, 8, 1, &[(7, 4)])], &[7]),
        ];
        for (here, said, alone) in cases {
            let answered = said.iter().map(|(node, writes, synced, holds)| {
                let holds = holds.iter().map(|(origin, commit)| (OriginId(*origin), CommitNumber(*commit))).collect();
                let said = Said::Numbers(CommitNumber(*synced), Holdings(holds));
                Answered { node: NodeId(*node), writes: Some(OriginId(*writes)), stays: true, said }
            });
            assert_eq!(found_alone(here, &answered.collect::<Vec<_>>()), alone, "{here:?} {said:?}");
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
