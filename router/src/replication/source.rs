//! Serves those who follow an origin that is kept here: commits as they are synced, or a copy first.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use sled_data::{CommitNumber, CopyPosition, CopyState, OriginId, PartitionId, ReadError, Store};

use super::begin::{Begin, Has, begin};
use super::book::Book;
use super::pace::Throttle;
use super::wire::{Asked, Follow, RefusedCode, Said};
use crate::event_log::EventLog;
use crate::transport::{FrameReceiver, FrameSender, NodeId, StreamError};

/// Bytes of a frame that a follower may send; where a copy's partitions end may take as many as its head.
const ASKED_BYTES_MAX: usize = 4 << 20;

/// Why a follower is served no more.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// Its stream.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// It said what cannot be.
    #[error("the follower said {0}")]
    Wrong(&'static str),
    /// The store here cannot be read.
    #[error(transparent)]
    Store(#[from] ReadError),
    /// It was refused.
    #[error("the follower was refused: {0}")]
    Refused(String),
    /// The follower has more of this node's own log than the node has, or something else.
    #[error("{text}")]
    Outlived {
        /// What was found.
        text: String,
    },
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// The source of commit streams.
#[derive(Clone)]
pub struct Source {
    pub(super) log: Arc<EventLog>,
    pub(super) book: Arc<Book>,
    /// How long a live commit may take while a follower catches up, in percent of what it takes by itself.
    pub(super) live_percent: u32,
}

impl Source {
    /// Serves one follower until its stream ends. Of an origin that this node writes, a follower that has more, or
    /// something else, is an error with the number that it has: this store was restored or copied.
    ///
    /// # Errors
    /// Why it ended.
    pub async fn serve(&self, node: NodeId, out: FrameSender, mut from: FrameReceiver) -> Result<(), Ended> {
        let Some(first) = from.receive_frame(ASKED_BYTES_MAX).await? else { return Ok(()) };
        let Ok(Asked::Follow(asked)) = Asked::decode(&first) else {
            return Err(Ended::Wrong("something before it said what it follows"));
        };
        self.go_on(node, asked, out, from).await
    }

    /// How it begins with a follower.
    pub(super) async fn how(&self, asked: &Follow) -> Result<Begin, Ended> {
        Ok(begin(asked, self.has(asked).await?))
    }

    /// Serves one that has said what it follows.
    pub(super) async fn go_on(
        &self,
        node: NodeId,
        asked: Follow,
        mut out: FrameSender,
        mut from: FrameReceiver,
    ) -> Result<(), Ended> {
        let origin = OriginId(asked.origin);
        let (next, has, held) = match self.how(&asked).await? {
            Begin::Commits(next) => (next, CommitNumber(next.0.saturating_sub(1)), None),
            // What was sent is not stored there yet: the follower says when it is.
            Begin::Copy => {
                let (next, held) = self.copy(origin, &mut out, &mut from).await?;
                (next, CommitNumber(0), Some(held))
            }
            Begin::Refuse(code) => {
                let text = self.refusal(&asked, code);
                out.send_frame(&Said::refused(code, &text).encode()).await?;
                out.finish();
                out.stopped().await;
                let is_own = origin == self.log.store().origin();
                return Err(if is_own && code == RefusedCode::Forked {
                    Ended::Outlived { text }
                } else {
                    Ended::Refused(text)
                });
            }
        };
        // It has gone however this ends, also where the connection's end takes this task with it.
        let _visit = self.book.came(origin, node, has);
        if origin == self.log.store().origin() && has == CommitNumber(asked.have) {
            // A follower says what it has synced; that it had said so before may have been lost with its stream.
            self.log.follower_synced(node.0, has);
        }
        tokio::select! {
            ended = self.send_commits(node, origin, next, &mut out) => ended,
            ended = self.take_acknowledgements(origin, node, held, &mut from) => ended,
        }
    }

    fn refusal(&self, asked: &Follow, code: RefusedCode) -> String {
        let origin = OriginId(asked.origin);
        match code {
            RefusedCode::NotHere => format!("origin {origin} is not kept here"),
            RefusedCode::Version => {
                format!("commit streams of version {} are not known here; use the newer program", asked.version)
            }
            RefusedCode::Unreadable => format!("origin {origin} cannot be read here; run `edgeway store verify`"),
            RefusedCode::Forked => format!(
                "the follower's commit {} of origin {origin} is not the one that is here, which ends at {}: a store was \
                 restored or copied",
                asked.have,
                self.log.store().synced_commit_of(origin)
            ),
        }
    }

    async fn has(&self, asked: &Follow) -> Result<Option<Has>, Ended> {
        let origin = OriginId(asked.origin);
        let have = CommitNumber(asked.have);
        blocking(&self.log, move |store| {
            let followed = store.followed().into_iter().find(|(followed, _)| *followed == origin);
            let is_whole = followed.is_none_or(|(_, followed)| followed.copy == CopyState::Whole);
            if origin != store.origin() && !(is_whole && store.last_commit_of(origin) > CommitNumber(0)) {
                return Ok(None);
            }
            let first_kept = store.first_kept_commit_of(origin);
            let synced = store.synced_commit_of(origin);
            let is_kept = have >= first_kept && have <= synced && have > CommitNumber(0);
            let record = if is_kept { store.commits_to_ship(origin, have, 1)? } else { Vec::new() };
            let hlc_there = record.first().map(|commit| commit.record.hlc);
            Ok(Some(Has { synced, first_kept, hlc_there }))
        })
        .await
    }

    /// Sends a copy; the first commit that follows it, and what keeps those that do until it is there.
    async fn copy(
        &self,
        origin: OriginId,
        out: &mut FrameSender,
        from: &mut FrameReceiver,
    ) -> Result<(CommitNumber, Held), Ended> {
        let mut held = Held::begin(&self.log, origin);
        let head = Arc::new(blocking(&self.log, move |store| store.copy_head(origin)).await?);
        let mut told = HashSet::new();
        for extent in &head.partitions {
            self.tell_topic(extent.partition.topic, &mut told, out).await?;
        }
        let mut bytes = Vec::new();
        head.encode(&mut bytes);
        // It names the same partitions, each in fewer bytes.
        let ends_bytes_max = ASKED_BYTES_MAX.max(bytes.len());
        out.send_frame(&Said::CopyHead(bytes).encode()).await?;
        let ends: Arc<HashMap<PartitionId, u64>> = match from.receive_frame(ends_bytes_max).await? {
            Some(frame) => match Asked::decode(&frame) {
                Ok(Asked::Ends(ends)) => Arc::new(ends.into_iter().collect()),
                _ => return Err(Ended::Wrong("something else than where its partitions end")),
            },
            None => return Err(Ended::Wrong("nothing of where its partitions end")),
        };
        let mut position: Option<CopyPosition> = None;
        let mut throttle = Throttle::new(&self.log, self.live_percent);
        loop {
            let (head, ends, after) = (Arc::clone(&head), Arc::clone(&ends), position.take());
            // Each part may cost a sync here.
            let chunk = throttle.stored_bytes();
            let read = move |store: &Store| {
                let end = |partition| ends.get(&partition).copied().unwrap_or(0);
                store.copy_parts(&head, after.as_ref(), &end, chunk)
            };
            let (parts, more) = blocking(&self.log, read).await?;
            let mut sent = 0;
            for part in &parts {
                let mut bytes = Vec::new();
                part.encode(&mut bytes);
                sent += bytes.len();
                out.send_frame(&Said::CopyPart(bytes).encode()).await?;
            }
            throttle.caught_up(sent).await;
            position = more;
            if position.is_none() {
                break;
            }
        }
        // Whatever was read may be as new as this.
        let whole_at = self.log.store().synced_commit_of(origin);
        out.send_frame(&Said::CopyEnd(whole_at.0).encode()).await?;
        held.until = whole_at;
        Ok((head.commit.next(), held))
    }

    async fn take_acknowledgements(
        &self,
        origin: OriginId,
        node: NodeId,
        mut held: Option<Held>,
        from: &mut FrameReceiver,
    ) -> Result<(), Ended> {
        let is_own = origin == self.log.store().origin();
        while let Some(frame) = from.receive_frame(ASKED_BYTES_MAX).await? {
            let Ok(Asked::Synced(number)) = Asked::decode(&frame) else {
                return Err(Ended::Wrong("something else than what it has synced"));
            };
            let number = CommitNumber(number);
            if number > self.log.store().synced_commit_of(origin) {
                return Err(Ended::Wrong("that it has commits that are not here"));
            }
            held = held.filter(|held| number < held.until);
            self.book.synced(origin, node, number);
            if is_own {
                self.log.follower_synced(node.0, number);
            }
        }
        Ok(())
    }
}

/// Keeps the records of an origin's commits while a copy of it is taken, and until it is whole where it went: it is begun anew otherwise.
struct Held {
    log: Arc<EventLog>,
    origin: OriginId,
    hold: u64,
    /// The commit with which the copy is whole.
    until: CommitNumber,
}

impl Held {
    fn begin(log: &Arc<EventLog>, origin: OriginId) -> Self {
        let from = log.store().last_commit_of(origin);
        let hold = log.store().hold_commits(origin, from);
        Self { log: Arc::clone(log), origin, hold, until: CommitNumber(u64::MAX) }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.log.store().release_commits(self.origin, self.hold);
    }
}

/// Reads from the store off the runtime's threads.
pub(super) async fn blocking<T: Send + 'static>(
    log: &Arc<EventLog>,
    read: impl FnOnce(&Store) -> Result<T, ReadError> + Send + 'static,
) -> Result<T, Ended> {
    let log = Arc::clone(log);
    let read = move || {
        let read = read(log.store());
        // What was read for others stays in the store's cache otherwise.
        if let Err(error) = log.store().let_go_if_due() {
            tracing::warn!(%error, "the store's cache does not let go of what was read for another node");
        }
        read
    };
    match tokio::task::spawn_blocking(read).await {
        Ok(read) => Ok(read?),
        Err(_) => Err(Ended::Stopping),
    }
}
