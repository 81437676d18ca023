//! The committer's round: the node's own commit and those of others, under one sync.

use std::collections::BTreeMap;
use std::sync::Arc;

use sled_data::{
    Commit, CommitError, CommitNumber, FollowError, Gap, HeaderBlock, OpenBatch, OriginId, PartitionId, SealInfo,
    SealedBatch,
};

use super::World;
use crate::site::bug::Bug;
use crate::site::catalog::config;
use crate::site::history::{Fact, Place, Refusal};
use crate::site::life::{Piece, Written, hash};
use crate::site::node::{Pending, Request, Round, Running, Waiting};
use edgeway::replication::Asked;

/// Requests that one round takes.
const REQUESTS_MAX: usize = 4;

/// Events of a commit, each with where it goes.
type Placed = Vec<(Pending, PartitionId, u64)>;

impl World {
    pub(super) fn round(&mut self, at: usize, run: &mut Running) {
        if run.failed.is_some() {
            return;
        }
        if run.round.as_ref().is_some_and(|round| round.due <= self.history.time)
            && let Some(round) = run.round.take()
        {
            self.end_round(at, run, round);
        }
        if run.round.is_none() && run.failed.is_none() && (self.is_calm || self.random.chance(700)) {
            self.begin_round(at, run);
        }
        if self.has(Bug::AckBeforeSync)
            && let Some(mut round) = run.round.take()
        {
            if !std::mem::replace(&mut round.told, true)
                && let Some(number) = round.number
            {
                self.settle(at, run, number, round.events.clone());
            }
            run.round = Some(round);
        }
    }

    fn begin_round(&mut self, at: usize, run: &mut Running) {
        let mut followed = Vec::new();
        for _ in 0..REQUESTS_MAX {
            let Some(request) = run.queue.pop_front() else { break };
            if self.apply(at, run, &request) {
                followed.push(request);
            }
        }
        let has_own = !run.open.is_empty() || !run.state.is_empty() || !run.cursors.is_empty();
        let own = if has_own && run.failed.is_none() { self.commit(at, run) } else { None };
        if own.is_none() && followed.is_empty() {
            return;
        }
        let due = self.history.time + self.random.below(self.nodes[at].disk.sync_ms + 1);
        let (number, events) = own.map_or((None, Vec::new()), |(number, events)| (Some(number), events));
        run.round = Some(Round { number, events, followed, due, told: false });
    }

    /// Puts commits of another origin into the store; whether they are in it.
    fn apply(&mut self, at: usize, run: &mut Running, request: &Request) -> bool {
        let commits = self.spoil_commits(run, &request.commits);
        let before = extents(run, request.origin);
        match run.store.follow(&commits) {
            Ok(gaps) => {
                self.note_gaps(at, run, request.origin, &before, &gaps);
                if self.has(Bug::ClaimsUnsynced) {
                    self.claim(at, run, request, run.store.last_commit_of(request.origin));
                }
                true
            }
            Err(error) => {
                self.not_followed(at, run, request.origin, &error);
                false
            }
        }
    }

    /// What the store refused of another origin, and what comes of that.
    pub(super) fn not_followed(&mut self, at: usize, run: &mut Running, origin: OriginId, error: &FollowError) {
        let node = self.nodes[at].id;
        match error {
            FollowError::Failed(_) => run.failed = Some("its store failed"),
            FollowError::Different { .. } => {
                self.history.note(Fact::Differs { node, origin, text: error.to_string() });
                run.stopped.insert(origin);
            }
            _ => {}
        }
        self.stop_following(run, origin);
    }

    /// What is missing, as it is told and as it is seen.
    pub(super) fn note_gaps(
        &mut self,
        at: usize,
        run: &Running,
        origin: OriginId,
        before: &BTreeMap<PartitionId, (u64, u64)>,
        gaps: &[Gap],
    ) {
        let node = self.nodes[at].id;
        for (partition, (start, _)) in extents(run, origin) {
            let (start_before, end_before) = before.get(&partition).copied().unwrap_or_default();
            if start > start_before {
                self.history.note(Fact::Hole { node, partition, from: end_before, to: start });
            }
        }
        if !self.has(Bug::GapNotTold) {
            for Gap { partition, from, to } in gaps.iter().copied() {
                self.history.note(Fact::Gap { node, partition, from, to });
            }
        }
    }

    /// The node's own commit.
    fn commit(&mut self, at: usize, run: &mut Running) -> Option<(CommitNumber, Placed)> {
        let node = self.nodes[at].id;
        let hlc = run.stamp(self.wall(at));
        let known: Vec<_> = run.store.topics().into_iter().map(|topic| topic.id).collect();
        let (open, lost): (Vec<_>, Vec<_>) = run.open.drain(..).partition(|pending| known.contains(&pending.topic));
        let held = run.store.partitions();
        run.cursors.retain(|cursor| held.contains(&cursor.partition));
        let (placed, appends, pieces) = self.seal(run, open, hlc);
        let (cursors, state) = (std::mem::take(&mut run.cursors), std::mem::take(&mut run.state));
        let commit = Commit { hlc, appends, cursors, state };
        run.is_reading = false;
        let refused: Vec<u64> = lost.iter().map(|pending| pending.event).collect();
        let result = run.store.commit(&commit);
        let refused = match &result {
            Ok(number) => {
                let Commit { cursors, state, .. } = commit;
                self.wrote(at, *number, Written { hlc, pieces, cursors, state });
                refused
            }
            Err(error) => {
                if matches!(error, CommitError::Failed(_)) {
                    run.failed = Some("its store failed");
                }
                refused.into_iter().chain(placed.iter().map(|(pending, ..)| pending.event)).collect()
            }
        };
        for event in refused {
            self.history.note(Fact::Refused { node, event, why: Refusal::NotStored });
        }
        result.ok().map(|number| (number, placed))
    }

    fn wrote(&mut self, at: usize, number: CommitNumber, written: Written) {
        let commits = &mut self.history.lives[self.nodes[at].life].commits;
        assert_eq!(commits.len() as u64 + 1, number.0, "a life's commits are numbered one after the other");
        commits.push(Arc::new(written));
    }

    fn seal(&mut self, run: &Running, open: Vec<Pending>, hlc: u64) -> (Placed, Vec<SealedBatch>, Vec<Piece>) {
        let mut by_partition: BTreeMap<PartitionId, Vec<Pending>> = BTreeMap::new();
        for pending in open {
            let id = PartitionId { origin: run.store.origin(), topic: pending.topic, index: pending.index };
            by_partition.entry(id).or_default().push(pending);
        }
        let (mut placed, mut appends, mut pieces) = (Vec::new(), Vec::new(), Vec::new());
        for (id, all) in by_partition {
            let mut base = run.store.end_offset(id);
            for some in all.chunks(3) {
                let events: Vec<u64> = some.iter().map(|pending| pending.event).collect();
                let batch = self.seal_events(id, base, hlc, &events);
                pieces.push(Piece { partition: id, base, bytes: hash(batch.bytes()), events });
                appends.push(batch);
                placed.extend((base..).zip(some).map(|(offset, pending)| (pending.clone(), id, offset)));
                base += some.len() as u64;
            }
        }
        (placed, appends, pieces)
    }

    pub(super) fn seal_events(
        &mut self,
        partition: PartitionId,
        base_offset: u64,
        hlc: u64,
        events: &[u64],
    ) -> SealedBatch {
        let mut open = OpenBatch::new();
        for event in events {
            let mut value = event.to_be_bytes().to_vec();
            value.resize(8 + usize::try_from(event % 90).unwrap(), 7);
            open.push(1_000, Some(&event.to_be_bytes()), Some(&value), &HeaderBlock::new()).unwrap();
        }
        let compression = config(if partition.index == 0 { "local-a" } else { "local-b" }).compression;
        let info = SealInfo { partition, base_offset, hlc, compression, hops: 0, term: 0, flags: 0 };
        open.seal(info, &mut self.sealer)
    }

    fn end_round(&mut self, at: usize, run: &mut Running, round: Round) {
        let synced = run.store.sync();
        self.nodes[at].note_disk(run);
        if synced.is_err() {
            run.failed = Some("its store failed");
            return;
        }
        run.rounds += 1;
        if let Some(number) = round.number
            && !round.told
        {
            self.settle(at, run, number, round.events);
        }
        for request in round.followed {
            for commit in &request.commits {
                for appended in &commit.record.appended {
                    run.show(appended.partition, appended.base_offset + appended.count);
                }
            }
            if request.commits.is_empty() {
                self.show_origin(run, request.origin);
            }
            let synced = run.store.synced_commit_of(request.origin);
            self.claim(at, run, &request, synced);
        }
    }

    /// Shows all that the store has of an origin, after a copy of it was taken.
    fn show_origin(&mut self, run: &mut Running, origin: OriginId) {
        for id in run.store.partitions().into_iter().filter(|id| id.origin == origin) {
            run.show(id, run.store.end_offset(id));
        }
    }

    /// Tells the source how far this node has synced.
    fn claim(&mut self, at: usize, run: &Running, request: &Request, commit: CommitNumber) {
        let (node, origin) = (self.nodes[at].id, request.origin);
        if run.following.get(&origin).is_none_or(|following| following.stream != request.stream) {
            return;
        }
        let (durable, lied) = self.nodes[at].on_disk(origin);
        if commit > durable {
            self.history.note(Fact::Claimed { node, origin, commit, durable, lied });
        }
        let frame = Asked::Synced(commit.0).encode();
        self.network.say_up(request.stream, self.history.time, frame, &mut self.random);
    }

    /// A commit is synced: events of local topics are acknowledged and shown, the others wait.
    fn settle(&mut self, at: usize, run: &mut Running, commit: CommitNumber, events: Placed) {
        let (_, needed) = self.nodes[at].catalog.replicas(self.nodes[at].id);
        let (local_waits, early) = (self.has(Bug::LocalWaits), self.has(Bug::ShownBeforeQuorum));
        let waits = |pending: &Pending| needed > 0 && (pending.is_quorum || local_waits);
        let (waiting, goes): (Vec<_>, Vec<_>) = events.into_iter().partition(|(pending, ..)| waits(pending));
        for (pending, partition, offset) in goes {
            let place = Place { partition, offset, commit, life: self.nodes[at].life };
            self.show(at, run, &pending, place);
            self.acknowledge(at, run, &pending, place);
        }
        if early {
            for (pending, partition, offset) in &waiting {
                let place = Place { partition: *partition, offset: *offset, commit, life: self.nodes[at].life };
                self.show(at, run, pending, place);
            }
        }
        if !waiting.is_empty() {
            run.waiting.push_back(Waiting { commit, events: waiting, since: self.history.time, is_late: false });
        }
    }
}

/// Start and end of an origin's partitions.
pub(super) fn extents(run: &Running, origin: OriginId) -> BTreeMap<PartitionId, (u64, u64)> {
    let of = run.store.partitions().into_iter().filter(|id| id.origin == origin);
    of.map(|id| (id, (run.store.start_offset(id), run.store.end_offset(id)))).collect()
}
