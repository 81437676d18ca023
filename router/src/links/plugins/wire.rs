//! What the two ends say of plugins on a stream of their own (pure): a kind byte, and postcard.

use serde::{Deserialize, Serialize};

use super::super::wire::{WireError, body, with_body};

/// Of the edge's frames, and of upstream's.
const FROM_EDGE: u8 = 13;
const FROM_UPSTREAM: u8 = 27;
/// The version of a wish.
pub const VERSION: u8 = 1;
/// Bytes of a part of a component.
pub const PART_BYTES_MAX: usize = 64 << 10;
/// Bytes of a manifest, as the catalog of a site takes it.
pub const MANIFEST_BYTES_MAX: usize = 48 << 10;
/// Bytes of a component.
pub const COMPONENT_BYTES_MAX: u64 = 64 << 20;
/// Bytes of a name.
const NAME_BYTES_MAX: usize = 64;
/// Bytes of a code or a text.
const TEXT_BYTES_MAX: usize = 512;
/// Bytes of a frame either way.
pub const FRAME_BYTES_MAX: usize = PART_BYTES_MAX + 256;

/// From the edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromEdge {
    /// The first frame: the version, and bytes a second that may be sent at most; 0 sets no bound.
    Wish(u8, u64),
    /// A part of what is wanted under this number, from an offset on.
    Need(u64, u64),
    /// What has come of it.
    Done(u64, Outcome),
}

/// From upstream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum FromUpstream {
    /// What is wanted next.
    Wanted(Wanted),
    /// A part: its offset, and the bytes; none: it is not there any more.
    Part(u64, Vec<u8>),
}

/// What a site is to have of one plugin. Frozen: another shape is another version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wanted {
    /// The plugin's name.
    pub name: String,
    /// What tells this from what was wanted of it before.
    pub number: u64,
    /// What it is to be; `None`: it is to be removed.
    pub component: Option<WantedComponent>,
}

/// A component and its manifest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedComponent {
    /// The manifest, as TOML.
    pub manifest: String,
    /// SHA-256 of the component.
    pub sha256: [u8; 32],
    /// Its length in bytes.
    pub bytes: u64,
}

/// What has come of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The site runs it, or is to run it.
    Deployed,
    /// The site does not have it.
    Removed,
    /// The site does not do it.
    Refused {
        /// For programs.
        code: String,
        /// For people.
        text: String,
    },
    /// It could not be done now, and is tried again.
    Later {
        /// Why, for people.
        text: String,
    },
}

impl Outcome {
    /// A refusal, its text cut to what a frame may say.
    pub fn refused(code: &str, text: impl ToString) -> Self {
        Self::Refused { code: code.to_owned(), text: cut(text.to_string()) }
    }

    /// It is tried again.
    pub fn later(text: impl ToString) -> Self {
        Self::Later { text: cut(text.to_string()) }
    }

    fn is_sound(&self) -> bool {
        match self {
            Self::Deployed | Self::Removed => true,
            Self::Refused { code, text } => code.len() <= TEXT_BYTES_MAX && text.len() <= TEXT_BYTES_MAX,
            Self::Later { text } => text.len() <= TEXT_BYTES_MAX,
        }
    }
}

fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}

/// Whether a stream's first frame is of plugins.
pub fn is_wish(frame: &[u8]) -> bool {
    frame.first() == Some(&FROM_EDGE)
}

impl FromEdge {
    /// The frame.
    pub fn encode(&self) -> Vec<u8> {
        with_body(FROM_EDGE, self)
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(frame: &[u8]) -> Result<Self, WireError> {
        let rest = frame.strip_prefix(&[FROM_EDGE]).ok_or(WireError::Form("it is not about plugins"))?;
        match body(rest)? {
            Self::Wish(version, _) if version != VERSION => Err(WireError::Form("its version is not known")),
            Self::Done(_, outcome) if !outcome.is_sound() => Err(WireError::Form("its text is too long")),
            said => Ok(said),
        }
    }
}

impl FromUpstream {
    /// The frame.
    pub fn encode(&self) -> Vec<u8> {
        with_body(FROM_UPSTREAM, self)
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(frame: &[u8]) -> Result<Self, WireError> {
        let rest = frame.strip_prefix(&[FROM_UPSTREAM]).ok_or(WireError::Form("it is not about plugins"))?;
        match body(rest)? {
            Self::Wanted(wanted) if !wanted.is_sound() => Err(WireError::Form("it wants what no plugin can be")),
            Self::Part(_, bytes) if bytes.len() > PART_BYTES_MAX => Err(WireError::Form("a part is too long")),
            said => Ok(said),
        }
    }
}

impl Wanted {
    fn is_sound(&self) -> bool {
        let is_component = |component: &WantedComponent| {
            component.manifest.len() <= MANIFEST_BYTES_MAX && (1..=COMPONENT_BYTES_MAX).contains(&component.bytes)
        };
        self.name.len() <= NAME_BYTES_MAX && self.component.as_ref().is_none_or(is_component)
    }
}

const _: () = assert!(MANIFEST_BYTES_MAX + 256 < FRAME_BYTES_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(manifest: &str, bytes: u64) -> Wanted {
        let component = WantedComponent { manifest: manifest.to_owned(), sha256: [7; 32], bytes };
        Wanted { name: "p".to_owned(), number: 3, component: Some(component) }
    }

    #[test]
    fn frames_have_these_bytes() {
        let cases = [
            (FromEdge::Wish(1, 300), b"\x0d\x00\x01\xac\x02".to_vec()),
            (FromEdge::Need(3, 300), b"\x0d\x01\x03\xac\x02".to_vec()),
            (FromEdge::Done(3, Outcome::Deployed), b"\x0d\x02\x03\x00".to_vec()),
            (FromEdge::Done(3, Outcome::Removed), b"\x0d\x02\x03\x01".to_vec()),
            (FromEdge::Done(3, Outcome::refused("a", "b")), b"\x0d\x02\x03\x02\x01a\x01b".to_vec()),
            (FromEdge::Done(3, Outcome::later("b")), b"\x0d\x02\x03\x03\x01b".to_vec()),
        ];
        for (said, golden) in cases {
            assert_eq!(said.encode(), golden);
            assert_eq!(FromEdge::decode(&golden), Ok(said));
        }
        let golden = [&b"\x1b\x00\x01p\x03\x01\x01m"[..], &[7; 32], &[9]].concat();
        let cases = [
            (FromUpstream::Wanted(wanted("m", 9)), golden),
            (FromUpstream::Wanted(Wanted { component: None, ..wanted("", 1) }), b"\x1b\x00\x01p\x03\x00".to_vec()),
            (FromUpstream::Part(2, vec![8]), b"\x1b\x01\x02\x01\x08".to_vec()),
        ];
        for (said, golden) in cases {
            assert_eq!(said.encode(), golden);
            assert_eq!(FromUpstream::decode(&golden), Ok(said));
        }
    }

    #[test]
    fn what_is_too_much_is_no_frame() {
        let long = "x".repeat(MANIFEST_BYTES_MAX + 1);
        let name = Wanted { name: long.clone(), ..wanted("m", 1) };
        for wrong in [wanted(&long, 1), wanted("m", 0), wanted("m", COMPONENT_BYTES_MAX + 1), name] {
            assert!(FromUpstream::decode(&FromUpstream::Wanted(wrong).encode()).is_err());
        }
        assert!(FromUpstream::decode(&FromUpstream::Part(0, vec![0; PART_BYTES_MAX + 1]).encode()).is_err());
        let most = FromUpstream::Part(u64::MAX, vec![0; PART_BYTES_MAX]).encode();
        assert!(most.len() <= FRAME_BYTES_MAX && FromUpstream::decode(&most).is_ok());
        let text = Outcome::Later { text: "x".repeat(TEXT_BYTES_MAX + 1) };
        for wrong in [FromEdge::Wish(2, 0).encode(), FromEdge::Done(1, text).encode(), vec![13], vec![27, 0], vec![]] {
            assert!(FromEdge::decode(&wrong).is_err(), "{wrong:?}");
        }
        assert_eq!(Outcome::later("y".repeat(999)), Outcome::Later { text: "y".repeat(TEXT_BYTES_MAX) });
    }
}
