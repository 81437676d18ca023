//! A segment's name and head, and what an earlier start left in it.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use super::record::{Step, step};
use crate::sequence::Lane;

/// The first bytes of a segment.
const MAGIC: &[u8; 8] = b"EDGWBUF1";
/// Bytes before the first record.
pub(super) const HEAD_BYTES: u64 = 20;

/// One segment's file, and what of it is to be read.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) id: u64,
    /// Bytes that are records, with the head.
    pub(super) len: u64,
    /// What is added to every boot in it.
    pub(super) boot_add: u64,
    /// Records that were not read, and their bytes.
    pub(super) unread: usize,
    pub(super) unread_bytes: u64,
}

pub(super) fn path(folder: &Path, lane: Lane, id: u64) -> PathBuf {
    folder.join(format!("{}-{id:020}.segment", lane.number()))
}

/// Lane and id of a file's name.
pub(super) fn parse_name(name: &str) -> Option<(Lane, u64)> {
    let (lane, id) = name.strip_suffix(".segment")?.split_once('-')?;
    Some((Lane::new(lane.parse().ok()?)?, id.parse().ok()?))
}

fn head(boot_add: u64) -> [u8; HEAD_BYTES as usize] {
    let mut head = [0; HEAD_BYTES as usize];
    head[..8].copy_from_slice(MAGIC);
    head[8..16].copy_from_slice(&boot_add.to_le_bytes());
    let sum = crc32c::crc32c(&head[..16]);
    head[16..].copy_from_slice(&sum.to_le_bytes());
    head
}

/// The boot's addend of a segment; `None` where the head is damaged.
fn boot_add(bytes: &[u8]) -> Option<u64> {
    let add = u64::from_le_bytes(bytes.get(8..16)?.try_into().ok()?);
    (bytes.get(..HEAD_BYTES as usize)? == head(add)).then_some(add)
}

/// A new segment.
pub(super) fn create(folder: &Path, lane: Lane, id: u64) -> io::Result<File> {
    let path = path(folder, lane, id);
    let mut file = File::options().append(true).create_new(true).open(&path)?;
    if let Err(error) = file.write_all(&head(0)) {
        // What is there is no segment: the next start would throw it away as well.
        let _ = fs::remove_file(&path);
        return Err(error);
    }
    Ok(file)
}

/// Writes another addend into a segment's head, durably.
pub(super) fn set_boot_add(folder: &Path, lane: Lane, id: u64, add: u64) -> io::Result<()> {
    let mut file = File::options().write(true).open(path(folder, lane, id))?;
    file.write_all(&head(add))?;
    file.sync_all()
}

/// The bytes of a segment from a place to its end.
pub(super) fn read(folder: &Path, lane: Lane, segment: &Segment, from: u64) -> io::Result<Vec<u8>> {
    let mut file = File::open(path(folder, lane, segment.id))?;
    file.seek(SeekFrom::Start(from))?;
    let length = segment.len.saturating_sub(from);
    let mut bytes = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
    file.take(length).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What was found in a segment of an earlier start.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Scan {
    pub(super) boot_add: u64,
    pub(super) records: usize,
    pub(super) records_bytes: u64,
    /// The newest boot of a record.
    pub(super) boot: Option<u64>,
    /// Places that could not be read though records follow, and their bytes. A damaged head is one, but not a file that is
    /// shorter than that.
    pub(super) damaged: u64,
    pub(super) damaged_bytes: u64,
    /// Where the last whole record ends.
    pub(super) len: u64,
    /// Bytes behind it.
    pub(super) rest_bytes: u64,
}

/// Looks through a segment's bytes from a place, which is its head's end where it is before; pure.
pub(super) fn scan(bytes: &[u8], from: u64) -> Scan {
    let add = boot_add(bytes);
    let is_empty = bytes.len() < HEAD_BYTES as usize;
    let mut at = usize::try_from(from.max(HEAD_BYTES)).unwrap_or(usize::MAX).min(bytes.len());
    let mut scan = Scan {
        boot_add: add.unwrap_or(0),
        damaged: u64::from(add.is_none() && !is_empty),
        len: at as u64,
        ..Scan::default()
    };
    loop {
        match step(bytes, at) {
            Step::Record { body, end } => {
                scan.records += 1;
                scan.records_bytes += (end - at) as u64;
                scan.boot = scan.boot.max(Some(body.number(scan.boot_add).boot));
                scan.len = end as u64;
                at = end;
            }
            Step::Damaged { next: Some(next) } => {
                scan.damaged += 1;
                scan.damaged_bytes += (next - at) as u64;
                at = next;
            }
            Step::Damaged { next: None } => {
                scan.rest_bytes = (bytes.len() - at) as u64;
                return scan;
            }
            Step::End => return scan,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_heads_are_read_as_they_are_written() {
        let name = path(Path::new("f"), Lane::BULK, 7);
        assert_eq!(name, Path::new("f/2-00000000000000000007.segment"));
        assert_eq!(parse_name("2-00000000000000000007.segment"), Some((Lane::BULK, 7)));
        for name in ["positions", "3-1.segment", "1-x.segment", "1-1.segmen", "-1.segment"] {
            assert_eq!(parse_name(name), None, "{name}");
        }
        assert_eq!(head(258), *b"EDGWBUF1\x02\x01\0\0\0\0\0\0\x1b\xbd\x6d\xae");
        for at in 0..HEAD_BYTES as usize {
            let mut bytes = head(258);
            assert_eq!(boot_add(&bytes), Some(258));
            bytes[at] ^= 1;
            assert_eq!(boot_add(&bytes), None);
        }
        assert_eq!(boot_add(&head(1)[..19]), None);
    }
}
