//! Patterns of topics' names: `*` stands for any characters, everything else for itself (pure).

use crate::event_log::is_internal;

/// One pattern.
#[derive(Debug, Clone, Copy)]
pub struct Pattern<'a>(&'a str);

impl<'a> Pattern<'a> {
    /// Of this text.
    pub fn new(text: &'a str) -> Self {
        Self(text)
    }

    /// Whether a name matches.
    pub fn matches(self, name: &str) -> bool {
        let mut pieces = self.0.split('*');
        let Some(rest) = pieces.next().and_then(|first| name.strip_prefix(first)) else { return false };
        if !self.0.contains('*') {
            return rest.is_empty();
        }
        let mut rest = rest;
        let mut pieces: Vec<&str> = pieces.collect();
        let last = pieces.pop().unwrap_or_default();
        for piece in pieces {
            let Some(at) = rest.find(piece) else { return false };
            rest = &rest[at + piece.len()..];
        }
        rest.ends_with(last)
    }

    /// Whether it lets a topic through: an internal one only where the pattern itself names an internal one.
    pub fn includes(self, topic: &str) -> bool {
        self.matches(topic) && (!is_internal(topic) || is_internal(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_characters() {
        // pattern, name, whether it matches
        let cases = [
            ("", "", true),
            ("", "a", false),
            ("a", "a", true),
            ("a", "ab", false),
            ("*", "", true),
            ("*", "any", true),
            ("a*", "a", true),
            ("a*", "abc", true),
            ("a*", "ba", false),
            ("*c", "abc", true),
            ("*c", "cb", false),
            ("a*c", "ac", true),
            ("a*c", "abc", true),
            ("a*c", "abd", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("ab*ba", "aba", false),
            ("**", "x", true),
        ];
        for (pattern, name, matches) in cases {
            assert_eq!(Pattern::new(pattern).matches(name), matches, "{pattern} {name}");
        }
    }
}
