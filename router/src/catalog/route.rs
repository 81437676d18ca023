//! The routing rules that people set for the site. Pure.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use sled_data::TOPIC_NAME_BYTES_MAX;

use super::change::Terms;
use super::device::{NAME_BYTES_MAX, is_name};
use super::encoding::{decode, encode};
use super::refusal::Class;
use super::rule::{Rule, RuleError};
use super::state::State;
use super::write::Write;

/// Routing rules that people may have set at once.
pub const ROUTES_MAX: usize = 1_000;
/// A rule's place where nobody says another.
pub const ROUTE_ORDER: u32 = 100;
/// The version byte before a stored rule.
const VERSION: u8 = 1;

/// A routing rule as it is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewRoute {
    /// Its place among the others: lower ones are asked first; those of one place by their names.
    pub order: u32,
    /// The MQTT topics that it is about.
    pub pattern: String,
    /// The topic; may hold captures of the pattern.
    pub topic: String,
    /// The key; may hold captures of the pattern. `None`: the MQTT topic.
    pub key: Option<String>,
}

/// A routing rule of the site. Stored as it is: a change of this struct makes a new version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreedRoute {
    /// Its place among the others: lower ones are asked first; those of one place by their names.
    pub order: u32,
    /// The MQTT topics that it is about.
    pub pattern: String,
    /// The topic.
    pub topic: String,
    /// The key.
    pub key: Option<String>,
    /// When it was set, in milliseconds since 1970.
    pub set_at_ms: i64,
}

/// Why a routing rule was not set or deleted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RouteRefusal {
    /// It cannot be a rule's name.
    #[error("{0:?} cannot be a rule's name: 1 to {NAME_BYTES_MAX} bytes of letters, digits and _ - . : @")]
    Name(String),
    /// The rule is wrong.
    #[error("{0}; nothing was changed")]
    Rule(#[from] RuleError),
    /// What it routes to can be no topic.
    #[error(
        "routing rule {pattern:?}: {topic:?} cannot be a topic's name: 1 to {TOPIC_NAME_BYTES_MAX} characters of a-z, \
         A-Z, 0-9, '.', '_' and '-', and {{captures}}"
    )]
    Topic {
        /// The rule's pattern.
        pattern: String,
        /// The topic.
        topic: String,
    },
    /// There is none.
    #[error("there is no routing rule {0}; `edgeway route list` names what there is")]
    Unknown(String),
    /// There are as many as there may be.
    #[error("there are {0} routing rules, as many as can be; delete some, or let one with captures do for many")]
    TooMany(usize),
}

impl RouteRefusal {
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Name(_) => "bad_request",
            Self::Rule(_) | Self::Topic { .. } => "bad-rule",
            Self::Unknown(_) => "not_found",
            Self::TooMany(_) => "too-many-routes",
        }
    }

    pub(super) fn class(&self) -> Class {
        match self {
            Self::Name(_) | Self::Rule(_) | Self::Topic { .. } => Class::Bad,
            Self::Unknown(_) => Class::Unknown,
            Self::TooMany(_) => Class::TooMuch,
        }
    }
}

impl AgreedRoute {
    pub(super) fn encode(&self) -> Vec<u8> {
        encode(VERSION, self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        decode(VERSION, bytes)
    }

    /// The rule.
    pub fn rule(&self) -> Rule {
        Rule { pattern: self.pattern.clone(), topic: self.topic.clone(), key: self.key.clone() }
    }

    /// As people and programs read it.
    pub fn json(&self) -> Json {
        json!({
            "order": self.order,
            "pattern": self.pattern,
            "topic": self.topic,
            "key": self.key,
            "set_at_ms": self.set_at_ms,
        })
    }
}

/// A name is a part of a path of the API.
fn check_name(name: &str) -> Result<(), RouteRefusal> {
    if is_name(name) && !name.contains('/') { Ok(()) } else { Err(RouteRefusal::Name(name.to_owned())) }
}

/// Whether the text outside captures can be in a topic's name.
fn can_be_topic(topic: &str) -> bool {
    let mut is_inside = false;
    let mut plain = 0;
    let is_sound = topic.chars().all(|char| match char {
        '{' | '}' => {
            is_inside = char == '{';
            true
        }
        _ if is_inside => true,
        char => {
            plain += 1;
            char.is_ascii_alphanumeric() || matches!(char, '.' | '_' | '-')
        }
    });
    is_sound && plain <= TOPIC_NAME_BYTES_MAX
}

pub(super) fn judge_set(state: &State, name: &str, new: &NewRoute, terms: &Terms) -> Result<Vec<Write>, RouteRefusal> {
    check_name(name)?;
    let NewRoute { order, pattern, topic, key } = new.clone();
    let agreed = AgreedRoute { order, pattern, topic, key, set_at_ms: terms.at_ms };
    agreed.rule().compile()?;
    if !can_be_topic(&agreed.topic) {
        return Err(RouteRefusal::Topic { pattern: agreed.pattern, topic: agreed.topic });
    }
    let count = state.routes().count();
    if state.route(name).is_none() && count >= ROUTES_MAX {
        return Err(RouteRefusal::TooMany(count));
    }
    Ok(vec![Write::Route(name.into(), Some(Arc::new(agreed)))])
}

pub(super) fn judge_delete(state: &State, name: &str) -> Result<Vec<Write>, RouteRefusal> {
    match state.route(name) {
        Some(_) => Ok(vec![Write::Route(name.into(), None)]),
        None => Err(RouteRefusal::Unknown(name.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Change, Config};

    fn new(pattern: &str, topic: &str) -> NewRoute {
        NewRoute { order: 1, pattern: pattern.into(), topic: topic.into(), key: None }
    }

    #[test]
    fn a_stored_rule_has_these_bytes() {
        let route =
            AgreedRoute { order: 130, pattern: "a/#".into(), topic: "t".into(), key: Some("k".into()), set_at_ms: 1 };
        let golden = [1, 0x82, 1, 3, b'a', b'/', b'#', 1, b't', 1, 1, b'k', 2];
        assert_eq!(route.encode(), golden);
        assert_eq!(AgreedRoute::decode(&golden), Some(route.clone()));
        let write = Write::Route("r".into(), Some(route.into()));
        assert_eq!(write.key(), b"route/r");
        assert_eq!(Write::decode(&write.key(), &golden), Some(write));
    }

    #[test]
    fn what_cannot_be_is_refused() {
        let terms = Terms::new(&Config::default(), 5, 1);
        let mut full = State::default();
        full.apply(&Write::Level(2));
        let none = full.clone();
        for number in 0..ROUTES_MAX {
            for write in judge_set(&full, &format!("r{number}"), &new("a", "t"), &terms).unwrap() {
                full.apply(&write);
            }
        }
        let set = |name: &str, route: NewRoute| Change::SetRoute { name: name.into(), route };
        let delete = |name: &str| Change::DeleteRoute { name: name.into() };
        let cases = [
            (&none, set("r", new("a/{b}/#", "t-{b}")), "done"),
            (&none, set("", new("a", "t")), "bad_request"),
            (&none, set("a/b", new("a", "t")), "bad_request"),
            (&none, set("r", new("a/#/b", "t")), "bad-rule"),
            (&none, set("r", new("a", "{b}")), "bad-rule"),
            (&none, set("r", new("a", "_audit")), "bad-rule"),
            (&none, set("r", new("a", "a b")), "bad-rule"),
            (&none, set("r", new("a", &"t".repeat(TOPIC_NAME_BYTES_MAX + 1))), "bad-rule"),
            (&none, set("r", new(&"a".repeat(2_000), "t")), "bad-rule"),
            (&none, delete("r"), "not_found"),
            (&full, set("one-more", new("a", "t")), "too-many-routes"),
            (&full, set("r0", new("b", "t")), "done"),
            (&full, delete("r0"), "done"),
        ];
        for (state, change, want) in cases {
            let got = change.judge(state, &terms).map_or_else(|refusal| refusal.code(), |_| "done");
            assert_eq!(got, want, "{change:?}");
        }
        let early = set("r", new("a", "t")).judge(&State::default(), &terms).unwrap_err();
        assert_eq!(early.code(), "site-not-upgraded");
    }
}
