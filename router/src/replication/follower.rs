//! Follows one origin from one node: commits, and a copy before them where the source says so, into the store.

use std::sync::Arc;
use std::time::Duration;

use sled_data::{
    CommitNumber, CopyExtent, CopyHead, CopyPart, FollowError, FollowedCommit, FollowedCommitError, Gap, OriginId,
    Store, StoreFailed,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::begin::asked_when_synced;
use super::book::{Book, Following, Trouble};
use super::pace::Throttle;
use super::progress::Progress;
use super::wire::{Asked, FRAME_BYTES_MAX, Follow, Refused, Said, WireError};
use crate::event_log::{EventLog, FollowFailed, TopicError};
use crate::transport::{FrameReceiver, FrameSender, NodeId, StreamError};

/// Bytes that have come and are not stored yet.
const AHEAD_BYTES_MAX: u32 = 8 << 20;
/// Frames that have come and are not stored yet.
const AHEAD_FRAMES_MAX: usize = 1_024;

/// While this is behind, what has come so far waits for more, so long for the next frame and for all that is stored together; where as much has come
/// as nobody sends who writes now and then.
const GATHER_PAUSE_MAX: Duration = Duration::from_millis(10);
const GATHER_MAX: Duration = Duration::from_millis(50);
const GATHER_BYTES_MIN: usize = 16 << 10;
/// Pauses in vain that are counted: 64 rounds go by without one at most.
const GATHER_IN_VAIN_MAX: u32 = 6;

/// How often it is noted how much of a frame has come.
const NOTE_EVERY: Duration = Duration::from_secs(1);

/// How often what is here is synced at a stream's beginning, while an earlier one still brings something.
const SYNCS_MAX: usize = 16;

/// Why an origin is followed no more from this node.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The stream; it is opened again.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The source ended it.
    #[error("the source ended the stream")]
    BySource,
    /// What came cannot be read, or is not what was to come. Nothing of it is stored.
    #[error("what came cannot be taken: {0}")]
    Wrong(String),
    /// The source refused.
    #[error("{}", .0.text)]
    Refused(Refused),
    /// The copy here differs from what the source has.
    #[error("{0}")]
    Different(String),
    /// The copy that the source offers has less than is here; it is asked again, as what it lacks may have been deleted.
    #[error("{0}")]
    Lacking(String),
    /// What an earlier stream has left was still being stored, or what was deleted still being removed; it is opened again.
    #[error("an earlier stream of it is still being stored, or what was deleted of it being removed")]
    Busy,
    /// There is no room here, for now.
    #[error("the store here is full")]
    Full,
    /// The store here failed, or the node is stopping.
    #[error("{0}")]
    Store(String),
}

impl From<WireError> for Ended {
    fn from(error: WireError) -> Self {
        Self::Wrong(error.to_string())
    }
}

impl From<FollowedCommitError> for Ended {
    fn from(error: FollowedCommitError) -> Self {
        Self::Wrong(error.to_string())
    }
}

impl From<FollowError> for Ended {
    fn from(error: FollowError) -> Self {
        let text = error.to_string();
        match error {
            FollowError::Different { .. } => Self::Different(text),
            FollowError::Lacking { .. } => Self::Lacking(text),
            FollowError::Full => Self::Full,
            FollowError::Dropping(_) => Self::Busy,
            FollowError::Failed(_) => Self::Store(text),
            _ => Self::Wrong(text),
        }
    }
}

impl From<FollowFailed> for Ended {
    fn from(error: FollowFailed) -> Self {
        match error {
            FollowFailed::Store(error) => error.into(),
            FollowFailed::Sync(_) | FollowFailed::Closing => Self::Store(error.to_string()),
        }
    }
}

/// One origin that is followed.
pub struct Follower {
    /// The log that it goes into.
    pub log: Arc<EventLog>,
    /// The book of replication.
    pub book: Arc<Book>,
    /// The origin.
    pub origin: OriginId,
    /// The node that it comes from.
    pub node: NodeId,
    /// Whether that node writes it.
    pub is_writer: bool,
    /// How long a live commit may take here while this catches up, in percent of what it takes by itself.
    pub live_percent: u32,
    /// How far it has come.
    pub came: Arc<Progress>,
}

/// A frame that has come, with its share of the bound.
struct Came {
    said: Said,
    _share: OwnedSemaphorePermit,
}

impl Follower {
    /// Follows until something ends it.
    pub async fn run(&self, mut out: FrameSender, from: FrameReceiver) -> Ended {
        let asked = match self.prepare().await {
            Ok(asked) => asked,
            Err(ended) => return ended,
        };
        if let Err(error) = out.send_frame(&Asked::Follow(asked).encode()).await {
            return error.into();
        }
        self.book.set_following(self.origin, Some(Following::Commits(self.node)));
        let (ahead, mut came) = mpsc::channel(AHEAD_FRAMES_MAX);
        tokio::select! {
            ended = receive(from, ahead, &self.came) => ended,
            ended = self.take(&mut came, &mut out) => ended.unwrap_or_else(|ended| ended),
        }
    }

    /// Has all that is here synced, so that the source may count it, and notes who writes the origin; what is asked for then.
    async fn prepare(&self) -> Result<Follow, Ended> {
        // What an earlier stream has left on its way into the store comes first: it is in order there.
        let storing = self.came.storing();
        self.log.follow(Vec::new()).await?;
        drop(storing);
        let (origin, node, is_writer) = (self.origin, self.node, self.is_writer);
        self.in_store(move |log| {
            let store = log.store();
            let known = store.followed().into_iter().find(|(followed, _)| *followed == origin);
            if known.is_some_and(|(_, followed)| is_writer && followed.node != node.0) {
                log.set_writer(origin, node.0)?;
                store.sync().map_err(|error| FollowError::Failed(error.0))?;
            }
            for _ in 0..SYNCS_MAX {
                if let Some(asked) = asked_when_synced(store, origin) {
                    return Ok(Some(asked));
                }
                store.sync().map_err(|error| FollowError::Failed(error.0))?;
            }
            Ok(None)
        })
        .await?
        .ok_or(Ended::Busy)
    }

    async fn take(&self, came: &mut mpsc::Receiver<Came>, out: &mut FrameSender) -> Result<Ended, Ended> {
        let mut commits: Vec<FollowedCommit> = Vec::new();
        let mut frames: Vec<Came> = Vec::new();
        let mut throttle = Throttle::new(&self.log, self.live_percent);
        let mut gathering = Gathering::default();
        loop {
            frames.clear();
            if came.recv_many(&mut frames, AHEAD_FRAMES_MAX).await == 0 {
                return Ok(Ended::BySource);
            }
            if throttle.is_behind() {
                gathering.gather(came, &mut frames, throttle.stored_bytes()).await;
            }
            let mut parts = Vec::new();
            let mut bytes = 0;
            for Came { said, .. } in &mut frames {
                match std::mem::replace(said, Said::CopyEnd(0)) {
                    Said::Commit(body) => {
                        if body.len() >= throttle.stored_bytes() {
                            // A large one goes by itself: together they may be more than the store takes at once.
                            self.store(&mut commits, std::mem::take(&mut bytes), &mut throttle, out).await?;
                        }
                        bytes += body.len();
                        let commit = FollowedCommit::decode(&body)?;
                        self.check_origin(commit.origin)?;
                        commits.push(commit);
                        if bytes >= throttle.stored_bytes() {
                            self.store(&mut commits, bytes, &mut throttle, out).await?;
                            bytes = 0;
                        }
                    }
                    Said::Topic(info) => self.adopt_topic(info).await?,
                    Said::CopyHead(body) => self.begin_copy(&body, out).await?,
                    Said::CopyPart(body) => {
                        bytes += body.len();
                        parts.push(CopyPart::decode(&body).map_err(|error| Ended::Wrong(error.to_string()))?);
                        if bytes >= throttle.stored_bytes() {
                            self.add_copy(std::mem::take(&mut parts), &mut throttle).await?;
                            bytes = 0;
                        }
                    }
                    Said::CopyEnd(whole_at) => {
                        self.add_copy(std::mem::take(&mut parts), &mut throttle).await?;
                        self.end_copy(CommitNumber(whole_at)).await?;
                        let synced = self.log.store().synced_commit_of(self.origin);
                        out.send_frame(&Asked::Synced(synced.0).encode()).await?;
                    }
                    Said::Refused(refused) => return Err(Ended::Refused(refused)),
                }
            }
            self.add_copy(parts, &mut throttle).await?;
            self.store(&mut commits, bytes, &mut throttle, out).await?;
        }
    }

    fn check_origin(&self, origin: OriginId) -> Result<(), Ended> {
        if origin == self.origin {
            return Ok(());
        }
        Err(Ended::Wrong(format!("a commit of origin {origin} in the stream of {}", self.origin)))
    }

    async fn store(
        &self,
        commits: &mut Vec<FollowedCommit>,
        bytes: usize,
        throttle: &mut Throttle<'_>,
        out: &mut FrameSender,
    ) -> Result<(), Ended> {
        let Some((last, hlc)) = commits.last().map(|commit| (commit.record.number, commit.record.hlc)) else {
            return Ok(());
        };
        let storing = self.came.storing();
        let gaps = self.log.follow(std::mem::take(commits)).await?;
        drop(storing);
        self.came.stored(bytes);
        self.tell(&gaps);
        out.send_frame(&Asked::Synced(last.0).encode()).await?;
        if self.log.store().is_letting_go_due() {
            let is_behind = throttle.is_behind();
            self.in_store(move |log| let_go(log.store(), is_behind)).await?;
        }
        throttle.went(bytes, hlc).await;
        Ok(())
    }

    /// Says what is missing here for good; the store remembers it with the commits.
    fn tell(&self, gaps: &[Gap]) {
        // What never was here of a partition is missed by nobody.
        for Gap { partition, from, to } in gaps.iter().filter(|gap| gap.from > 0) {
            tracing::warn!(%partition, from, to, source = %self.node, "events were gone at their source before they came here");
            let text = format!(
                "events {from} to {} of {partition} were gone at node {} before they came here; `edgeway node status` \
                 lists all gaps",
                to.saturating_sub(1),
                self.node
            );
            self.book.trouble(Trouble { at_ms: self.log.clock().wall_ms(), code: "gap", text });
        }
    }

    async fn adopt_topic(&self, info: sled_data::TopicInfo) -> Result<(), Ended> {
        let (log, name) = (Arc::clone(&self.log), info.name.clone());
        match tokio::task::spawn_blocking(move || log.adopt_topic(info)).await {
            Ok(Ok(())) => Ok(()),
            // Its events are kept all the same.
            Ok(Err(error @ (TopicError::Exists(_) | TopicError::TooMany(_) | TopicError::Unknown(_)))) => {
                tracing::warn!(%error, topic = name, source = %self.node, "a topic of another node is not made here");
                Ok(())
            }
            Ok(Err(TopicError::Store(sled_data::TopicError::Full))) => Err(Ended::Full),
            Ok(Err(error)) => Err(Ended::Store(error.to_string())),
            Err(_) => Err(Ended::Store("the node is stopping".to_owned())),
        }
    }

    async fn begin_copy(&self, head: &[u8], out: &mut FrameSender) -> Result<(), Ended> {
        let head = CopyHead::decode(head).map_err(|error| Ended::Wrong(error.to_string()))?;
        self.check_origin(head.origin)?;
        self.book.set_following(self.origin, Some(Following::Copy(self.node)));
        tracing::info!(origin = %self.origin, source = %self.node, commit = %head.commit, "a copy of an origin begins");
        let writer = self.is_writer.then_some(self.node);
        let ends = self
            .in_store(move |log| {
                log.store().begin_copy(&head)?;
                // At first contact nothing was known of it before.
                if let Some(NodeId(node)) = writer {
                    log.store().set_follow_node(head.origin, node)?;
                }
                log.store().sync().map_err(|error| FollowError::Failed(error.0))?;
                let id_and_end = |extent: &CopyExtent| (extent.partition, log.store().end_offset(extent.partition));
                let ends = head.partitions.iter().map(id_and_end).filter(|(_, end)| *end > 0);
                Ok(ends.collect::<Vec<_>>())
            })
            .await?;
        Ok(out.send_frame(&Asked::Ends(ends).encode()).await?)
    }

    async fn add_copy(&self, parts: Vec<CopyPart>, throttle: &mut Throttle<'_>) -> Result<(), Ended> {
        if parts.is_empty() {
            return Ok(());
        }
        let origin = self.origin;
        let bytes = parts.iter().map(CopyPart::bytes).sum();
        let storing = self.came.storing();
        let gaps = self
            .in_store(move |log| {
                let gaps = log.store().add_copy(origin, &parts)?;
                log.store().sync().map_err(|error| FollowError::Failed(error.0))?;
                let_go(log.store(), true)?;
                Ok(gaps)
            })
            .await?;
        drop(storing);
        self.came.stored(bytes);
        self.tell(&gaps);
        throttle.caught_up(bytes).await;
        Ok(())
    }

    async fn end_copy(&self, whole_at: CommitNumber) -> Result<(), Ended> {
        let origin = self.origin;
        self.in_store(move |log| {
            log.store().end_copy(origin, whole_at)?;
            log.store().sync().map_err(|error| FollowError::Failed(error.0))?;
            log.show_origin(origin);
            Ok(())
        })
        .await?;
        self.book.set_following(self.origin, Some(Following::Commits(self.node)));
        tracing::info!(origin = %self.origin, source = %self.node, %whole_at, "a copy of an origin is here");
        Ok(())
    }

    async fn in_store<T: Send + 'static>(
        &self,
        write: impl FnOnce(&EventLog) -> Result<T, FollowError> + Send + 'static,
    ) -> Result<T, Ended> {
        let log = Arc::clone(&self.log);
        match tokio::task::spawn_blocking(move || write(&log)).await {
            Ok(written) => Ok(written?),
            Err(_) => Err(Ended::Store(StoreFailed("the node is stopping".into()).to_string())),
        }
    }
}

/// Receives frames ahead of the store, up to the bounds.
async fn receive(mut from: FrameReceiver, ahead: mpsc::Sender<Came>, progress: &Progress) -> Ended {
    let room = Arc::new(Semaphore::new(AHEAD_BYTES_MAX as usize));
    loop {
        let frame = match receive_said(&mut from, progress).await {
            Ok(Some(frame)) => frame,
            Ok(None) => {
                // What has come is stored first; that ends it.
                drop(ahead);
                return std::future::pending().await;
            }
            Err(error) => return error.into(),
        };
        let said = match Said::decode(frame) {
            Ok(said) => said,
            Err(error) => return error.into(),
        };
        let share = u32::try_from(said.bytes()).unwrap_or(u32::MAX).min(AHEAD_BYTES_MAX);
        let Ok(share) = Arc::clone(&room).acquire_many_owned(share).await else { return Ended::BySource };
        if ahead.send(Came { said, _share: share }).await.is_err() {
            return Ended::BySource;
        }
    }
}

/// Gathers what is caught up with: fewer calls of the store, each with a sync, and fewer bytes that it writes.
///
/// Who sends nothing more may be waiting for what has come to be acknowledged, and seems to be behind as its clock is: each time that nothing came
/// in a pause, twice as many rounds go by without one.
#[derive(Default)]
struct Gathering {
    /// Pauses in a row in which nothing came.
    in_vain: u32,
    /// Rounds without a pause that are still to come.
    passes: u32,
}

impl Gathering {
    /// Adds what comes next to what has come, up to so many bytes.
    async fn gather(&mut self, came: &mut mpsc::Receiver<Came>, frames: &mut Vec<Came>, bytes_max: usize) {
        if self.passes > 0 {
            self.passes -= 1;
            return;
        }
        let (until, had) = (tokio::time::Instant::now() + GATHER_MAX, frames.len());
        let mut bytes: usize = frames.iter().map(|came| came.said.bytes()).sum();
        while (GATHER_BYTES_MIN..bytes_max).contains(&bytes) && frames.len() < AHEAD_FRAMES_MAX {
            let pause = until.min(tokio::time::Instant::now() + GATHER_PAUSE_MAX);
            let next = tokio::time::timeout_at(pause, came.recv()).await;
            let Ok(Some(next)) = next else {
                if pause < until {
                    self.passes = 1 << self.in_vain;
                    self.in_vain = (self.in_vain + 1).min(GATHER_IN_VAIN_MAX);
                }
                return;
            };
            bytes += next.said.bytes();
            frames.push(next);
        }
        if frames.len() > had {
            self.in_vain = 0;
        }
    }
}

/// Lets go of memory where that is due; of what the system keeps of the store's file as well where this is behind: so much is not soon read here.
fn let_go(store: &Store, is_behind: bool) -> Result<(), FollowError> {
    if is_behind && store.is_letting_go_due() {
        store.let_go_of_cached();
    }
    Ok(store.let_go_if_due()?)
}

/// The next frame. Memory is taken as its bytes come; only a commit may have more than [`FRAME_BYTES_MAX`]. How much of it has come is noted:
/// on a thin line a whole one takes minutes.
async fn receive_said(from: &mut FrameReceiver, progress: &Progress) -> Result<Option<Vec<u8>>, StreamError> {
    progress.begun(0);
    let Some(bytes) = from.receive_length(Said::COMMIT_BYTES_MAX).await? else { return Ok(None) };
    if bytes > FRAME_BYTES_MAX && from.peek_body().await? != Said::COMMIT {
        return Err(StreamError::TooLong { bytes, bytes_max: FRAME_BYTES_MAX });
    }
    loop {
        match tokio::time::timeout(NOTE_EVERY, from.receive_body(bytes)).await {
            Ok(body) => return body.map(Some),
            Err(_) => progress.begun(from.begun_bytes()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn came(bytes: usize) -> Came {
        let share = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        Came { said: Said::Commit(vec![0; bytes]), _share: share }
    }

    #[tokio::test]
    async fn what_is_caught_up_with_is_gathered_and_who_writes_now_and_then_does_not_wait() {
        // What has come, what waits behind it, and what is stored together; the channel stays open or ends.
        for (first, behind, together, ends) in [
            (40_000, vec![40_000; 5], 3, false),
            (200_000, vec![40_000], 1, false),
            (1_000, vec![40_000], 1, false),
            (40_000, vec![], 1, false),
            (40_000, vec![1_000; 3], 4, true),
        ] {
            let (ahead, mut coming) = mpsc::channel(AHEAD_FRAMES_MAX);
            behind.iter().for_each(|bytes| assert!(ahead.try_send(came(*bytes)).is_ok()));
            let ahead = (!ends).then_some(ahead);
            let mut frames = vec![came(first)];
            Gathering::default().gather(&mut coming, &mut frames, 100_000).await;
            assert_eq!((frames.len(), coming.len()), (together, behind.len() + 1 - together), "{first}, {behind:?}");
            drop(ahead);
        }
    }

    #[tokio::test]
    async fn who_waits_for_what_has_come_is_waited_for_ever_less_often() {
        let (ahead, mut coming) = mpsc::channel(AHEAD_FRAMES_MAX);
        let mut gathering = Gathering::default();
        let (mut pauses, began) = (0, tokio::time::Instant::now());
        for _ in 0..200 {
            pauses += u32::from(gathering.passes == 0);
            gathering.gather(&mut coming, &mut vec![came(20_000)], 100_000).await;
        }
        assert_eq!(pauses, 9, "1, 2, 4 ... 64 rounds apart: {:?}", began.elapsed());
        // What is caught up with comes at once again.
        gathering.passes = 0;
        (0..10).for_each(|_| assert!(ahead.try_send(came(20_000)).is_ok()));
        gathering.gather(&mut coming, &mut vec![came(20_000)], 100_000).await;
        assert_eq!((gathering.in_vain, gathering.passes), (0, 0));
    }
}
