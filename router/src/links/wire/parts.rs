//! What a frame carries of partitions: batches as they are stored, and holes.

use serde::{Deserialize, Serialize};
use sled_data::{Hole, HoleWhy, LINKED_PARTS_MAX, LinkedPart, OriginId, PartitionId, StoredBatch};

use super::{PARTS, WireError, body, partition};

/// Of a part: a batch, a hole.
pub(in crate::links) const BATCH: u8 = 0;
pub(in crate::links) const HOLE: u8 = 1;

/// What comes next of some partitions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The number by which its storing is told.
    pub number: u64,
    /// The origin.
    pub origin: OriginId,
    /// Batches and holes, in the order of their commits. Of a hole, when it was heard of is not said.
    pub parts: Vec<LinkedPart>,
}

#[derive(Serialize, Deserialize)]
struct HoleV1 {
    topic: u64,
    index: u32,
    from: u64,
    to: u64,
    why: u8,
}

impl Parts {
    /// The frame as it is when it is not packed.
    pub(in crate::links) fn encode(&self) -> Vec<u8> {
        let bytes: usize = self.parts.iter().map(part_bytes).sum();
        let mut out = Vec::with_capacity(bytes + 32);
        out.push(PARTS);
        out.extend_from_slice(&self.number.to_be_bytes());
        out.extend_from_slice(&self.origin.0.to_be_bytes());
        for part in &self.parts {
            let (kind, hole);
            let bytes = match part {
                LinkedPart::Batch(batch) => {
                    kind = BATCH;
                    batch.bytes()
                }
                LinkedPart::Hole(id, found) => {
                    (kind, hole) = (HOLE, hole_bytes(*id, found));
                    &hole
                }
            };
            put_part(kind, bytes, &mut out);
        }
        out
    }

    pub(super) fn decode(mut rest: &[u8]) -> Result<Self, WireError> {
        let number = u64::from_be_bytes(take(&mut rest)?);
        let origin = OriginId(u64::from_be_bytes(take(&mut rest)?));
        let mut parts = Vec::new();
        while !rest.is_empty() {
            if parts.len() == LINKED_PARTS_MAX {
                return Err(WireError::Form("it has too many parts"));
            }
            let [kind] = take(&mut rest)?;
            let length = u32::from_be_bytes(take(&mut rest)?) as usize;
            let (bytes, after) = rest.split_at_checked(length).ok_or(WireError::Form("it ends early"))?;
            rest = after;
            parts.push(match kind {
                BATCH => LinkedPart::Batch(StoredBatch::decode(bytes.to_vec())?),
                HOLE => {
                    let HoleV1 { topic, index, from, to, why } = body(bytes)?;
                    let why = HoleWhy::of_code(why);
                    LinkedPart::Hole(partition((origin.0, topic, index)), Hole { from, to, why, at_ms: 0 })
                }
                _ => return Err(WireError::Form("a part's kind is not known")),
            });
        }
        Ok(Self { number, origin, parts })
    }
}

/// Writes a part of a frame.
pub(in crate::links) fn put_part(kind: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(kind);
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Bytes of a part in a frame, about.
pub fn part_bytes(part: &LinkedPart) -> usize {
    match part {
        LinkedPart::Batch(batch) => batch.bytes().len() + 5,
        LinkedPart::Hole(..) => 48,
    }
}

pub(in crate::links) fn hole_bytes(id: PartitionId, hole: &Hole) -> Vec<u8> {
    let hole = HoleV1 { topic: id.topic.0, index: id.index, from: hole.from, to: hole.to, why: hole.why.code() };
    postcard::to_allocvec(&hole).unwrap_or_default()
}

pub(in crate::links) fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], WireError> {
    let (taken, rest) = bytes.split_first_chunk::<N>().ok_or(WireError::Form("it ends early"))?;
    *bytes = rest;
    Ok(*taken)
}
