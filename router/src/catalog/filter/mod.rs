//! Which devices are meant: `tag = pump and pressure > 5 and not (connected = true or device = "pump-*")`. Pure.
//!
//! `words` cuts the text, `parse` makes a tree of it, `evaluate` asks it about one device, `pattern` is the `*` in
//! text. A filter is bounded in length, depth and number of comparisons, so that asking it is bounded too.
//!
//! ```text
//! filter     = all *("or" all)
//! all        = one *("and" one)
//! one        = "not" one | "(" filter ")" | comparison
//! comparison = name ("=" | "!=" | "<" | "<=" | ">" | ">=") value
//! name       = device | tag | connected | enrolled | protocol | last_seen | attribute.NAME | NAME (an attribute)
//! value      = a bare word | "text" | 'text' | a number | true | false | for last_seen: a span such as 5m
//! ```
//!
//! `*` in text stands for any text, `\*` for itself. `!=` takes what `=` does not: a device without the attribute too.
//! `last_seen < 5m`: seen within the last five minutes, or connected.

mod evaluate;
mod parse;
mod pattern;
mod words;

#[cfg(test)]
mod tests;

use std::fmt;

use super::device::Value;

pub use evaluate::Facts;
pub use pattern::Pattern;

/// Longest text of a filter, in bytes.
pub const FILTER_BYTES_MAX: usize = 4_096;
/// How deep parentheses and `not` may stand in each other.
pub const FILTER_DEPTH_MAX: usize = 32;
/// Comparisons that one filter may have.
pub const FILTER_COMPARISONS_MAX: usize = 256;

/// Which devices are meant. The default takes every device.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Filter {
    /// `None` takes all.
    tree: Option<Tree>,
}

/// A filter's text is wrong.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("at position {at}: expected {expected}, found {found}")]
pub struct FilterError {
    /// Where, in characters from 1.
    pub at: usize,
    /// What would be right there.
    pub expected: String,
    /// What stands there.
    pub found: String,
}

#[derive(Debug, Clone, PartialEq)]
enum Tree {
    All(Vec<Tree>),
    Any(Vec<Tree>),
    Not(Box<Tree>),
    Test(Test),
}

/// One comparison, of what its left side may be compared with.
#[derive(Debug, Clone, PartialEq)]
enum Test {
    /// The device's name.
    Device(Compare, Wanted),
    /// The protocol that it spoke last.
    Protocol(Compare, Wanted),
    /// Whether one of its tags is like this; `false`: none is.
    Tag(bool, Pattern),
    /// Whether it is connected.
    Connected(bool),
    /// Whether it is enrolled.
    Enrolled(bool),
    /// How long ago it was seen, in milliseconds.
    LastSeen(Compare, u64),
    /// One of its attributes.
    Attribute(String, Compare, Wanted),
}

/// What stands right of a comparison.
#[derive(Debug, Clone, PartialEq)]
enum Wanted {
    /// Text, in which `*` may stand for any text.
    Like(Pattern),
    /// A number or a flag, or text that is compared by its order.
    Exactly(Value),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Compare {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Compare {
    const ALL: [(&'static str, Self); 6] = [
        ("<=", Self::LessOrEqual),
        (">=", Self::GreaterOrEqual),
        ("!=", Self::NotEqual),
        ("=", Self::Equal),
        ("<", Self::Less),
        (">", Self::Greater),
    ];

    fn is_order(self) -> bool {
        !matches!(self, Self::Equal | Self::NotEqual)
    }
}

impl fmt::Display for Compare {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign = Self::ALL.iter().find(|(_, compare)| compare == self).map_or("", |(sign, _)| sign);
        f.write_str(sign)
    }
}

impl Filter {
    /// Reads a filter; a text of nothing but blanks takes every device.
    ///
    /// # Errors
    /// Where the text is wrong, and what would be right there.
    pub fn parse(text: &str) -> Result<Self, FilterError> {
        parse::parse(text).map(|tree| Self { tree })
    }

    /// Whether it takes every device.
    pub fn takes_all(&self) -> bool {
        self.tree.is_none()
    }

    /// This filter and another one.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match (self.tree, other.tree) {
            (Some(one), Some(other)) => Self { tree: Some(Tree::All(vec![one, other])) },
            (one, other) => Self { tree: one.or(other) },
        }
    }

    /// Takes devices with this tag; `*` is a character like others here.
    pub fn with_tag(tag: &str) -> Self {
        Self { tree: Some(Tree::Test(Test::Tag(true, Pattern::literal(tag)))) }
    }

    /// Takes devices that are connected, or those that are not.
    pub fn connected(connected: bool) -> Self {
        Self { tree: Some(Tree::Test(Test::Connected(connected))) }
    }

    /// Whether it takes a device of which this is known.
    pub fn takes(&self, facts: &Facts<'_>) -> bool {
        self.tree.as_ref().is_none_or(|tree| tree.takes(facts))
    }
}
