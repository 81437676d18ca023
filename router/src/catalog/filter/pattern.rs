//! Text in which `*` stands for any text.

/// A pattern: pieces of text between which anything may stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    /// Never empty; one piece is the text itself.
    pieces: Vec<String>,
}

impl Pattern {
    /// Reads a pattern: `*` stands for any text, `\` before a character for that character.
    pub fn new(text: &str) -> Self {
        let mut pieces = vec![String::new()];
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            let last = pieces.len() - 1;
            match c {
                '*' => pieces.push(String::new()),
                '\\' => pieces[last].extend(chars.next()),
                c => pieces[last].push(c),
            }
        }
        Self { pieces }
    }

    /// A text that is only like itself.
    pub fn literal(text: &str) -> Self {
        Self { pieces: vec![text.to_owned()] }
    }

    /// The text, where it has no `*`.
    pub fn as_text(&self) -> Option<&str> {
        match self.pieces.as_slice() {
            [text] => Some(text),
            _ => None,
        }
    }

    /// Whether a text is like it. Takes time in proportion to the text's length times that of the pattern at most.
    pub fn is_like(&self, text: &str) -> bool {
        let [first, rest @ ..] = self.pieces.as_slice() else { return false };
        let Some((last, middle)) = rest.split_last() else { return first == text };
        let Some(mut left) = text.strip_prefix(first.as_str()) else { return false };
        for piece in middle {
            // The earliest place leaves the most for what follows.
            let Some(at) = left.find(piece.as_str()) else { return false };
            left = &left[at + piece.len()..];
        }
        left.ends_with(last.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_stand_for_any_text() {
        // (pattern, text, is it like it)
        let cases = [
            ("pump", "pump", true),
            ("pump", "pump-1", false),
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("*", "anything", true),
            ("pump-*", "pump-", true),
            ("pump-*", "pump-7", true),
            ("pump-*", "a-pump-7", false),
            ("*-7", "pump-7", true),
            ("*-7", "pump-77", false),
            ("a*a", "a", false),
            ("a*a", "aa", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-c-b", false),
            ("**", "x", true),
            (r"\*", "*", true),
            (r"\*", "x", false),
            (r"a\\*", r"a\b", true),
            ("ä*ö", "äxö", true),
            ("*aab", "aaaaab", true),
        ];
        for (pattern, text, expected) in cases {
            assert_eq!(Pattern::new(pattern).is_like(text), expected, "{pattern:?} and {text:?}");
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_long_time() {
        let pattern = Pattern::new(&"a*".repeat(2_000));
        assert!(!pattern.is_like(&"a".repeat(1_999)));
        assert!(pattern.is_like(&"a".repeat(2_001)));
        assert!(!Pattern::new(&format!("{}b", "*a".repeat(2_000))).is_like(&"a".repeat(4_000)));
    }
}
