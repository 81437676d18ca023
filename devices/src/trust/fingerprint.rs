//! The SHA-256 of a certificate: what a person compares and a device pins.

use std::fmt;
use std::str::FromStr;

use rustls::pki_types::CertificateDer;
use sha2::{Digest, Sha256};

/// Bytes of a fingerprint.
const BYTES: usize = 32;

/// SHA-256 over a certificate's DER, written as 64 lowercase hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; BYTES]);

/// A text that is no fingerprint.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a fingerprint has 64 hexadecimal digits, with or without colons between each two")]
pub struct FingerprintError;

impl Fingerprint {
    /// Of this certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }

    /// Of a certificate that hashes to these bytes.
    pub fn from_bytes(bytes: [u8; BYTES]) -> Self {
        Self(bytes)
    }

    /// The SHA-256 itself.
    pub fn to_bytes(self) -> [u8; BYTES] {
        self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Fingerprint {
    type Err = FingerprintError;

    /// Takes what [`fmt::Display`] writes, and the form with colons that `openssl x509 -fingerprint` prints.
    fn from_str(text: &str) -> Result<Self, FingerprintError> {
        let digits = text.trim().bytes().filter(|byte| *byte != b':');
        let mut nibbles = digits.map(|digit| (digit as char).to_digit(16).ok_or(FingerprintError));
        let mut bytes = [0; BYTES];
        for byte in &mut bytes {
            let (high, low) = (nibbles.next().ok_or(FingerprintError)??, nibbles.next().ok_or(FingerprintError)??);
            *byte = (high << 4 | low) as u8;
        }
        if nibbles.next().is_some() { Err(FingerprintError) } else { Ok(Self(bytes)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_written_and_read_in_both_forms() {
        let fingerprint = Fingerprint::of(&CertificateDer::from(b"abc".to_vec()));
        let text = fingerprint.to_string();
        assert_eq!(text, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "SHA-256 of `abc`");
        assert_eq!(text.parse(), Ok(fingerprint));
        assert_eq!(Fingerprint::from_bytes(fingerprint.to_bytes()), fingerprint);
        let pairs: Vec<&str> = (0..BYTES).map(|i| &text[2 * i..2 * i + 2]).collect();
        assert_eq!(format!("{}\n", pairs.join(":").to_uppercase()).parse(), Ok(fingerprint));
        for wrong in ["", "ba", &text[1..], &format!("{text}0"), &format!("{text}00"), &text.replace('b', "g")] {
            assert_eq!(wrong.parse::<Fingerprint>(), Err(FingerprintError), "{wrong:?}");
        }
    }
}
