//! Makes a tree of a filter's words.

use super::words::{Placed, Word, words};
use super::{Compare, FILTER_COMPARISONS_MAX, FILTER_DEPTH_MAX, FilterError, Pattern, Test, Tree, Value, Wanted};
use crate::catalog::device::{is_name, parse_number};

/// What an attribute's name may be preceded by, so that it cannot be taken for another name.
const ATTRIBUTE_PREFIX: &str = "attribute.";
const COMPARISON: &str = "a comparison: =, !=, <, <=, > or >=";

struct Parser {
    words: Vec<Placed>,
    next: usize,
    depth: usize,
    comparisons: usize,
}

/// The tree of a filter's text; `None` where the text is blank.
pub(super) fn parse(text: &str) -> Result<Option<Tree>, FilterError> {
    let mut parser = Parser { words: words(text)?, next: 0, depth: 0, comparisons: 0 };
    if parser.word() == &Word::End {
        return Ok(None);
    }
    let tree = parser.any()?;
    match parser.word() {
        Word::End => Ok(Some(tree)),
        _ => Err(parser.wrong("`and`, `or` or the end")),
    }
}

impl Parser {
    fn word(&self) -> &Word {
        self.words.get(self.next).map_or(&Word::End, |placed| &placed.word)
    }

    /// Takes the word that is next; the end stays.
    fn take(&mut self) -> Word {
        let word = self.word().clone();
        self.next = (self.next + 1).min(self.words.len() - 1);
        word
    }

    /// Takes the word that is next, if it is this keyword.
    fn takes(&mut self, keyword: &str) -> bool {
        let is = self.word().is(keyword);
        if is {
            self.take();
        }
        is
    }

    /// What is wrong with the word that is next.
    fn wrong(&self, expected: impl Into<String>) -> FilterError {
        let at = self.words.get(self.next).map_or(1, |placed| placed.at);
        FilterError { at, expected: expected.into(), found: self.word().show() }
    }

    fn any(&mut self) -> Result<Tree, FilterError> {
        let mut parts = vec![self.all()?];
        while self.takes("or") {
            parts.push(self.all()?);
        }
        Ok(one_or(parts, Tree::Any))
    }

    fn all(&mut self) -> Result<Tree, FilterError> {
        let mut parts = vec![self.one()?];
        while self.takes("and") {
            parts.push(self.one()?);
        }
        Ok(one_or(parts, Tree::All))
    }

    fn one(&mut self) -> Result<Tree, FilterError> {
        if self.depth >= FILTER_DEPTH_MAX {
            return Err(self.wrong(format!("at most {FILTER_DEPTH_MAX} parentheses and `not` in each other")));
        }
        self.depth += 1;
        let tree = if self.takes("not") {
            Tree::Not(Box::new(self.one()?))
        } else if self.word() == &Word::Open {
            self.take();
            let inner = self.any()?;
            if self.word() != &Word::Close {
                return Err(self.wrong("`and`, `or` or `)`"));
            }
            self.take();
            inner
        } else {
            Tree::Test(self.test()?)
        };
        self.depth -= 1;
        Ok(tree)
    }

    fn test(&mut self) -> Result<Test, FilterError> {
        if self.comparisons >= FILTER_COMPARISONS_MAX {
            return Err(self.wrong(format!("at most {FILTER_COMPARISONS_MAX} comparisons")));
        }
        self.comparisons += 1;
        let name = match self.word() {
            Word::Bare(word) if !["and", "or"].iter().any(|keyword| word.eq_ignore_ascii_case(keyword)) => word.clone(),
            _ => return Err(self.wrong("a name such as device, tag, connected or attribute.NAME, `not` or `(`")),
        };
        let attribute = name.strip_prefix(ATTRIBUTE_PREFIX).unwrap_or(&name);
        if !is_name(attribute) {
            return Err(self.wrong("a name such as device, tag, connected or attribute.NAME"));
        }
        self.take();
        match name.as_str() {
            "device" => Ok(self.text().map(|(compare, wanted)| Test::Device(compare, wanted))?),
            "protocol" => Ok(self.text().map(|(compare, wanted)| Test::Protocol(compare, wanted))?),
            "tag" => {
                let is = self.equality("tag")?;
                Ok(Test::Tag(is, self.pattern()?))
            }
            "connected" => Ok(Test::Connected(self.equality("connected")? == self.flag()?)),
            "enrolled" => Ok(Test::Enrolled(self.equality("enrolled")? == self.flag()?)),
            "last_seen" => self.last_seen(),
            _ => {
                let (compare, wanted) = self.attribute()?;
                Ok(Test::Attribute(attribute.to_owned(), compare, wanted))
            }
        }
    }

    fn compare(&mut self) -> Result<Compare, FilterError> {
        let Word::Compare(compare) = self.word() else { return Err(self.wrong(COMPARISON)) };
        let compare = *compare;
        self.take();
        Ok(compare)
    }

    /// Whether it is to be equal or to be not equal; there is no other way to compare it.
    fn equality(&mut self, name: &str) -> Result<bool, FilterError> {
        match self.word() {
            Word::Compare(Compare::Equal) => (),
            Word::Compare(Compare::NotEqual) => (),
            _ => return Err(self.wrong(format!("= or != after {name}"))),
        }
        Ok(self.take() == Word::Compare(Compare::Equal))
    }

    fn flag(&mut self) -> Result<bool, FilterError> {
        match self.word() {
            word if word.is("true") || word.is("false") => Ok(self.take().is("true")),
            _ => Err(self.wrong("true or false")),
        }
    }

    fn pattern(&mut self) -> Result<Pattern, FilterError> {
        match self.word().clone() {
            Word::Bare(text) | Word::Quoted(text) => {
                self.take();
                Ok(Pattern::new(&text))
            }
            _ => Err(self.wrong("a value")),
        }
    }

    /// A comparison with text.
    fn text(&mut self) -> Result<(Compare, Wanted), FilterError> {
        let compare = self.compare()?;
        let before = self.next;
        let pattern = self.pattern()?;
        self.in_order(compare, pattern, before)
    }

    /// Only `=` and `!=` know what `*` is.
    fn in_order(
        &mut self,
        compare: Compare,
        pattern: Pattern,
        before: usize,
    ) -> Result<(Compare, Wanted), FilterError> {
        if !compare.is_order() {
            return Ok((compare, Wanted::Like(pattern)));
        }
        match pattern.as_text() {
            Some(text) => Ok((compare, Wanted::Exactly(Value::Text(text.to_owned())))),
            None => {
                self.next = before;
                Err(self.wrong(format!("a value without `*` after {compare}")))
            }
        }
    }

    /// A comparison with what an attribute may be: a bare word that is a number or a flag is one.
    fn attribute(&mut self) -> Result<(Compare, Wanted), FilterError> {
        let compare = self.compare()?;
        let before = self.next;
        if let Word::Bare(word) = self.word() {
            let flag = ["true", "false"].iter().any(|flag| word.eq_ignore_ascii_case(flag));
            if flag && compare.is_order() {
                return Err(self.wrong(format!("a number or text after {compare}")));
            }
            let value = if flag {
                Some(Value::Flag(word.eq_ignore_ascii_case("true")))
            } else {
                parse_number(word).map(Value::Number)
            };
            if let Some(value) = value {
                self.take();
                return Ok((compare, Wanted::Exactly(value)));
            }
        }
        let pattern = self.pattern()?;
        self.in_order(compare, pattern, before)
    }

    fn last_seen(&mut self) -> Result<Test, FilterError> {
        let order = matches!(self.word(), Word::Compare(compare) if compare.is_order());
        if !order {
            return Err(self.wrong("<, <=, > or >= after last_seen"));
        }
        let compare = self.compare()?;
        let span = match self.word() {
            Word::Bare(word) => span_ms(word),
            _ => None,
        };
        let span = span.ok_or_else(|| self.wrong("a span such as 30s, 5m, 2h or 7d"))?;
        self.take();
        Ok(Test::LastSeen(compare, span))
    }
}

fn one_or(mut parts: Vec<Tree>, many: impl Fn(Vec<Tree>) -> Tree) -> Tree {
    match (parts.len(), parts.pop()) {
        (1, Some(only)) => only,
        (_, last) => {
            parts.extend(last);
            many(parts)
        }
    }
}

/// A span of one unit, in milliseconds.
fn span_ms(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let factor = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}
