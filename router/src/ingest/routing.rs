//! Routing rules (pure): an MQTT topic and a pattern with captures give a topic and a key.

use serde::{Deserialize, Serialize};

/// Rules that a configuration may have.
pub const RULES_MAX: usize = 1_000;

/// How MQTT topics become topics and keys.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Refuse what no rule names, instead of taking it into the catch-all topic.
    pub strict: bool,
    /// The rules; the first that matches counts.
    pub rules: Vec<Rule>,
}

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

impl Config {
    /// Whether every rule can be.
    ///
    /// # Errors
    /// The first mistake.
    pub fn check(&self) -> Result<(), RuleError> {
        Rules::compile(self).map(drop)
    }
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
    /// Too many rules.
    #[error("{0} routing rules, at most {RULES_MAX}")]
    TooMany(usize),
}

#[derive(Debug, PartialEq, Eq)]
enum Level {
    Name(String),
    Any,
    Capture(String),
    Rest,
}

#[derive(Debug)]
enum Piece {
    Text(String),
    /// The number of the level that was captured.
    Level(usize),
}

#[derive(Debug)]
struct Compiled {
    levels: Vec<Level>,
    topic: Vec<Piece>,
    key: Option<Vec<Piece>>,
}

/// Compiled rules.
#[derive(Debug)]
pub(super) struct Rules {
    rules: Vec<Compiled>,
    strict: bool,
}

/// Where an MQTT topic goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Destination {
    pub(super) topic: String,
    pub(super) key: String,
}

impl Rules {
    pub(super) fn compile(config: &Config) -> Result<Self, RuleError> {
        if config.rules.len() > RULES_MAX {
            return Err(RuleError::TooMany(config.rules.len()));
        }
        let rules = config.rules.iter().map(compile).collect::<Result<_, _>>()?;
        Ok(Self { rules, strict: config.strict })
    }

    /// `None`: no rule names it, and the rules are strict.
    pub(super) fn route(&self, mqtt_topic: &str) -> Option<Destination> {
        let levels: Vec<&str> = mqtt_topic.split('/').collect();
        for rule in &self.rules {
            if !matches(&rule.levels, &levels) {
                continue;
            }
            let topic = fill(&rule.topic, &levels);
            let key = rule.key.as_ref().map_or_else(|| mqtt_topic.to_owned(), |key| fill(key, &levels));
            return Some(Destination { topic, key });
        }
        let catch_all = Destination { topic: super::CATCH_ALL_TOPIC.to_owned(), key: mqtt_topic.to_owned() };
        (!self.strict).then_some(catch_all)
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

fn compile(rule: &Rule) -> Result<Compiled, RuleError> {
    if rule.topic.starts_with('_') {
        return Err(RuleError::Internal(rule.pattern.clone()));
    }
    let bad = || RuleError::Pattern(rule.pattern.clone());
    let texts: Vec<&str> = rule.pattern.split('/').collect();
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
    let topic = template(rule, &levels, &rule.topic)?;
    let key = rule.key.as_ref().map(|key| template(rule, &levels, key)).transpose()?;
    Ok(Compiled { levels, topic, key })
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
    fn routes_by_the_first_rule_that_matches() {
        let rules = vec![
            rule("sensors/{device}/{metric}", "telemetry", Some("{device}")),
            rule("plant/{site}/#", "plant-{site}", None),
            rule("a/+/c", "abc", Some("x")),
        ];
        let rules = Rules::compile(&Config { strict: false, rules }).unwrap();
        let cases = [
            ("sensors/s1/temp", "telemetry", "s1"),
            ("sensors/s1", "mqtt", "sensors/s1"),
            ("plant/7/x/y", "plant-7", "plant/7/x/y"),
            ("plant/7", "plant-7", "plant/7"),
            ("a/b/c", "abc", "x"),
            ("other", "mqtt", "other"),
        ];
        for (mqtt_topic, topic, key) in cases {
            let expected = Destination { topic: topic.into(), key: key.into() };
            assert_eq!(rules.route(mqtt_topic), Some(expected), "{mqtt_topic}");
        }
    }

    #[test]
    fn strict_rules_refuse_what_they_do_not_name() {
        let config = Config { strict: true, rules: vec![rule("a", "a", None)] };
        let rules = Rules::compile(&config).unwrap();
        assert!(rules.route("a").is_some());
        assert_eq!(rules.route("b"), None);
    }

    #[test]
    fn says_what_is_wrong_with_a_rule() {
        let cases = [
            (rule("a/#/b", "t", None), "routing pattern \"a/#/b\""),
            (rule("a/x+", "t", None), "routing pattern"),
            (rule("a/{}", "t", None), "routing pattern"),
            (rule("a/{b}", "{c}", None), "{c} is not captured"),
            (rule("a", "t{", None), "not a template"),
            (rule("a", "", None), "not a template"),
            (rule("a", "_t", None), "internal"),
        ];
        for (rule, expected) in cases {
            let error = Rules::compile(&Config { strict: false, rules: vec![rule] }).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        }
    }
}
