//! What is said when a node joins, byte for byte (pure).
//!
//! One two-way stream, one frame each way: a version byte, then postcard. The joining node sends a [`Request`], the
//! other answers with a [`Welcome`] or a [`JoinRefusal`].

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::replication::peers::{Member, PROTOCOLS_MAX};
use crate::security::{JOIN_SECRET_BYTES, JoinTokenHash};
use crate::transport::{Admitted, NodeId};

/// The version of both messages.
const VERSION: u8 = 1;
/// Longest request, in bytes.
pub(super) const REQUEST_BYTES_MAX: usize = 2 << 10;
/// Longest answer, in bytes: it names all topics.
pub(super) const ANSWER_BYTES_MAX: usize = 4 << 20;
/// Longest name of a node, in bytes.
const NAME_BYTES_MAX: usize = 64;
/// Longest address, in bytes.
const ADDRESS_BYTES_MAX: usize = 255;
/// Longest version of a program, in bytes.
const PROGRAM_BYTES_MAX: usize = 64;

/// What a node that joins says of itself.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// The token's secret.
    pub secret: [u8; JOIN_SECRET_BYTES],
    /// What people call the node.
    pub name: String,
    /// `HOST:PORT` by which the others reach it.
    pub address: String,
    /// Its public key: 65 bytes, a point of P-256, uncompressed.
    pub public_key: Vec<u8>,
    /// The version of its program.
    pub program: String,
    /// The protocols that it speaks.
    pub protocols: Vec<u16>,
}

/// What a node is given with which it is of the site.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    /// The site's id.
    pub site: u64,
    /// The id that the node was given.
    pub node: NodeId,
    /// Its certificate, in PEM form.
    pub certificate: String,
    /// The certificate of the site's CA, in PEM form.
    pub ca: String,
    /// The CA's key, in PEM form.
    pub ca_key: String,
    /// What the site is now.
    pub facts: SiteFacts,
}

/// What a site is, as one that joins is told; the catalog goes on from there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteFacts {
    /// What people call the site.
    pub name: String,
    /// Its nodes, the new one among them.
    pub members: Vec<Member>,
    /// Its topics.
    pub topics: Vec<TopicFacts>,
}

/// A topic, in plain fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicFacts {
    /// Its id.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// How many partitions it has.
    pub partitions: u32,
    /// Its compression, as it is called in settings: `lz4`.
    pub compression: String,
    /// When its events are acknowledged, as it is called in settings: `sync`.
    pub durability: String,
    /// Age in milliseconds after which events may go; `None` keeps them.
    pub retention_ms: Option<u64>,
    /// Bytes that a partition keeps; `None` sets no bound.
    pub retention_bytes: Option<u64>,
}

/// Why a node may not join, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusalCode {
    /// The site has given no such token, or has forgotten it.
    TokenUnknown,
    /// Another node has joined with it.
    TokenUsed,
    /// It is too old.
    TokenExpired,
    /// A node of the site has this name.
    NameTaken,
    /// The two programs cannot speak with each other.
    Version,
    /// The site has no majority that could decide.
    NoMajority,
    /// The site has as many nodes as it may have.
    Full,
    /// The request says what cannot be.
    Invalid,
}

/// Why a node may not join.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{text} ({code})")]
pub struct JoinRefusal {
    /// For programs.
    pub code: RefusalCode,
    /// For people: what happened, and what to do.
    pub text: String,
}

/// A message that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum MessageError {
    #[error("a message of version {0}, which this node does not know")]
    Version(u8),
    #[error("a message that cannot be read")]
    Garbage,
}

/// What is answered.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Answer {
    Welcome(Box<Welcome>),
    Refusal(JoinRefusal),
}

impl RefusalCode {
    /// As it is written: `token-unknown`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TokenUnknown => "token-unknown",
            Self::TokenUsed => "token-used",
            Self::TokenExpired => "token-expired",
            Self::NameTaken => "name-taken",
            Self::Version => "version",
            Self::NoMajority => "no-majority",
            Self::Full => "full",
            Self::Invalid => "invalid",
        }
    }
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl JoinRefusal {
    /// One with this text.
    pub fn new(code: RefusalCode, text: impl Into<String>) -> Self {
        Self { code, text: text.into() }
    }
}

impl Request {
    /// What the site keeps of the token that was used.
    pub fn token(&self) -> JoinTokenHash {
        JoinTokenHash::of(&self.secret)
    }

    /// Whether what it says can be; what cannot otherwise.
    pub(super) fn check(&self) -> Result<(), String> {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if self.name.is_empty() || self.name.len() > NAME_BYTES_MAX || !self.name.bytes().all(is_name) {
            return Err(format!(
                "{:?} cannot be a node's name: 1 to {NAME_BYTES_MAX} letters, digits, '.', '-' and '_'",
                self.name
            ));
        }
        let has_port = self.address.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse() != Ok(0_u16)
        });
        if self.address.len() > ADDRESS_BYTES_MAX || !has_port {
            return Err(format!("{:?} is no address of a node: HOST:PORT, as the other nodes reach it", self.address));
        }
        if self.program.len() > PROGRAM_BYTES_MAX || self.protocols.len() > PROTOCOLS_MAX {
            return Err("the program's version is longer than can be".to_owned());
        }
        Ok(())
    }
}

impl Welcome {
    /// A welcome with these certificates.
    pub fn new(site: u64, node: NodeId, admitted: Admitted, facts: SiteFacts) -> Self {
        let Admitted { certificate, ca, ca_key } = admitted;
        Self { site, node, certificate, ca, ca_key, facts }
    }
}

impl fmt::Debug for Request {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request")
            .field("name", &self.name)
            .field("address", &self.address)
            .field("program", &self.program)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Welcome {
    /// Without the CA's key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Welcome")
            .field("site", &self.site)
            .field("node", &self.node)
            .field("facts", &self.facts)
            .finish_non_exhaustive()
    }
}

/// A version byte, then postcard.
pub(super) fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    // Only a type that postcard cannot write fails; none of these is.
    postcard::to_extend(message, vec![VERSION]).unwrap_or_default()
}

/// Reads what [`encode`] wrote, to its last byte.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, MessageError> {
    let (version, body) = bytes.split_first().ok_or(MessageError::Garbage)?;
    if *version != VERSION {
        return Err(MessageError::Version(*version));
    }
    match postcard::take_from_bytes(body) {
        Ok((message, [])) => Ok(message),
        _ => Err(MessageError::Garbage),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    type Change<'a> = &'a dyn Fn(&mut Request);

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn request() -> Request {
        Request {
            secret: [0x5e; 32],
            name: "n2".to_owned(),
            address: "n2:14569".to_owned(),
            public_key: vec![4, 5],
            program: "0.1.0".to_owned(),
            protocols: vec![1, 300],
        }
    }

    fn welcome() -> Welcome {
        let topic = TopicFacts {
            id: 5,
            name: "t".to_owned(),
            partitions: 4,
            compression: "lz4".to_owned(),
            durability: "sync".to_owned(),
            retention_ms: Some(1_000),
            retention_bytes: None,
        };
        let member = Member { node: NodeId(1), name: "n1".to_owned(), address: "n1:1".to_owned() };
        let admitted = Admitted { certificate: "C".to_owned(), ca: "A".to_owned(), ca_key: "K".to_owned() };
        let facts = SiteFacts { name: "s".to_owned(), members: vec![member], topics: vec![topic] };
        Welcome::new(0x51, NodeId(2), admitted, facts)
    }

    #[test]
    fn the_bytes_do_not_change() {
        let secret = "5e".repeat(32);
        let text = format!("01{secret}026e32086e323a3134353639020405{}02", "05302e312e30");
        assert_eq!(hex(&encode(&request())), format!("{text}01ac02"));
        let bytes = encode(&Answer::Welcome(Box::new(welcome())));
        assert_eq!(
            hex(&bytes),
            "0100\
             51\
             02\
             0143\
             0141\
             014b\
             0173\
             0101026e31046e313a31\
             01050174\
             04\
             036c7a34\
             0473796e63\
             01e80700"
        );
        let refusal = JoinRefusal::new(RefusalCode::NoMajority, "x");
        assert_eq!(hex(&encode(&Answer::Refusal(refusal))), "010105 0178".replace(' ', ""));
        assert!(decode::<Answer>(&bytes) == Ok(Answer::Welcome(Box::new(welcome()))));
        assert_eq!(decode(&encode(&request())), Ok(request()));
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        let bytes = encode(&request());
        for end in 0..bytes.len() {
            assert_eq!(decode::<Request>(&bytes[..end]).unwrap_err(), MessageError::Garbage, "cut at {end}");
        }
        assert_eq!(decode::<Request>(&[&bytes[..], &[0]].concat()).unwrap_err(), MessageError::Garbage);
        assert_eq!(decode::<Request>(&[2, 0]).unwrap_err(), MessageError::Version(2));
    }

    #[test]
    fn what_cannot_be_is_named() {
        let with = |change: Change<'_>| {
            let mut changed = request();
            change(&mut changed);
            changed.check()
        };
        assert_eq!(with(&|_| {}), Ok(()));
        let long = "x".repeat(65);
        let cases: [(Change<'_>, &str); 8] = [
            (&|request| request.name.clear(), "cannot be a node's name"),
            (&|request| request.name.clone_from(&long), "cannot be a node's name"),
            (&|request| request.name = "a b".to_owned(), "cannot be a node's name"),
            (&|request| request.address = "n2".to_owned(), "HOST:PORT"),
            (&|request| request.address = ":1".to_owned(), "HOST:PORT"),
            (&|request| request.address = "n2:0".to_owned(), "HOST:PORT"),
            (&|request| request.address = format!("{}:1", "x".repeat(255)), "HOST:PORT"),
            (&|request| request.protocols = vec![1; 17], "longer than can be"),
        ];
        for (change, says) in cases {
            let why = with(change).unwrap_err();
            assert!(why.contains(says), "{why}");
        }
        for secret in [format!("{:?}", request()), format!("{:?}", welcome())] {
            assert!(!secret.contains("94") && !secret.contains('K'), "{secret}");
        }
    }
}
