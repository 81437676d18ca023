//! A change on its way: what the leader puts into the log.

use serde::{Deserialize, Serialize};

use crate::catalog::change::{Change, Terms};
use crate::catalog::encoding;
use crate::transport::NodeId;

/// The version byte before a proposal, and before a change alone.
const VERSION: u8 = 1;

/// A change with all by which it is judged.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Proposal {
    /// The node where it was proposed, which tells of it.
    pub(super) from: NodeId,
    /// That node's number of it; each next one has a higher one.
    pub(super) number: u64,
    /// Who asked for it.
    pub(super) who: String,
    /// By what it is judged; its place is not known yet.
    pub(super) terms: Terms,
    /// The change.
    pub(super) change: Change,
}

/// A proposal as it is stored and sent. Frozen.
#[derive(Serialize, Deserialize)]
struct ProposalV1 {
    from: NodeId,
    number: u64,
    who: String,
    at_ms: i64,
    devices_max: u64,
    bytes_max: u64,
    change: Change,
}

impl Proposal {
    pub(super) fn encode(&self) -> Vec<u8> {
        let Self { from, number, who, terms, change } = self.clone();
        let (devices_max, bytes_max) = (terms.devices_max as u64, terms.bytes_max as u64);
        encoding::encode(VERSION, &ProposalV1 { from, number, who, at_ms: terms.at_ms, devices_max, bytes_max, change })
    }

    /// Reads a proposal; `None` where it is of a newer version.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let stored: ProposalV1 = encoding::decode(VERSION, bytes)?;
        let terms = terms(stored.at_ms, 0, stored.devices_max, stored.bytes_max);
        Some(Self { from: stored.from, number: stored.number, who: stored.who, terms, change: stored.change })
    }
}

/// By what a change is judged, as it was sent.
pub(super) fn terms(at_ms: i64, index: u64, devices_max: u64, bytes_max: u64) -> Terms {
    let max = |max: u64| usize::try_from(max).unwrap_or(usize::MAX);
    Terms { at_ms, index, devices_max: max(devices_max), bytes_max: max(bytes_max) }
}

/// A change as it is sent to the leader.
pub(in crate::catalog) fn encode_change(change: &Change) -> Vec<u8> {
    encoding::encode(VERSION, change)
}

/// Reads what [`encode_change`] wrote; `None` where it is of a newer version.
pub(super) fn decode_change(bytes: &[u8]) -> Option<Change> {
    encoding::decode(VERSION, bytes)
}
