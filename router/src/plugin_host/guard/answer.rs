//! From what a guest said to what counts: pure.

use devices::command::PAYLOAD_BYTES_MAX;

use super::bindings::exports::edgeway::plugin::guard::Verdict;

/// A reason is cut to this many bytes.
pub const REASON_BYTES_MAX: usize = 256;

/// What one guard says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It may go.
    Allow,
    /// It must not go, and why.
    Deny(String),
    /// It may go with this payload.
    Rewrite(Vec<u8>),
}

impl Answer {
    /// Takes the guest's word, within bounds.
    ///
    /// # Errors
    /// The payload's bytes, where they are more than a command can have.
    pub fn of(verdict: Verdict) -> Result<Answer, usize> {
        match verdict {
            Verdict::Allow => Ok(Answer::Allow),
            Verdict::Deny(reason) => Ok(Answer::Deny(cut(reason))),
            Verdict::Rewrite(payload) if payload.len() > PAYLOAD_BYTES_MAX => Err(payload.len()),
            Verdict::Rewrite(payload) => Ok(Answer::Rewrite(payload)),
        }
    }
}

/// A reason as it is handed on.
pub fn cut(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
    reason
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_hold() {
        assert_eq!(Answer::of(Verdict::Allow), Ok(Answer::Allow));
        let long = format!("x{}", "é".repeat(200));
        let Ok(Answer::Deny(reason)) = Answer::of(Verdict::Deny(long.clone())) else { panic!("denied") };
        assert_eq!(reason, long[..255], "cut between two characters");
        let most = vec![7; PAYLOAD_BYTES_MAX];
        assert_eq!(Answer::of(Verdict::Rewrite(most.clone())), Ok(Answer::Rewrite(most)));
        assert_eq!(Answer::of(Verdict::Rewrite(vec![7; PAYLOAD_BYTES_MAX + 1])), Err(PAYLOAD_BYTES_MAX + 1));
    }
}
