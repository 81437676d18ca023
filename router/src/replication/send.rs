//! Sends a follower the commits of an origin as they are synced: the newest from memory, others from the store.

use std::collections::HashSet;
use std::time::Duration;

use sled_data::{CommitNumber, OriginId, TopicId};

use super::grouping::{Standing, Turn, turn};
use super::pace::Throttle;
use super::source::{Ended, Source, blocking};
use super::wire::Said;
use crate::event_log::NewestCommit;
use crate::transport::{FrameSender, NodeId, StreamError};

impl Source {
    pub(super) async fn send_commits(
        &self,
        node: NodeId,
        origin: OriginId,
        mut next: CommitNumber,
        out: &mut FrameSender,
    ) -> Result<(), Ended> {
        let is_own = origin == self.log.store().origin();
        let mut more = if is_own { self.log.watch_synced() } else { self.log.watch() };
        let mut told = HashSet::new();
        let mut throttle = Throttle::new(&self.log, self.live_percent);
        let mut sent_at = None;
        loop {
            more.borrow_and_update();
            let synced = self.log.store().synced_commit_of(origin);
            if synced < next {
                more.changed().await.map_err(|_| Ended::Stopping)?;
                continue;
            }
            let mut to = synced;
            if is_own {
                match turn(self.standing(node, next, synced, sent_at)) {
                    Turn::Send(up_to) => to = up_to,
                    Turn::Wait(time) => {
                        tokio::time::sleep(time).await;
                        continue;
                    }
                }
            }
            let chunk = throttle.chunk_bytes();
            let newest = if is_own { self.log.newest_commits(next, to, chunk) } else { Vec::new() };
            let (sent, hlc) = match newest.last() {
                Some(last) => {
                    next = last.number.next();
                    self.send_newest(&newest, &mut told, out).await?
                }
                None => self.send_stored(origin, &mut next, chunk, &mut told, out).await?,
            };
            sent_at = Some(self.log.clock().monotonic());
            throttle.went(sent, hlc).await;
        }
    }

    fn standing(&self, node: NodeId, next: CommitNumber, synced: CommitNumber, sent_at: Option<Duration>) -> Standing {
        let now = self.log.clock().monotonic();
        Standing {
            next,
            synced,
            reached: self.log.quorum_commit(),
            is_spare: self.log.is_spare(node.0),
            waiting_bytes: self.log.quorum_bytes(),
            since_sent: sent_at.map_or(Duration::MAX, |at| now.saturating_sub(at)),
        }
    }

    /// Sends commits that are still in memory; their bytes, and the last one's clock.
    async fn send_newest(
        &self,
        newest: &[NewestCommit],
        told: &mut HashSet<TopicId>,
        out: &mut FrameSender,
    ) -> Result<(usize, u64), Ended> {
        let (mut sent, mut hlc) = (0, 0);
        for commit in newest {
            for topic in &commit.topics {
                self.tell_topic(*topic, told, out).await?;
            }
            out.send_shared(Said::COMMIT, &commit.bytes).await?;
            (sent, hlc) = (sent + commit.bytes.len(), commit.hlc);
        }
        Ok((sent, hlc))
    }

    /// Sends commits as they are stored; their bytes, and the last one's clock.
    async fn send_stored(
        &self,
        origin: OriginId,
        next: &mut CommitNumber,
        bytes_max: usize,
        told: &mut HashSet<TopicId>,
        out: &mut FrameSender,
    ) -> Result<(usize, u64), Ended> {
        let from = *next;
        let commits = blocking(&self.log, move |store| store.commits_to_ship(origin, from, bytes_max)).await?;
        let (mut sent, mut hlc) = (0, 0);
        for commit in commits {
            for appended in &commit.record.appended {
                self.tell_topic(appended.partition.topic, told, out).await?;
            }
            let mut frame = Vec::with_capacity(commit.batch_bytes() + 256);
            commit.encode(&mut frame);
            (sent, hlc) = (sent + frame.len(), commit.record.hlc);
            out.send_shared(Said::COMMIT, &frame.into()).await?;
            *next = commit.record.number.next();
        }
        Ok((sent, hlc))
    }

    pub(super) async fn tell_topic(
        &self,
        topic: TopicId,
        told: &mut HashSet<TopicId>,
        out: &mut FrameSender,
    ) -> Result<(), StreamError> {
        if told.insert(topic)
            && let Some(topic) = self.log.topic_by_id(topic)
        {
            out.send_frame(&Said::Topic(topic.info().clone()).encode()).await?;
        }
        Ok(())
    }
}
