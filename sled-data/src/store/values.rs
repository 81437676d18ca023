//! Values of the meta tree: a version byte, a checksum over key and value, and one frozen postcard struct a version.

use serde::de::{Deserialize, Visitor};
use serde::{Serialize, Serializer};

use crate::topic::{Compression, Durability, TopicConfig};

/// Version of every value that this code writes, and the newest that it reads.
pub(super) const VALUE_VERSION: u8 = 1;
const CHECKSUM_BYTES: usize = 4;

/// Why a value cannot be used.
#[derive(Debug, thiserror::Error, PartialEq, Eq, Copy, Clone)]
pub(super) enum ValueError {
    #[error("it was written by a newer version ({0}, this one knows {VALUE_VERSION})")]
    Newer(u8),
    #[error("its checksum does not fit")]
    Checksum,
    #[error("it does not decode")]
    Form,
}

/// Writes the value of `key` over `out`: version, checksum, then what `payload` appends.
pub(super) fn write_raw(key: &[u8], out: &mut Vec<u8>, payload: impl FnOnce(&mut Vec<u8>)) {
    out.clear();
    out.extend_from_slice(&[VALUE_VERSION, 0, 0, 0, 0]);
    payload(out);
    let crc = checksum(key, VALUE_VERSION, &out[1 + CHECKSUM_BYTES..]);
    out[1..1 + CHECKSUM_BYTES].copy_from_slice(&crc.to_le_bytes());
}

/// Writes a postcard struct as the value of `key` over `out`.
pub(super) fn write<T: Serialize>(key: &[u8], value: &T, out: &mut Vec<u8>) {
    write_raw(key, out, |out| encode(value, out));
}

/// Appends a postcard struct to `out`.
pub(super) fn encode<T: Serialize>(value: &T, out: &mut Vec<u8>) {
    // Writing to memory, of structs whose lengths are known, does not fail; if it did, reading would say so.
    let _ = postcard::to_io(value, out);
}

/// The payload of a value, checked.
pub(super) fn read_raw<'a>(key: &[u8], value: &'a [u8]) -> Result<&'a [u8], ValueError> {
    let (&version, rest) = value.split_first().ok_or(ValueError::Form)?;
    let (crc, payload) = rest.split_first_chunk::<CHECKSUM_BYTES>().ok_or(ValueError::Form)?;
    if u32::from_le_bytes(*crc) != checksum(key, version, payload) {
        return Err(ValueError::Checksum);
    }
    if version > VALUE_VERSION {
        return Err(ValueError::Newer(version));
    }
    Ok(payload)
}

/// Reads a postcard struct; all bytes must be used.
pub(super) fn read<'a, T: Deserialize<'a>>(key: &[u8], value: &'a [u8]) -> Result<T, ValueError> {
    decode(read_raw(key, value)?)
}

/// Decodes a checked payload; all bytes must be used.
pub(super) fn decode<'a, T: Deserialize<'a>>(payload: &'a [u8]) -> Result<T, ValueError> {
    match postcard::take_from_bytes(payload) {
        Ok((value, [])) => Ok(value),
        _ => Err(ValueError::Form),
    }
}

fn checksum(key: &[u8], version: u8, payload: &[u8]) -> u32 {
    let crc = crc32c::crc32c(key);
    let crc = crc32c::crc32c_append(crc, &[version]);
    crc32c::crc32c_append(crc, payload)
}

/// The store's header, version 1.
#[derive(Serialize, serde::Deserialize, Debug, Clone, PartialEq, Eq)]
pub(super) struct HeaderV1 {
    /// The present life.
    pub origin: u64,
    /// The life before it; 0 where there is none.
    pub previous: u64,
    /// Newest hybrid clock of earlier lives.
    pub hlc_floor: u64,
    /// Whether the store was closed in order.
    pub clean: bool,
    /// Whether, while open, it has topics that are acknowledged before they are synced. Set too, without `clean`, where the life has to end.
    pub memory_topics: bool,
}

/// A topic, version 1.
#[derive(Serialize, serde::Deserialize, Debug, Clone, PartialEq, Eq)]
pub(super) struct TopicV1 {
    pub name: String,
    pub partitions: u32,
    /// 0 none, 1 lz4, 2 zstd.
    pub compression: u8,
    /// 0 sync, 1 memory, 2 quorum.
    pub durability: u8,
    pub retention_ms: Option<u64>,
    pub retention_bytes: Option<u64>,
}

impl TopicV1 {
    pub(super) fn new(name: &str, config: &TopicConfig) -> TopicV1 {
        TopicV1 {
            name: name.to_owned(),
            partitions: config.partitions,
            compression: config.compression.code(),
            durability: config.durability.code(),
            retention_ms: config.retention_ms,
            retention_bytes: config.retention_bytes,
        }
    }

    pub(super) fn config(&self) -> Result<TopicConfig, ValueError> {
        Ok(TopicConfig {
            partitions: self.partitions,
            compression: Compression::of_code(self.compression).ok_or(ValueError::Form)?,
            durability: Durability::of_code(self.durability).ok_or(ValueError::Form)?,
            retention_ms: self.retention_ms,
            retention_bytes: self.retention_bytes,
        })
    }
}

/// How far a partition reaches, version 1.
#[derive(Serialize, serde::Deserialize, Debug, Copy, Clone, PartialEq, Eq, Default)]
pub(super) struct PartitionV1 {
    /// First offset that is kept.
    pub start: u64,
    /// Offset of the next event.
    pub end: u64,
    /// Stored bytes of its batches.
    pub bytes: u64,
    /// Wrapping sum of the digests of all records ever appended.
    pub digest: u64,
}

/// A cursor, version 1.
#[derive(Serialize, serde::Deserialize, Debug, Copy, Clone, PartialEq, Eq)]
pub(super) struct CursorV1 {
    pub next: u64,
}

/// How far an origin was followed, version 1.
#[derive(Serialize, serde::Deserialize, Debug, Copy, Clone, PartialEq, Eq, Default)]
pub(super) struct FollowedV1 {
    /// The newest commit that was applied.
    pub commit: u64,
    /// Its hybrid clock.
    pub hlc: u64,
    /// The node that writes it; 0 where that is not known.
    pub node: u64,
    pub copy: CopyV1,
}

/// Whether what is held of an origin is whole up to its commit.
#[derive(Serialize, serde::Deserialize, Debug, Copy, Clone, PartialEq, Eq, Default)]
pub(super) enum CopyV1 {
    #[default]
    Whole,
    /// A copy is being taken; `commit` is where it began.
    Taking,
    /// A copy was taken while its source went on writing: whole once this commit is applied.
    Until(u64),
}

/// Events of a followed origin that are missing, version 1.
#[derive(Serialize, serde::Deserialize, Debug, Copy, Clone, PartialEq, Eq)]
pub(super) struct GapV1 {
    /// The first offset after them.
    pub to: u64,
    /// 0 retention at the source, 1 gone before anything of the partition was here.
    pub cause: u8,
    /// Hybrid clock of the commit with which it was told.
    pub hlc: u64,
}

/// A linked origin, version 1.
#[derive(Serialize, serde::Deserialize, Debug, Clone, PartialEq, Eq)]
pub(super) struct LinkedV1 {
    /// The link that brings it.
    pub link: u64,
    /// The newest hybrid clock of what has come.
    pub hlc: u64,
    /// The sites that it has passed, its own first.
    pub path: Vec<u64>,
}

/// A linked origin that was forgotten, version 1.
#[derive(Serialize, serde::Deserialize, Debug, Copy, Clone, PartialEq, Eq)]
pub(super) struct ForgottenV1 {
    /// The link that brought it.
    pub link: u64,
    /// The newest hybrid clock of what had come.
    pub hlc: u64,
}

/// A hole in a linked partition, version 1; where it begins is in its key.
#[derive(Serialize, serde::Deserialize, Debug, Copy, Clone, PartialEq, Eq)]
pub(super) struct HoleV1 {
    /// Where the partition goes on.
    pub to: u64,
    /// 0 retention, 1 damage, 2 deadline, 4 link-removed; see `HoleWhy`.
    pub why: u8,
    /// When it was heard of, Unix milliseconds.
    pub at_ms: i64,
}

/// Events of a linked partition that came late, version 1; where they begin is in the key.
#[derive(Serialize, serde::Deserialize, Debug, Copy, Clone, PartialEq, Eq)]
pub(super) struct LateV1 {
    /// The first one after them.
    pub to: u64,
}

/// An origin that was found to be another one elsewhere, version 1; where that is stands in the key.
#[derive(Serialize, serde::Deserialize, Debug, Copy, Clone, PartialEq, Eq)]
pub(super) struct ApartV1 {
    /// When, Unix milliseconds.
    pub at_ms: i64,
}

/// A part of a linked partition that lies ahead of what is still to come, version 1.
#[derive(Serialize, serde::Deserialize, Debug, Copy, Clone, PartialEq, Eq)]
pub(super) struct AheadV1 {
    /// Its first offset.
    pub from: u64,
    /// The offset after it.
    pub end: u64,
    /// Stored bytes of its batches.
    pub bytes: u64,
    /// Wrapping sum of the digests of its records.
    pub digest: u64,
}

/// A partition's id within a value.
#[derive(Serialize, serde::Deserialize, Debug, Copy, Clone, PartialEq, Eq)]
pub(super) struct PartitionIdV1 {
    pub origin: u64,
    pub topic: u64,
    pub index: u32,
}

/// A commit's record, version 1.
#[derive(Serialize, serde::Deserialize, Debug, Clone, PartialEq, Eq)]
pub(super) struct CommitV1<'a> {
    pub hlc: u64,
    pub appended: Vec<AppendedV1>,
    #[serde(borrow)]
    pub cursors: Vec<CursorMoveV1<'a>>,
    #[serde(borrow)]
    pub state: Vec<StateWriteV1<'a>>,
}

/// What a commit appended to one partition.
#[derive(Serialize, serde::Deserialize, Debug, Copy, Clone, PartialEq, Eq)]
pub(super) struct AppendedV1 {
    pub partition: PartitionIdV1,
    pub base_offset: u64,
    pub count: u64,
    /// The partition's running digest after the commit.
    pub digest: u64,
}

/// A cursor that a commit moved.
#[derive(Serialize, serde::Deserialize, Debug, Clone, PartialEq, Eq)]
pub(super) struct CursorMoveV1<'a> {
    pub reader: &'a str,
    pub partition: PartitionIdV1,
    pub next: u64,
}

/// State that a commit wrote.
#[derive(Serialize, serde::Deserialize, Debug, Clone, PartialEq, Eq)]
pub(super) struct StateWriteV1<'a> {
    pub tree: &'a str,
    #[serde(borrow)]
    pub key: Bytes<'a>,
    #[serde(borrow)]
    pub value: Option<Bytes<'a>>,
}

/// Bytes that are encoded at once, not one by one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bytes<'a>(pub &'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Bytes<'a> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowed;
        impl<'de> Visitor<'de> for Borrowed {
            type Value = &'de [u8];
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<&'de [u8], E> {
                Ok(bytes)
            }
        }
        deserializer.deserialize_bytes(Borrowed).map(Bytes)
    }
}
