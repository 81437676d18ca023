//! The committer: one thread that turns what is open into a commit, syncs it, and tells everyone.
//!
//! It takes the open commit the moment the last sync has ended. While it syncs, the next one fills:
//! under load commits grow by themselves, at rest one event waits for one sync alone.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sled_data::{
    Commit, CommitError, Durability, FollowedCommit, Offset, OpenBatch, OriginId, SealInfo, SealedBatch, Sealer,
    StateWrite, SyncError,
};

use super::brought::take_round;
use super::followed::{Applied, FollowRequest};
use super::linked::{LinkedRequest, Taken};
use super::newest::NewestCommits;
use super::open::{Open, OpenPart};
use super::outcome::{CommitFailed, Ticket};
use super::{Batch, EventLog, PartitionLog, Wake};

/// How long appends are refused after the store said that it is full, before it is asked again.
const FULL_RETRY: Duration = Duration::from_millis(250);

/// One batch of a commit that just became visible.
pub struct CommittedBatch {
    /// Where it was stored.
    pub partition: Arc<PartitionLog>,
    /// Its events.
    pub batch: Batch,
}

/// A commit that just became visible, as its observers get it. Batches that subscribers have had
/// already on arrival (QoS 0) are left out.
pub struct Committed {
    /// Batches with something to fan out.
    pub batches: Vec<CommittedBatch>,
}

/// One who is told of every visible commit, in order.
pub trait Observer: Send + Sync {
    /// Called on the committer's thread; must not block.
    fn committed(&self, committed: &Arc<Committed>);
    /// Whether anybody waits for batches; when nobody does, they are not gathered.
    fn is_listening(&self) -> bool;
    /// Commits of another origin are durable here and visible; their batches came by [`Self::committed`].
    fn followed(&self, _commits: &[FollowedCommit]) {}
    /// A copy of another origin was taken: what its commits left here is to be read anew. Called where blocking is fine.
    fn copied(&self, _origin: OriginId) {}
    /// Which lives go on is known better: [`EventLog::followed_lives`] is to be asked anew. Called where [`Self::followed`] is, or where blocking is fine.
    fn lives_changed(&self) {}
}

pub(super) fn start(log: &Arc<EventLog>) -> io::Result<JoinHandle<()>> {
    let log = Arc::clone(log);
    std::thread::Builder::new().name("committer".to_owned()).spawn(move || {
        let mut committer =
            Committer { sealer: Sealer::new(), last_sync: Instant::now(), unsynced: false, must_sync: false, log };
        committer.run();
    })
}

struct Committer {
    log: Arc<EventLog>,
    sealer: Sealer,
    last_sync: Instant,
    unsynced: bool,
    /// Whether other origins' commits wait for a sync.
    must_sync: bool,
}

/// What one round of the committer does.
struct Work {
    open: Option<Open>,
    followed: Vec<FollowRequest>,
    linked: Vec<LinkedRequest>,
}

/// A batch that was sealed, and where it goes.
pub(super) struct Placed {
    partition: Arc<PartitionLog>,
    base: Offset,
    records: Arc<OpenBatch>,
    fan_out: bool,
}

impl Placed {
    /// Bytes of its records, uncompressed.
    pub(super) fn record_bytes(&self) -> usize {
        self.records.record_bytes()
    }

    fn next(&self) -> Offset {
        self.base + Offset::from(self.records.count())
    }

    fn awaits_quorum(&self) -> bool {
        self.partition.config().durability == Durability::Quorum
    }
}

impl Committer {
    fn run(&mut self) {
        while let Some(Work { open, followed, linked }) = self.next_work() {
            let started = Instant::now();
            let applied = self.log.apply_followed(followed);
            let taken = self.log.apply_linked(linked);
            self.must_sync = !applied.is_empty() || !taken.is_empty();
            if let Some(open) = open {
                let (ticket, waiters) = (open.ticket, open.waiters.clone());
                match self.commit(open, started) {
                    Ok(()) => self.log.outcomes.settle(ticket, Ok(())),
                    Err(why) => self.fail(ticket, &why),
                }
                ring(&waiters);
            }
            self.end_followed(applied, taken, started);
        }
        if let Err(error) = self.log.store.sync() {
            tracing::error!(%error, "the last sync failed; what was appended to memory topics may be lost");
        }
    }

    /// Makes other origins' commits durable, where a commit of this node's own has not done it, and shows them.
    fn end_followed(&mut self, applied: Vec<Applied>, taken: Vec<Taken>, started: Instant) {
        let synced =
            if self.must_sync { self.sync().inspect(|()| self.log.stats.synced(started.elapsed())) } else { Ok(()) };
        let synced = synced.map_err(|error| error.to_string());
        self.log.end_followed(applied, &synced);
        self.log.end_linked(taken, &synced);
    }

    /// What is next, or `None` when the log is closed and all is done.
    fn next_work(&mut self) -> Option<Work> {
        let log = Arc::clone(&self.log);
        let mut open = log.open.lock();
        // They came when the commit that has just been settled was under way.
        ring(&std::mem::take(&mut open.late));
        loop {
            if !open.is_empty() || !open.followed.is_empty() || !open.linked.is_empty() {
                let followed = take_round(&mut open.followed);
                let linked = take_round(&mut open.linked);
                return Some(Work { open: (!open.is_empty()).then(|| open.take()), followed, linked });
            }
            if open.closing {
                return None;
            }
            open.idle = true;
            if open.refusing.is_some() {
                self.log.work.wait_for(&mut open, FULL_RETRY);
                if matches!(open.refusing, Some(CommitFailed::Full(_))) {
                    open.refusing = None;
                }
            } else if self.unsynced {
                let left =
                    Duration::from_millis(self.log.config.memory_sync_ms).saturating_sub(self.last_sync.elapsed());
                if left.is_zero() || self.log.work.wait_for(&mut open, left).timed_out() {
                    drop(open);
                    self.sync_memory_topics();
                    open = log.open.lock();
                }
            } else {
                self.log.work.wait(&mut open);
            }
            open.idle = false;
        }
    }

    fn sync(&mut self) -> Result<(), SyncError> {
        self.log.store.sync()?;
        self.unsynced = false;
        self.must_sync = false;
        self.last_sync = Instant::now();
        self.log.synced.send_modify(|number| *number += 1);
        Ok(())
    }

    fn sync_memory_topics(&mut self) {
        self.unsynced = false;
        self.last_sync = Instant::now();
        if let Err(error) = self.log.store.sync() {
            tracing::error!(%error, "the store could not be synced");
            self.log.open.lock().refusing = Some(CommitFailed::Failed(error.to_string()));
        }
        self.log.synced.send_modify(|number| *number += 1);
    }

    /// Nothing of a commit was stored. What was appended before that was known goes with it, untried: an event that a
    /// device sent later is not stored where an earlier one was lost.
    fn fail(&self, ticket: Ticket, why: &CommitFailed) {
        let mut open = self.log.open.lock();
        if open.refusing.is_none() {
            tracing::error!(%why, "a commit was refused");
        }
        if !matches!(why, CommitFailed::Refused(_)) {
            open.refusing = Some(why.clone());
        }
        open.failures += 1;
        let lost = open.take_all();
        // Settled before anybody can append again: an outcome and the count of failures never tell two stories.
        for ticket in std::iter::once(ticket).chain(lost.iter().map(|lost| lost.ticket)) {
            self.log.stats.refused(why);
            self.log.outcomes.settle(ticket, Err(why.clone()));
        }
        drop(open);
        lost.iter().for_each(|lost| ring(&lost.waiters));
    }

    fn commit(&mut self, open: Open, started: Instant) -> Result<(), CommitFailed> {
        let hlc = self.log.clock.next_hybrid();
        let (events, mut record_bytes) = (open.events, 0);
        let needs_sync = !open.cursors.is_empty() || !open.state.is_empty() || self.any_synced_topic(&open.parts);
        let mut placed = Vec::with_capacity(open.parts.len());
        let mut appends = Vec::with_capacity(open.parts.len());
        let log = Arc::clone(&self.log);
        let placing = log.placing.lock();
        for part in open.parts {
            self.seal(part, hlc, &mut placed, &mut appends);
        }
        for batch in &placed {
            record_bytes += batch.record_bytes() as u64;
        }
        let batches = appends.len() as u64;
        let mut cursors = open.cursors;
        // A cursor in a topic that has been deleted since goes with it.
        let partitions = log.partitions.read();
        cursors.retain(|cursor| partitions.contains_key(&cursor.partition));
        drop(partitions);
        let state = open.state.into_iter().map(|((tree, key), value)| StateWrite { tree, key, value }).collect();
        let commit = Commit { hlc, appends, cursors, state };
        // Nobody follows a node that is alone.
        let mut shipped = if log.quorum.is_alone() { None } else { NewestCommits::room(&commit) };
        let number = log.store.commit_and_ship(&commit, shipped.as_mut()).map_err(|error| refusal(&log, error))?;
        if let Some(bytes) = shipped.filter(|bytes| !bytes.is_empty()) {
            log.newest.add(number, &commit, bytes);
        }
        placed.iter().for_each(|batch| batch.partition.stored_up_to(batch.next()));
        drop(placing);
        commit.appends.into_iter().for_each(|batch| self.sealer.recycle(batch));
        self.unsynced = true;
        if needs_sync || self.must_sync || self.last_sync.elapsed().as_millis() as u64 >= self.log.config.memory_sync_ms
        {
            self.sync().map_err(|error| CommitFailed::Failed(error.to_string()))?;
        }
        self.log.stats.committed(events, batches, record_bytes, started.elapsed());
        // One that has become alone shows what waits first.
        let goes_by_queue = !self.log.quorum.is_alone() || self.log.quorum.has_waiting();
        if goes_by_queue && placed.iter().any(Placed::awaits_quorum) {
            let (waiting, shown): (Vec<_>, Vec<_>) = placed.into_iter().partition(Placed::awaits_quorum);
            self.log.quorum.add(open.ticket, number, waiting, open.waiters);
            // Others may have synced it while it was on its way into the queue.
            self.log.show_what_is_reached();
            placed = shown;
            if placed.is_empty() {
                // What it brought is shown when enough nodes have it: nobody else has anything to read now.
                let _showing = log.showing.lock();
                log.tell_visible(Vec::new(), false);
                return Ok(());
            }
        }
        let _showing = log.showing.lock();
        log.show_placed(placed);
        Ok(())
    }

    fn any_synced_topic(&self, parts: &[OpenPart]) -> bool {
        let slots = self.log.slots.read();
        parts.iter().any(|part| {
            let partition = slots.get(part.slot as usize);
            partition.is_none_or(|partition| partition.config().durability != Durability::Memory)
        })
    }

    fn seal(&mut self, part: OpenPart, hlc: u64, placed: &mut Vec<Placed>, appends: &mut Vec<SealedBatch>) {
        let partition = self.log.slots.read().get(part.slot as usize).cloned();
        // What was appended to a topic that has been deleted since goes with it.
        let Some(partition) = partition.filter(|partition| !partition.is_deleted()) else { return };
        let compression = partition.config().compression;
        let mut base = partition.end();
        for records in part.batches {
            let info =
                SealInfo { partition: partition.id(), base_offset: base, hlc, compression, hops: 0, term: 0, flags: 0 };
            appends.push(records.seal(info, &mut self.sealer));
            let next = base + Offset::from(records.count());
            let fan_out = part.to_fan_out > 0;
            placed.push(Placed { partition: Arc::clone(&partition), base, records: Arc::new(records), fan_out });
            base = next;
        }
    }
}

impl EventLog {
    /// Shows batches of a commit to readers and observers. The caller holds `showing`.
    pub(super) fn show_placed(&self, placed: Vec<Placed>) {
        let listening = self.observers.read().iter().any(|observer| observer.is_listening());
        let mut batches = Vec::new();
        let mut shown = Vec::with_capacity(placed.len());
        for batch in placed {
            let bytes = batch.record_bytes();
            batch.partition.show(batch.base, Arc::clone(&batch.records));
            self.recent.add(&batch.partition, bytes);
            shown.push(Arc::clone(&batch.partition));
            if listening && batch.fan_out {
                let records = Batch::recent(batch.partition.id(), batch.base, batch.records);
                batches.push(CommittedBatch { partition: batch.partition, batch: records });
            }
        }
        self.tell_visible(batches, shown.is_empty() || shown.iter().any(|partition| partition.is_internal()));
        shown.iter().for_each(|partition| partition.handed_out());
    }

    /// Tells those who wait that more is visible, and observers what; `is_internal`: internal topics may show more. The caller holds `showing`.
    pub(super) fn tell_visible(&self, batches: Vec<CommittedBatch>, is_internal: bool) {
        self.visible.send_modify(|number| *number += 1);
        if is_internal {
            self.internal.send_modify(|number| *number += 1);
        }
        if !batches.is_empty() {
            let committed = Arc::new(Committed { batches });
            let observers: Vec<Arc<dyn Observer>> = self.observers.read().clone();
            observers.iter().for_each(|observer| observer.committed(&committed));
        }
    }
}

fn ring(waiters: &[Arc<Wake>]) {
    waiters.iter().for_each(|wake| wake.ring(Wake::SETTLED));
}

/// Only a store that failed for good stops the log: what else it refuses, it refuses of one commit.
fn refusal(log: &EventLog, error: CommitError) -> CommitFailed {
    let why = error.to_string();
    match error {
        CommitError::Full => {
            CommitFailed::Full(log.why_full().unwrap_or_else(|| "the next commit does not fit".to_owned()))
        }
        CommitError::Failed(_) | CommitError::NotDense { .. } => CommitFailed::Failed(why),
        CommitError::Bound(_) | CommitError::CursorPastEnd { .. } | CommitError::UnknownPartition(_) => {
            CommitFailed::Refused(why)
        }
    }
}
