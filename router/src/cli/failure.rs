//! How a command ends: exit codes that mean something, and errors that say what to do.

use std::io;
use std::process::ExitCode;

use serde_json::json;

/// What the process's exit code means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Done.
    Done = 0,
    /// Failed.
    Failed = 1,
    /// The command line or the configuration is wrong.
    Usage = 2,
    /// No node answers.
    Unreachable = 3,
    /// What was named does not exist.
    NotFound = 4,
    /// The store is damaged.
    Damaged = 6,
    /// The node refused the token.
    Refused = 7,
    /// A device command was tried and not done.
    CommandFailed = 10,
    /// The device refused a command.
    CommandRejected = 11,
    /// A device did not do a command in time.
    CommandTimedOut = 12,
    /// Nobody knows whether a command arrived.
    CommandUnknown = 13,
    /// A command was not sent in time.
    CommandExpired = 14,
    /// A command was called off.
    CommandCancelled = 15,
    /// A newer command took its place.
    CommandSuperseded = 16,
    /// The node would not send a command: no room, or a guard forbade it.
    CommandRefused = 17,
}

impl Exit {
    /// Every code, for the help and its test.
    pub const ALL: [Self; 15] = [
        Self::Done,
        Self::Failed,
        Self::Usage,
        Self::Unreachable,
        Self::NotFound,
        Self::Damaged,
        Self::Refused,
        Self::CommandFailed,
        Self::CommandRejected,
        Self::CommandTimedOut,
        Self::CommandUnknown,
        Self::CommandExpired,
        Self::CommandCancelled,
        Self::CommandSuperseded,
        Self::CommandRefused,
    ];

    /// What the end of a device command means; done where it succeeded or has not ended.
    pub fn of_command(state: devices::command::State) -> Self {
        use devices::command::State;
        match state {
            State::Failed => Self::CommandFailed,
            State::Rejected => Self::CommandRejected,
            State::TimedOut => Self::CommandTimedOut,
            State::Unknown => Self::CommandUnknown,
            State::Expired => Self::CommandExpired,
            State::Cancelled => Self::CommandCancelled,
            State::Superseded => Self::CommandSuperseded,
            State::Refused => Self::CommandRefused,
            _ => Self::Done,
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::Usage => "usage",
            Self::Unreachable => "unreachable",
            Self::NotFound => "not_found",
            Self::Damaged => "damaged",
            Self::Refused => "refused",
            Self::CommandFailed => "command_failed",
            Self::CommandRejected => "command_rejected",
            Self::CommandTimedOut => "command_timed_out",
            Self::CommandUnknown => "command_unknown",
            Self::CommandExpired => "command_expired",
            Self::CommandCancelled => "command_cancelled",
            Self::CommandSuperseded => "command_superseded",
            Self::CommandRefused => "command_refused",
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Why a command did not do what was meant.
#[derive(Debug)]
pub enum Failure {
    /// Something to tell people.
    Told {
        /// The exit code.
        exit: Exit,
        /// What happened, and to what.
        what: String,
        /// What to do about it; may be empty.
        hint: String,
        /// What it is about, for programs: the id of a command or job that goes on; may be empty.
        id: String,
        /// The word that the node has for it, such as `no-majority`; may be empty.
        code: String,
    },
    /// Everything was told on standard output already.
    Shown(Exit),
    /// Nobody reads our output any more, as with `| head`. No mistake.
    PipeClosed,
}

impl Failure {
    /// A failure to tell people.
    pub fn new(exit: Exit, what: impl Into<String>) -> Self {
        Self::Told { exit, what: what.into(), hint: String::new(), id: String::new(), code: String::new() }
    }

    /// Adds what to do about it.
    #[must_use]
    pub fn hint(self, text: impl Into<String>) -> Self {
        match self {
            Self::Told { exit, what, id, code, .. } => Self::Told { exit, what, hint: text.into(), id, code },
            other => other,
        }
    }

    /// Names what goes on all the same.
    #[must_use]
    pub fn about(self, name: &str) -> Self {
        match self {
            Self::Told { exit, what, hint, code, .. } => Self::Told { exit, what, hint, id: name.to_owned(), code },
            other => other,
        }
    }

    /// Adds the word that the node has for it.
    #[must_use]
    pub fn coded(self, word: impl Into<String>) -> Self {
        match self {
            Self::Told { exit, what, hint, id, .. } => Self::Told { exit, what, hint, id, code: word.into() },
            other => other,
        }
    }

    /// The command line or a file named there is wrong.
    pub fn usage(what: impl Into<String>) -> Self {
        Self::new(Exit::Usage, what)
    }

    /// Tells people on standard error, and gives the exit code.
    pub fn report(self, as_json: bool) -> ExitCode {
        match self {
            Self::PipeClosed => Exit::Done.into(),
            Self::Shown(exit) => exit.into(),
            Self::Told { exit, what, hint, id, code } => {
                if as_json {
                    let mut error = json!({"error": {"code": exit.word(), "message": what, "hint": hint}});
                    if !code.is_empty() {
                        error["error"]["reason"] = code.into();
                    }
                    if !id.is_empty() {
                        error["error"]["id"] = id.into();
                    }
                    eprintln!("{error}");
                } else {
                    eprintln!("error: {}", with_code(&what, &code));
                    if !hint.is_empty() {
                        eprintln!("hint: {hint}");
                    }
                }
                exit.into()
            }
        }
    }
}

/// Words that say no more than the message does.
const PLAIN_CODES: [&str; 5] = ["bad_request", "not_found", "conflict", "unavailable", "internal"];

/// The message, and the word by which `docs/troubles.md` can be searched.
fn with_code(what: &str, code: &str) -> String {
    if code.is_empty() || PLAIN_CODES.contains(&code) { what.to_owned() } else { format!("{what} ({code})") }
}

impl From<io::Error> for Failure {
    /// An error of writing our output.
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            return Self::PipeClosed;
        }
        Self::new(Exit::Failed, format!("the output cannot be written: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_of_the_nodes_is_told_where_it_says_more() {
        for (code, told) in [("no-majority", "it is so (no-majority)"), ("not_found", "it is so"), ("", "it is so")] {
            assert_eq!(with_code("it is so", code), told);
        }
        let Failure::Told { code, hint, .. } = Failure::usage("x").coded("no-site").hint("look") else { panic!() };
        assert_eq!((code.as_str(), hint.as_str()), ("no-site", "look"));
    }
}
