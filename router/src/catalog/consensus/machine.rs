//! Takes one change after another into the state, each with its place in one commit.

use std::convert::Infallible;
use std::sync::Arc;

use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{Entry, LogId, OptionalSend, RaftSnapshotBuilder, SnapshotMeta, StorageError, StoredMembership};
use tokio::sync::mpsc;

use super::Types;
use super::book::{Book, Held};
use super::log_store::RAFT_TREE;
use super::proposal::Proposal;
use super::snapshot::{APPLIED, Capture, replace, stage};
use super::stored::{AppliedV1, EntryV1, LogIdV1, PayloadV1, RolesV1, encode};
use super::writer::{Put, WriteError, commit, fatal};
use crate::catalog::CATALOG_TREE;
use crate::catalog::change::{Applied, Change, Terms};
use crate::catalog::member::{Member, MemberRefusal};
use crate::catalog::refusal::Refusal;
use crate::catalog::state::State;
use crate::catalog::tell::{self, Told};
use crate::catalog::write::Write;
use crate::event_log::{Act, OpenCommit};
use crate::transport::NodeId;

/// The state, for openraft.
#[derive(Clone)]
pub(super) struct Machine {
    pub(super) book: Arc<Book>,
    /// Closed with the last of them: openraft ends without a look at what its own task is about to apply.
    pub(super) _alive: mpsc::Sender<Infallible>,
}

impl Machine {
    fn capture(&self) -> Snapshot<Types> {
        let Held { state, applied } = self.book.held();
        let capture = Capture { state, applied };
        Snapshot { meta: capture.meta(), snapshot: Box::new(capture) }
    }

    async fn take_entry(&self, entry: EntryV1) -> Result<(), StorageError<NodeId>> {
        match entry.payload {
            PayloadV1::Blank => self.step(entry.id, |_| {}, &[], |_| {}).await,
            PayloadV1::Roles(roles) => self.take_roles(entry.id, roles).await,
            PayloadV1::Proposal(bytes) => match Proposal::decode(&bytes).filter(|new| self.is_known(&new.change)) {
                Some(proposal) => self.take_proposal(entry.id, proposal).await,
                None => Err(fatal("a change was proposed by a newer edgeway; update this node")),
            },
        }
    }

    /// Whether a change is one that this node knows.
    fn is_known(&self, change: &Change) -> bool {
        change.needs() <= self.book.level_max
    }

    /// New roles. The leader that gave them tells of them.
    async fn take_roles(&self, id: LogIdV1, roles: RolesV1) -> Result<(), StorageError<NodeId>> {
        let writes = self.book.ask(|state| role_writes(state, &roles));
        let told = if id.leader == self.book.me { &writes[..] } else { &[] };
        let at_ms = self.book.log.clock().wall_ms();
        let tell = |open: &mut OpenCommit<'_>| {
            for write in told {
                let Write::Member(node, Some(member)) = write else { continue };
                let (what, set) = (node.to_string(), member.json());
                let act = if member.voter { "node.vote" } else { "node.follow" };
                self.tell(
                    open,
                    &Told {
                        at_ms,
                        who: tell::SITE,
                        act,
                        what: &what,
                        is_device: false,
                        set,
                        detail: serde_json::Value::Null,
                    },
                );
            }
        };
        let place = |applied: &mut AppliedV1| {
            applied.roles_id = Some(id);
            applied.roles = roles.clone();
        };
        self.step(id, place, &writes, tell).await
    }

    async fn take_proposal(&self, id: LogIdV1, proposal: Proposal) -> Result<(), StorageError<NodeId>> {
        let Proposal { from, number, .. } = proposal;
        if number <= self.book.proposed(from) {
            // Handed to two leaders, it came twice; the first time counts.
            return self.step(id, |_| {}, &[], |_| {}).await;
        }
        let terms = Terms { index: id.index, ..proposal.terms };
        let verdict = self.book.ask(|state| judge(state, &proposal, &terms));
        let writes = verdict.as_ref().map_or(&[][..], |applied| &applied.writes);
        let is_mine = from == self.book.me;
        let tell = |open: &mut OpenCommit<'_>| {
            if is_mine {
                self.tell_verdict(open, &proposal, &verdict);
            }
        };
        // A removed node proposes no more, so nothing of it need be remembered.
        let removed = removed(writes);
        let place = |applied: &mut AppliedV1| {
            if !matches!(verdict, Err(Refusal::Member(MemberRefusal::Unknown(node) | MemberRefusal::Removed(node))) if node == from)
            {
                applied.proposed.insert(from, number);
            }
            removed.map(|node| applied.proposed.remove(&node));
        };
        self.step(id, place, writes, tell).await?;
        if is_mine {
            self.book.judged(number, verdict);
        }
        Ok(())
    }

    /// One commit: the entries, the place, and what is told; then all of it is true.
    async fn step(
        &self,
        id: LogIdV1,
        place: impl Fn(&mut AppliedV1) + Send + Sync,
        writes: &[Write],
        tell: impl Fn(&mut OpenCommit<'_>) + Send + Sync,
    ) -> Result<(), StorageError<NodeId>> {
        let mut applied = self.book.applied();
        applied.last = Some(id);
        place(&mut applied);
        let mut puts: Vec<Put> = writes.iter().map(|write| (CATALOG_TREE, write.key(), write.value())).collect();
        puts.push((RAFT_TREE, APPLIED.to_vec(), Some(encode(&applied))));
        commit(&self.book, &puts, tell).await.map_err(fatal)?;
        self.book.take(|held| {
            // Copied only while a snapshot of it is being sent.
            let state = Arc::make_mut(&mut held.state);
            writes.iter().for_each(|write| state.apply(write));
            held.applied = applied;
        });
        Ok(())
    }

    fn tell_verdict(&self, open: &mut OpenCommit<'_>, proposal: &Proposal, verdict: &Result<Applied, Refusal>) {
        let Proposal { who, change, .. } = proposal;
        let (act, what) = (change.act(), change.what());
        match verdict {
            Ok(applied) => self.tell(
                open,
                &Told {
                    at_ms: proposal.terms.at_ms,
                    who,
                    act,
                    what: &what,
                    is_device: tell::is_device(change),
                    set: tell::set(change, applied),
                    detail: tell::detail(change, applied),
                },
            ),
            Err(refusal) => {
                let (outcome, detail) = (refusal.code(), serde_json::Value::Null);
                if let Err(error) = open.audit(Act { who, act, what: &what, outcome, detail }) {
                    tracing::warn!(%error, act, what, "a refusal is not in the audit");
                }
            }
        }
    }

    fn tell(&self, open: &mut OpenCommit<'_>, told: &Told<'_>) {
        if let Err(error) = told.write(open, &self.book.topic) {
            tracing::warn!(%error, act = told.act, what = told.what, "a change is made and not told of");
        }
    }

    /// Replaces the whole state. The changes that led to it are told of by nobody here, and that is told.
    async fn install(&self, capture: Capture) -> Result<(), StorageError<NodeId>> {
        for puts in stage(&capture) {
            commit(&self.book, &puts, |_| {}).await.map_err(fatal)?;
        }
        let (before, applied) = (self.book.applied_index(), capture.applied.clone());
        let mut commits = replace(&self.book.log).map_err(fatal)?;
        let last = commits.pop().unwrap_or_default();
        for puts in commits {
            commit(&self.book, &puts, |_| {}).await.map_err(fatal)?;
        }
        let told = tell::gap(self.book.log.clock().wall_ms(), (before, applied.index()));
        commit(&self.book, &last, |open| self.tell(open, &told)).await.map_err(fatal)?;
        {
            let mut ends = self.book.ends.lock();
            ends.purged = applied.last;
            ends.last = ends.last.filter(|last| last.index > applied.index()).or(applied.last);
        }
        let mine = applied.proposed.get(&self.book.me).copied().unwrap_or(0);
        self.book.take(|held| *held = Held { state: capture.state, applied });
        self.book.judged_elsewhere(mine);
        Ok(())
    }
}

/// What a proposal comes to, or why it cannot be. Who proposes must be of the site.
pub(super) fn judge(state: &State, proposal: &Proposal, terms: &Terms) -> Result<Applied, Refusal> {
    crate::catalog::member::known(state, proposal.from)?;
    proposal.change.judge(state, terms)
}

fn removed(writes: &[Write]) -> Option<NodeId> {
    writes.iter().find_map(|write| match write {
        Write::Removed(node) => Some(*node),
        _ => None,
    })
}

/// What new roles make of the members.
fn role_writes(state: &State, roles: &RolesV1) -> Vec<Write> {
    let changed = state.members().filter(|member| member.voter != roles.is_voter(member.node));
    let turned = |member: &Arc<Member>| Member { voter: !member.voter, ..Member::clone(member) };
    changed.map(|member| Write::Member(member.node, Some(Arc::new(turned(member))))).collect()
}

impl RaftSnapshotBuilder<Types> for Machine {
    async fn build_snapshot(&mut self) -> Result<Snapshot<Types>, StorageError<NodeId>> {
        Ok(self.capture())
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotBuilder = Self;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<NodeId>>, StoredMembership<NodeId, ()>), StorageError<NodeId>> {
        let applied = self.book.applied();
        Ok((applied.last.map(LogId::from), applied.membership()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<()>, StorageError<NodeId>>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut answers = Vec::new();
        for entry in entries {
            // What is in the log is made at the next start; who goes on meanwhile must not find another one at it.
            if self.book.is_closing() {
                return Err(fatal(WriteError::Closing));
            }
            self.take_entry(entry.into()).await?;
            answers.push(());
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Capture>, StorageError<NodeId>> {
        Ok(self.capture().snapshot)
    }

    async fn install_snapshot(
        &mut self,
        _meta: &SnapshotMeta<NodeId, ()>,
        capture: Box<Capture>,
    ) -> Result<(), StorageError<NodeId>> {
        self.install(*capture).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<Types>>, StorageError<NodeId>> {
        Ok(self.book.applied().last.map(|_| self.capture()))
    }
}
