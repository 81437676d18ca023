//! The token: 256 random bits in a file that its owner alone may read.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Random bytes of a token that is made here.
const RANDOM_BYTES: usize = 32;
/// Shortest token that is accepted from a file, in characters.
const CHARS_MIN: usize = 32;
/// Longest token file, in bytes.
const FILE_BYTES_MAX: u64 = 1_024;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    /// The file cannot be read or made.
    #[error("the token file {path} cannot be {what}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// `read` or `made`.
        what: &'static str,
        /// Why.
        source: std::io::Error,
    },
    /// Others than its owner may read the file.
    #[error("the token file {path} may be read by others (mode {mode:03o}); run: chmod 600 {path}")]
    TooOpen {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// What the file holds is too short, too long, or not one line of plain characters.
    #[error(
        "the token file {0} must hold one line of {CHARS_MIN} or more plain characters; delete it to have a new one made"
    )]
    Content(PathBuf),
    /// The system gave no random numbers.
    #[error("the system gave no random numbers: {0}")]
    Random(getrandom::Error),
}

/// What a caller must bring. Only its digest is kept in memory.
#[derive(Clone)]
pub struct Token {
    digest: [u8; 32],
}

impl Token {
    /// Reads the token, or makes one where the file does not exist.
    ///
    /// # Errors
    /// When the file cannot be used, or others may read it.
    pub fn at(path: &Path) -> Result<Self, TokenError> {
        match read(path) {
            Err(TokenError::File { source, .. }) if source.kind() == ErrorKind::NotFound => {
                make(path)?;
                read(path)
            }
            token => token,
        }
        .map(|text| Self::of(&text))
    }

    /// The token with this text.
    pub fn of(text: &str) -> Self {
        Self { digest: Sha256::digest(text.as_bytes()).into() }
    }

    /// Whether `presented` is the token. Takes the same time whatever is presented: digests are compared,
    /// all of them.
    pub fn is(&self, presented: &str) -> bool {
        let presented: [u8; 32] = Sha256::digest(presented.as_bytes()).into();
        let difference = self.digest.iter().zip(presented).fold(0, |all, (a, b)| all | (a ^ b));
        std::hint::black_box(difference) == 0
    }
}

/// The text of a token file that its owner alone may read.
///
/// # Errors
/// When it cannot be read, others may read it, or it holds no token.
pub fn read(path: &Path) -> Result<String, TokenError> {
    let failed = |source| TokenError::File { path: path.to_owned(), what: "read", source };
    let about = fs::metadata(path).map_err(failed)?;
    let mode = about.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(TokenError::TooOpen { path: path.to_owned(), mode });
    }
    if about.len() > FILE_BYTES_MAX {
        return Err(TokenError::Content(path.to_owned()));
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    let token = text.trim_end();
    if token.len() < CHARS_MIN || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(TokenError::Content(path.to_owned()));
    }
    Ok(token.to_owned())
}

/// Makes a token file under another name first: one that exists is whole.
fn make(path: &Path) -> Result<(), TokenError> {
    let failed = |source| TokenError::File { path: path.to_owned(), what: "made", source };
    let mut random = [0u8; RANDOM_BYTES];
    getrandom::fill(&mut random).map_err(TokenError::Random)?;
    let text: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
    let new = path.with_extension("new");
    match fs::remove_file(&new) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new).map_err(failed)?;
    file.write_all(format!("{text}\n").as_bytes()).map_err(failed)?;
    file.sync_all().map_err(failed)?;
    fs::rename(&new, path).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_made_once_and_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.token");
        let token = Token::at(&path).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        assert_eq!(text.trim_end().len(), 2 * RANDOM_BYTES);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(token.is(text.trim_end()));
        assert!(Token::at(&path).unwrap().is(text.trim_end()), "the second start reads the same one");
        for wrong in ["", "x", &text, &text.trim_end()[1..]] {
            assert!(!token.is(wrong), "{wrong:?}");
        }
    }

    #[test]
    fn files_that_cannot_be_trusted_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("t");
        // (content, mode, what the error must say)
        let long = "y".repeat(2_000);
        let cases = [
            ("0123456789abcdef0123456789abcdef", 0o644, "chmod 600"),
            ("0123456789abcdef0123456789abcdef", 0o640, "mode 640"),
            ("short", 0o600, "must hold one line"),
            ("0123456789abcdef 0123456789abcdef", 0o600, "must hold one line"),
            (long.as_str(), 0o600, "must hold one line"),
        ];
        for (content, mode, expected) in cases {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = Token::at(&path).err().unwrap().to_string();
            assert!(error.contains(expected), "{content} {mode:o}: {error}");
        }
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        let error = Token::at(Path::new("/nowhere/admin.token")).err().unwrap().to_string();
        assert!(error.contains("/nowhere/admin.token cannot be made"), "{error}");
    }
}
