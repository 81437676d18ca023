//! Nodes that leave: the doors close, the others take all that was acknowledged, then the node is taken out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use sled_data::CommitNumber;

use super::closing::{CLOSE_WAIT, Doors};
use super::left_lives::is_no_heir;
use super::links::LinkNode;
use super::site::{SiteNode, WHO};
use super::wires::REMOVED;
use crate::admin::site::{LeftView, RemovedView};
use crate::admin::{ApiError, Readiness};
use crate::catalog::{Change, Class, Member, MemberRefusal, MemberState, MemberUpdate, Refusal, WorkRefusal};
use crate::event_log::Act;
use crate::replication::{ASK_HAND_OVER, FollowerState};
use crate::sessions::Sessions;
use crate::transport::NodeId;

/// How long a node that leaves waits until the others have all of its log.
pub(super) const HAND_OVER_WAIT: Duration = Duration::from_secs(10);
/// How often it looks.
const HAND_OVER_LOOK: Duration = Duration::from_millis(50);
/// How long another node waits until one that it takes out has said that it goes, and has handed over.
const ASK_WAIT: Duration = Duration::from_secs(CLOSE_WAIT.as_secs() + HAND_OVER_WAIT.as_secs() + 10);
/// How long a node that has handed over waits to be taken out; then it takes clients again.
const TAKEN_OUT_WAIT: Duration = Duration::from_secs(30);
/// How long another node counts on it that the doors are closed: less than that by as long as the change may take by which it is taken out.
const HANDED_OVER_HOLDS: Duration = Duration::from_secs(20);
/// How often a change is asked for whose outcome is not known.
const INSIST_MAX: u32 = 3;
/// How often it is chosen who reads on: the one that was chosen may go as well.
const CHOICES_MAX: u32 = 5;
/// The answer of a node that has handed over; text follows in any other one.
const HANDED_OVER: &[u8] = &[1];
/// The first byte of an answer that says why not.
const NOT_HANDED_OVER: u8 = 0;

/// What the others have of a node that leaves.
struct HandedOver {
    /// Who has all of its log, and reads on what is unread.
    heir: NodeId,
    /// Those who follow it and do not have all of it yet, by name.
    behind: Vec<String>,
}

/// What is handed over.
#[derive(Clone, Copy)]
struct Handing {
    /// The last commit of the node's log that holds something acknowledged.
    last: CommitNumber,
    /// Since when others are waited for.
    since: Instant,
}

/// Who has a log up to its last commit, and who lacks something, of those that follow it and stay (pure). One that leaves as well may count on this
/// very node.
fn takers(followers: &[(NodeId, FollowerState)], last: CommitNumber, members: &[Member]) -> (Vec<NodeId>, Vec<NodeId>) {
    let here = followers.iter().filter(|(node, state)| state.is_here && is_active(members, *node));
    let (have, lack): (Vec<_>, Vec<_>) = here.partition(|(_, state)| state.synced >= last);
    let nodes = |of: Vec<&(NodeId, FollowerState)>| of.into_iter().map(|(node, _)| *node).collect();
    (nodes(have), nodes(lack))
}

fn is_active(members: &[Member], node: NodeId) -> bool {
    members.iter().any(|one| one.node == node && one.state == MemberState::Active)
}

/// Why a node that has handed over is not out of its site.
enum NotGone {
    /// It is not, and stays.
    Stays(ApiError),
    /// It is not known whether it is: it may be yet.
    Perhaps(ApiError),
}

impl From<ApiError> for NotGone {
    fn from(error: ApiError) -> Self {
        Self::Stays(error)
    }
}

/// Whether a node is asked to hand over once more: it had, and so long ago that it takes clients again soon, or does already (pure).
fn must_ask_again(not_handed_over: Option<&str>, since: Duration) -> bool {
    not_handed_over.is_none() && since > HANDED_OVER_HOLDS
}

impl SiteNode {
    /// Says what is closed when the node leaves.
    pub(super) fn set_doors(&self, sessions: Arc<Sessions>, readiness: Arc<Readiness>, links: Arc<LinkNode>) {
        self.doors.get_or_init(|| Doors::new(sessions, readiness, links));
    }

    /// Closes the doors, and waits until the others have all that was acknowledged. The doors are open again where that
    /// comes to nothing and the node is of its site still.
    async fn hand_over(&self) -> Result<Handing, ApiError> {
        let (have, lack) = self.takers(CommitNumber(0));
        if have.is_empty() && lack.is_empty() {
            return Err(nobody_has("no other node that stays follows this node's log"));
        }
        self.check_own_lives()?;
        let doors = self.doors.get();
        if let Some(doors) = doors {
            doors.close().await;
        }
        // At once: clients wait meanwhile.
        let own = async {
            let handing = Handing { last: self.write_last().await?, since: Instant::now() };
            self.await_takers(handing).await.map(|_| handing)
        };
        let (handed, lives, linked) = tokio::join!(own, self.hand_over_lives(), self.hand_over_linked());
        let handed = lives.and(linked).and(handed);
        if let (Err(_), Some(doors)) = (&handed, doors) {
            doors.reopen();
        }
        handed
    }

    /// Waits until others have what links have brought here: it was told to be stored as well.
    async fn hand_over_linked(&self) -> Result<(), ApiError> {
        match self.doors.get().and_then(|doors| doors.links.within()) {
            Some(within) => within.hand_over(HAND_OVER_WAIT).await.map_err(|what| nobody_has(&what)),
            None => Ok(()),
        }
    }

    fn takers(&self, last: CommitNumber) -> (Vec<NodeId>, Vec<NodeId>) {
        takers(&self.book.followers(self.log.store().origin()), last, &self.catalog.members())
    }

    /// Writes a commit behind all that was acknowledged, of `memory` topics as well: durable, it holds them up no more.
    async fn write_last(&self) -> Result<CommitNumber, ApiError> {
        let node = self.place.node.to_string();
        let act =
            Act { who: WHO, act: "node.hand_over", what: &node, outcome: "done", detail: serde_json::Value::Null };
        let ticket = self.log.audit(act).map_err(ApiError::from)?;
        self.log.durable(ticket).await.map_err(ApiError::from)?;
        Ok(self.log.store().synced_commit())
    }

    /// Waits until all who follow this node and stay have its log, or long enough for one to be enough.
    async fn await_takers(&self, handing: Handing) -> Result<HandedOver, ApiError> {
        loop {
            let (have, lack) = self.takers(handing.last);
            let is_late = handing.since.elapsed() > HAND_OVER_WAIT;
            match have.first() {
                Some(heir) if lack.is_empty() || is_late => {
                    let behind = self.names(&lack);
                    if !behind.is_empty() {
                        tracing::warn!(?behind, "these nodes do not have all of this node's log yet; others have");
                    }
                    return Ok(HandedOver { heir: *heir, behind });
                }
                None if is_late => return Err(nobody_has("no other node that stays has all of this node's log")),
                _ => tokio::time::sleep(HAND_OVER_LOOK).await,
            }
        }
    }

    pub(super) fn names(&self, nodes: &[NodeId]) -> Vec<String> {
        let members = self.catalog.members();
        let names: BTreeMap<NodeId, &str> = members.iter().map(|member| (member.node, member.name.as_str())).collect();
        nodes.iter().map(|node| names.get(node).map_or_else(|| node.to_string(), |name| (*name).to_owned())).collect()
    }

    /// Takes this node out of its site, to the end of it, also where the one who asked for it has gone: half of it would leave the doors
    /// closed.
    pub(super) async fn leave_whole(&self) -> Result<LeftView, ApiError> {
        let stopping = || ApiError::conflict("the node is stopping");
        let me = self.me.upgrade().ok_or_else(stopping)?;
        tokio::spawn(async move { me.go().await }).await.map_err(|_| stopping())?
    }

    async fn go(&self) -> Result<LeftView, ApiError> {
        let _turn = self.leaving.lock().await;
        let node = self.place.node;
        let handing = self.hand_over().await?;
        match self.go_after(node, handing).await {
            Ok(behind) => {
                self.remember_removed();
                self.left.send_replace(true);
                Ok(LeftView { done: true, behind })
            }
            Err(NotGone::Perhaps(error)) => {
                // It may be taken out yet: what it took now would go with it.
                let closing = self.doors.get().map_or(0, Doors::closings);
                if let Some(me) = self.me.upgrade() {
                    tokio::spawn(me.await_taken_out(closing));
                }
                Err(error)
            }
            Err(NotGone::Stays(error)) => {
                if let Some(doors) = self.doors.get() {
                    doors.reopen();
                }
                self.say_it_stays().await;
                Err(error)
            }
        }
    }

    /// It is a member still, and says so to those who asked. Others count on it again.
    async fn say_it_stays(&self) {
        self.is_leaving.store(false, Ordering::Release);
        if let Err(refusal) = self.say(MemberState::Active).await {
            tracing::warn!(%refusal, "the site takes this node for one that leaves, and it does not");
        }
    }

    /// Goes when it has handed over; who does not have all of its log yet, by name.
    async fn go_after(&self, node: NodeId, handing: Handing) -> Result<Vec<String>, NotGone> {
        self.say_it_leaves().await.map_err(ApiError::from)?;
        let mut left = CHOICES_MAX;
        loop {
            left -= 1;
            // Once more, now that it is known: who began to leave meanwhile is not counted on.
            let (handed, lives, linked) =
                tokio::join!(self.await_takers(handing), self.hand_over_lives(), self.hand_over_linked());
            let HandedOver { heir, behind } = lives.and(linked).and(handed)?;
            match self.take_up_after(node, heir, handing.last).await {
                Err(refusal) if left > 0 && is_no_heir(heir, &refusal) => continue,
                taken => taken.map_err(ApiError::from)?,
            }
            let removed = tokio::select! {
                removed = self.insist(Change::RemoveMember { node }) => removed,
                // The others may let go of it before it has heard what came of its own proposal.
                () = self.told_removed() => Ok(()),
            };
            match removed {
                Err(refusal) if left > 0 && is_no_heir(heir, &refusal) => {}
                // Asked for once more, it was out already.
                Ok(()) | Err(Refusal::Member(MemberRefusal::Unknown(_) | MemberRefusal::Removed(_))) => {
                    return Ok(behind);
                }
                Err(refusal @ Refusal::UnknownOutcome) => return Err(NotGone::Perhaps(refusal.into())),
                Err(refusal) => return Err(NotGone::Stays(refusal.into())),
            }
        }
    }

    /// Has the site list this node as one that leaves: from then on nobody counts on it.
    async fn say_it_leaves(&self) -> Result<(), Refusal> {
        self.is_leaving.store(true, Ordering::Release);
        self.say(MemberState::Leaving).await
    }

    async fn say(&self, state: MemberState) -> Result<(), Refusal> {
        let update = MemberUpdate { state: Some(state), ..MemberUpdate::default() };
        self.insist(Change::UpdateMember { node: self.place.node, update }).await
    }

    /// Hands over as another node asks, which takes this one out then; to the end of it, also where that one does not wait.
    pub(super) async fn hand_over_for(self: Arc<Self>, by: NodeId) -> Vec<u8> {
        tokio::spawn(self.hand_over_whole(by)).await.unwrap_or_else(|_| no("the node is stopping"))
    }

    async fn hand_over_whole(self: Arc<Self>, by: NodeId) -> Vec<u8> {
        let Ok(_turn) = self.leaving.try_lock() else {
            return no("the node leaves already");
        };
        tracing::warn!(%by, "the node is to be taken out of its site: it takes nothing new and hands its log over");
        // First: one that leaves meanwhile would count on this one, and this one on it.
        let handed = match self.say_it_leaves().await {
            Ok(()) => self.hand_over().await.map(drop),
            // Who asks decides in another group, after `promote --lost`: in this one nothing can be said, and nobody counts on it.
            Err(Refusal::NoMajority { .. }) if self.catalog.is_apart(by).await => self.hand_over().await.map(drop),
            Err(refusal) => Err(refusal.into()),
        };
        match handed {
            Ok(()) => {
                let closing = self.doors.get().map_or(0, Doors::closings);
                tokio::spawn(Arc::clone(&self).await_taken_out(closing));
                HANDED_OVER.to_vec()
            }
            Err(error) => {
                self.say_it_stays().await;
                no(&error.message)
            }
        }
    }

    /// Stops the node when it was taken out; where that does not come, it goes on as before, unless its doors were closed once more
    /// since `closing`.
    async fn await_taken_out(self: Arc<Self>, closing: u64) {
        if tokio::time::timeout(TAKEN_OUT_WAIT, self.is_taken_out()).await.is_ok() {
            self.remember_if_removed();
            self.left.send_replace(true);
        } else if self.doors.get().is_some_and(|doors| doors.reopen_after(closing)) {
            tracing::warn!("the node was not taken out of its site, and goes on");
            let is_leaving = |member: &Member| member.node == self.place.node && member.state == MemberState::Leaving;
            if self.catalog.members().iter().any(is_leaving) {
                self.say_it_stays().await;
            }
        }
    }

    fn is_listed(&self, members: &[Member]) -> bool {
        members.iter().any(|member| member.node == self.place.node)
    }

    /// Waits until this node is of its site no more, as the catalog says or another node.
    async fn is_taken_out(&self) {
        let mut members = self.catalog.watch_members();
        tokio::select! {
            _ = members.wait_for(|all| !self.is_listed(all)) => {}
            () = self.told_removed() => {}
        }
    }

    /// Closes the doors when this node is of its site no more, however that came: it was cut off, perhaps, when it was taken out. What it
    /// took from then on would be with nobody else.
    pub(super) async fn keep_out(self: Arc<Self>) {
        // Known from an earlier run.
        if self.is_out.load(Ordering::Acquire) {
            return;
        }
        let mut members = self.catalog.watch_members();
        tokio::select! {
            // One that has just joined is not listed yet.
            _ = members.wait_for(|all| self.is_listed(all)) => {}
            () = self.told_removed() => {}
        }
        drop(members);
        self.is_taken_out().await;
        self.remember_if_removed();
        self.shut_out().await;
    }

    /// Takes another node out of the site: one that is there hands its log over first.
    pub(super) async fn take_out(&self, named: &str) -> Result<RemovedView, ApiError> {
        let node = self.find(named)?;
        if node == self.place.node {
            return Err(ApiError::conflict("a node does not remove itself").hint("`edgeway node leave` does that"));
        }
        let mut not_handed_over = self.ask_hand_over(node).await;
        let (mut handed_over, mut left) = (Instant::now(), CHOICES_MAX);
        loop {
            left -= 1;
            let (heir, last) = self.longest_copy(node).await;
            let mut taken = self.take_up_after(node, heir, last).await;
            if taken.is_ok() {
                if must_ask_again(not_handed_over.as_deref(), handed_over.elapsed()) {
                    not_handed_over = self.ask_hand_over(node).await;
                    handed_over = Instant::now();
                }
                taken = self.catalog.propose(Change::RemoveMember { node }, WHO).await.map(drop);
            }
            match taken {
                Err(refusal) if left > 0 && is_no_heir(heir, &refusal) => {}
                taken => return Ok(taken.map(|()| RemovedView { node: node.to_string(), not_handed_over })?),
            }
        }
    }

    /// What is acknowledged there and nowhere else goes with it, unless it is there to hand it over. Why it has not.
    async fn ask_hand_over(&self, node: NodeId) -> Option<String> {
        let peers = self.peers()?;
        let is_there = peers.states().iter().any(|peer| peer.node == node && peer.is_connected);
        let answered = match is_there {
            true => peers.ask(node, ASK_HAND_OVER, &[], ASK_WAIT).await.map_err(|error| error.to_string()),
            false => Err("it is not connected".to_owned()),
        };
        let why = match answered {
            Ok(answer) if answer == HANDED_OVER => {
                tracing::info!(%node, "a node has handed its log over");
                return None;
            }
            Ok(answer) => String::from_utf8_lossy(answer.get(1..).unwrap_or_default()).into_owned(),
            Err(why) => why,
        };
        tracing::warn!(%node, why, "a node is taken out that has not handed its log over: what it alone has goes with it");
        Some(why)
    }

    /// Before a node is taken out: what it has left unread is read on by another. `last` is its last commit, where
    /// that is known; otherwise what is here counts.
    async fn take_up_after(&self, node: NodeId, by: NodeId, last: CommitNumber) -> Result<(), Refusal> {
        let members = self.catalog.members();
        let origin = members.iter().find(|member| member.node == node).and_then(|member| member.origin);
        let Some(origin) = origin.filter(|_| node != by) else { return Ok(()) };
        let open = self.catalog.take_overs().into_iter().find(|(taken, _)| *taken == origin);
        let reads_on = |by: NodeId| by != node && is_active(&members, by);
        if open.as_ref().is_some_and(|(_, open)| !open.has_returned && reads_on(open.by)) {
            return Ok(());
        }
        let term = open.map_or(1, |(_, open)| open.term + 2);
        let from_commit = match last {
            CommitNumber(0) => self.log.store().synced_commit_of(sled_data::OriginId(origin)).0,
            CommitNumber(last) => last,
        };
        match self.insist(Change::TakeOver { origin, from_commit, by, term }).await {
            // Made by the attempt before, or by the leader itself.
            Err(Refusal::Work(WorkRefusal::Term { .. })) => Ok(()),
            made => made,
        }
    }

    /// Has a change made that may be asked for again: where it is not known what came of it (the leader changes, perhaps
    /// because of it), it is.
    async fn insist(&self, change: Change) -> Result<(), Refusal> {
        let (mut left, mut is_unsure) = (INSIST_MAX, false);
        loop {
            match self.catalog.propose(change.clone(), WHO).await {
                Err(Refusal::UnknownOutcome) if left > 1 => (left, is_unsure) = (left - 1, true),
                made => return made.map(drop).map_err(|refusal| insisted(refusal, is_unsure)),
            }
        }
    }

    /// Waits until another node has said that this one was removed.
    async fn told_removed(&self) {
        while !self.book.troubles().iter().any(|trouble| trouble.code == REMOVED) {
            tokio::time::sleep(HAND_OVER_LOOK).await;
        }
    }
}

/// Why a change was not made that was asked for once more because it was not known what came of it: where nobody has judged it this time
/// either, it may have been made (pure).
fn insisted(refusal: Refusal, is_unsure: bool) -> Refusal {
    if is_unsure && refusal.class() == Class::Unavailable { Refusal::UnknownOutcome } else { refusal }
}

fn no(why: &str) -> Vec<u8> {
    [&[NOT_HANDED_OVER][..], why.as_bytes()].concat()
}

pub(super) fn nobody_has(what: &str) -> ApiError {
    ApiError::conflict(format!("{what}, so what it acknowledged would go with it; it goes on as before"))
        .coded("not-handed-over")
        .hint("see with `edgeway node status` that another node follows it, and try again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_follow_have_all_or_lack_something() {
        let state = |synced, is_here| FollowerState { synced: CommitNumber(synced), is_here };
        let followers = [
            (NodeId(1), state(9, true)),
            (NodeId(2), state(8, true)),
            (NodeId(3), state(9, false)),
            (NodeId(4), state(10, true)),
        ];
        let nodes = |ids: &[u64]| ids.iter().copied().map(NodeId).collect::<Vec<_>>();
        let member = |(node, state)| Member::sample(node, state);
        let all = [1, 2, 3, 4].map(|node| member((node, MemberState::Active)));
        assert_eq!(takers(&followers, CommitNumber(9), &all), (nodes(&[1, 4]), nodes(&[2])));
        assert_eq!(takers(&followers, CommitNumber(8), &all), (nodes(&[1, 2, 4]), nodes(&[])));
        assert_eq!(takers(&[], CommitNumber(0), &all), (nodes(&[]), nodes(&[])));
        // The first leaves as well, and the second: neither is counted on, nor waited for. The fourth is out.
        let leaving = [(1, MemberState::Leaving), (2, MemberState::Leaving), (3, MemberState::Active)].map(member);
        assert_eq!(takers(&followers, CommitNumber(9), &leaving), (nodes(&[]), nodes(&[])));
        let stays = [(1, MemberState::Leaving), (2, MemberState::Lost), (4, MemberState::Active)].map(member);
        assert_eq!(takers(&followers, CommitNumber(9), &stays), (nodes(&[4]), nodes(&[])));
    }

    #[test]
    fn what_was_not_known_once_is_known_when_it_was_judged() {
        let no_majority = || Refusal::NoMajority { missing: vec!["n2".into()] };
        let judged = || Refusal::Member(MemberRefusal::Unknown(NodeId(1)));
        for (refusal, is_unsure, told) in [
            (no_majority(), false, no_majority()),
            (no_majority(), true, Refusal::UnknownOutcome),
            (Refusal::Stopping, true, Refusal::UnknownOutcome),
            (Refusal::UnknownOutcome, true, Refusal::UnknownOutcome),
            (judged(), true, judged()),
        ] {
            let case = format!("{refusal:?} {is_unsure}");
            assert_eq!(insisted(refusal, is_unsure), told, "{case}");
        }
    }

    #[test]
    fn who_has_handed_over_is_asked_once_more_when_its_doors_may_open_again() {
        let seconds = Duration::from_secs;
        // The doors stay closed for longer than it is counted on, by what a change may take.
        assert!(HANDED_OVER_HOLDS < TAKEN_OUT_WAIT);
        for (why_not, since, again) in [
            (None, seconds(0), false),
            (None, HANDED_OVER_HOLDS, false),
            (None, HANDED_OVER_HOLDS + Duration::from_millis(1), true),
            (None, TAKEN_OUT_WAIT, true),
            (Some("it is not connected"), TAKEN_OUT_WAIT, false),
        ] {
            assert_eq!(must_ask_again(why_not, since), again, "{why_not:?} {since:?}");
        }
    }
}
