//! A node: its disk, its clock, and what it has in memory while it runs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use edgeway::replication::{Floor, Holder};
use sled_data::{
    CommitNumber, CopyHead, CopyPart, CopyPosition, CopyState, CursorMove, Faults, FollowedCommit, HLC_LOGICAL_BITS,
    MemoryBackend, OriginId, PartitionId, StateWrite, Store, TopicId, TopicInfo,
};

use super::catalog::Catalog;

/// A machine with a store.
pub struct Node {
    pub id: u64,
    pub backend: MemoryBackend,
    pub disk: Disk,
    /// The life that it writes, by its place in the history.
    pub life: usize,
    /// The life before, while its commits can be read.
    pub ended: Option<OriginId>,
    /// By how much its wall clock is wrong, in milliseconds.
    pub skew: i64,
    /// What it knows of what people set; durable.
    pub catalog: Catalog,
    pub running: Option<Running>,
    /// When it is started again, in true milliseconds.
    pub starts_at: u64,
}

/// A disk, and what somebody who sees everything knows of it.
#[derive(Default)]
pub struct Disk {
    pub faults: Faults,
    /// How long a sync takes, in milliseconds.
    pub sync_ms: u64,
    /// The newest commit of each origin that is really there.
    pub durable: BTreeMap<OriginId, CommitNumber>,
    /// The newest commit of each origin that it said is there.
    pub claimed: BTreeMap<OriginId, CommitNumber>,
    /// The newest commit of each origin that it had or said it had, and lost since: others may still go by it.
    pub broken: BTreeMap<OriginId, CommitNumber>,
}

/// An event on its way.
#[derive(Debug, Clone)]
pub struct Pending {
    pub event: u64,
    pub topic: TopicId,
    pub index: u32,
    pub is_quorum: bool,
    /// Rounds of the committer that had ended when it was appended.
    pub round: u64,
}

/// Commits of another origin on their way into the store.
pub struct Request {
    pub origin: OriginId,
    pub stream: u64,
    pub commits: Vec<FollowedCommit>,
}

/// What is in the store and waits for the sync.
pub struct Round {
    pub number: Option<CommitNumber>,
    pub events: Vec<(Pending, PartitionId, u64)>,
    pub followed: Vec<Request>,
    pub due: u64,
    /// How many of the events were told already, by a planted bug.
    pub told: bool,
}

/// A synced commit that waits for its quorum.
pub struct Waiting {
    pub commit: CommitNumber,
    pub events: Vec<(Pending, PartitionId, u64)>,
    pub since: u64,
    pub is_late: bool,
}

/// What a node heard of another.
pub struct Heard {
    pub at: u64,
    pub holder: Holder,
}

/// A stream of commits that comes in.
pub struct Following {
    pub from: u64,
    pub stream: u64,
    pub buffer: VecDeque<FollowedCommit>,
    pub parts: Vec<CopyPart>,
}

/// A stream of commits that goes out.
pub struct Serving {
    pub to: u64,
    pub origin: OriginId,
    pub next: CommitNumber,
    pub sent_topics: BTreeSet<TopicId>,
    pub copy: Option<Copying>,
    /// When commits last went to it, in true milliseconds.
    pub sent_at: Option<u64>,
    /// For a planted bug: nothing goes any more.
    pub is_stalled: bool,
}

/// A copy that goes out.
pub struct Copying {
    pub head: CopyHead,
    pub ends: Option<BTreeMap<PartitionId, u64>>,
    pub position: Option<CopyPosition>,
}

/// What is in memory, and gone when the node goes down.
pub struct Running {
    pub store: Store,
    pub hybrid: u64,
    pub open: Vec<Pending>,
    pub cursors: Vec<CursorMove>,
    pub state: Vec<StateWrite>,
    pub queue: VecDeque<Request>,
    pub round: Option<Round>,
    pub rounds: u64,
    pub visible: BTreeMap<PartitionId, u64>,
    pub synced: BTreeMap<u64, CommitNumber>,
    pub waiting: VecDeque<Waiting>,
    /// How far followers of this node's own log have said that they are.
    pub said: BTreeMap<u64, CommitNumber>,
    pub floor: Option<Floor>,
    pub in_reach: bool,
    pub heard: BTreeMap<u64, Heard>,
    pub following: BTreeMap<OriginId, Following>,
    /// When a stream may be opened again.
    pub retry: BTreeMap<OriginId, u64>,
    pub serving: BTreeMap<u64, Serving>,
    pub stopped: BTreeSet<OriginId>,
    /// Topics that came with a stream and could not be made yet.
    pub strangers: BTreeMap<TopicId, TopicInfo>,
    /// State that was removed, for a planted bug.
    pub buried: Vec<StateWrite>,
    pub next_beat: u64,
    pub is_reading: bool,
    /// Why it has to go down.
    pub failed: Option<&'static str>,
}

impl Running {
    pub fn new(store: Store, hybrid: u64) -> Running {
        let ends: BTreeMap<PartitionId, u64> =
            store.partitions().into_iter().map(|id| (id, store.end_offset(id))).collect();
        Running {
            store,
            hybrid,
            open: Vec::new(),
            cursors: Vec::new(),
            state: Vec::new(),
            queue: VecDeque::new(),
            round: None,
            rounds: 0,
            visible: ends,
            synced: BTreeMap::new(),
            waiting: VecDeque::new(),
            said: BTreeMap::new(),
            floor: None,
            in_reach: true,
            heard: BTreeMap::new(),
            following: BTreeMap::new(),
            retry: BTreeMap::new(),
            serving: BTreeMap::new(),
            stopped: BTreeSet::new(),
            strangers: BTreeMap::new(),
            buried: Vec::new(),
            next_beat: 0,
            is_reading: false,
            failed: None,
        }
    }

    /// The next stamp of the hybrid clock.
    pub fn stamp(&mut self, wall: u64) -> u64 {
        self.hybrid = (wall << HLC_LOGICAL_BITS).max(self.hybrid + 1);
        self.hybrid
    }

    /// Whether commits of the origin are on their way into the store.
    pub fn is_busy(&self, origin: OriginId) -> bool {
        let in_round = self.round.as_ref().is_some_and(|round| round.followed.iter().any(|of| of.origin == origin));
        in_round || self.queue.iter().any(|request| request.origin == origin)
    }

    pub fn show(&mut self, partition: PartitionId, end: u64) {
        let visible = self.visible.entry(partition).or_default();
        *visible = end.max(*visible);
    }

    /// What this node says of itself.
    pub fn holder(&self, ended: Option<OriginId>) -> Holder {
        let whole = self.store.followed().into_iter().filter(|(_, followed)| followed.copy == CopyState::Whole);
        let mut holds: BTreeMap<OriginId, CommitNumber> =
            whole.map(|(origin, followed)| (origin, followed.synced)).collect();
        if let Some(ended) = ended.filter(|ended| !self.store.followed().iter().any(|(origin, _)| origin == ended)) {
            let last = self.store.last_commit_of(ended);
            if last > CommitNumber(0) {
                holds.insert(ended, last);
            }
        }
        Holder { own: Some(self.store.origin()), holds }
    }

    /// Bytes that came in and are not in the store, the most of one origin.
    pub fn buffered(&self) -> usize {
        let of = |origin: &OriginId, following: &Following| {
            let commits = following.buffer.iter().map(bytes_of).sum::<usize>();
            let parts = following.parts.iter().map(CopyPart::bytes).sum::<usize>();
            let queued = self.queue.iter().filter(|request| request.origin == *origin).flat_map(|r| &r.commits);
            commits + parts + queued.map(bytes_of).sum::<usize>()
        };
        self.following.iter().map(|(origin, following)| of(origin, following)).max().unwrap_or(0)
    }
}

/// About how many bytes a commit takes in memory.
pub fn bytes_of(commit: &FollowedCommit) -> usize {
    let state: usize = commit.record.state.iter().map(|write| write.value.as_ref().map_or(0, Vec::len) + 32).sum();
    commit.batch_bytes() + state + 64
}

impl Disk {
    /// All that it said is there may be gone.
    pub fn break_promises(&mut self) {
        for (origin, claimed) in self.claimed.iter().chain(&self.durable) {
            let broken = self.broken.entry(*origin).or_default();
            *broken = (*claimed).max(*broken);
        }
    }
}

impl Node {
    /// Takes note of what is really on the disk, and of what it said.
    pub fn note_disk(&mut self, running: &Running) {
        let is_clean = self.backend.unsynced_writes() == 0;
        let own = (running.store.origin(), running.store.last_commit(), running.store.synced_commit());
        let followed = running.store.followed().into_iter().filter(|(_, followed)| followed.copy != CopyState::Taking);
        let all = followed.map(|(origin, followed)| (origin, followed.commit, followed.synced));
        for (origin, last, synced) in all.chain([own]) {
            let durable = self.disk.durable.entry(origin).or_default();
            if is_clean {
                *durable = last;
            }
            let claimed = self.disk.claimed.entry(origin).or_default();
            // What the store takes for synced without a disk that said so is no excuse.
            if is_clean || self.disk.faults.lying_sync {
                *claimed = synced.max(*claimed);
            }
        }
    }

    /// The newest commit of an origin that is really on the disk, and the newest that it said is.
    pub fn on_disk(&self, origin: OriginId) -> (CommitNumber, CommitNumber) {
        let of = |map: &BTreeMap<OriginId, CommitNumber>| map.get(&origin).copied().unwrap_or_default();
        (of(&self.disk.durable), of(&self.disk.claimed))
    }
}
