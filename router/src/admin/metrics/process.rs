//! The process's own figures: memory.

use std::fmt;

use super::Sheet;

/// Bytes of memory that the process holds now (RSS); `None` where the system does not tell.
pub fn resident_bytes() -> Option<u64> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let pages: u64 = text.split_whitespace().nth(1)?.parse().ok()?;
    Some(pages * rustix::param::page_size() as u64)
}

/// Writes what the process takes.
pub(super) fn write(sheet: &mut Sheet<'_>) -> fmt::Result {
    match resident_bytes() {
        Some(bytes) => sheet.bytes("memory_resident", "Memory that the process holds", bytes),
        None => Ok(()),
    }
}
