//! The level of the site: which changes all its nodes know. Pure.
//!
//! Kinds of changes come with new versions of the program, and some come to more than they did. A node that does not
//! know a change could not follow the others any more. So a site has a level, which rises when all of its nodes speak
//! it, and nothing above it is written. It is the number of the site's protocol as well.

use super::change::Change;
use super::encoding::{decode, encode};
use super::refusal::Class;
use super::state::State;
use super::write::Write;

/// The level of a site where nothing says another: the first one.
pub const LEVEL_MIN: u16 = 1;
/// The highest level that this program knows. 2: routing rules, changed grants, what is forgotten. 3: which sites feed this one.
/// 4: no node goes whose log nobody who stays reads on.
pub const LEVEL_MAX: u16 = 4;
/// The version byte before the stored level.
const VERSION: u8 = 1;

/// Why a change of the level was refused, or another one for the sake of it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LevelRefusal {
    /// The site is not so far.
    #[error(
        "the site works at level {level} and this needs {needs}: upgrade all of its nodes (`edgeway node list` tells \
         their versions), and try again when they are all there"
    )]
    TooLow {
        /// The level of the site.
        level: u16,
        /// The level that is needed.
        needs: u16,
    },
    /// It is there already, or above.
    #[error("the site works at level {0} already; a level never falls")]
    NotAbove(u16),
}

impl LevelRefusal {
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::TooLow { .. } => "site-not-upgraded",
            Self::NotAbove(_) => "stale-level",
        }
    }

    pub(super) fn class(&self) -> Class {
        Class::Conflict
    }
}

impl Change {
    /// The lowest level at which it is known.
    pub(super) fn needs(&self) -> u16 {
        match self {
            Self::SetRoute { .. }
            | Self::DeleteRoute { .. }
            | Self::GrantPlugin { .. }
            | Self::ForgetOrigin { .. }
            | Self::ForgetAssignments { .. } => 2,
            Self::InviteLink { .. } | Self::AcceptLink { .. } | Self::RemoveLink { .. } | Self::ImportLink { .. } => 3,
            // It brings the level that it needs.
            Self::RaiseLevel { to } => *to,
            Self::AddDevice { .. }
            | Self::RemoveDevice { .. }
            | Self::SetTags { .. }
            | Self::SetAttributes { .. }
            | Self::AddMember(_)
            | Self::UpdateMember { .. }
            | Self::RemoveMember { .. }
            | Self::IssueToken { .. }
            | Self::UseToken { .. }
            | Self::CreateTopic { .. }
            | Self::SetTopic { .. }
            | Self::DeleteTopic { .. }
            | Self::SetAssignment { .. }
            | Self::TakeOver { .. }
            | Self::SetSite(_)
            | Self::GiveBack { .. }
            | Self::DeployPlugin(_)
            | Self::RemovePlugin { .. } => LEVEL_MIN,
        }
    }
}

pub(super) fn encode_level(level: u16) -> Vec<u8> {
    encode(VERSION, &level)
}

pub(super) fn decode_level(bytes: &[u8]) -> Option<u16> {
    decode(VERSION, bytes)
}

/// Whether a change can be at the site's level.
pub(super) fn check(state: &State, change: &Change) -> Result<(), LevelRefusal> {
    let (level, needs) = (state.level(), change.needs());
    if level < needs && !matches!(change, Change::RaiseLevel { .. }) {
        return Err(LevelRefusal::TooLow { level, needs });
    }
    Ok(())
}

pub(super) fn judge_raise(state: &State, to: u16) -> Result<Vec<Write>, LevelRefusal> {
    if to <= state.level() { Err(LevelRefusal::NotAbove(state.level())) } else { Ok(vec![Write::Level(to)]) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_level_has_these_bytes() {
        assert_eq!(encode_level(2), [1, 2]);
        assert_eq!(decode_level(&[1, 2]), Some(2));
        assert_eq!(decode_level(&[2, 2]), None);
        assert_eq!(Write::decode(b"level", &[1, 2]), Some(Write::Level(2)));
    }

    #[test]
    fn a_level_rises_alone() {
        let mut state = State::default();
        assert_eq!(state.level(), LEVEL_MIN);
        assert_eq!(judge_raise(&state, 1), Err(LevelRefusal::NotAbove(1)));
        for write in judge_raise(&state, 3).unwrap() {
            state.apply(&write);
        }
        assert_eq!(state.level(), 3);
        assert_eq!(judge_raise(&state, 2), Err(LevelRefusal::NotAbove(3)));
    }

    #[test]
    fn what_the_site_does_not_know_is_not_written() {
        let mut state = State::default();
        let change = Change::DeleteRoute { name: "a".into() };
        assert_eq!(check(&state, &change), Err(LevelRefusal::TooLow { level: 1, needs: 2 }));
        assert_eq!(check(&state, &Change::RaiseLevel { to: 2 }), Ok(()));
        state.apply(&Write::Level(2));
        assert_eq!(check(&state, &change), Ok(()));
    }
}
