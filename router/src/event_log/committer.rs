//! The committer: one thread that turns what is open into a commit, syncs it, and tells everyone.
//!
//! It takes the open commit the moment the last sync has ended. While it syncs, the next one fills:
//! under load commits grow by themselves, at rest one event waits for one sync alone.

use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use sled_data::{Commit, CommitError, Durability, Offset, OpenBatch, SealInfo, SealedBatch, Sealer, StateWrite};

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
    /// Its number in this run.
    pub number: u64,
    /// Batches with something to fan out.
    pub batches: Vec<CommittedBatch>,
}

/// One who is told of every visible commit, in order.
pub trait Observer: Send + Sync {
    /// Called on the committer's thread; must not block.
    fn committed(&self, committed: &Arc<Committed>);
    /// Whether anybody waits for batches; when nobody does, they are not gathered.
    fn is_listening(&self) -> bool;
}

pub(super) fn start(log: &Arc<EventLog>) -> io::Result<JoinHandle<()>> {
    let log = Arc::clone(log);
    std::thread::Builder::new().name("committer".to_owned()).spawn(move || {
        let mut committer = Committer { sealer: Sealer::new(), last_sync: Instant::now(), unsynced: false, log };
        committer.run();
    })
}

struct Committer {
    log: Arc<EventLog>,
    sealer: Sealer,
    last_sync: Instant,
    unsynced: bool,
}

/// A batch that was sealed, and where it goes.
struct Placed {
    partition: Arc<PartitionLog>,
    base: Offset,
    records: Arc<OpenBatch>,
    fan_out: bool,
}

impl Committer {
    fn run(&mut self) {
        while let Some(open) = self.next_open() {
            let started = Instant::now();
            let (ticket, waiters) = (open.ticket, open.waiters.clone());
            match self.commit(open, started) {
                Ok(()) => self.log.outcomes.settle(ticket, Ok(())),
                Err(why) => self.fail(ticket, &why),
            }
            ring(&waiters);
        }
        if let Err(error) = self.log.store.sync() {
            tracing::error!(%error, "the last sync failed; what was appended to memory topics may be lost");
        }
    }

    /// The next commit, or `None` when the log is closed and all is done.
    fn next_open(&mut self) -> Option<Open> {
        let log = Arc::clone(&self.log);
        let mut open = log.open.lock();
        // They came when the commit that has just been settled was under way.
        ring(&std::mem::take(&mut open.late));
        loop {
            if !open.is_empty() {
                return Some(open.take());
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

    fn sync_memory_topics(&mut self) {
        self.unsynced = false;
        self.last_sync = Instant::now();
        if let Err(error) = self.log.store.sync() {
            tracing::error!(%error, "the store could not be synced");
            self.log.open.lock().refusing = Some(CommitFailed::Failed(error.to_string()));
        }
    }

    /// Nothing of a commit was stored. What was appended before that was known goes with it, untried: an event that a
    /// device sent later is not stored where an earlier one was lost.
    fn fail(&self, ticket: Ticket, why: &CommitFailed) {
        let mut open = self.log.open.lock();
        if open.refusing.is_none() {
            tracing::error!(%why, "a commit was refused, nothing of it was stored");
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
            record_bytes += batch.records.record_bytes() as u64;
        }
        let batches = appends.len() as u64;
        let mut cursors = open.cursors;
        // A cursor in a topic that has been deleted since goes with it.
        let partitions = log.partitions.read();
        cursors.retain(|cursor| partitions.contains_key(&cursor.partition));
        drop(partitions);
        let state = open.state.into_iter().map(|((tree, key), value)| StateWrite { tree, key, value }).collect();
        let commit = Commit { hlc, appends, cursors, state };
        log.store.commit(&commit).map_err(refusal)?;
        drop(placing);
        commit.appends.into_iter().for_each(|batch| self.sealer.recycle(batch));
        self.unsynced = true;
        if needs_sync || self.last_sync.elapsed().as_millis() as u64 >= self.log.config.memory_sync_ms {
            self.log.store.sync().map_err(|error| CommitFailed::Failed(error.to_string()))?;
            self.unsynced = false;
            self.last_sync = Instant::now();
        }
        self.log.stats.committed(events, batches, record_bytes, started.elapsed());
        self.show(placed, open.ticket.0);
        Ok(())
    }

    fn any_synced_topic(&self, parts: &[OpenPart]) -> bool {
        let slots = self.log.slots.read();
        parts.iter().any(|part| {
            let partition = slots.get(part.slot as usize);
            partition.is_none_or(|partition| partition.config().durability == Durability::Sync)
        })
    }

    fn seal(&mut self, part: OpenPart, hlc: u64, placed: &mut Vec<Placed>, appends: &mut Vec<SealedBatch>) {
        let partition = self.log.slots.read().get(part.slot as usize).cloned();
        // What was appended to a topic that has been deleted since goes with it.
        let Some(partition) = partition.filter(|partition| !partition.is_deleted()) else { return };
        let compression = partition.config().compression;
        let mut base = partition.visible_end();
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

    fn show(&self, placed: Vec<Placed>, number: u64) {
        let observers = self.log.observers.read();
        let listening = observers.iter().any(|observer| observer.is_listening());
        let mut batches = Vec::new();
        let mut shown = Vec::with_capacity(placed.len());
        for batch in placed {
            let bytes = batch.records.record_bytes();
            batch.partition.show(batch.base, Arc::clone(&batch.records));
            self.log.recent.add(&batch.partition, bytes);
            shown.push(Arc::clone(&batch.partition));
            if listening && batch.fan_out {
                let records = Batch::recent(batch.partition.id(), batch.base, batch.records);
                batches.push(CommittedBatch { partition: batch.partition, batch: records });
            }
        }
        self.log.visible.send_replace(number);
        if listening && !batches.is_empty() {
            let committed = Arc::new(Committed { number, batches });
            for observer in observers.iter() {
                observer.committed(&committed);
            }
        }
        shown.iter().for_each(|partition| partition.handed_out());
    }
}

fn ring(waiters: &[Arc<Wake>]) {
    waiters.iter().for_each(|wake| wake.ring(Wake::SETTLED));
}

/// Only a store that failed for good stops the log: what else it refuses, it refuses of one commit.
fn refusal(error: CommitError) -> CommitFailed {
    let why = error.to_string();
    match error {
        CommitError::Full => CommitFailed::Full(why),
        CommitError::Failed(_) | CommitError::NotDense { .. } => CommitFailed::Failed(why),
        CommitError::Bound(_) | CommitError::CursorPastEnd { .. } | CommitError::UnknownPartition(_) => {
            CommitFailed::Refused(why)
        }
    }
}
