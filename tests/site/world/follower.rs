//! The follower's side of a stream: whom to follow, what is asked, and what comes.

use edgeway::replication::{Asked, Said, asked, wanted};
use sled_data::{CommitNumber, CopyHead, CopyPart, FollowedCommit, OriginId};

use super::World;
use super::committer::extents;
use crate::site::bug::Bug;
use crate::site::node::{Following, Request, Running, bytes_of};

/// Commits that go into the store at once.
const CHUNK_COMMITS: usize = 8;
/// Bytes in memory above which nothing more is taken from a stream.
pub const BUFFER_BYTES: usize = 3_000;
/// Parts of a copy that are stored at once.
const CHUNK_PARTS: usize = 16;
/// How long after a stream ended it is opened anew, in milliseconds.
const RETRY_MS: u64 = 150;

impl World {
    pub(super) fn follow(&mut self, at: usize, run: &mut Running) {
        self.choose(at, run);
        let origins: Vec<OriginId> = run.following.keys().copied().collect();
        for origin in origins {
            self.take_frames(at, run, origin);
            self.feed(run, origin);
        }
    }

    /// Opens and closes streams, as it is decided who is followed from whom.
    fn choose(&mut self, at: usize, run: &mut Running) {
        let known = self.known(at, run);
        let mut wanted = wanted(&known);
        if self.has(Bug::NoLevelling) {
            wanted.retain(|origin, node| known.holders.get(node).is_some_and(|holder| holder.own == Some(*origin)));
        }
        let closed: Vec<OriginId> = run
            .following
            .iter()
            .filter(|(origin, following)| wanted.get(origin).is_none_or(|node| node.0 != following.from))
            .map(|(origin, _)| *origin)
            .collect();
        for origin in closed {
            self.stop_following(run, origin);
        }
        for (origin, from) in wanted {
            let rests = run.retry.get(&origin).is_some_and(|until| *until > self.history.time);
            if !rests && !run.following.contains_key(&origin) && !run.is_busy(origin) {
                self.ask(at, run, origin, from.0);
            }
        }
    }

    fn ask(&mut self, at: usize, run: &mut Running, origin: OriginId, from: u64) {
        let mut asked = asked(&run.store, origin);
        asked.whole |= self.has(Bug::CutCopyIsWhole);
        let stream = self.network.open(self.nodes[at].id, from);
        run.following.insert(origin, Following { from, stream, buffer: Default::default(), parts: Vec::new() });
        self.network.say_up(stream, self.history.time, Asked::Follow(asked).encode(), &mut self.random);
    }

    pub(super) fn stop_following(&mut self, run: &mut Running, origin: OriginId) {
        if let Some(following) = run.following.remove(&origin) {
            self.network.cut(following.stream, &mut self.random);
        }
        run.retry.insert(origin, self.history.time + RETRY_MS);
    }

    pub(super) fn stream_ended(&mut self, number: u64, follower: u64, source: u64) {
        let now = self.history.time;
        if let Some(run) = self.at(source).and_then(|at| self.nodes[at].running.as_mut()) {
            run.serving.remove(&number);
        }
        if let Some(run) = self.at(follower).and_then(|at| self.nodes[at].running.as_mut()) {
            let ended = run.following.iter().find(|(_, following)| following.stream == number).map(|(of, _)| *of);
            if let Some(origin) = ended {
                run.following.remove(&origin);
                run.retry.insert(origin, now + RETRY_MS);
            }
        }
    }

    fn take_frames(&mut self, at: usize, run: &mut Running, origin: OriginId) {
        let Some(following) = run.following.get(&origin) else { return };
        let stream = following.stream;
        let buffered: usize = following.buffer.iter().map(bytes_of).sum();
        if buffered >= BUFFER_BYTES && !self.has(Bug::NoWindow) {
            return;
        }
        for frame in self.network.arrived_down(stream, self.history.time) {
            // What came after a stream was given up is not looked at.
            if run.following.get(&origin).is_none_or(|following| following.stream != stream) {
                return;
            }
            if run.failed.is_some() || !self.take_frame(at, run, origin, frame) {
                self.stop_following(run, origin);
                return;
            }
        }
        self.store_parts(at, run, origin);
    }

    /// Takes a frame; false where the stream is to be given up.
    fn take_frame(&mut self, at: usize, run: &mut Running, origin: OriginId, frame: Vec<u8>) -> bool {
        let Ok(said) = Said::decode(frame) else { return false };
        match said {
            Said::Topic(info) => self.adopt(at, run, info),
            Said::Commit(bytes) => match FollowedCommit::decode(&bytes) {
                Ok(commit) => self.take_commit(run, origin, commit),
                Err(_) => false,
            },
            Said::CopyHead(bytes) => match CopyHead::decode(&bytes) {
                Ok(head) if head.origin == origin => self.begin_copy(at, run, &head),
                _ => false,
            },
            Said::CopyPart(bytes) => {
                let (Ok(part), Some(following)) = (CopyPart::decode(&bytes), run.following.get_mut(&origin)) else {
                    return false;
                };
                following.parts.push(part);
                following.parts.len() < CHUNK_PARTS || self.store_parts(at, run, origin)
            }
            Said::CopyEnd(number) => self.end_copy(at, run, origin, CommitNumber(number)),
            Said::Refused(_) => false,
        }
    }

    fn take_commit(&mut self, run: &mut Running, origin: OriginId, commit: FollowedCommit) -> bool {
        if commit.origin != origin {
            if self.has(Bug::AnyOrigin) {
                let stream = run.following.get(&origin).map_or(0, |following| following.stream);
                run.queue.push_back(Request { origin: commit.origin, stream, commits: vec![commit] });
                return true;
            }
            return false;
        }
        if let Some(following) = run.following.get_mut(&origin) {
            following.buffer.push_back(commit);
        }
        true
    }

    fn begin_copy(&mut self, at: usize, run: &mut Running, head: &CopyHead) -> bool {
        if let Err(error) = run.store.begin_copy(head) {
            self.not_followed(at, run, head.origin, &error);
            return false;
        }
        let ends = head.partitions.iter().map(|extent| (extent.partition, run.store.end_offset(extent.partition)));
        let Some(following) = run.following.get(&head.origin) else { return false };
        let frame = Asked::Ends(ends.collect()).encode();
        self.network.say_up(following.stream, self.history.time, frame, &mut self.random)
    }

    fn store_parts(&mut self, at: usize, run: &mut Running, origin: OriginId) -> bool {
        let Some(following) = run.following.get_mut(&origin) else { return false };
        let parts = std::mem::take(&mut following.parts);
        if parts.is_empty() {
            return true;
        }
        let before = extents(run, origin);
        match run.store.add_copy(origin, &parts) {
            Ok(gaps) => {
                self.note_gaps(at, run, origin, &before, &gaps);
                true
            }
            Err(error) => {
                self.not_followed(at, run, origin, &error);
                false
            }
        }
    }

    fn end_copy(&mut self, at: usize, run: &mut Running, origin: OriginId, whole_at: CommitNumber) -> bool {
        if !self.store_parts(at, run, origin) {
            return false;
        }
        if let Err(error) = run.store.end_copy(origin, whole_at) {
            self.not_followed(at, run, origin, &error);
            return false;
        }
        // It becomes durable with the next round, and is shown then.
        let stream = run.following.get(&origin).map_or(0, |following| following.stream);
        run.queue.push_back(Request { origin, stream, commits: Vec::new() });
        true
    }

    /// Gives what has come to the committer, one request at a time.
    fn feed(&mut self, run: &mut Running, origin: OriginId) {
        if run.is_busy(origin) {
            return;
        }
        let Some(following) = run.following.get_mut(&origin) else { return };
        let count = following.buffer.len().min(CHUNK_COMMITS);
        let commits: Vec<FollowedCommit> = following.buffer.drain(..count).collect();
        if !commits.is_empty() {
            run.queue.push_back(Request { origin, stream: following.stream, commits });
        }
    }
}
