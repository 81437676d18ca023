//! Answers what other nodes ask.

use std::time::{Duration, Instant};

use openraft::error::RaftError;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest};
use openraft::storage::Snapshot;
use openraft::{Entry, LogId, Vote};

use super::accept::Accepted;
use super::log_store::RAFT_TREE;
use super::proposal::decode_change;
use super::reach::{Reached, Word};
use super::snapshot::Incoming;
use super::stored::{AppliedV1, VoteV1, encode as encode_stored};
use super::wire::{About, Answer, No, Proposed, decode, encode};
use super::writer::commit;
use super::{Consensus, Raft};
use crate::transport::NodeId;

/// The group that a node takes part in.
pub(super) const GROUP: &[u8] = b"group";
/// Longest name of who asked for a change, in bytes.
pub(in crate::catalog) const WHO_BYTES_MAX: usize = 64;
/// How long a leader works at another node's proposal at most.
const PATIENCE_MAX: Duration = Duration::from_secs(30);

impl Consensus {
    /// Answers a question of another node.
    pub(in crate::catalog) async fn answer(&self, from: NodeId, body: &[u8]) -> Vec<u8> {
        let answer = self.try_answer(from, body).await.unwrap_or_else(Answer::No);
        encode(&answer)
    }

    async fn try_answer(&self, from: NodeId, body: &[u8]) -> Result<Answer, No> {
        let question = decode(body)?;
        if !question.about.is_sound(from) {
            return Err(No::Unreadable);
        }
        if self.book.ask(|state| state.is_removed(from)) && !self.is_follower(from) {
            return Err(No::Removed);
        }
        let raft = self.raft().ok_or(No::Down)?;
        self.check_group(question.group, &question.about).await?;
        self.check_term(&raft, &question.about).await?;
        self.book.heard.note(from);
        match question.about {
            About::Append { vote, prev, done, entries } => {
                let said = (vote.term, done.map(|done| (done.term, done.index)));
                let request = AppendEntriesRequest {
                    vote: vote.into(),
                    prev_log_id: prev.map(LogId::from),
                    leader_commit: done.map(LogId::from),
                    entries: entries.into_iter().map(Entry::from).collect(),
                };
                let answer = append(&raft, request).await?;
                if matches!(answer, Answer::Stored) {
                    self.book.touch.lock().take(said, self.book.timing.fresh(), Instant::now());
                }
                Ok(answer)
            }
            About::Vote { vote, last } => {
                let request = VoteRequest::new(vote.into(), last.map(LogId::from));
                let given = raft.vote(request).await.map_err(down)?;
                let last = given.last_log_id.map(|id| id.into());
                Ok(Answer::Voted { vote: given.vote.into(), is_given: given.vote_granted, last })
            }
            About::Page { vote, snapshot, number, page, end } => {
                self.page(&raft, vote, snapshot, number, &page, end).await
            }
            About::Propose { number, who, change, patience_ms } => {
                if who.len() > WHO_BYTES_MAX {
                    return Err(No::Unreadable);
                }
                let change = decode_change(&change).filter(|change| change.needs() <= self.book.level_max);
                let change = change.ok_or(No::Unreadable)?;
                let patience = Duration::from_millis(patience_ms.into()).min(PATIENCE_MAX);
                let accepted = self.accept(from, number, &who, change, tokio::time::Instant::now() + patience).await;
                Ok(Answer::Proposed(proposed(accepted)?))
            }
            About::Led => Ok(Answer::Led(self.is_led())),
        }
    }

    /// Whether the roles still name a node: one that is removed leads until that is agreed on.
    fn is_follower(&self, node: NodeId) -> bool {
        self.book.applied().roles.nodes.contains(&node)
    }

    /// Only one's own group is heard. A node that has none takes that of the first leader that speaks to it.
    async fn check_group(&self, group: u64, about: &About) -> Result<(), No> {
        let own = self.book.group();
        if own == group && group != 0 {
            return Ok(());
        }
        let leads = matches!(about, About::Append { .. } | About::Page { .. });
        if own != 0 || group == 0 || !leads {
            return Err(No::Group);
        }
        let put = (RAFT_TREE, GROUP.to_vec(), Some(encode_stored(&group)));
        commit(&self.book, &[put], |_| {}).await.map_err(|error| {
            tracing::warn!(%error, "the group cannot be stored");
            No::Down
        })?;
        self.book.set_group(group);
        tracing::info!(group = format!("{group:016x}"), "this node was let in");
        Ok(())
    }

    /// Who leads by a term that is far above this node's is followed when that has come there: a step at a time, with each of its words.
    async fn check_term(&self, raft: &Raft, about: &About) -> Result<(), No> {
        let Some(vote) = about.vote() else { return Ok(()) };
        let own = raft.metrics().borrow().current_term;
        let word = if matches!(about, About::Append { .. }) { Word::Leads } else { Word::Stands };
        let heard = self.book.reach.lock().hear(word, (vote.term, own), || true, self.book.timing.beat, Instant::now());
        match heard {
            Reached::Whole => Ok(()),
            Reached::Step(term) if matches!(about, About::Append { .. }) => {
                let vote = VoteV1 { term, ..*vote }.into();
                let (prev_log_id, leader_commit, entries) = (None, None, Vec::new());
                append(raft, AppendEntriesRequest { vote, prev_log_id, leader_commit, entries }).await?;
                Err(No::Down)
            }
            Reached::Step(_) | Reached::No => Err(No::Down),
        }
    }

    async fn page(
        &self,
        raft: &Raft,
        vote: VoteV1,
        snapshot: String,
        number: u32,
        page: &[u8],
        end: Option<AppliedV1>,
    ) -> Result<Answer, No> {
        let (vote, theirs) = (Vote::from(vote), raft.metrics().borrow().vote);
        if theirs > vote {
            return Ok(Answer::Other(theirs.into()));
        }
        let mut incoming = self.book.incoming.lock().await;
        if number == 0 {
            *incoming = Some(Incoming::begin(snapshot.clone(), self.book.level_max));
        }
        let Some(mut state) = incoming.take().filter(|state| state.expects(&snapshot, number)) else {
            return Ok(Answer::Again);
        };
        if !state.take(page, self.book.config.bytes_max) {
            tracing::error!(snapshot, number, "a page of the catalog cannot be taken; update this node");
            return Err(No::Unreadable);
        }
        let Some(applied) = end else {
            *incoming = Some(state);
            return Ok(Answer::Taken(vote.into()));
        };
        let capture = state.end(applied);
        let snapshot = Snapshot { meta: capture.meta(), snapshot: Box::new(capture) };
        let answered = raft.install_full_snapshot(vote, snapshot).await.map_err(|_| No::Down)?;
        Ok(match answered.vote > vote {
            true => Answer::Other(answered.vote.into()),
            false => Answer::Taken(answered.vote.into()),
        })
    }
}

async fn append(raft: &Raft, request: AppendEntriesRequest<super::Types>) -> Result<Answer, No> {
    Ok(match raft.append_entries(request).await.map_err(down)? {
        AppendEntriesResponse::Success => Answer::Stored,
        AppendEntriesResponse::Conflict => Answer::Conflict,
        AppendEntriesResponse::HigherVote(theirs) => Answer::Other(theirs.into()),
        // Said by networks that send a part, not by nodes.
        AppendEntriesResponse::PartialSuccess(_) => return Err(No::Down),
    })
}

fn down(_: RaftError<NodeId>) -> No {
    No::Down
}

fn proposed(accepted: Accepted) -> Result<Proposed, No> {
    Ok(match accepted {
        Accepted::Done => Proposed::Done,
        Accepted::Refused { terms, index, .. } => Proposed::Refused {
            index,
            at_ms: terms.at_ms,
            devices_max: terms.devices_max as u64,
            bytes_max: terms.bytes_max as u64,
        },
        Accepted::NotLeader(leader) => Proposed::NotLeader(leader),
        Accepted::NoMajority(missing) => Proposed::NoMajority(missing),
        Accepted::Stale(newest) => Proposed::Stale(newest),
        Accepted::Lost => Proposed::Lost,
        Accepted::Log(_) | Accepted::Down => return Err(No::Down),
    })
}
