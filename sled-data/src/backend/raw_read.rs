//! Reading a file's bytes of which the disk may refuse some.

use std::fs::File;
use std::os::unix::fs::FileExt;

/// What is tried alone where a larger read fails.
const SECTOR_BYTES: usize = 4 << 10;

/// Fills `bytes` from the place `at`; what cannot be read is zeros. How many bytes that are.
pub(crate) fn read_or_zeros(file: &File, at: u64, bytes: &mut [u8]) -> u64 {
    if file.read_exact_at(bytes, at).is_ok() {
        return 0;
    }
    let mut unreadable = 0;
    for (number, sector) in (0_u64..).zip(bytes.chunks_mut(SECTOR_BYTES)) {
        if file.read_exact_at(sector, at + number * SECTOR_BYTES as u64).is_err() {
            sector.fill(0);
            unreadable += sector.len() as u64;
        }
    }
    unreadable
}
