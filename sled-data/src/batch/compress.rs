//! Compression of a batch's records: LZ4 frames and Zstandard, with contexts that are kept.

use std::cell::RefCell;

use lz4_flex::block::{CompressTable, compress_into_with_table, decompress_into, get_maximum_output_size};
use xxhash_rust::xxh32::xxh32;

use crate::topic::Compression;

const LZ4_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// Version 01, independent blocks, no checksums (the batch has its own), no content size.
const LZ4_FLAGS: u8 = 0x60;
/// Version and independence: what must be as we write it.
const LZ4_FLAGS_FIXED: u8 = 0xe0;
const LZ4_BLOCK_CHECKSUMS: u8 = 0x10;
const LZ4_CONTENT_SIZE: u8 = 0x08;
const LZ4_CONTENT_CHECKSUM: u8 = 0x04;
/// Blocks of at most 64 KiB.
const LZ4_BLOCK_DESCRIPTOR: u8 = 0x40;
const LZ4_BLOCK_BYTES: usize = 64 << 10;
const LZ4_RAW_BLOCK: u32 = 1 << 31;
const ZSTD_LEVEL: i32 = 1;

/// Kafka's number for the compression in a batch's attributes.
pub(super) fn kafka_code(compression: Compression) -> u16 {
    match compression {
        Compression::None => 0,
        Compression::Lz4 => 3,
        Compression::Zstd => 4,
    }
}

/// The compression behind Kafka's number; gzip and snappy are not read.
pub(super) fn from_kafka_code(code: u16) -> Option<Compression> {
    match code {
        0 => Some(Compression::None),
        3 => Some(Compression::Lz4),
        4 => Some(Compression::Zstd),
        _ => None,
    }
}

/// Contexts of the compressors, made when first needed.
#[derive(Default)]
pub(super) struct Compressor {
    lz4: CompressTable,
    zstd: Option<zstd::bulk::Compressor<'static>>,
    scratch: Vec<u8>,
}

impl Compressor {
    /// Appends `records` to `out`, compressed where that makes them smaller; what was done.
    pub(super) fn append(&mut self, wanted: Compression, records: &[u8], out: &mut Vec<u8>) -> Compression {
        let start = out.len();
        let done = match wanted {
            Compression::None => false,
            Compression::Lz4 => self.append_lz4(records, out),
            Compression::Zstd => self.append_zstd(records, out),
        };
        if done && out.len() - start < records.len() {
            return wanted;
        }
        out.truncate(start);
        out.extend_from_slice(records);
        Compression::None
    }

    fn append_lz4(&mut self, records: &[u8], out: &mut Vec<u8>) -> bool {
        let header = [LZ4_FLAGS, LZ4_BLOCK_DESCRIPTOR];
        out.extend_from_slice(&LZ4_MAGIC);
        out.extend_from_slice(&header);
        out.push((xxh32(&header, 0) >> 8) as u8);
        for block in records.chunks(LZ4_BLOCK_BYTES) {
            let room = get_maximum_output_size(block.len());
            if self.scratch.len() < room {
                self.scratch.resize(room, 0);
            }
            let Ok(len) = compress_into_with_table(block, &mut self.scratch, &mut self.lz4) else {
                return false;
            };
            if len < block.len() {
                out.extend_from_slice(&(len as u32).to_le_bytes());
                out.extend_from_slice(&self.scratch[..len]);
            } else {
                out.extend_from_slice(&(block.len() as u32 | LZ4_RAW_BLOCK).to_le_bytes());
                out.extend_from_slice(block);
            }
        }
        out.extend_from_slice(&[0; 4]);
        true
    }

    fn append_zstd(&mut self, records: &[u8], out: &mut Vec<u8>) -> bool {
        if self.zstd.is_none() {
            self.zstd = zstd::bulk::Compressor::new(ZSTD_LEVEL).ok();
        }
        let Some(context) = &mut self.zstd else {
            return false;
        };
        self.scratch.clear();
        // Room for the input's own size is enough: what would grow is stored as it is.
        self.scratch.reserve(records.len());
        if context.compress_to_buffer(records, &mut self.scratch).is_err() {
            return false;
        }
        out.extend_from_slice(&self.scratch);
        true
    }
}

/// Decompresses to exactly `len` bytes; `None` for anything else.
pub(super) fn decompress(compression: Compression, bytes: &[u8], len: usize) -> Option<Vec<u8>> {
    match compression {
        Compression::None => (bytes.len() == len).then(|| bytes.to_vec()),
        Compression::Lz4 => decompress_lz4(bytes, len),
        Compression::Zstd => decompress_zstd(bytes, len),
    }
}

/// Reads a frame of independent blocks, as Kafka's clients write them; checksums of the frame's own are not needed and not looked at.
fn decompress_lz4(mut bytes: &[u8], len: usize) -> Option<Vec<u8>> {
    let header: &[u8; 6];
    (header, bytes) = bytes.split_first_chunk::<6>()?;
    let flags = header[4];
    if header[..4] != LZ4_MAGIC || flags & LZ4_FLAGS_FIXED != LZ4_FLAGS {
        return None;
    }
    let block_bytes_max = match header[5] >> 4 & 7 {
        size @ 4..=7 => 1_usize << (8 + 2 * size),
        _ => return None,
    };
    let content_size_len = if flags & LZ4_CONTENT_SIZE != 0 { 8 } else { 0 };
    bytes = bytes.get(content_size_len + 1..)?;
    let mut out = vec![0; len];
    let mut at = 0;
    loop {
        let size: &[u8; 4];
        (size, bytes) = bytes.split_first_chunk::<4>()?;
        let size = u32::from_le_bytes(*size);
        if size == 0 {
            let trailer = if flags & LZ4_CONTENT_CHECKSUM != 0 { 4 } else { 0 };
            return (at == len && bytes.len() == trailer).then_some(out);
        }
        let block: &[u8];
        (block, bytes) = bytes.split_at_checked((size & !LZ4_RAW_BLOCK) as usize)?;
        if flags & LZ4_BLOCK_CHECKSUMS != 0 {
            bytes = bytes.get(4..)?;
        }
        let room = out.get_mut(at..)?;
        if size & LZ4_RAW_BLOCK != 0 {
            room.get_mut(..block.len())?.copy_from_slice(block);
            at += block.len();
        } else {
            let room_len = room.len().min(block_bytes_max);
            at += decompress_into(block, &mut room[..room_len]).ok()?;
        }
    }
}

thread_local! {
    static ZSTD: RefCell<Option<zstd::bulk::Decompressor<'static>>> = const { RefCell::new(None) };
}

fn decompress_zstd(bytes: &[u8], len: usize) -> Option<Vec<u8>> {
    ZSTD.with_borrow_mut(|context| {
        if context.is_none() {
            *context = zstd::bulk::Decompressor::new().ok();
        }
        let mut out = Vec::with_capacity(len);
        context.as_mut()?.decompress_to_buffer(bytes, &mut out).ok()?;
        (out.len() == len).then_some(out)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_compressed_comes_back() {
        let mut compressor = Compressor::default();
        let noise: Vec<u8> = (0..200_000_u32).map(|n| (n.wrapping_mul(0x9e37_79b1) >> 13) as u8).collect();
        for wanted in [Compression::None, Compression::Lz4, Compression::Zstd] {
            for data in [&b""[..], b"a", &[b'x'; 70_000], &[1; 65_536], &noise] {
                let mut out = vec![9];
                let done = compressor.append(wanted, data, &mut out);
                assert!(out.len() <= data.len() + 1);
                assert_eq!(decompress(done, &out[1..], data.len()).as_deref(), Some(data));
                assert_eq!(decompress(done, &out[1..], data.len() + 1), None);
            }
        }
    }

    #[test]
    fn broken_bytes_decompress_to_nothing_or_to_the_length_asked_for() {
        let data: Vec<u8> = (0..3000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
        for wanted in [Compression::Lz4, Compression::Zstd] {
            let mut out = Vec::new();
            assert_eq!(Compressor::default().append(wanted, &data, &mut out), wanted);
            for at in 0..out.len() {
                let mut broken = out.clone();
                broken[at] ^= 1 << (at % 8);
                if let Some(read) = decompress(wanted, &broken, data.len()) {
                    assert_eq!(read.len(), data.len());
                }
                assert_eq!(decompress(wanted, &out[..at], data.len()), None);
            }
        }
    }
}
