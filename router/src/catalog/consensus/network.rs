//! Asks other nodes, for openraft and for proposals.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use openraft::error::{Fatal, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption};
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse};
use openraft::storage::Snapshot;
use openraft::{LogId, RaftNetwork, RaftNetworkFactory, Vote};

use super::Types;
use super::book::Book;
use super::reach::{Reached, Word};
use super::stored::{EntryV1, LogIdV1, VoteV1};
use super::wire::{About, Answer, No, Question, decode_answer, encode};
use crate::transport::NodeId;

/// An answer on its way.
pub type Asked<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, NoAnswer>> + Send + 'a>>;

/// Why a node did not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct NoAnswer {
    /// For people.
    pub text: String,
    /// Whether the node may have had the question all the same.
    pub may_be_asked: bool,
}

/// The way to the other nodes.
pub trait Ask: Send + Sync + 'static {
    /// Asks a node, and has its answer: what its `Catalog::answer` gave. Questions and answers have at most
    /// [`BODY_BYTES_MAX`](super::BODY_BYTES_MAX) bytes.
    ///
    /// # Errors
    /// Why there is no answer.
    fn ask(&self, node: NodeId, body: Vec<u8>) -> Asked<'_>;
}

/// There is no way to other nodes.
#[derive(Debug, Clone, Copy, Default)]
pub struct Alone;

impl Ask for Alone {
    fn ask(&self, _: NodeId, _: Vec<u8>) -> Asked<'_> {
        Box::pin(async {
            Err(NoAnswer { text: "this node has no way to other nodes".to_owned(), may_be_asked: false })
        })
    }
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum AskError {
    /// There is no answer of the node.
    #[error(transparent)]
    Way(#[from] NoAnswer),
    /// It did not answer in time.
    #[error("the node did not answer within {0:?}")]
    Late(Duration),
    /// Its answer makes no sense.
    #[error("the node answered what was not asked")]
    Senseless,
    /// It did nothing.
    #[error(transparent)]
    No(#[from] No),
}

/// Asks other nodes.
#[derive(Clone)]
pub(super) struct Network {
    pub(super) book: Arc<Book>,
    pub(super) way: Arc<dyn Ask>,
}

/// Asks one other node.
pub(super) struct Peer {
    network: Network,
    node: NodeId,
}

impl Network {
    /// Asks a node, and has its answer within `wait`.
    pub(super) async fn ask(&self, node: NodeId, about: About, wait: Duration) -> Result<Answer, AskError> {
        let body = encode(&Question { group: self.book.group(), about });
        let answer = tokio::time::timeout(wait, self.way.ask(node, body)).await;
        let body = answer.map_err(|_| AskError::Late(wait))??;
        match decode_answer(&body).ok_or(AskError::Senseless)? {
            Answer::No(no) => Err(no.into()),
            answer => {
                self.book.heard.note(node);
                Ok(answer)
            }
        }
    }
}

impl Peer {
    async fn ask(&self, about: About, wait: Duration) -> Result<Answer, Unreachable> {
        self.network.ask(self.node, about, wait).await.map_err(|error| Unreachable::new(&error))
    }

    /// The node follows this one, as it was asked at `asked`.
    fn followed(&self, asked: Instant) {
        let book = &self.network.book;
        book.followed.note_at(self.node, asked);
        book.touch.lock().lead();
    }

    /// The vote that the node has answered with, as far as this one goes by it, which has come to term `own`. Who only follows deposes nobody by a term that
    /// is far away.
    fn heard(&self, theirs: VoteV1, own: u64) -> Option<VoteV1> {
        let book = &self.network.book;
        let votes = || book.applied().roles.is_voter(self.node);
        match book.reach.lock().hear(Word::Answers, (theirs.term, own), votes, book.timing.beat, Instant::now()) {
            Reached::Whole => Some(theirs),
            Reached::Step(term) => Some(VoteV1 { term, leader: self.node, is_won: false }),
            Reached::No => None,
        }
    }

    /// Sends the state page by page; the vote that its node answers with last.
    async fn send(&self, vote: Vote<NodeId>, snapshot: &Snapshot<Types>) -> Result<Vote<NodeId>, Unreachable> {
        let capture = &snapshot.snapshot;
        let mut pages = (0..).zip(capture.pages()).peekable();
        let timing = &self.network.book.timing;
        let mut answered = vote;
        while let Some((number, page)) = pages.next() {
            let end = pages.peek().is_none().then(|| capture.applied.clone());
            let wait = if end.is_some() { timing.install_wait() } else { timing.ask_wait() * 10 };
            let (snapshot, vote_v1) = (snapshot.meta.snapshot_id.clone(), VoteV1::from(vote));
            let about = About::Page { vote: vote_v1, snapshot, number, page, end };
            let (theirs, is_taken) = match self.ask(about, wait).await? {
                Answer::Taken(theirs) => (theirs, true),
                Answer::Other(theirs) => (theirs, false),
                _ => return Err(Unreachable::new(&AskError::Senseless)),
            };
            let theirs = self.heard(theirs, vote_v1.term).ok_or_else(|| Unreachable::new(&AskError::Senseless))?;
            answered = theirs.into();
            if !is_taken {
                return Ok(answered);
            }
        }
        Ok(answered)
    }
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Peer;

    async fn new_client(&mut self, node: NodeId, (): &()) -> Peer {
        Peer { network: self.clone(), node }
    }
}

/// As openraft has what went wrong at the other end; nothing is told of it from afar.
type RpcError = RPCError<NodeId, (), RaftError<NodeId>>;

fn senseless() -> RpcError {
    Unreachable::new(&AskError::Senseless).into()
}

impl RaftNetwork<Types> for Peer {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<NodeId>, RpcError> {
        let AppendEntriesRequest { vote, prev_log_id, entries, leader_commit } = request;
        let about = About::Append {
            vote: vote.into(),
            prev: prev_log_id.map(LogIdV1::from),
            done: leader_commit.map(LogIdV1::from),
            entries: entries.into_iter().map(EntryV1::from).collect(),
        };
        let asked = Instant::now();
        match self.ask(about, option.hard_ttl()).await? {
            Answer::Stored => {
                self.followed(asked);
                Ok(AppendEntriesResponse::Success)
            }
            Answer::Conflict => {
                self.followed(asked);
                Ok(AppendEntriesResponse::Conflict)
            }
            // Only a higher vote is a reason to follow another.
            Answer::Other(theirs) if Vote::from(theirs) > vote => {
                let theirs = self.heard(theirs, vote.leader_id.term).ok_or_else(senseless)?;
                Ok(AppendEntriesResponse::HigherVote(theirs.into()))
            }
            _ => Err(senseless()),
        }
    }

    async fn vote(
        &mut self,
        request: VoteRequest<NodeId>,
        option: RPCOption,
    ) -> Result<VoteResponse<NodeId>, RpcError> {
        let asked = VoteV1::from(request.vote);
        let about = About::Vote { vote: asked, last: request.last_log_id.map(LogIdV1::from) };
        match self.ask(about, option.hard_ttl()).await? {
            Answer::Voted { vote, is_given, last } => {
                let theirs = self.heard(vote, asked.term).ok_or_else(senseless)?;
                if !is_given {
                    self.network.book.touch.lock().refuse(asked.term, Instant::now());
                }
                Ok(VoteResponse::new(Vote::from(theirs), last.map(LogId::from), is_given && theirs == vote))
            }
            _ => Err(senseless()),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote<NodeId>,
        snapshot: Snapshot<Types>,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<NodeId>, StreamingError<Types, Fatal<NodeId>>> {
        tokio::select! {
            closed = cancel => Err(closed.into()),
            sent = self.send(vote, &snapshot) => Ok(SnapshotResponse::new(sent?)),
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(self.network.book.timing.beat))
    }
}
