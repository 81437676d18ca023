//! What nodes of a site say to each other of what sites below are to have of plugins (pure): a version byte 1, what it is, and postcard.

use serde::{Deserialize, Serialize};

use crate::plugin_host::{ENTRIES_AT_ONCE_MAX, Known};

/// The version that is spoken.
const VERSION: u8 = 1;

/// What another node is asked. Frozen: another shape is another version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ask {
    /// What it knows, in short, unless that is what was known of it at this revision.
    Known(u64),
    /// What it knows of these, at most [`ENTRIES_AT_ONCE_MAX`]: site and plugin.
    Entries(Vec<(String, String)>),
    /// Something has changed here: it is to ask, and answers when it knows.
    Look,
}

/// What it answers. Frozen as well.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// Nothing else than at that revision; or it knows.
    Same,
    /// All, in short.
    Known(Known),
    /// Site, plugin, and what is stored of it.
    Entries(Vec<(String, String, Vec<u8>)>),
}

impl Ask {
    /// The question.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![VERSION]).unwrap_or_default()
    }

    /// Reads one; `None` where it is none.
    pub fn decode(body: &[u8]) -> Option<Self> {
        read(body).filter(|ask| !matches!(ask, Self::Entries(all) if all.len() > ENTRIES_AT_ONCE_MAX))
    }
}

impl Answer {
    /// The answer.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![VERSION]).unwrap_or_default()
    }

    /// Reads one; `None` where it is none.
    pub fn decode(body: &[u8]) -> Option<Self> {
        read(body)
    }
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Option<T> {
    let (&VERSION, rest) = body.split_first()? else { return None };
    match postcard::take_from_bytes(rest).ok()? {
        (read, []) => Some(read),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plugin_host::Head;

    #[test]
    fn questions_and_answers_have_these_bytes() {
        let of = || ("s".to_owned(), "p".to_owned());
        let asks = [
            (Ask::Known(300), b"\x01\x00\xac\x02".to_vec()),
            (Ask::Entries(vec![of()]), b"\x01\x01\x01\x01s\x01p".to_vec()),
            (Ask::Look, b"\x01\x02".to_vec()),
        ];
        for (ask, golden) in asks {
            assert_eq!(ask.encode(), golden);
            assert_eq!(Ask::decode(&golden), Some(ask));
        }
        let heads = vec![Head { site: "s".into(), name: "p".into(), digest: 7 }];
        let answers = [
            (Answer::Same, b"\x01\x00".to_vec()),
            (Answer::Known(Known { revision: 300, heads }), b"\x01\x01\xac\x02\x01\x01s\x01p\x07".to_vec()),
            (Answer::Entries(vec![("s".into(), "p".into(), vec![9])]), b"\x01\x02\x01\x01s\x01p\x01\x09".to_vec()),
        ];
        for (answer, golden) in answers {
            assert_eq!(answer.encode(), golden);
            assert_eq!(Answer::decode(&golden), Some(answer));
        }
        let many = Ask::Entries(vec![of(); ENTRIES_AT_ONCE_MAX + 1]).encode();
        for wrong in [&many[..], b"\x02\x00\x00", b"\x01\x00\x00\x00", b"\x01", b""] {
            assert_eq!(Ask::decode(wrong), None, "{wrong:?}");
        }
    }
}
