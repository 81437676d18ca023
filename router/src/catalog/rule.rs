//! A routing rule (pure): an MQTT topic and a pattern with captures give a topic and a key.

use serde::{Deserialize, Serialize};

/// Bytes of a rule's pattern, of its topic and of its key, at most.
pub const RULE_TEXT_BYTES_MAX: usize = 1_024;

/// One rule as it is written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// An MQTT topic with `{name}` for one level, `+` for one level without a name, `#` at the end for the rest.
    pub pattern: String,
    /// The topic; may hold `{name}` of the pattern.
    pub topic: String,
    /// The key; may hold `{name}` of the pattern. Without it the key is the MQTT topic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
}

/// What is wrong with a rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    /// `#` stands before the end, or a level mixes text and wildcards.
    #[error("routing pattern {0:?}: a level is a name, '+', '{{capture}}', or '#' in last place")]
    Pattern(String),
    /// A template names what the pattern does not capture.
    #[error("routing rule {pattern:?}: {{{name}}} is not captured by the pattern")]
    Unknown {
        /// The rule's pattern.
        pattern: String,
        /// The name without its braces.
        name: String,
    },
    /// A template's braces do not match, or it is empty.
    #[error("routing rule {pattern:?}: {template:?} is not a template")]
    Template {
        /// The rule's pattern.
        pattern: String,
        /// The text.
        template: String,
    },
    /// The topic is internal.
    #[error("routing rule {0:?}: topics that begin with '_' are internal")]
    Internal(String),
    /// A text is too long.
    #[error("routing rule {pattern:?}: its {what} has {bytes} bytes, {RULE_TEXT_BYTES_MAX} can be; shorten it")]
    Long {
        /// The beginning of the rule's pattern.
        pattern: String,
        /// Which of its texts.
        what: &'static str,
        /// Its length.
        bytes: usize,
    },
}

#[derive(Debug, PartialEq, Eq)]
enum Level {
    Name(String),
    Any,
    Capture(String),
    Rest,
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    /// The number of the level that was captured.
    Level(usize),
}

/// A rule that can be.
#[derive(Debug, PartialEq, Eq)]
pub struct CompiledRule {
    levels: Vec<Level>,
    topic: Vec<Piece>,
    key: Option<Vec<Piece>>,
}

/// Where an MQTT topic goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// The topic in the log.
    pub topic: String,
    /// The key.
    pub key: String,
}

impl Rule {
    /// Makes it ready to be asked.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn compile(&self) -> Result<CompiledRule, RuleError> {
        self.check_lengths()?;
        if self.topic.starts_with('_') {
            return Err(RuleError::Internal(self.pattern.clone()));
        }
        let levels = levels(&self.pattern)?;
        let topic = template(self, &levels, &self.topic)?;
        let key = self.key.as_ref().map(|key| template(self, &levels, key)).transpose()?;
        Ok(CompiledRule { levels, topic, key })
    }

    fn check_lengths(&self) -> Result<(), RuleError> {
        let key = self.key.as_deref().unwrap_or_default();
        let texts = [("pattern", self.pattern.as_str()), ("topic", &self.topic), ("key", key)];
        match texts.into_iter().find(|(_, text)| text.len() > RULE_TEXT_BYTES_MAX) {
            Some((what, text)) => {
                let shown = self.pattern.floor_char_boundary(self.pattern.len().min(64));
                Err(RuleError::Long { pattern: self.pattern[..shown].to_owned(), what, bytes: text.len() })
            }
            None => Ok(()),
        }
    }
}

impl CompiledRule {
    /// Where an MQTT topic goes by this rule; `None`: the rule is not about it.
    pub fn route(&self, mqtt_topic: &str, levels: &[&str]) -> Option<Destination> {
        if !matches(&self.levels, levels) {
            return None;
        }
        let key = self.key.as_ref().map_or_else(|| mqtt_topic.to_owned(), |key| fill(key, levels));
        Some(Destination { topic: fill(&self.topic, levels), key })
    }
}

fn matches(pattern: &[Level], topic: &[&str]) -> bool {
    for (at, level) in pattern.iter().enumerate() {
        match (level, topic.get(at)) {
            (Level::Rest, _) => return true,
            (Level::Name(name), Some(found)) if name == found => {}
            (Level::Any | Level::Capture(_), Some(_)) => {}
            _ => return false,
        }
    }
    pattern.len() == topic.len()
}

fn fill(template: &[Piece], levels: &[&str]) -> String {
    let mut text = String::new();
    for piece in template {
        match piece {
            Piece::Text(piece) => text.push_str(piece),
            Piece::Level(at) => text.push_str(levels.get(*at).copied().unwrap_or_default()),
        }
    }
    text
}

fn levels(pattern: &str) -> Result<Vec<Level>, RuleError> {
    let bad = || RuleError::Pattern(pattern.to_owned());
    let texts: Vec<&str> = pattern.split('/').collect();
    let mut levels = Vec::with_capacity(texts.len());
    for (at, text) in texts.iter().enumerate() {
        levels.push(match *text {
            "#" if at + 1 == texts.len() => Level::Rest,
            "+" => Level::Any,
            text => match text.strip_prefix('{').and_then(|rest| rest.strip_suffix('}')) {
                Some(name) if !name.is_empty() && !name.contains(['{', '}']) => Level::Capture(name.to_owned()),
                None if !text.contains(['#', '+', '{', '}']) => Level::Name(text.to_owned()),
                _ => return Err(bad()),
            },
        });
    }
    Ok(levels)
}

fn template(rule: &Rule, levels: &[Level], text: &str) -> Result<Vec<Piece>, RuleError> {
    let bad = || RuleError::Template { pattern: rule.pattern.clone(), template: text.to_owned() };
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(['{', '}']) {
        let (before, brace) = rest.split_at(at);
        let inner = brace.strip_prefix('{').ok_or_else(bad)?;
        let (name, after) = inner.split_once('}').ok_or_else(bad)?;
        let found = levels.iter().position(|level| matches!(level, Level::Capture(known) if known == name));
        let level = found.ok_or_else(|| RuleError::Unknown { pattern: rule.pattern.clone(), name: name.to_owned() })?;
        pieces.push(Piece::Text(before.to_owned()));
        pieces.push(Piece::Level(level));
        rest = after;
    }
    pieces.push(Piece::Text(rest.to_owned()));
    if text.is_empty() { Err(bad()) } else { Ok(pieces) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(pattern: &str, topic: &str, key: Option<&str>) -> Rule {
        Rule { pattern: pattern.into(), topic: topic.into(), key: key.map(Into::into) }
    }

    #[test]
    fn says_what_is_wrong_with_a_rule() {
        let long = "x".repeat(RULE_TEXT_BYTES_MAX + 1);
        let cases = [
            (rule("a/#/b", "t", None), "routing pattern \"a/#/b\""),
            (rule("a/x+", "t", None), "routing pattern"),
            (rule("a/{}", "t", None), "routing pattern"),
            (rule("a/{b}", "{c}", None), "{c} is not captured"),
            (rule("a", "t{", None), "not a template"),
            (rule("a", "", None), "not a template"),
            (rule("a", "_t", None), "internal"),
            (rule(&long, "t", None), "its pattern has 1025 bytes"),
            (rule("a", "t", Some(&long)), "its key has 1025 bytes"),
        ];
        for (rule, expected) in cases {
            let error = rule.compile().unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
        assert!(rule(&long[1..], &long[1..], Some(&long[1..])).compile().is_ok());
    }
}
