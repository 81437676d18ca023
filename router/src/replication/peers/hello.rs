//! The greeting with which two nodes begin (pure): a format byte, then postcard.
//!
//! It is read before it is known which protocol is spoken, so its bytes stay as they are; what a later version adds
//! comes behind them, and is passed over by who does not know it.

use serde::{Deserialize, Serialize};

use super::Own;
use super::link::Moment;
use super::version::{PROTOCOLS_MAX, Speaker, Spoken};
use crate::replication::PROGRAM;
use crate::transport::NodeId;

/// The only format.
const FORMAT: u8 = 1;
/// Longest greeting, in bytes.
pub(super) const HELLO_BYTES_MAX: usize = 1 << 10;
/// Longest version of a program, in bytes.
const PROGRAM_BYTES_MAX: usize = 64;

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Hello {
    pub(super) protocols: Vec<u16>,
    pub(super) program: String,
    pub(super) site: u64,
    pub(super) node: NodeId,
    /// Drawn by each process: by it two processes of one node are told apart.
    pub(super) incarnation: u64,
    /// The origin id of its store.
    pub(super) origin: u64,
    /// Its wall clock, milliseconds since 1970.
    pub(super) wall_ms: i64,
    /// The clock by which it times what it stores, which is not stepped while it runs, milliseconds since 1970; `None`: its program is older. It
    /// follows the others.
    #[serde(skip)]
    pub(super) steady_ms: Option<u64>,
}

impl Hello {
    pub(super) fn of(own: &Own, spoken: &Spoken, now: Moment) -> Self {
        Self {
            protocols: spoken.protocols(),
            program: PROGRAM.to_owned(),
            site: own.site,
            node: own.node,
            incarnation: own.incarnation,
            origin: own.origin,
            wall_ms: now.wall_ms,
            steady_ms: Some(now.steady_ms),
        }
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        // Only a type that postcard cannot write fails; these are none.
        let bytes = postcard::to_extend(self, vec![FORMAT]).unwrap_or_default();
        match self.steady_ms {
            Some(steady_ms) => postcard::to_extend(&steady_ms, bytes).unwrap_or_default(),
            None => bytes,
        }
    }

    /// `None` for what is no greeting.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&FORMAT, body) = bytes.split_first()? else { return None };
        let (mut hello, added): (Self, _) = postcard::take_from_bytes(body).ok()?;
        hello.steady_ms = postcard::take_from_bytes(added).ok().map(|(steady_ms, _later)| steady_ms);
        let is_bounded = hello.protocols.len() <= PROTOCOLS_MAX && hello.program.len() <= PROGRAM_BYTES_MAX;
        is_bounded.then_some(hello)
    }

    /// As one of two that want to speak.
    pub(super) fn speaker(&self) -> Speaker {
        Speaker {
            name: format!("node {}", self.node),
            program: self.program.clone(),
            protocols: self.protocols.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn the_bytes_do_not_change_and_what_is_added_is_passed_over() {
        let own = Own { node: NodeId(1), site: 2, origin: 4, incarnation: 3 };
        let now = Moment { monotonic: Duration::ZERO, wall_ms: 5, steady_ms: 6 };
        let hello = Hello { program: "0.1.0".to_owned(), ..Hello::of(&own, &Spoken::up_to(1), now) };
        let bytes = hello.encode();
        assert_eq!(bytes, [&[1, 1, 1, 5][..], b"0.1.0", &[2, 1, 3, 4, 10, 6]].concat());
        assert_eq!(Hello::decode(&bytes), Some(hello.clone()));
        assert_eq!(Hello::decode(&[&bytes[..], b"later"].concat()), Some(hello.clone()));
        let older = Hello { steady_ms: None, ..hello.clone() };
        let first = bytes.len() - 1;
        assert_eq!((older.encode().as_slice(), Hello::decode(&bytes[..first])), (&bytes[..first], Some(older)));
        for end in 0..first {
            assert_eq!(Hello::decode(&bytes[..end]), None, "cut at {end}");
        }
        assert_eq!(Hello::decode(&[&[2], &bytes[1..]].concat()), None, "another format");
        let long = Hello { program: "x".repeat(65), ..hello.clone() };
        assert_eq!(Hello::decode(&long.encode()), None);
        let many = Hello { protocols: vec![1; 17], ..hello };
        assert_eq!(Hello::decode(&many.encode()), None);
    }
}
