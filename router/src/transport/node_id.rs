//! A node's id: random, drawn when its store is made or when it joins a site, and named by its certificate.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A node of a site. A node that was wiped joins as a new one.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default, Serialize, Deserialize)]
pub struct NodeId(pub u64);

/// A text that is no node's id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no node's id: 16 hexadecimal digits; `edgeway node list` names them")]
pub struct NodeIdError(pub String);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl FromStr for NodeId {
    type Err = NodeIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.len() == 16 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let parsed = digits.then(|| u64::from_str_radix(text, 16).ok()).flatten();
        parsed.map(NodeId).ok_or_else(|| NodeIdError(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_from_its_text() {
        let id = NodeId(0x0a);
        assert_eq!(id.to_string(), "000000000000000a");
        assert_eq!(id.to_string().parse(), Ok(id));
        for text in ["", "a", "+00000000000000a", "zz00000000000000"] {
            assert_eq!(text.parse::<NodeId>(), Err(NodeIdError(text.to_owned())));
        }
    }
}
