//! Asks a filter about one device.

use std::collections::{BTreeMap, BTreeSet};

use super::{Compare, Test, Tree, Wanted};
use crate::catalog::device::Value;

/// What is known of one device, at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// Its name.
    pub device: &'a str,
    /// Its tags.
    pub tags: &'a BTreeSet<String>,
    /// Its attributes.
    pub attributes: &'a BTreeMap<String, Value>,
    /// Whether it is enrolled.
    pub enrolled: bool,
    /// Whether it is connected.
    pub connected: bool,
    /// The protocol that it spoke last; `None` where it was never seen.
    pub protocol: Option<&'a str>,
    /// How long ago it was seen, in milliseconds; `None` where it never was.
    pub seen_ago_ms: Option<u64>,
}

impl Tree {
    /// Recursion is as deep as the filter, which is bounded.
    pub(super) fn takes(&self, facts: &Facts<'_>) -> bool {
        match self {
            Self::All(parts) => parts.iter().all(|part| part.takes(facts)),
            Self::Any(parts) => parts.iter().any(|part| part.takes(facts)),
            Self::Not(inner) => !inner.takes(facts),
            Self::Test(test) => test.takes(facts),
        }
    }
}

impl Test {
    fn takes(&self, facts: &Facts<'_>) -> bool {
        match self {
            Self::Device(compare, wanted) => text(Some(facts.device), *compare, wanted),
            Self::Protocol(compare, wanted) => text(facts.protocol, *compare, wanted),
            Self::Tag(is, pattern) => {
                let has = match pattern.as_text() {
                    Some(tag) => facts.tags.contains(tag),
                    None => facts.tags.iter().any(|tag| pattern.is_like(tag)),
                };
                has == *is
            }
            Self::Connected(wanted) => facts.connected == *wanted,
            Self::Enrolled(wanted) => facts.enrolled == *wanted,
            Self::LastSeen(compare, span_ms) => {
                facts.seen_ago_ms.is_some_and(|ago_ms| in_order(&ago_ms, *compare, span_ms))
            }
            Self::Attribute(name, compare, wanted) => attribute(facts.attributes.get(name), *compare, wanted),
        }
    }
}

/// What is not there is like nothing, and is in no order with anything.
fn text(found: Option<&str>, compare: Compare, wanted: &Wanted) -> bool {
    match (compare, wanted) {
        (Compare::NotEqual, _) => !text(found, Compare::Equal, wanted),
        (Compare::Equal, Wanted::Like(pattern)) => found.is_some_and(|found| pattern.is_like(found)),
        (_, Wanted::Exactly(Value::Text(wanted))) => {
            found.is_some_and(|found| in_order(found, compare, wanted.as_str()))
        }
        _ => false,
    }
}

fn attribute(found: Option<&Value>, compare: Compare, wanted: &Wanted) -> bool {
    if compare == Compare::NotEqual {
        return !attribute(found, Compare::Equal, wanted);
    }
    match (found, wanted) {
        (Some(Value::Text(found)), wanted) => text(Some(found), compare, wanted),
        // So that `name = *` takes every device that has the attribute.
        (Some(found), Wanted::Like(pattern)) => pattern.as_text().is_none() && pattern.is_like(&found.to_string()),
        (Some(Value::Number(found)), Wanted::Exactly(Value::Number(wanted))) => in_order(found, compare, wanted),
        (Some(Value::Flag(found)), Wanted::Exactly(Value::Flag(wanted))) => found == wanted,
        _ => false,
    }
}

fn in_order<T: PartialOrd + ?Sized>(found: &T, compare: Compare, wanted: &T) -> bool {
    match compare {
        Compare::Equal => found == wanted,
        Compare::NotEqual => found != wanted,
        Compare::Less => found < wanted,
        Compare::LessOrEqual => found <= wanted,
        Compare::Greater => found > wanted,
        Compare::GreaterOrEqual => found >= wanted,
    }
}
