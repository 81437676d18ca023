//! One pass over the bytes: batches, later parts of batches, and what may be a value of the meta tree.
//!
//! Whatever lies inside a batch or a part is not looked at: an event that holds the bytes of a batch is no batch.

use super::source::{Place, Source};
use crate::batch::{
    BATCH_BYTES_MAX, ENVELOPE_BYTES, ENVELOPE_VERSION, Envelope, PART_VERSION, Part, StoredBatch, tag_of,
};

/// Bytes read at once.
const READ_BYTES: usize = 1 << 20;
/// Bytes that are in memory behind each byte that is looked at, but at the end of a file: a whole stored value.
const LOOKAHEAD_BYTES: usize = BATCH_BYTES_MAX;
/// Room in which nothing was written is passed over in blocks of this size.
const ZEROS: [u8; 4 << 10] = [0; 4 << 10];

/// How much of a batch was found where its envelope is.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Form {
    /// The envelope is sound, the rest is not.
    Damaged,
    /// The first part of a longer batch, which cannot be judged alone.
    First,
    /// All of it.
    Complete,
}

/// What was found.
pub(super) enum Found<'a> {
    /// A batch's envelope, and `len` bytes with it.
    Batch { place: Place, envelope: Envelope, tag: u32, len: u32, form: Form },
    /// A later part of a batch.
    Part { place: Place, part: Part },
    /// What begins as a value of the meta tree does, and the byte before it.
    Value { before: Option<u8>, bytes: &'a [u8] },
}

/// Shows all that is found, in the order in which it lies there, and says how many bytes were read; how many could not be.
pub(super) fn scan(source: &Source, visit: &mut dyn FnMut(Found<'_>), progress: &mut dyn FnMut(u64)) -> u64 {
    let mut buffer = vec![0; READ_BYTES + LOOKAHEAD_BYTES];
    let (mut unreadable, mut before) = (0, 0);
    for (file, len) in source.lengths() {
        unreadable += scan_file(source, (file, len), &mut buffer, visit, &mut |bytes| progress(before + bytes));
        before += len;
    }
    unreadable
}

fn scan_file(
    source: &Source,
    (file, len): (u32, u64),
    buffer: &mut [u8],
    visit: &mut dyn FnMut(Found<'_>),
    progress: &mut dyn FnMut(u64),
) -> u64 {
    // `start` is where the buffer's first byte lies in the file, `filled` how far it is filled.
    let (mut start, mut filled, mut unreadable) = (0_u64, 0_usize, 0);
    let mut before = None;
    loop {
        let left = usize::try_from(len - start - filled as u64).unwrap_or(usize::MAX);
        let more = left.min(buffer.len() - filled);
        unreadable += source.read(Place { file, at: start + filled as u64 }, &mut buffer[filled..filled + more]);
        filled += more;
        let ended = more == left;
        let limit = if ended { filled } else { filled - LOOKAHEAD_BYTES };
        let mut at = 0;
        while let Some(skip) = buffer.get(at..limit).and_then(first_mark) {
            at += skip;
            let before = if at > 0 { Some(buffer[at - 1]) } else { before };
            at += look(&buffer[at..filled], before, Place { file, at: start + at as u64 }, visit);
        }
        at = at.max(limit);
        progress(start + at as u64);
        if ended {
            return unreadable;
        }
        before = Some(buffer[at - 1]);
        buffer.copy_within(at..filled, 0);
        start += at as u64;
        filled -= at;
    }
}

/// Where the first byte is that anything looked for may begin with.
fn first_mark(bytes: &[u8]) -> Option<usize> {
    let mut passed = 0;
    for block in bytes.chunks(ZEROS.len()) {
        if *block != ZEROS[..block.len()] {
            let mark = block.iter().position(|byte| *byte == ENVELOPE_VERSION || *byte == PART_VERSION);
            if let Some(at) = mark {
                return Some(passed + at);
            }
        }
        passed += block.len();
    }
    None
}

/// Says what `bytes` begin with, and how many of them need no other look.
fn look(bytes: &[u8], before: Option<u8>, place: Place, visit: &mut dyn FnMut(Found<'_>)) -> usize {
    if bytes[0] == PART_VERSION {
        let Some(part) = Part::read(bytes) else { return 1 };
        visit(Found::Part { place, part });
        return part.len;
    }
    let Some(envelope) = Envelope::at_front(bytes) else {
        visit(Found::Value { before, bytes });
        return 1;
    };
    let batch_len = ENVELOPE_BYTES + envelope.kafka_bytes as usize;
    let len = batch_len.min(BATCH_BYTES_MAX);
    let form = match bytes.get(..len) {
        None => Form::Damaged,
        Some(_) if batch_len > BATCH_BYTES_MAX => Form::First,
        Some(batch) if StoredBatch::decode(batch.to_vec()).is_ok() => Form::Complete,
        Some(_) => Form::Damaged,
    };
    visit(Found::Batch { place, envelope, tag: tag_of(bytes), len: len as u32, form });
    len.min(bytes.len())
}
