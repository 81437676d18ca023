//! How often nodes speak to each other, and how long one waits for the others.

use std::time::Duration;

use openraft::{Config as RaftConfig, SnapshotPolicy};

/// Changes after which the state is taken as what is sent to those who are far behind.
const CHANGES_A_SNAPSHOT: u64 = 256;
/// Changes that stay in the log although they are in the state, for those who are a little behind.
const CHANGES_KEPT: u64 = 128;
/// Changes that are sent at once at most.
pub(super) const CHANGES_SENT_MAX: u64 = 64;

/// The times of the consensus. A leader speaks every `beat`; who has not heard it for two and a half to three beats
/// and is asked by nobody stands for election at its own next beat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// How often a leader speaks, and every node looks at the time.
    pub beat: Duration,
    /// How long a change may take before the node says that there is no majority.
    pub propose_wait: Duration,
    /// Changes that may gather in the log before its older half is cut off.
    pub changes_a_snapshot: u64,
    /// Changes that stay in the log after that.
    pub changes_kept: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            beat: Duration::from_secs(1),
            propose_wait: Duration::from_secs(5),
            changes_a_snapshot: CHANGES_A_SNAPSHOT,
            changes_kept: CHANGES_KEPT,
        }
    }
}

impl Timing {
    /// Who was heard within this time is there.
    pub(super) fn fresh(&self) -> Duration {
        self.beat * 3
    }

    /// Who was spoken to by a leader within this time has one: longer than a leader's word is late on a busy node, and shorter than the others
    /// wait before they stand for election.
    pub(super) fn led(&self) -> Duration {
        self.beat * 2
    }

    /// How long one question may take.
    pub(super) fn ask_wait(&self) -> Duration {
        self.beat * 2 / 3
    }

    /// How long the last page of a snapshot may take, which is answered when all is stored.
    pub(super) fn install_wait(&self) -> Duration {
        self.beat * 60
    }

    /// How long a change of the roles may take before it is looked at anew.
    pub(super) fn role_wait(&self) -> Duration {
        self.beat * 10
    }

    /// How long a change that is being made may take when the consensus ends.
    pub(super) fn apply_wait(&self) -> Duration {
        self.beat * 10
    }

    /// How long to wait before a change is handed to a leader again.
    pub(super) fn retry_wait(&self) -> Duration {
        self.beat / 10
    }

    /// openraft looks at the time every one and a half of its heartbeat intervals, so that is two thirds of a beat. A
    /// follower trusts its leader for `election_timeout_max`, and waits as long again before it stands for election.
    #[allow(deprecated)] // a field that must be named and is not used
    pub(super) fn to_raft(&self) -> RaftConfig {
        let beat = u64::try_from(self.beat.as_millis()).unwrap_or(u64::MAX);
        RaftConfig {
            cluster_name: "edgeway".to_owned(),
            heartbeat_interval: (beat * 2).div_ceil(3),
            election_timeout_min: beat,
            election_timeout_max: beat * 3 / 2,
            install_snapshot_timeout: u64::try_from(self.install_wait().as_millis()).unwrap_or(u64::MAX),
            send_snapshot_timeout: 0,
            max_payload_entries: CHANGES_SENT_MAX,
            // A snapshot is sent only where the log does not reach.
            replication_lag_threshold: u64::MAX,
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.changes_a_snapshot),
            snapshot_max_chunk_size: 0,
            max_in_snapshot_log_to_keep: self.changes_kept,
            purge_batch_size: 1,
            enable_tick: true,
            enable_heartbeat: true,
            enable_elect: true,
        }
    }
}
