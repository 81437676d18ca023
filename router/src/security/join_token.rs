//! The token with which a node joins a site: one line that people copy (pure).
//!
//! `edgeway-join-1.` and then, in base64url without padding: the site's id (8 bytes), the SHA-256 of the CA's
//! certificate (32), the secret (32), the number of addresses (1), each with its length before it (1), and at the end
//! the first 4 bytes of the SHA-256 of all that, so that a token which was cut is told from one that is wrong.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};

/// How long a token can be used.
pub const JOIN_TOKEN_LIFETIME: Duration = Duration::from_secs(15 * 60);
/// Bytes of a token's secret.
pub const JOIN_SECRET_BYTES: usize = 32;
/// Addresses in a token at most.
pub const JOIN_ADDRESSES_MAX: usize = 8;
/// Longest address in a token, in bytes.
pub const JOIN_ADDRESS_BYTES_MAX: usize = 255;

/// What every token begins with.
const KIND: &str = "edgeway-join-";
/// What every token of a link begins with.
const LINK_KIND: &str = "edgeway-link-";
/// The version, and what ends it.
const VERSION: &str = "1.";
/// Bytes of a fingerprint.
const FINGERPRINT_BYTES: usize = 32;
/// Bytes of the sum at the end.
const SUM_BYTES: usize = 4;
/// Longest text of a token, in bytes.
const TEXT_BYTES_MAX: usize = 4 << 10;

/// What a node needs to join a site.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The site's id.
    pub site: u64,
    /// Where nodes of the site may be reached, `host:port`; 1 to [`JOIN_ADDRESSES_MAX`], the first is tried first.
    pub addresses: Vec<String>,
    /// The SHA-256 of the certificate of the site's CA.
    pub ca: [u8; FINGERPRINT_BYTES],
    /// What the site takes for the right to join, once.
    pub secret: [u8; JOIN_SECRET_BYTES],
}

/// The token with which an edge accepts the invitation to a link: the same as one that joins gets, with another beginning.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct LinkToken(pub JoinToken);

/// What the site keeps of a token: the SHA-256 of its secret.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct JoinTokenHash(pub [u8; 32]);

/// A text that is no token, or a token that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinTokenError {
    /// It does not begin as one does.
    #[error("this is no join token: one begins with {KIND}{VERSION}; a node of the site makes it")]
    Kind,
    /// It does not begin as one of a link does.
    #[error(
        "this is no token of a link: one begins with {LINK_KIND}{VERSION}; `edgeway link invite` upstream makes it"
    )]
    LinkKind,
    /// It is of a later version.
    #[error("this join token is of a later version of edgeway: upgrade this node first")]
    Version,
    /// It lacks some of its characters, or has others.
    #[error("this join token was cut or mistyped: copy the whole line")]
    Damaged,
    /// It is whole, and says what cannot be.
    #[error("this join token says what cannot be: {0}; have a new one made")]
    Content(&'static str),
}

impl JoinToken {
    /// What the site keeps of it. Who has the hash cannot join.
    pub fn hash(&self) -> JoinTokenHash {
        JoinTokenHash::of(&self.secret)
    }

    /// Whether it can be written and read again.
    ///
    /// # Errors
    /// What is wrong with its addresses.
    pub fn check(&self) -> Result<(), JoinTokenError> {
        if self.addresses.is_empty() {
            return Err(JoinTokenError::Content("no address"));
        }
        if self.addresses.len() > JOIN_ADDRESSES_MAX {
            return Err(JoinTokenError::Content("more than 8 addresses"));
        }
        if self.addresses.iter().all(|address| is_address(address)) {
            Ok(())
        } else {
            Err(JoinTokenError::Content("an address that is not HOST:PORT"))
        }
    }

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = self.site.to_le_bytes().to_vec();
        bytes.extend(self.ca);
        bytes.extend(self.secret);
        bytes.push(u8::try_from(self.addresses.len()).unwrap_or(u8::MAX));
        for address in &self.addresses {
            bytes.push(u8::try_from(address.len()).unwrap_or(u8::MAX));
            bytes.extend(address.as_bytes());
        }
        bytes.extend(sum(&bytes));
        bytes
    }

    fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let site = u64::from_le_bytes(take(&mut bytes)?);
        let (ca, secret) = (take(&mut bytes)?, take(&mut bytes)?);
        let [count] = take(&mut bytes)?;
        let mut addresses = Vec::new();
        for _ in 0..count {
            let [length] = take(&mut bytes)?;
            let (address, rest) = bytes.split_at_checked(usize::from(length))?;
            addresses.push(String::from_utf8(address.to_vec()).ok()?);
            bytes = rest;
        }
        bytes.is_empty().then_some(Self { site, addresses, ca, secret })
    }
}

impl JoinTokenHash {
    /// Of a token's secret.
    pub fn of(secret: &[u8; JOIN_SECRET_BYTES]) -> Self {
        Self(Sha256::digest(secret).into())
    }
}

fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (taken, rest) = bytes.split_first_chunk::<N>()?;
    *bytes = rest;
    Some(*taken)
}

fn sum(bytes: &[u8]) -> [u8; SUM_BYTES] {
    let digest: [u8; 32] = Sha256::digest(bytes).into();
    [digest[0], digest[1], digest[2], digest[3]]
}

/// A host, a colon and a port that is not 0; printable and without spaces.
fn is_address(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else { return false };
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|port| port > 0);
    is_port
        && !host.is_empty()
        && address.len() <= JOIN_ADDRESS_BYTES_MAX
        && address.bytes().all(|byte| byte.is_ascii_graphic())
}

impl fmt::Display for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.write(KIND, f)
    }
}

impl fmt::Display for LinkToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.write(LINK_KIND, f)
    }
}

impl FromStr for LinkToken {
    type Err = JoinTokenError;

    /// Takes what [`fmt::Display`] writes, with blanks around it.
    fn from_str(text: &str) -> Result<Self, JoinTokenError> {
        JoinToken::read(LINK_KIND, text).map(Self).map_err(|error| match error {
            JoinTokenError::Kind => JoinTokenError::LinkKind,
            other => other,
        })
    }
}

impl fmt::Debug for JoinToken {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("site", &self.site)
            .field("addresses", &self.addresses)
            .finish_non_exhaustive()
    }
}

impl FromStr for JoinToken {
    type Err = JoinTokenError;

    /// Takes what [`fmt::Display`] writes, with blanks around it.
    fn from_str(text: &str) -> Result<Self, JoinTokenError> {
        Self::read(KIND, text)
    }
}

impl JoinToken {
    fn write(&self, kind: &str, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{kind}{VERSION}{}", URL_SAFE_NO_PAD.encode(self.to_bytes()))
    }

    fn read(kind: &str, text: &str) -> Result<Self, JoinTokenError> {
        let versioned = text.trim().strip_prefix(kind).ok_or(JoinTokenError::Kind)?;
        let Some(text) = versioned.strip_prefix(VERSION) else {
            let (version, _) = versioned.split_once('.').ok_or(JoinTokenError::Damaged)?;
            return Err(if version.parse::<u32>().is_ok() { JoinTokenError::Version } else { JoinTokenError::Kind });
        };
        if text.len() > TEXT_BYTES_MAX {
            return Err(JoinTokenError::Damaged);
        }
        let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| JoinTokenError::Damaged)?;
        let (bytes, end) = bytes.split_last_chunk::<SUM_BYTES>().ok_or(JoinTokenError::Damaged)?;
        if sum(bytes) != *end {
            return Err(JoinTokenError::Damaged);
        }
        let token = Self::from_bytes(bytes).ok_or(JoinTokenError::Content("its bytes"))?;
        token.check().map(|()| token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(addresses: &[&str]) -> JoinToken {
        let addresses = addresses.iter().map(|address| (*address).to_owned()).collect();
        JoinToken { site: 0x0102, addresses, ca: [0xca; 32], secret: [0x5e; 32] }
    }

    /// A token whose sum is right.
    fn sealed(bytes: &[u8]) -> String {
        let bytes = [bytes, &sum(bytes)].concat();
        format!("edgeway-join-1.{}", URL_SAFE_NO_PAD.encode(bytes))
    }

    #[test]
    fn is_read_as_it_is_written() {
        let token = token(&["gateway-1.local:14569", "[2001:db8::1]:14569"]);
        let text = token.to_string();
        assert_eq!(
            text,
            "edgeway-join-1.AgEAAAAAAADKysrKysrKysrKysrKysrKysrKysrKysrKysrKysrKyl5eXl5eXl5eXl5eXl5eXl5eXl5eXl5eXl5eXl5eX\
             l5eAhVnYXRld2F5LTEubG9jYWw6MTQ1NjkTWzIwMDE6ZGI4OjoxXToxNDU2Ocv2HMU",
            "golden"
        );
        assert_eq!(text.parse(), Ok(token.clone()));
        assert_eq!(format!(" {text}\n").parse(), Ok(token.clone()));
        assert!(!format!("{token:?}").contains("94"), "the secret is not shown");
        let link = LinkToken(token.clone());
        assert_eq!(link.to_string(), text.replace("join", "link"));
        assert_eq!(link.to_string().parse(), Ok(link.clone()));
        assert_eq!(text.parse::<LinkToken>(), Err(JoinTokenError::LinkKind));
        assert_eq!(link.to_string().parse::<JoinToken>(), Err(JoinTokenError::Kind));
        let hash = token.hash();
        assert_eq!(hash, JoinTokenHash::of(&[0x5e; 32]));
        assert_ne!(hash.0, token.secret);
    }

    #[test]
    fn each_cut_and_each_slip_is_told_from_a_wrong_token() {
        let text = token(&["gateway-1:14569"]).to_string();
        for end in "edgeway-join-1.".len()..text.len() {
            assert_eq!(text[..end].parse::<JoinToken>(), Err(JoinTokenError::Damaged), "cut at {end}");
        }
        for at in "edgeway-join-1.".len()..text.len() {
            let other = if text.as_bytes()[at] == b'A' { "B" } else { "A" };
            let slip = format!("{}{other}{}", &text[..at], &text[at + 1..]);
            assert_eq!(slip.parse::<JoinToken>(), Err(JoinTokenError::Damaged), "another at {at}");
        }
        assert_eq!(format!("{text}A").parse::<JoinToken>(), Err(JoinTokenError::Damaged));
        let long = format!("{text}{}", "A".repeat(TEXT_BYTES_MAX));
        assert_eq!(long.parse::<JoinToken>(), Err(JoinTokenError::Damaged));
    }

    #[test]
    fn what_is_no_token_is_named() {
        let whole = token(&["a:1"]).to_bytes();
        let whole = &whole[..whole.len() - SUM_BYTES];
        // (text, why it is not taken)
        let content = JoinTokenError::Content;
        let cases = [
            (String::new(), JoinTokenError::Kind),
            ("edgeway-token-1.AAAA".to_owned(), JoinTokenError::Kind),
            ("edgeway-join-x.AAAA".to_owned(), JoinTokenError::Kind),
            ("edgeway-join-2.AAAA".to_owned(), JoinTokenError::Version),
            ("edgeway-join-1".to_owned(), JoinTokenError::Damaged),
            ("edgeway-join-1.????".to_owned(), JoinTokenError::Damaged),
            (sealed(b""), content("its bytes")),
            (sealed(&whole[..whole.len() - 1]), content("its bytes")),
            (sealed(&[whole, b"x"].concat()), content("its bytes")),
            (sealed(&[&whole[..72], &[1, 2, 0xff, 0xff]].concat()), content("its bytes")),
            (sealed(&[&whole[..72], &[0]].concat()), content("no address")),
            (token(&["a:1"; 9]).to_string(), content("more than 8 addresses")),
            (token(&["a:1", "gateway"]).to_string(), content("an address that is not HOST:PORT")),
            (token(&[":1"]).to_string(), content("an address that is not HOST:PORT")),
            (token(&["a:0"]).to_string(), content("an address that is not HOST:PORT")),
            (token(&["a:65536"]).to_string(), content("an address that is not HOST:PORT")),
            (token(&["a b:1"]).to_string(), content("an address that is not HOST:PORT")),
        ];
        for (text, why) in cases {
            assert_eq!(text.parse::<JoinToken>(), Err(why), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn garbage_is_refused_without_a_panic(text in ".{0,300}", bytes in proptest::collection::vec(0u8..=255, 0..300)) {
            let _ = text.parse::<JoinToken>();
            let _ = format!("edgeway-join-1.{text}").parse::<JoinToken>();
            if let Ok(token) = sealed(&bytes).parse::<JoinToken>() {
                proptest::prop_assert_eq!(token.to_string(), sealed(&bytes));
            }
        }
    }
}
