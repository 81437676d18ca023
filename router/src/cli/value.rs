//! A value that is typed: text, or `@FILE` for a file's content.

use std::fs::File;
use std::io::Read;

use super::Failure;

/// Largest value, in bytes; what a node takes at most.
pub const BYTES_MAX: u64 = sled_data::EVENT_BYTES_MAX as u64;

/// The bytes that are meant; `@@` begins a text that begins with `@`.
///
/// # Errors
/// When the file cannot be read or is too large.
pub fn read(typed: &str) -> Result<Vec<u8>, Failure> {
    match typed.strip_prefix('@') {
        Some(rest) if rest.starts_with('@') => Ok(rest.as_bytes().to_vec()),
        Some(path) => read_file(path, BYTES_MAX),
        None => Ok(typed.as_bytes().to_vec()),
    }
}

/// A file's content.
///
/// # Errors
/// When it cannot be read, or has more than `bytes_max` bytes.
pub fn read_file(path: &str, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    let unreadable = |error: std::io::Error| Failure::usage(format!("the file {path} cannot be read: {error}"));
    let mut bytes = Vec::new();
    File::open(path).map_err(unreadable)?.take(bytes_max + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > bytes_max {
        return Err(Failure::usage(format!("the file {path} has more than {bytes_max} bytes")));
    }
    Ok(bytes)
}

/// Refuses what no node takes.
///
/// # Errors
/// When there are more bytes than [`BYTES_MAX`].
pub fn check_size(what: &str, bytes: Vec<u8>) -> Result<Vec<u8>, Failure> {
    if bytes.len() as u64 > BYTES_MAX {
        return Err(Failure::usage(format!("{what} has more than {BYTES_MAX} bytes")));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_text_or_files() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("v");
        std::fs::write(&path, b"\xff").unwrap();
        assert_eq!(read("text").unwrap(), b"text");
        assert_eq!(read("").unwrap(), b"");
        assert_eq!(read("@@at").unwrap(), b"@at");
        assert_eq!(read(&format!("@{}", path.display())).unwrap(), b"\xff");
        let Err(Failure::Told { what, .. }) = read("@/nowhere/v") else { panic!("it is not there") };
        assert!(what.contains("/nowhere/v cannot be read: No such file"), "{what}");
        assert!(read_file(path.to_str().unwrap(), 0).is_err());
    }
}
