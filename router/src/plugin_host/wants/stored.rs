//! What is stored of what a site is to have of one plugin.

use serde::{Deserialize, Serialize};
use sled_data::STATE_VALUE_BYTES_MAX;

use super::super::WASM_BYTES_MAX;

/// The version byte before a value.
const VERSION: u8 = 1;
/// Bytes of a manifest, as the catalog of a site takes it.
pub const MANIFEST_BYTES_MAX: usize = 48 << 10;
/// Answers that are kept of one plugin: as many as a link may have gateways, and that it is gone.
pub const ANSWERS_MAX: usize = 33;
/// The gateway, which none is, whose answer says that a plugin is gone: all that were to be told have answered, or none is left.
pub const NOBODY: u64 = 0;
/// The code of that answer where the site's link is gone: no gateway is told.
pub const UNLINKED: &str = "unlinked";
/// Bytes of a text of an answer, and of who wants a plugin.
pub const TEXT_BYTES_MAX: usize = 128;
/// Bytes of the names of a site and of a plugin.
const NAME_BYTES_MAX: usize = 128;
/// Bytes of the numbers and lengths of an answer, and of all else that is kept of a plugin.
const ANSWER_HEAD_BYTES_MAX: usize = 32;
const HEAD_BYTES_MAX: usize = 128;

const _: () = assert!(
    MANIFEST_BYTES_MAX + TEXT_BYTES_MAX + HEAD_BYTES_MAX + ANSWERS_MAX * (2 * TEXT_BYTES_MAX + ANSWER_HEAD_BYTES_MAX)
        <= STATE_VALUE_BYTES_MAX
);

/// What a site is to have of one plugin. Frozen: another shape is another version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantV1 {
    /// What tells it from what was wanted before: the higher one counts.
    pub number: u64,
    /// The manifest, as TOML; empty where it is to be removed.
    pub manifest: String,
    /// SHA-256 of the component.
    pub sha256: [u8; 32],
    /// Its length in bytes; 0: the plugin is to be removed.
    pub bytes: u64,
    /// When that was said, Unix milliseconds.
    pub given_ms: i64,
    /// Who said it.
    pub who: String,
    /// What gateways have answered for good.
    pub answers: Vec<AnswerV1>,
}

/// What a gateway has answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AnswerV1 {
    /// The gateway, by its id here, or [`NOBODY`].
    pub gateway: u64,
    /// The code of its refusal; empty: it was done.
    pub code: String,
    /// Why, for people.
    pub text: String,
    /// When, Unix milliseconds.
    pub at_ms: i64,
}

/// A text, cut to what is kept.
pub fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned()
}

impl WantV1 {
    /// As it is stored, and said to other nodes.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![VERSION]).unwrap_or_default()
    }

    /// Reads it; `None` where it is of another version, or damaged.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let (&VERSION, rest) = bytes.split_first()? else { return None };
        match postcard::take_from_bytes(rest).ok()? {
            (want, []) => Some(want),
            _ => None,
        }
    }

    /// The note of a plugin that is gone with its site's link.
    pub fn unlinked(number: u64, at_ms: i64) -> Self {
        let answer = AnswerV1 { gateway: NOBODY, code: UNLINKED.to_owned(), text: String::new(), at_ms };
        Self {
            number,
            manifest: String::new(),
            sha256: [0; 32],
            bytes: 0,
            given_ms: at_ms,
            who: String::new(),
            answers: vec![answer],
        }
    }

    fn end(&self) -> Option<&AnswerV1> {
        self.answers.iter().find(|answer| self.bytes == 0 && answer.gateway == NOBODY)
    }

    /// Whether the plugin was removed, and nobody is waited for: it is kept as what says so to who does not know, and is none for people.
    pub fn is_gone(&self) -> bool {
        self.end().is_some()
    }

    /// Whether it is gone with the site's link.
    pub fn is_unlinked(&self) -> bool {
        self.end().is_some_and(|answer| answer.code == UNLINKED)
    }

    /// Whether the plugin is to be removed, and all of these gateways have answered, at least one.
    pub fn is_answered_by(&self, gateways: &[u64]) -> bool {
        let has_answered = |of: &u64| self.answers.iter().any(|answer| answer.gateway == *of);
        self.bytes == 0 && !self.answers.is_empty() && gateways.iter().all(has_answered)
    }

    /// Whether another node can have meant it.
    pub fn is_sound(&self) -> bool {
        let is_answer = |answer: &AnswerV1| answer.code.len() <= TEXT_BYTES_MAX && answer.text.len() <= TEXT_BYTES_MAX;
        self.manifest.len() <= MANIFEST_BYTES_MAX
            && self.bytes <= WASM_BYTES_MAX as u64
            && self.manifest.is_empty() == (self.bytes == 0)
            && self.who.len() <= TEXT_BYTES_MAX
            && self.answers.len() <= ANSWERS_MAX
            && self.answers.iter().all(is_answer)
    }
}

/// Whether it can be the name of a site, or of a plugin.
pub fn is_name(name: &str) -> bool {
    (1..=NAME_BYTES_MAX).contains(&name.len()) && !name.as_bytes().contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_has_these_bytes() {
        let answers = vec![AnswerV1 { gateway: 5, code: "c".into(), text: "t".into(), at_ms: 2 }];
        let (manifest, who) = ("m".into(), "w".into());
        let want = WantV1 { number: 3, manifest, sha256: [7; 32], bytes: 300, given_ms: 1, who, answers };
        let golden = [&b"\x01\x03\x01m"[..], &[7; 32], b"\xac\x02\x02\x01w\x01\x05\x01c\x01t\x04"].concat();
        assert_eq!(want.encode(), golden);
        assert_eq!(WantV1::decode(&golden), Some(want));
        let wrong = [&golden[..golden.len() - 1], b"\x02", b""];
        assert_eq!(wrong.map(WantV1::decode), [None, None, None]);
    }

    #[test]
    fn what_no_node_can_mean_is_not_sound() {
        let answer = AnswerV1 { gateway: 5, code: "c".into(), text: "t".into(), at_ms: 2 };
        let (manifest, who) = (String::from("m"), String::from("w"));
        let want = WantV1 { number: 3, manifest, sha256: [7; 32], bytes: 300, given_ms: 1, who, answers: vec![] };
        let gone = WantV1 { manifest: String::new(), bytes: 0, ..want.clone() };
        assert!(want.is_sound() && gone.is_sound() && !gone.is_gone());
        let answered = WantV1 { answers: vec![answer.clone()], ..gone.clone() };
        assert!(answered.is_sound() && !answered.is_gone(), "other gateways may be about to deploy it");
        assert!(answered.is_answered_by(&[5]) && !answered.is_answered_by(&[5, 6]) && !gone.is_answered_by(&[]));
        let over =
            WantV1 { answers: vec![AnswerV1 { gateway: NOBODY, code: String::new(), ..answer.clone() }], ..gone };
        assert!(over.is_sound() && over.is_gone() && !over.is_unlinked());
        let unlinked = WantV1::unlinked(4, 9);
        assert!(unlinked.is_sound() && unlinked.is_gone() && unlinked.is_unlinked());
        for wrong in [
            WantV1 { manifest: String::new(), ..want.clone() },
            WantV1 { bytes: 0, ..want.clone() },
            WantV1 { bytes: u64::MAX, ..want.clone() },
            WantV1 { who: "x".repeat(TEXT_BYTES_MAX + 1), ..want.clone() },
            WantV1 { manifest: "x".repeat(MANIFEST_BYTES_MAX + 1), ..want.clone() },
            WantV1 { answers: vec![answer.clone(); ANSWERS_MAX + 1], ..want.clone() },
            WantV1 { answers: vec![AnswerV1 { text: "x".repeat(TEXT_BYTES_MAX + 1), ..answer }], ..want },
        ] {
            assert!(!wrong.is_sound(), "{wrong:?}");
        }
        for (name, is_one) in [("plant", true), ("", false), ("a\0b", false)] {
            assert_eq!(is_name(name), is_one, "{name:?}");
        }
        assert!(!is_name(&"x".repeat(NAME_BYTES_MAX + 1)));
    }
}
