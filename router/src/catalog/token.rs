//! Tokens by which a node joins: issued for a while, used once. Only the hash of one is known here. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::change::Terms;
use super::encoding::{decode, encode};
use super::member::MemberRefusal;
use super::refusal::{Class, Refusal};
use super::state::State;
use super::write::Write;
use crate::transport::NodeId;

/// Tokens that may be known at once, used ones among them until they expire.
pub const TOKENS_MAX: usize = 256;
/// How long a token may be good for, in milliseconds: thirty days.
pub const TOKEN_LIFE_MS_MAX: i64 = 30 * 24 * 3_600 * 1_000;
/// The version byte before a stored token.
const VERSION: u8 = 1;

/// The SHA-256 of a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TokenHash(pub [u8; 32]);

/// A token. Stored as it is: a change of this struct makes a new version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Until when it is good, in milliseconds since 1970.
    pub expires_at_ms: i64,
    /// The node that came in by it.
    pub used_by: Option<NodeId>,
}

/// Why a change of a token was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TokenRefusal {
    /// It has expired.
    #[error("the join token has expired; make a new one with `edgeway node token`")]
    Expired,
    /// It was never issued, or expired long ago.
    #[error("the join token is not known; check that it is whole, or make a new one with `edgeway node token`")]
    Unknown,
    /// A node came in by it already.
    #[error("the join token was used already, by node {0}; make a new one with `edgeway node token`")]
    Used(NodeId),
    /// It is known already.
    #[error("the join token is known already; make another one")]
    Exists,
    /// It would be good for too long.
    #[error("a join token is good for at most thirty days; ask for a shorter time")]
    Lifetime,
    /// There are as many as there may be.
    #[error("there are {TOKENS_MAX} join tokens that have not expired, as many as there may be; wait until some have")]
    TooMany,
}

impl TokenRefusal {
    pub(super) fn code(self) -> &'static str {
        match self {
            Self::Expired => "token-expired",
            Self::Unknown => "token-unknown",
            Self::Used(_) => "token-used",
            Self::Exists => "token-exists",
            Self::Lifetime => "token-lifetime",
            Self::TooMany => "too-many-tokens",
        }
    }

    pub(super) fn class(self) -> Class {
        match self {
            Self::Lifetime => Class::Bad,
            Self::Expired | Self::Used(_) | Self::Exists => Class::Conflict,
            Self::Unknown => Class::Unknown,
            Self::TooMany => Class::TooMuch,
        }
    }
}

impl fmt::Display for TokenHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl TokenHash {
    /// Reads what [`Self`] displays.
    pub(super) fn parse(text: &str) -> Option<Self> {
        if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return None;
        }
        let mut hash = [0; 32];
        for (at, byte) in hash.iter_mut().enumerate() {
            *byte = u8::from_str_radix(text.get(2 * at..2 * at + 2)?, 16).ok()?;
        }
        Some(Self(hash))
    }

    /// Enough of it to tell one from another in events and the audit.
    pub(super) fn brief(&self) -> String {
        let mut text = self.to_string();
        text.truncate(16);
        text
    }
}

impl Token {
    pub(super) fn encode(&self) -> Vec<u8> {
        encode(VERSION, self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        decode(VERSION, bytes)
    }
}

/// A new token also sweeps away those that have expired.
pub(super) fn judge_issue(
    state: &State,
    hash: TokenHash,
    expires_at_ms: i64,
    terms: &Terms,
) -> Result<Vec<Write>, TokenRefusal> {
    if expires_at_ms <= terms.at_ms {
        return Err(TokenRefusal::Expired);
    }
    if expires_at_ms - terms.at_ms > TOKEN_LIFE_MS_MAX {
        return Err(TokenRefusal::Lifetime);
    }
    if state.token(&hash).is_some_and(|token| token.expires_at_ms > terms.at_ms) {
        return Err(TokenRefusal::Exists);
    }
    let expired = state.tokens().filter(|(_, token)| token.expires_at_ms <= terms.at_ms);
    let mut writes: Vec<Write> = expired.map(|(hash, _)| Write::Token(*hash, None)).collect();
    if state.tokens().count() - writes.len() >= TOKENS_MAX {
        return Err(TokenRefusal::TooMany);
    }
    writes.push(Write::Token(hash, Some(Token { expires_at_ms, used_by: None })));
    Ok(writes)
}

pub(super) fn judge_use(state: &State, hash: TokenHash, by: NodeId, terms: &Terms) -> Result<Vec<Write>, Refusal> {
    let token = state.token(&hash).ok_or(TokenRefusal::Unknown)?;
    if let Some(node) = token.used_by.filter(|node| *node != by) {
        return Err(TokenRefusal::Used(node).into());
    }
    if token.expires_at_ms <= terms.at_ms {
        return Err(TokenRefusal::Expired.into());
    }
    // It could not come in: the token stays good for another one.
    if state.is_removed(by) {
        return Err(MemberRefusal::Removed(by).into());
    }
    // One that has not heard that it came in asks again, until the token expires. An earlier program refuses that: the state is the same then.
    if token.used_by == Some(by) {
        return Ok(Vec::new());
    }
    Ok(vec![Write::Token(hash, Some(Token { used_by: Some(by), ..*token }))])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_token_has_these_bytes() {
        let token = Token { expires_at_ms: 3, used_by: Some(NodeId(9)) };
        assert_eq!(token.encode(), [1, 6, 1, 9]);
        assert_eq!(Token::decode(&[1, 6, 1, 9]), Some(token));
        assert_eq!(Token::decode(&[1, 6, 2]), None);
    }

    #[test]
    fn a_hash_comes_back_from_its_text() {
        let hash = TokenHash(std::array::from_fn(|at| at as u8 * 7));
        assert_eq!(TokenHash::parse(&hash.to_string()), Some(hash));
        assert_eq!(hash.brief(), "00070e151c232a31");
        for text in ["", "00", &"+0".repeat(32), &"zz".repeat(32)] {
            assert_eq!(TokenHash::parse(text), None, "{text}");
        }
    }
}
