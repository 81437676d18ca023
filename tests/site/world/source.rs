//! The source's side of a stream: how it begins, and what is sent.

use std::time::Duration;

use edgeway::event_log::{is_spare, quorum_reached};
use edgeway::replication::{Asked, Begin, Follow, Has, RefusedCode, Said, Standing, Turn, begin, turn};
use sled_data::{CommitNumber, FollowedCommit, OriginId, PartitionId, ReadError};

use super::World;
use crate::site::bug::Bug;
use crate::site::history::Fact;
use crate::site::node::{Copying, Running, Serving};

/// Bytes on their way to a follower above which nothing more is sent.
pub const WINDOW_BYTES: usize = 3_000;
/// Bytes that an event counts where they wait for their quorum: a few of them are load.
const EVENT_BYTES: usize = 16 << 10;
/// Bytes that are read at once.
const READ_BYTES: usize = 1_200;

impl World {
    pub(super) fn serve(&mut self, at: usize, run: &mut Running) {
        let node = self.nodes[at].id;
        let mine: Vec<u64> =
            self.network.streams.iter().filter(|(_, s)| s.source == node).map(|(number, _)| *number).collect();
        for number in mine {
            for frame in self.network.arrived_up(number, self.history.time) {
                self.asked(at, run, number, &frame);
            }
            if run.failed.is_none() && run.serving.contains_key(&number) {
                self.send(at, run, number);
            }
        }
    }

    fn asked(&mut self, at: usize, run: &mut Running, number: u64, frame: &[u8]) {
        match Asked::decode(frame) {
            Ok(Asked::Follow(follow)) => self.begin_serving(at, run, number, &follow),
            Ok(Asked::Synced(commit)) => {
                let commit = CommitNumber(commit);
                let Some(serving) = run.serving.get(&number) else { return };
                let (to, origin) = (serving.to, serving.origin);
                if commit > run.store.synced_commit_of(origin) {
                    self.network.cut(number, &mut self.random);
                } else if origin == run.store.origin() {
                    Self::follower_synced(run, to, commit);
                    let said = run.said.entry(to).or_default();
                    *said = commit.max(*said);
                }
            }
            Ok(Asked::Ends(ends)) => {
                if let Some(copy) = run.serving.get_mut(&number).and_then(|serving| serving.copy.as_mut()) {
                    copy.ends = Some(ends.into_iter().collect());
                }
            }
            Err(_) => self.network.cut(number, &mut self.random),
        }
    }

    /// What this node has of the origin that is asked for.
    fn what_there_is(&self, at: usize, run: &Running, asked: &Follow) -> Option<Has> {
        let origin = OriginId(asked.origin);
        let is_here = origin == run.store.origin() || run.holder(self.nodes[at].ended).holds.contains_key(&origin);
        if !is_here {
            return None;
        }
        let synced = run.store.synced_commit_of(origin);
        let first_kept = run.store.first_kept_commit_of(origin);
        let have = CommitNumber(asked.have);
        let is_kept = have > CommitNumber(0) && have >= first_kept && have <= synced;
        let record = is_kept.then(|| run.store.commits_to_ship(origin, have, 1).ok());
        let hlc_there = record.flatten().and_then(|commits| commits.first().map(|commit| commit.record.hlc));
        Some(Has { synced, first_kept, hlc_there })
    }

    fn begin_serving(&mut self, at: usize, run: &mut Running, number: u64, asked: &Follow) {
        let Some(to) = self.network.streams.get(&number).map(|stream| stream.follower) else { return };
        let origin = OriginId(asked.origin);
        let has = self.what_there_is(at, run, asked);
        let mut begun = begin(asked, has);
        let after = CommitNumber(asked.have).next();
        if self.has(Bug::ForkedIsServed) && begun == Begin::Refuse(RefusedCode::Forked) {
            begun = Begin::Commits(after);
        }
        if self.has(Bug::BeginCountsAsSynced) && origin == run.store.origin() {
            Self::follower_synced(run, to, CommitNumber(asked.have));
        }
        let (sent_at, is_stalled) = (None, false);
        let serving =
            |next, copy| Serving { to, origin, next, sent_topics: Default::default(), copy, sent_at, is_stalled };
        if origin == run.store.origin() {
            let has =
                if let Begin::Commits(next) = begun { CommitNumber(next.0.saturating_sub(1)) } else { CommitNumber(0) };
            run.said.insert(to, has);
        }
        match begun {
            Begin::Commits(mut next) => {
                if self.has(Bug::ResumesEarly) && next > CommitNumber(1) {
                    next = CommitNumber(next.0 - 1);
                }
                if self.has(Bug::ResumesLate) {
                    next = next.next();
                }
                run.serving.insert(number, serving(next, None));
            }
            Begin::Copy => match run.store.copy_head(origin) {
                Ok(head) => {
                    self.nodes[at].note_disk(run);
                    let mut bytes = Vec::new();
                    head.encode(&mut bytes);
                    let next = head.commit.next();
                    let topics: Vec<PartitionId> = head.partitions.iter().map(|extent| extent.partition).collect();
                    run.serving.insert(number, serving(next, Some(Copying { head, ends: None, position: None })));
                    self.say_topics(run, number, topics);
                    self.say_down(number, &Said::CopyHead(bytes));
                }
                Err(error) => self.cannot_serve(run, number, &error),
            },
            Begin::Refuse(code) => {
                self.say_down(number, &Said::refused(code, "no"));
                if code == RefusedCode::Forked && origin == run.store.origin() {
                    self.end_life(at, run, "a follower has more, or something else");
                }
            }
        }
    }

    fn cannot_serve(&mut self, run: &mut Running, number: u64, error: &ReadError) {
        run.serving.remove(&number);
        if run.store.failure().is_some() {
            run.failed = Some("its store failed");
        }
        self.say_down(number, &Said::refused(RefusedCode::Unreadable, error));
    }

    fn say_down(&mut self, number: u64, said: &Said) {
        let frame = self.spoil_frame(said.encode());
        self.network.say_down(number, self.history.time, frame, &mut self.random);
    }

    /// Sends while there is room.
    fn send(&mut self, at: usize, run: &mut Running, number: u64) {
        let window = if self.has(Bug::NoWindow) { usize::MAX } else { WINDOW_BYTES };
        loop {
            let room = self.network.streams.get(&number).is_some_and(|s| !s.is_cut && s.down_bytes() < window);
            let Some(serving) = run.serving.get(&number).filter(|_| room) else { return };
            let sent = match &serving.copy {
                Some(_) => self.send_copy(at, run, number),
                None => self.send_commits(at, run, number),
            };
            if !sent {
                return;
            }
        }
    }

    /// Sends the next commits; whether there were any.
    fn send_commits(&mut self, at: usize, run: &mut Running, number: u64) -> bool {
        let Some(Serving { origin, next, .. }) = run.serving.get(&number) else { return false };
        let (origin, next) = (*origin, *next);
        let Some(to) = self.turn(run, number, origin, next) else { return false };
        let commits = match self.commits_from(run, origin, next) {
            // The newest come from memory, up to where they are to go; others from the store, as many as are read at once.
            Ok(commits) if self.random.chance(700) => {
                commits.into_iter().take_while(|c| c.record.number <= to).collect()
            }
            Ok(commits) => commits,
            Err(ReadError::CommitsTrimmed { .. }) => {
                // It asks anew, and gets a copy.
                self.network.cut(number, &mut self.random);
                return false;
            }
            Err(error) => {
                self.cannot_serve(run, number, &error);
                return false;
            }
        };
        for commit in &commits {
            self.note_shipped(at, origin, commit.record.number);
            self.say_topics(run, number, commit.record.appended.iter().map(|appended| appended.partition).collect());
            let commit = self.spoil_source(at, run, commit);
            let mut bytes = Vec::new();
            commit.encode(&mut bytes);
            self.say_down(number, &Said::Commit(bytes));
        }
        if let (Some(last), Some(serving)) = (commits.last(), run.serving.get_mut(&number)) {
            serving.next = last.record.number.next();
            serving.sent_at = Some(self.history.time);
        }
        !commits.is_empty()
    }

    /// Up to where commits go to a follower now; `None`: nothing goes yet.
    fn turn(&self, run: &mut Running, number: u64, origin: OriginId, next: CommitNumber) -> Option<CommitNumber> {
        let (now, synced) = (self.history.time, run.store.synced_commit_of(origin));
        let at =
            self.nodes.iter().position(|node| Some(node.id) == self.network.streams.get(&number).map(|s| s.source))?;
        let serving = run.serving.get_mut(&number)?;
        // A planted bug sends what is not synced, and there is nothing yet.
        if origin != run.store.origin() || synced < next {
            return Some(CommitNumber(u64::MAX));
        }
        let (_, needed) = self.nodes[at].catalog.replicas(self.nodes[at].id);
        let waiting: usize = run.waiting.iter().map(|waiting| waiting.events.len()).sum();
        let standing = Standing {
            next,
            synced,
            reached: quorum_reached(needed, &run.synced).map_or(synced, |reached| reached.min(synced)),
            is_spare: is_spare(serving.to, needed, &run.synced),
            waiting_bytes: waiting * EVENT_BYTES,
            since_sent: serving.sent_at.map_or(Duration::MAX, |sent| Duration::from_millis(now - sent)),
        };
        if serving.is_stalled {
            return None;
        }
        match turn(standing) {
            Turn::Send(to) => Some(to),
            Turn::Wait(_) => {
                serving.is_stalled = self.bug == Some(Bug::GroupWaitsForever);
                None
            }
        }
    }

    fn commits_from(
        &self,
        run: &Running,
        origin: OriginId,
        next: CommitNumber,
    ) -> Result<Vec<FollowedCommit>, ReadError> {
        if self.has(Bug::ShipsUnsynced) && origin == run.store.origin() && next > run.store.synced_commit() {
            let records = run.store.commits(next, 4)?;
            return records
                .into_iter()
                .map(|record| {
                    let mut batches = Vec::new();
                    for appended in &record.appended {
                        let end = appended.base_offset + appended.count;
                        let read = run.store.read(appended.partition, appended.base_offset, usize::MAX)?;
                        batches.extend(read.into_iter().filter(|batch| batch.next_offset() <= end));
                    }
                    Ok(FollowedCommit { origin, record, batches })
                })
                .collect();
        }
        run.store.commits_to_ship(origin, next, READ_BYTES)
    }

    fn note_shipped(&mut self, at: usize, origin: OriginId, commit: CommitNumber) {
        let (durable, lied) = self.nodes[at].on_disk(origin);
        // A life that ended was synced when the next began.
        if commit > durable && self.nodes[at].ended != Some(origin) {
            self.history.note(Fact::Shipped { node: self.nodes[at].id, origin, commit, durable, lied });
        }
    }

    /// A topic goes before its first batch.
    fn say_topics(&mut self, run: &mut Running, number: u64, partitions: Vec<PartitionId>) {
        for id in partitions {
            let Some(serving) = run.serving.get_mut(&number) else { return };
            if serving.sent_topics.insert(id.topic)
                && let Some(info) = run.store.topics().into_iter().find(|topic| topic.id == id.topic)
            {
                self.say_down(number, &Said::Topic(info));
            }
        }
    }

    /// Sends the next parts of a copy; whether there may be more to send.
    fn send_copy(&mut self, at: usize, run: &mut Running, number: u64) -> bool {
        let Some(serving) = run.serving.get(&number) else { return false };
        let Some(Copying { head, ends: Some(ends), position }) = &serving.copy else { return false };
        let end_of = |id: PartitionId| ends.get(&id).copied().unwrap_or(0);
        let origin = head.origin;
        let (parts, after) = match run.store.copy_parts(head, position.as_ref(), &end_of, READ_BYTES) {
            Ok(read) => read,
            Err(error) => {
                self.cannot_serve(run, number, &error);
                return false;
            }
        };
        let early = head.commit;
        self.nodes[at].note_disk(run);
        for part in &parts {
            let mut bytes = Vec::new();
            part.encode(&mut bytes);
            self.say_down(number, &Said::CopyPart(bytes));
        }
        let is_over = after.is_none();
        if let Some(copy) = run.serving.get_mut(&number).and_then(|serving| serving.copy.as_mut()) {
            copy.position = after;
        }
        if is_over {
            self.say_removed(run, number, origin);
            let whole_at = if self.has(Bug::CopyWholeEarly) { early } else { run.store.synced_commit_of(origin) };
            self.say_down(number, &Said::CopyEnd(whole_at.0));
            if let Some(serving) = run.serving.get_mut(&number) {
                serving.copy = None;
            }
        }
        true
    }

    /// A planted bug: state that was removed goes with the copy.
    fn say_removed(&mut self, run: &Running, number: u64, origin: OriginId) {
        if !self.has(Bug::CopyOfRemoved) || origin != run.store.origin() {
            return;
        }
        for write in
            run.buried.iter().filter(|write| run.store.state_get(&write.tree, &write.key).ok().flatten().is_none())
        {
            let (tree, key, value) = (write.tree.clone(), write.key.clone(), write.value.clone().unwrap_or_default());
            let mut bytes = Vec::new();
            sled_data::CopyPart::State { tree, key, value }.encode(&mut bytes);
            self.say_down(number, &Said::CopyPart(bytes));
        }
    }
}
