//! What the nodes of a site say to each other of a call-off (pure): a version byte, then postcard.

use devices::command::{CommandId, Refusal, State};

use super::table::CancelError;

/// The version byte; others are those of submissions, hand-overs and gateways.
pub(super) const VERSION: u8 = 6;

/// What is asked: a command, and who calls it off.
pub(super) fn request(id: CommandId, by: &str) -> Vec<u8> {
    postcard::to_extend(&(id.as_bytes(), by), vec![VERSION]).unwrap_or_default()
}

/// Reads it.
pub(super) fn asked(request: &[u8]) -> Option<(CommandId, String)> {
    let (id, by): ([u8; 16], String) = postcard::from_bytes(request.strip_prefix(&[VERSION])?).ok()?;
    Some((CommandId::from_bytes(id), by))
}

/// What the node that has the command says; one that has not says nothing.
pub(super) fn encode(told: Result<State, CancelError>) -> Vec<u8> {
    let word = match told {
        Ok(state) => state.as_str(),
        Err(CancelError::Asked) => ASKED,
        Err(CancelError::Refused(refusal)) => refusal.code(),
        Err(CancelError::NoCommand) => return Vec::new(),
    };
    [&[VERSION][..], word.as_bytes()].concat()
}

/// The word for one that a linked site is asked about.
const ASKED: &str = "asked";

/// Reads it; `None` where that node does not have it.
pub(super) fn decode(answer: &[u8]) -> Option<Result<State, CancelError>> {
    let word = std::str::from_utf8(answer.strip_prefix(&[VERSION])?).ok()?;
    let refused = [Refusal::AlreadySent, Refusal::AlreadyEnded].into_iter().find(|refusal| refusal.code() == word);
    match (State::from_name(word), refused) {
        (Some(state), _) => Some(Ok(state)),
        (None, Some(refusal)) => Some(Err(CancelError::Refused(refusal))),
        (None, None) => (word == ASKED).then_some(Err(CancelError::Asked)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn call_offs_have_these_bytes() {
        let id = CommandId::from_bytes([7; 16]);
        let golden = [&[6][..], &[7; 16], b"\x03cli"].concat();
        assert_eq!((request(id, "cli"), asked(&golden)), (golden.clone(), Some((id, "cli".to_owned()))));
        assert_eq!(asked(&golden[..9]), None);
        for (told, word) in [
            (Ok(State::Cancelled), "cancelled"),
            (Ok(State::Unknown), "unknown"),
            (Err(CancelError::Asked), "asked"),
            (Err(CancelError::Refused(Refusal::AlreadySent)), "already-sent"),
            (Err(CancelError::Refused(Refusal::AlreadyEnded)), "already-ended"),
        ] {
            let bytes = [&[6][..], word.as_bytes()].concat();
            assert_eq!((encode(told), decode(&bytes)), (bytes.clone(), Some(told)), "{word}");
        }
        assert!(encode(Err(CancelError::NoCommand)).is_empty() && decode(&[]).is_none() && decode(b"\x06?").is_none());
    }
}
