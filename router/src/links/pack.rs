//! Packed frames of a thin link, as they are made at the edge: what follows from the records is left out, and the rest is one
//! stream of Zstandard for all frames of a QUIC stream, which begins with a dictionary that both ends have.
//!
//! A packed frame is its kind, the dictionary's number, the content's length (4 bytes, big-endian) and a flushed piece of the
//! compressed stream. The content is number, origin, a checksum of the frame as it is when it is not packed, and the parts; a batch that was
//! taken apart is a [`Head`] and its records. `unpack` has the other end.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use sled_data::{Compression, HLC_LOGICAL_BITS, LinkedPart, PartitionId, Repacker, SealInfo, StoredBatch, Unpacked};
use zstd::stream::raw::{CParameter, Encoder, InBuffer, Operation, OutBuffer};

use super::wire::{BATCH, HOLE, PACKED, Parts, hole_bytes, put_part};

/// The dictionary that this program packs with, and the newest that it knows.
pub const DICTIONARY: u8 = 1;
/// Its bytes: what such streams begin with. Another one gets another number.
pub(super) static DICTIONARY_BYTES: &[u8] = include_bytes!("dictionary-1.bin");
/// Bytes of a frame's content; what is larger is not packed.
pub(super) const CONTENT_BYTES_MAX: usize = 8 << 20;
/// Bytes that the compressed stream refers back to, as a power of two: what each stream costs at either end.
pub(super) const WINDOW_LOG: u32 = 18;
/// Partitions that a stream has short names for; batches of further ones go as they are.
pub(super) const NAMED_MAX: usize = 65_536;
/// A part that was taken apart.
pub(super) const APART: u8 = 2;
/// How hard it is compressed on links of at most so many bytes a second: a slow processor is to keep up with the line.
const LEVELS: [(u64, i32); 2] = [(25_000, 15), (250_000, 9)];
/// And on faster ones.
const LEVEL_FAST: i32 = 3;

/// How a batch is compressed where it is stored.
const AS_NONE: u8 = 0;
const AS_LZ4: u8 = 1;
const AS_ZSTD: u8 = 2;
const AS_LZ4_LARGE: u8 = 3;

/// What is said of a batch that was taken apart, as differences from what came before.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Head {
    /// The partition's short name; one more than the last is a new one, and topic and index follow.
    name: u32,
    /// The offset, from the one that is expected.
    offset: i64,
    /// The hybrid clock's milliseconds, from those of the batch before, and its counter.
    ms: i64,
    logical: u32,
    /// The base timestamp, from the clock's milliseconds.
    timestamp: i64,
    /// How it is compressed where it is stored.
    how: u8,
    /// Hops, term and flags.
    rest: (u8, u64, u16),
    /// Bytes of the records, which follow.
    pub(super) bytes: u32,
}

/// What both ends remember of a stream.
#[derive(Default)]
pub(super) struct Memory {
    names: BTreeMap<PartitionId, u32>,
    /// By name: the partition, and the offset that is expected.
    known: Vec<(PartitionId, u64)>,
    ms: i64,
}

/// Packs the frames of one stream.
pub struct Packer {
    encoder: Encoder<'static>,
    repacker: Repacker,
    memory: Memory,
    /// It failed once: what the other end remembers is not known.
    is_broken: bool,
}

impl Packer {
    /// For a link of a rate, if it has one; `None` where there is no memory for it.
    pub fn new(rate: Option<u64>) -> Option<Self> {
        let fits = LEVELS.iter().find(|(most, _)| rate.is_some_and(|rate| rate <= *most));
        let level = fits.map_or(LEVEL_FAST, |(_, level)| *level);
        let mut encoder = Encoder::with_dictionary(level, DICTIONARY_BYTES).ok()?;
        encoder.set_parameter(CParameter::WindowLog(WINDOW_LOG)).ok()?;
        Some(Self { encoder, repacker: Repacker::default(), memory: Memory::default(), is_broken: false })
    }

    /// Packs a frame; `plain` is what it is otherwise. `None` where it is to go so: it is too large to be packed, or cannot be.
    pub fn pack(&mut self, parts: &Parts, plain: &[u8]) -> Option<Vec<u8>> {
        let unpacked: usize = parts.parts.iter().map(content_bytes).sum();
        if unpacked > CONTENT_BYTES_MAX - 1_024 || self.is_broken {
            return None;
        }
        let content = self.content(parts, plain, unpacked);
        let mut frame = vec![PACKED, DICTIONARY];
        frame.extend_from_slice(&(content.len() as u32).to_be_bytes());
        self.is_broken = self.compress(&content, &mut frame).is_none();
        (!self.is_broken).then_some(frame)
    }

    fn content(&mut self, parts: &Parts, plain: &[u8], unpacked: usize) -> Vec<u8> {
        let mut content = Vec::with_capacity(unpacked + 64);
        content.extend_from_slice(&parts.number.to_be_bytes());
        content.extend_from_slice(&parts.origin.0.to_be_bytes());
        content.extend_from_slice(&crc32c::crc32c(plain).to_be_bytes());
        for part in &parts.parts {
            match part {
                LinkedPart::Batch(batch) => self.put_batch(batch, &mut content),
                LinkedPart::Hole(id, hole) => put_part(HOLE, &hole_bytes(*id, hole), &mut content),
            }
        }
        content
    }

    fn put_batch(&mut self, batch: &StoredBatch, content: &mut Vec<u8>) {
        let has_name = self.memory.can_name(batch.envelope().partition);
        let Some(apart) = self.repacker.unpack(batch).filter(|_| has_name) else {
            return put_part(BATCH, batch.bytes(), content);
        };
        content.push(APART);
        let (head, new) = self.memory.head(&apart, batch.envelope().count);
        let mut bytes = postcard::to_allocvec(&head).unwrap_or_default();
        if new {
            let id = apart.info.partition;
            bytes = postcard::to_extend(&(id.topic.0, id.index), bytes).unwrap_or_default();
        }
        content.extend_from_slice(&bytes);
        content.extend_from_slice(&apart.records);
    }

    /// Appends a flushed piece of the stream.
    fn compress(&mut self, content: &[u8], frame: &mut Vec<u8>) -> Option<()> {
        let mut room = vec![0; content.len() / 2 + 1_024];
        let mut input = InBuffer::around(content);
        loop {
            let mut output = OutBuffer::around(&mut room[..]);
            self.encoder.run(&mut input, &mut output).ok()?;
            frame.extend_from_slice(output.as_slice());
            if input.pos() == content.len() {
                break;
            }
        }
        loop {
            let mut output = OutBuffer::around(&mut room[..]);
            let left = self.encoder.flush(&mut output).ok()?;
            frame.extend_from_slice(output.as_slice());
            if left == 0 {
                return Some(());
            }
        }
    }
}

fn content_bytes(part: &LinkedPart) -> usize {
    match part {
        LinkedPart::Batch(batch) => batch.bytes().len().max(batch.envelope().record_bytes as usize) + 64,
        LinkedPart::Hole(..) => 64,
    }
}

impl Memory {
    fn can_name(&self, id: PartitionId) -> bool {
        self.names.contains_key(&id) || self.known.len() < NAMED_MAX
    }

    /// What is said of a batch, and whether its partition has a new name.
    fn head(&mut self, apart: &Unpacked, count: u32) -> (Head, bool) {
        let info = &apart.info;
        let new = !self.names.contains_key(&info.partition);
        if new {
            self.name(info.partition);
        }
        let name = self.names.get(&info.partition).copied().unwrap_or_default();
        let (ms, logical) = split(info.hlc);
        let expected = self.went_on(name, info.base_offset + u64::from(count), ms);
        let head = Head {
            name,
            offset: info.base_offset.wrapping_sub(expected.0) as i64,
            ms: ms.wrapping_sub(expected.1),
            logical,
            timestamp: apart.base_timestamp_ms.wrapping_sub(ms),
            how: match (info.compression, apart.large_table) {
                (Compression::None, _) => AS_NONE,
                (Compression::Lz4, false) => AS_LZ4,
                (Compression::Lz4, true) => AS_LZ4_LARGE,
                (Compression::Zstd, _) => AS_ZSTD,
            },
            rest: (info.hops, info.term, info.flags),
            bytes: apart.records.len() as u32,
        };
        (head, new)
    }

    /// Gives a partition the next name.
    pub(super) fn name(&mut self, id: PartitionId) {
        self.names.insert(id, self.known.len() as u32);
        self.known.push((id, 0));
    }

    /// Whether a head names a partition that has no name yet, and may have the next one.
    pub(super) fn is_new(&self, head: &Head) -> bool {
        head.name as usize == self.known.len() && self.known.len() < NAMED_MAX
    }

    /// Puts what a head says together with records; `None` where it says what cannot be.
    pub(super) fn apart(&self, head: &Head, records: Vec<u8>) -> Option<Unpacked> {
        let (partition, expected) = *self.known.get(head.name as usize)?;
        let ms = self.ms.wrapping_add(head.ms);
        let (compression, large_table) = match head.how {
            AS_NONE => (Compression::None, false),
            AS_LZ4 => (Compression::Lz4, false),
            AS_LZ4_LARGE => (Compression::Lz4, true),
            AS_ZSTD => (Compression::Zstd, false),
            _ => return None,
        };
        let (hops, term, flags) = head.rest;
        let info = SealInfo {
            partition,
            base_offset: expected.wrapping_add(head.offset as u64),
            hlc: (ms as u64) << HLC_LOGICAL_BITS | u64::from(head.logical),
            compression,
            hops,
            term,
            flags,
        };
        Some(Unpacked { info, large_table, base_timestamp_ms: ms.wrapping_add(head.timestamp), records })
    }

    /// Notes that a head was read and where its batch ends.
    pub(super) fn read(&mut self, head: &Head, next: u64, hlc: u64) {
        self.went_on(head.name, next, split(hlc).0);
    }

    /// Notes where a partition goes on; what was expected: the offset, and the milliseconds.
    fn went_on(&mut self, name: u32, next: u64, ms: i64) -> (u64, i64) {
        let expected = self.known.get_mut(name as usize).map_or(0, |known| std::mem::replace(&mut known.1, next));
        (expected, std::mem::replace(&mut self.ms, ms))
    }
}

/// Milliseconds and counter of a hybrid clock.
fn split(hlc: u64) -> (i64, u32) {
    ((hlc >> HLC_LOGICAL_BITS) as i64, (hlc & ((1 << HLC_LOGICAL_BITS) - 1)) as u32)
}

#[cfg(test)]
#[path = "pack_tests.rs"]
mod tests;
