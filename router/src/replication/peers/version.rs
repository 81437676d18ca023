//! Which protocol two nodes speak, or which of them has to be upgraded (pure).
//!
//! A protocol's number is the site's level as well: what its nodes write. Once a site is at a level, none of its nodes
//! speaks a lower protocol any more.

use std::fmt;
use std::sync::atomic::{AtomicU16, Ordering};

/// The lowest protocol that this program speaks.
pub const PROTOCOL_MIN: u16 = 1;
/// The highest protocol that this program speaks.
pub const PROTOCOL_MAX: u16 = 4;
/// Protocols of another node that are looked at.
pub const PROTOCOLS_MAX: usize = 16;

/// What a node speaks: from the lowest protocol that its site allows to its own highest.
#[derive(Debug)]
pub struct Spoken {
    lowest: AtomicU16,
    highest: u16,
}

impl Spoken {
    /// All protocols of this program up to one.
    pub fn up_to(highest: u16) -> Self {
        Self { lowest: AtomicU16::new(PROTOCOL_MIN), highest: highest.clamp(PROTOCOL_MIN, PROTOCOL_MAX) }
    }

    /// The site works at a level: what is below it is spoken no more. It never falls.
    pub fn raise(&self, level: u16) {
        self.lowest.fetch_max(level, Ordering::AcqRel);
    }

    /// The highest.
    pub fn highest(&self) -> u16 {
        self.highest
    }

    /// All of them; none where the site is above this node.
    pub fn protocols(&self) -> Vec<u16> {
        (self.lowest.load(Ordering::Acquire)..=self.highest).collect()
    }
}

impl Default for Spoken {
    fn default() -> Self {
        Self::up_to(PROTOCOL_MAX)
    }
}

/// One of two nodes that want to speak with each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Speaker {
    /// What people call it, or its id.
    pub name: String,
    /// The version of its program.
    pub program: String,
    /// The protocols that it speaks.
    pub protocols: Vec<u16>,
}

/// Two nodes have no protocol in common: which they are, what they speak, and which of them is to be upgraded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct VersionGap(String);

impl VersionGap {
    fn of(older: &Speaker, newer: &Speaker) -> Self {
        Self(format!("{older} and {newer} have no protocol in common: upgrade {}", older.name))
    }
}

impl fmt::Display for Speaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (edgeway {}, protocols {:?})", self.name, self.program, self.protocols)
    }
}

/// The highest protocol that both speak.
///
/// # Errors
/// Which of the two is to be upgraded: the one whose highest protocol is the lower.
pub fn agree(near: &Speaker, far: &Speaker) -> Result<u16, VersionGap> {
    let both = near.protocols.iter().filter(|protocol| far.protocols.contains(protocol));
    let is_near_older = near.protocols.iter().max() < far.protocols.iter().max();
    let gap = || if is_near_older { VersionGap::of(near, far) } else { VersionGap::of(far, near) };
    both.max().copied().ok_or_else(gap)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Case = (&'static [u16], &'static [u16], Result<u16, &'static str>);

    fn speaker(name: &str, protocols: &[u16]) -> Speaker {
        Speaker { name: name.to_owned(), program: "0.1.0".to_owned(), protocols: protocols.to_vec() }
    }

    #[test]
    fn a_site_leaves_protocols_behind() {
        let spoken = Spoken::default();
        assert_eq!(spoken.protocols(), [1, 2, 3, 4]);
        spoken.raise(2);
        spoken.raise(1);
        assert_eq!((spoken.protocols(), spoken.highest()), (vec![2, 3, 4], 4));
        let held_back = Spoken::up_to(1);
        assert_eq!(held_back.protocols(), [1]);
        let (new, old) = (speaker("new", &spoken.protocols()), speaker("old", &held_back.protocols()));
        assert!(agree(&new, &old).unwrap_err().to_string().ends_with("upgrade old"));
        held_back.raise(2);
        assert_eq!(held_back.protocols(), [0; 0]);
        assert_eq!(Spoken::up_to(900).highest(), PROTOCOL_MAX);
    }

    #[test]
    fn the_highest_in_common_is_taken_and_the_older_is_told_to_upgrade() {
        // (near, far, what they speak or who is to be upgraded)
        let cases: [Case; 7] = [
            (&[1], &[1], Ok(1)),
            (&[1, 2], &[2, 3], Ok(2)),
            (&[1, 2, 3], &[3, 2, 1], Ok(3)),
            (&[1], &[2, 3], Err("upgrade near")),
            (&[4, 5], &[2, 3], Err("upgrade far")),
            (&[1], &[], Err("upgrade far")),
            (&[], &[1], Err("upgrade near")),
        ];
        for (near, far, expected) in cases {
            match (agree(&speaker("near", near), &speaker("far", far)), expected) {
                (Ok(spoken), Ok(expected)) => assert_eq!(spoken, expected),
                (Err(gap), Err(says)) => assert!(gap.to_string().ends_with(says), "{gap}"),
                (found, _) => panic!("{near:?} and {far:?}: {found:?}"),
            }
        }
    }
}
