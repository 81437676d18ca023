//! The store: partitioned, batched, numbered commits over sled.

#![cfg_attr(test, allow(clippy::unwrap_used))]

mod backend;
mod batch;
mod ids;
mod murmur;
mod store;
mod topic;

pub use backend::{
    Backend, BackendError, Direction, Faults, Group, Mark, MemoryBackend, SledBackend, SledConfig, Span, Tree, Visit,
};
pub use batch::{
    BATCH_BYTES_MAX, BatchError, ENVELOPE_BYTES, ENVELOPE_VERSION, EVENT_BYTES_MAX, Envelope, EventTooLarge,
    HeaderBlock, HeadersIter, HeadersRef, OpenBatch, RECORD_BYTES_MAX, RECORD_BYTES_OPEN_MAX, RecordRef, Records,
    RecordsIter, Repacker, SealInfo, SealedBatch, Sealer, StoredBatch, Unpacked,
};
pub use ids::{CommitNumber, HLC_LOGICAL_BITS, Offset, OriginId, PartitionId, hlc_ms};
pub use ids::{PARTITION_ID_BYTES, TopicId};
pub use murmur::{murmur2, partition_for_key};
pub use store::{
    APART_MAX, Ahead, Appended, COMMIT_BATCH_BYTES_MAX, COMMIT_BYTES_MAX, COMMIT_STATE_BYTES_MAX, COPY_HEAD_BYTES_MAX,
    COPY_PART_BYTES_MAX, Commit, CommitError, CommitRecord, CopyError, CopyExtent, CopyHead, CopyPart, CopyPosition,
    CopyState, CursorMove, DAMAGES_MAX, DELETED_TOPICS_MAX, Damage, ENDED_LIVES_MAX, FOLLOW_COMMITS_MAX,
    FOLLOWED_ORIGINS_MAX, FORGOTTEN_MAX, FollowError, Followed, FollowedCommit, FollowedCommitError, Forgotten,
    GAPS_MAX, Gap, GapCause, Gone, HOLES_MAX, Hole, HoleWhy, KeptGap, LATE_MAX, LINK_HOPS_MAX,
    LINKED_NEW_PARTITIONS_MAX, LINKED_ORIGINS_MAX, LINKED_ORIGINS_OF_LINK_MAX, LINKED_PARTITIONS_OF_LINK_MAX,
    LINKED_PARTS_MAX, Late, Linked, LinkedError, LinkedPart, MissingRange, NAME_BYTES_MAX, OpenError, Options,
    PARTS_AHEAD_MAX, Progress, Reach, ReadError, Recovered, SALVAGE_RANGES_MAX, SPENT_WAITING_MAX, STATE_KEY_BYTES_MAX,
    STATE_VALUE_BYTES_MAX, SalvageError, SalvageProgress, SalvageReport, SalvagedPartition, SalvagedRun, SalvagedTopic,
    StateEntries, StateWrite, Store, StoreFailed, SyncError, TopicError, Trimmed, VerifyReport, Wait, WhyFull, salvage,
};
pub use topic::{Compression, Durability, PARTITIONS_MAX, TOPIC_NAME_BYTES_MAX, TOPICS_MAX, TopicConfig, TopicInfo};
