//! What is written of a command that goes from one node to another.

use serde::{Deserialize, Serialize};

use super::State;

/// The life that a node writes, as 16 hexadecimal digits: programs that read JSON lose digits of such a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OriginHex(pub u64);

impl std::fmt::Display for OriginHex {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for OriginHex {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for OriginHex {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        u64::from_str_radix(&text, 16).map(Self).map_err(serde::de::Error::custom)
    }
}

/// How often a node may hand a command over without anybody knowing but who takes it: each time has a term of its own. Who takes up what a lost node
/// has left has a term above all of them.
pub const UNSEEN_TERMS: u64 = 1 << 20;

/// What a node knows of a command that it has from another one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    /// The life of the node that had it before.
    pub from: OriginHex,
    /// Each next node that has it, has it under a higher term: of two outcomes the one of the higher term counts.
    pub term: u64,
    /// How often it was sent before.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub attempts: u32,
    /// Whether the device may have it from there.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub may_have_arrived: bool,
    /// Client ids that it was sent to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clients: Vec<String>,
    /// Where the device was with it; absent: it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub with_device: Option<State>,
    /// It must not be sent again, and the device may have it: it ends at once.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_over: bool,
    /// The gateway of a linked site that may have it, and remembers what it has: it alone is asked about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<OriginHex>,
    /// Who had called it off, where that gateway had not answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub called_off: Option<String>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}
