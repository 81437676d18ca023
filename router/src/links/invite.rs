//! What is said when an edge accepts the invitation to a link, byte for byte (pure): one two-way stream, one frame each way,
//! a version byte, then postcard.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::security::{JOIN_SECRET_BYTES, JoinTokenHash};
use crate::transport::NodeId;

/// The version of both messages.
const VERSION: u8 = 1;
/// Longest request, bytes.
pub const REQUEST_BYTES_MAX: usize = 2 << 10;
/// Longest answer, bytes.
pub const ANSWER_BYTES_MAX: usize = 64 << 10;
/// Longest text of a program's version, or a node's name, bytes.
const TEXT_BYTES_MAX: usize = 64;
/// A public key: a point of P-256, uncompressed.
const PUBLIC_KEY_BYTES: usize = 65;
/// What it begins with.
const UNCOMPRESSED: u8 = 4;

/// What the edge says of itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The token's secret.
    pub secret: [u8; JOIN_SECRET_BYTES],
    /// What people call its node.
    pub name: String,
    /// Its site.
    pub site: u64,
    /// Its node's public key for this link: 65 bytes, a point of P-256, uncompressed.
    pub public_key: Vec<u8>,
    /// The version of its program.
    pub program: String,
    /// The newest version of a link that it speaks.
    pub protocol: u8,
}

/// What the edge is given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// What the edge's site is called upstream.
    pub name: String,
    /// The link's id.
    pub link: u64,
    /// The node's id there.
    pub node: NodeId,
    /// The upstream site.
    pub site: u64,
    /// The certificate, in PEM form.
    pub certificate: String,
    /// That of the site's CA, in PEM form.
    pub ca: String,
}

/// Why the edge is not let in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text} ({code})")]
pub struct Refusal {
    /// For programs: `token-unknown`, `token-used`, `token-expired`, `version`, `own-site`, `busy`, `unavailable`,
    /// `invalid`.
    pub code: String,
    /// For people.
    pub text: String,
}

impl Refusal {
    /// One with this text.
    pub fn new(code: &str, text: impl Into<String>) -> Self {
        Self { code: code.to_owned(), text: text.into() }
    }
}

/// What is answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// The edge is let in.
    Welcome(Welcome),
    /// It is not.
    Refusal(Refusal),
}

impl Request {
    /// What upstream keeps of the token that was used.
    pub fn token(&self) -> JoinTokenHash {
        JoinTokenHash::of(&self.secret)
    }

    /// Whether what it says can be. Judged before the token is spent.
    pub fn is_sound(&self) -> bool {
        let is_key = self.public_key.len() == PUBLIC_KEY_BYTES && self.public_key.first() == Some(&UNCOMPRESSED);
        self.name.len() <= TEXT_BYTES_MAX && self.program.len() <= TEXT_BYTES_MAX && self.site != 0 && is_key
    }
}

impl fmt::Debug for Request {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").field("name", &self.name).field("site", &self.site).finish_non_exhaustive()
    }
}

/// A version byte, then postcard.
pub fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    // Only a type that postcard cannot write fails; none of these is.
    postcard::to_extend(message, vec![VERSION]).unwrap_or_default()
}

/// Reads what [`encode`] wrote, to its last byte.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (&VERSION, body) = bytes.split_first()? else { return None };
    let (message, []) = postcard::take_from_bytes(body).ok()? else { return None };
    Some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_do_not_change() {
        let request = Request {
            secret: [0x5e; 32],
            name: "n".to_owned(),
            site: 300,
            public_key: vec![4, 5],
            program: "0.1".to_owned(),
            protocol: 1,
        };
        let bytes = [&[1][..], &[0x5e; 32], &[1, b'n', 0xac, 2, 2, 4, 5, 3, b'0', b'.', b'1', 1]].concat();
        assert_eq!(encode(&request), bytes);
        assert_eq!(decode(&bytes), Some(request.clone()));
        let welcome = Welcome {
            name: "p".to_owned(),
            link: 7,
            node: NodeId(8),
            site: 9,
            certificate: "C".to_owned(),
            ca: "A".to_owned(),
        };
        let bytes = [1, 0, 1, b'p', 7, 8, 9, 1, b'C', 1, b'A'];
        assert_eq!(encode(&Answer::Welcome(welcome.clone())), bytes);
        assert_eq!(decode(&bytes), Some(Answer::Welcome(welcome)));
        assert_eq!(encode(&Answer::Refusal(Refusal::new("c", "t"))), [1, 1, 1, b'c', 1, b't']);
        for end in 0..bytes.len() {
            assert_eq!(decode::<Answer>(&bytes[..end]), None, "cut at {end}");
        }
        assert_eq!(decode::<Answer>(&[2, 0]), None, "another version");
        assert!(!format!("{request:?}").contains("94"), "the secret is not shown");
    }
}
