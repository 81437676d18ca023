//! Who a node is: a key and a certificate, from files of people's or made at the first start.

use std::path::{Path, PathBuf};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::files::{KEY_MODE, OPEN_MODE, read_file, read_key_file, write_file};
use super::{FileError, Fingerprint};

/// The key that is made at the first start.
const KEY_FILE: &str = "quic.key";
/// Its certificate.
const CERTIFICATE_FILE: &str = "quic.crt";
/// Names in a certificate that is made here. Who pins it looks at none of them.
const NAMES: [&str; 4] = ["edgeway", "localhost", "127.0.0.1", "::1"];
/// Largest PEM file, in bytes.
const FILE_BYTES_MAX: u64 = 256 << 10;
/// Certificates in a chain at most.
const CHAIN_MAX: usize = 16;

/// Why there is no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file cannot be read or made, or anybody may read the key.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file does not hold what it should.
    #[error("{path} holds no {what} in PEM form")]
    Content {
        /// The file.
        path: PathBuf,
        /// `certificate` or `private key`.
        what: &'static str,
    },
    /// A certificate that was made here has lost its key.
    #[error(
        "{key} is gone, but its certificate is there: bring the key back, or delete {certificate} to have a new \
         identity made (its fingerprint is another: what pins the old one must be told)"
    )]
    KeyLost {
        /// The key's file.
        key: PathBuf,
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// The key or certificate could not be made.
    #[error("a certificate could not be made: {0}")]
    Made(#[from] rcgen::Error),
}

/// A private key with its certificate, the node's own first, then those that vouch for it.
#[derive(Debug)]
pub struct Identity {
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) key: PrivateKeyDer<'static>,
    fingerprint: Fingerprint,
}

impl Identity {
    /// Reads PEM files of people's. Whether key and certificate belong together is found when an endpoint is made.
    ///
    /// # Errors
    /// When a file cannot be read, holds something else, or anybody may read the key.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, IdentityError> {
        let no = |what| IdentityError::Content { path: certificate.to_owned(), what };
        let text = read_file(certificate, FILE_BYTES_MAX)?;
        let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).take(CHAIN_MAX).collect();
        let chain = chain.map_err(|_| no("certificate"))?;
        let fingerprint = Fingerprint::of(chain.first().ok_or_else(|| no("certificate"))?);
        let text = read_key_file(key, FILE_BYTES_MAX)?;
        let key = PrivateKeyDer::from_pem_slice(&text)
            .map_err(|_| IdentityError::Content { path: key.to_owned(), what: "private key" })?;
        Ok(Self { chain, key, fingerprint })
    }

    /// The identity in a folder: what was made there at the first start, or now. The certificate is self-signed,
    /// so that others know the node by its fingerprint.
    ///
    /// # Errors
    /// When the files cannot be read or made, anybody may read the key, or the key is gone.
    pub fn own(folder: &Path, name: &str) -> Result<Self, IdentityError> {
        let (certificate, key) = (folder.join(CERTIFICATE_FILE), folder.join(KEY_FILE));
        match (certificate.exists(), key.exists()) {
            (true, true) => {}
            (true, false) => return Err(IdentityError::KeyLost { key, certificate }),
            // A key without its certificate was never shown to anybody: the start that made it was cut off.
            (false, _) => make(name, &certificate, &key)?,
        }
        Self::read(&certificate, &key)
    }

    /// By what others know this node.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }
}

fn make(name: &str, certificate: &Path, key: &Path) -> Result<(), IdentityError> {
    let pair = KeyPair::generate()?;
    let mut params = CertificateParams::new(NAMES.map(str::to_owned))?;
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, format!("edgeway {name}"));
    let signed = params.self_signed(&pair)?;
    // The key first: a certificate that exists has its key.
    write_file(key, pair.serialize_pem().as_bytes(), KEY_MODE)?;
    Ok(write_file(certificate, signed.pem().as_bytes(), OPEN_MODE)?)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn is_made_once_and_its_key_is_for_its_owner_alone() {
        let folder = tempfile::tempdir().unwrap();
        let first = Identity::own(folder.path(), "n1").unwrap();
        let key = folder.path().join(KEY_FILE);
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        let again = Identity::own(folder.path(), "n2").unwrap();
        assert_eq!((again.fingerprint(), &again.chain), (first.fingerprint(), &first.chain));
        let other = tempfile::tempdir().unwrap();
        assert_ne!(Identity::own(other.path(), "n1").unwrap().fingerprint(), first.fingerprint());
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "nothing half made is left");
    }

    #[test]
    fn a_start_that_was_cut_off_is_made_good_and_a_lost_key_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join(CERTIFICATE_FILE), folder.path().join(KEY_FILE));
        fs::write(&key, "half").unwrap();
        fs::write(key.with_extension("key.new"), "half").unwrap();
        Identity::own(folder.path(), "n1").unwrap();
        fs::remove_file(&key).unwrap();
        let error = Identity::own(folder.path(), "n1").unwrap_err().to_string();
        assert!(error.contains("quic.key is gone"), "{error}");
        fs::remove_file(&certificate).unwrap();
        Identity::own(folder.path(), "n1").unwrap();
    }

    #[test]
    fn files_that_cannot_be_used_are_named() {
        let folder = tempfile::tempdir().unwrap();
        Identity::own(folder.path(), "n1").unwrap();
        let made = |name: &str, content: &[u8], mode| {
            let path = folder.path().join(name);
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            path
        };
        let certificate = folder.path().join(CERTIFICATE_FILE);
        let key = folder.path().join(KEY_FILE);
        let key_text = fs::read(&key).unwrap();
        let (empty, large) = (made("empty", b"", 0o600), made("large", &vec![b'x'; 300 << 10], 0o600));
        let absent = folder.path().join("absent");
        // (certificate, key, what the error must say)
        let cases = [
            (&certificate, &made("open", &key_text, 0o604), "open may be read by anybody (mode 604)"),
            (&certificate, &certificate, "quic.crt may be read by anybody"),
            (&certificate, &empty, "empty holds no private key"),
            (&certificate, &absent, "absent cannot be read"),
            (&certificate, &large, "at most 262144 are taken"),
            (&key, &key, "quic.key holds no certificate"),
            (&empty, &key, "empty holds no certificate"),
            (&absent, &key, "absent cannot be read"),
        ];
        for (certificate, key, expected) in cases {
            let error = Identity::read(certificate, key).unwrap_err().to_string();
            assert!(error.contains(expected), "{error:?} lacks {expected:?}");
        }
        Identity::read(&certificate, &made("group", &key_text, 0o640)).unwrap();
    }
}
