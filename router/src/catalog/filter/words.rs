//! Cuts a filter's text into words, each with its position.

use super::{Compare, FILTER_BYTES_MAX, FilterError};

/// A word of a filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Word {
    Open,
    Close,
    Compare(Compare),
    /// A word without quotes.
    Bare(String),
    /// The text between quotes; `\` before a character still stands there.
    Quoted(String),
    /// The text is over.
    End,
}

/// A word with the position of its first character, from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) word: Word,
    pub(super) at: usize,
}

impl Word {
    /// As it is shown to people.
    pub(super) fn show(&self) -> String {
        match self {
            Self::Open => "`(`".to_owned(),
            Self::Close => "`)`".to_owned(),
            Self::Compare(compare) => format!("`{compare}`"),
            Self::Bare(word) => format!("`{word}`"),
            Self::Quoted(text) => format!("the text \"{text}\""),
            Self::End => "the end".to_owned(),
        }
    }

    /// Whether it is this keyword, in any case of its letters.
    pub(super) fn is(&self, keyword: &str) -> bool {
        matches!(self, Self::Bare(word) if word.eq_ignore_ascii_case(keyword))
    }
}

/// Characters that a word may have without quotes: those of names, of numbers, and `*`.
fn is_bare(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/' | '@' | '+' | '*')
}

/// The text's words, the last of which is [`Word::End`].
pub(super) fn words(text: &str) -> Result<Vec<Placed>, FilterError> {
    if text.len() > FILTER_BYTES_MAX {
        let expected = format!("a filter of at most {FILTER_BYTES_MAX} bytes");
        return Err(FilterError { at: 1, expected, found: format!("{} bytes", text.len()) });
    }
    let chars: Vec<char> = text.chars().collect();
    let mut words = Vec::new();
    let mut at = 0;
    loop {
        while chars.get(at).is_some_and(|c| c.is_whitespace()) {
            at += 1;
        }
        let Some(first) = chars.get(at) else { break };
        let (word, length) = match first {
            '(' => (Word::Open, 1),
            ')' => (Word::Close, 1),
            '"' | '\'' => quoted(&chars, at)?,
            c if is_bare(*c) => {
                let word: String = chars[at..].iter().take_while(|c| is_bare(**c)).collect();
                let length = word.chars().count();
                (Word::Bare(word), length)
            }
            _ => compare(&chars, at)?,
        };
        words.push(Placed { word, at: at + 1 });
        at += length;
    }
    words.push(Placed { word: Word::End, at: chars.len() + 1 });
    Ok(words)
}

fn quoted(chars: &[char], at: usize) -> Result<(Word, usize), FilterError> {
    let quote = chars[at];
    let mut text = String::new();
    let mut next = at + 1;
    while let Some(c) = chars.get(next) {
        match c {
            c if *c == quote => return Ok((Word::Quoted(text), next + 1 - at)),
            '\\' => {
                text.push('\\');
                text.extend(chars.get(next + 1));
                next += 2;
            }
            c => {
                text.push(*c);
                next += 1;
            }
        }
    }
    let expected = format!("a closing {quote} for the {quote} at position {}", at + 1);
    Err(FilterError { at: chars.len() + 1, expected, found: "the end".to_owned() })
}

fn compare(chars: &[char], at: usize) -> Result<(Word, usize), FilterError> {
    let begins = |sign: &str| sign.chars().zip(at..).all(|(c, at)| chars.get(at) == Some(&c));
    let found = Compare::ALL.iter().find(|(sign, _)| begins(sign));
    let Some((sign, compare)) = found else {
        let expected = "a name, a comparison, a value or a parenthesis".to_owned();
        return Err(FilterError { at: at + 1, expected, found: format!("`{}`", chars[at]) });
    };
    Ok((Word::Compare(*compare), sign.len()))
}
