//! What a job is started with, and where it can be.

use std::fmt;
use std::str::FromStr;

use devices::command::{CommandId, State};
use serde::{Deserialize, Serialize};

use crate::commands::NewCommand;

/// Every outcome; a place in this list, from 1, is what is stored. Frozen.
pub(super) const OUTCOMES: [State; 9] = [
    State::Succeeded,
    State::Failed,
    State::Rejected,
    State::Expired,
    State::Unknown,
    State::TimedOut,
    State::Refused,
    State::Cancelled,
    State::Superseded,
];

/// Where a job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// It submits commands.
    Running,
    /// It submits none until somebody lets it go on; what it has submitted goes on.
    Paused,
    /// Somebody stopped it: what was not sent is called off.
    Cancelled,
    /// It stopped by itself, as too many commands did not succeed: what was not sent is called off.
    Aborted,
    /// Every command has ended.
    Done,
}

impl JobState {
    /// The name used in events, CLI and API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Cancelled => "cancelled",
            Self::Aborted => "aborted",
            Self::Done => "done",
        }
    }

    /// Whether it submits commands, or may yet.
    pub fn is_open(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

/// How many commands may end otherwise than succeeded; with more, the job is aborted. Written `7` or `10%`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum AbortAbove {
    /// So many.
    Count(u32),
    /// This share of those that have ended, in percent, once there are ten.
    Percent(u8),
}

/// A text that is neither a number nor a share.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("expected a number of commands such as 5, or a share of those that have ended such as 10%")]
pub struct ParseAbortError;

impl FromStr for AbortAbove {
    type Err = ParseAbortError;

    fn from_str(text: &str) -> Result<Self, ParseAbortError> {
        match text.strip_suffix('%') {
            Some(percent) => percent.parse().ok().filter(|percent| *percent <= 100).map(Self::Percent),
            None => text.parse().ok().map(Self::Count),
        }
        .ok_or(ParseAbortError)
    }
}

impl TryFrom<String> for AbortAbove {
    type Error = ParseAbortError;

    fn try_from(text: String) -> Result<Self, ParseAbortError> {
        text.parse()
    }
}

impl From<AbortAbove> for String {
    fn from(above: AbortAbove) -> Self {
        above.to_string()
    }
}

impl fmt::Display for AbortAbove {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Count(count) => write!(f, "{count}"),
            Self::Percent(percent) => write!(f, "{percent}%"),
        }
    }
}

/// What a job was started with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Given {
    pub(super) id: CommandId,
    pub(super) filter: String,
    /// The command; it names no device, and its idempotency key is the job's.
    pub(super) command: NewCommand,
    /// Commands a second.
    pub(super) rate: u32,
    pub(super) abort_above: Option<AbortAbove>,
    /// How many targets there are.
    pub(super) total: u32,
    pub(super) at_ms: u64,
}

/// What changes of a job, besides its outcomes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Moving {
    pub(super) state: JobState,
    /// The place of the target that is next.
    pub(super) next: u32,
    /// When it came to its state, in milliseconds since 1970.
    pub(super) changed_ms: u64,
    /// Who brought it there.
    pub(super) by: String,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn bounds_are_read_as_they_are_written() {
        for (text, above) in
            [("0", AbortAbove::Count(0)), ("5", AbortAbove::Count(5)), ("10%", AbortAbove::Percent(10))]
        {
            assert_eq!(text.parse(), Ok(above));
            assert_eq!(serde_json::to_value(above).unwrap(), text);
            assert_eq!(serde_json::from_value::<AbortAbove>(text.into()).unwrap(), above);
        }
        for text in ["", "%", "101%", "-1", "1.5%", "ten", "5 %"] {
            assert_eq!(text.parse::<AbortAbove>(), Err(ParseAbortError), "{text}");
        }
    }

    #[test]
    fn every_outcome_has_its_place() {
        let outcomes: Vec<State> = State::ALL.into_iter().filter(|state| state.is_outcome()).collect();
        assert_eq!(outcomes, OUTCOMES);
    }
}
