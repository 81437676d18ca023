//! What a client wants: its filters, and which topics they match (pure).

use std::collections::HashMap;

use crate::mqtt::filter_tree::FILTER_LEVELS_MAX;
use crate::mqtt::topic::{is_filter, matches};

/// Topics whose answer is remembered; beyond that the memory is begun anew.
const REMEMBERED_MAX: usize = 1_024;
/// Longer topics are matched each time, so that what is remembered is bounded in bytes too.
const REMEMBERED_BYTES_MAX: usize = 256;
/// What a shared subscription's filter begins with.
const SHARE_PREFIX: &str = "$share/";

/// The filters of one client.
#[derive(Debug, Default)]
pub(super) struct Filters {
    list: Vec<Box<str>>,
    remembered: HashMap<Box<str>, bool>,
}

/// Whether a filter can be subscribed to. Its levels are bounded, as trees of filters are walked level by level.
pub(super) fn is_taken(filter: &str) -> bool {
    is_filter(filter) && !filter.starts_with(SHARE_PREFIX) && filter.split('/').count() <= FILTER_LEVELS_MAX
}

impl Filters {
    /// Adds a filter that [`is_taken`]; its number is bounded by who calls.
    pub(super) fn add(&mut self, filter: &str) {
        if !self.has(filter) {
            self.list.push(filter.into());
            self.remembered.clear();
        }
    }

    /// Removes a filter; whether there was one.
    pub(super) fn remove(&mut self, filter: &str) -> bool {
        let at = self.list.iter().position(|known| **known == *filter);
        at.map(|at| self.list.swap_remove(at)).inspect(|_| self.remembered.clear()).is_some()
    }

    /// Whether a filter is among them.
    pub(super) fn has(&self, filter: &str) -> bool {
        self.list.iter().any(|known| **known == *filter)
    }

    /// All of them.
    pub(super) fn iter(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(AsRef::as_ref)
    }

    /// Whether any of them matches a topic.
    pub(super) fn want(&mut self, topic: &str) -> bool {
        if let Some(wanted) = self.remembered.get(topic) {
            return *wanted;
        }
        let wanted = self.list.iter().any(|filter| matches(filter, topic));
        if topic.len() <= REMEMBERED_BYTES_MAX {
            if self.remembered.len() >= REMEMBERED_MAX {
                self.remembered.clear();
            }
            self.remembered.insert(topic.into(), wanted);
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_follows_the_filters() {
        let mut filters = Filters::default();
        assert!(!filters.want("a/b"));
        filters.add("a/+");
        filters.add("a/+");
        filters.add("a/b");
        assert!(filters.want("a/b") && !filters.want("b"));
        assert!(filters.remove("a/+") && !filters.remove("a/+"));
        assert!(filters.want("a/b") && !filters.want("a/c"));
        for n in 0..2 * REMEMBERED_MAX {
            assert!(!filters.want(&n.to_string()));
        }
        assert!(filters.remembered.len() <= REMEMBERED_MAX);
    }

    #[test]
    fn shared_malformed_and_too_deep_filters_are_not_taken() {
        let levels = |count| vec!["+"; count].join("/");
        assert!(is_taken(&levels(FILTER_LEVELS_MAX)) && !is_taken(&levels(FILTER_LEVELS_MAX + 1)));
        for (filter, expected) in [("a/#", true), ("#", true), ("$share/g/a", false), ("a#", false), ("", false)] {
            assert_eq!(is_taken(filter), expected, "{filter}");
        }
    }
}
