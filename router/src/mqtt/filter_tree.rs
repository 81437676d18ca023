//! A tree of topic filters: finds what matches a topic name without looking at every filter.

use std::collections::BTreeMap;

/// Levels of the deepest filter that a tree takes; bounds the recursion of a search.
pub const FILTER_LEVELS_MAX: usize = 128;

/// A filter has more than [`FILTER_LEVELS_MAX`] levels.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the topic filter has more than {FILTER_LEVELS_MAX} levels")]
pub struct TooManyLevels;

/// Values by topic filter.
#[derive(Clone, Debug)]
pub struct FilterTree<V> {
    root: Node<V>,
    len: usize,
}

/// One level. `below` is the value of a filter that ends in `#` here.
#[derive(Clone, Debug)]
struct Node<V> {
    value: Option<V>,
    below: Option<V>,
    any: Option<Box<Node<V>>>,
    named: BTreeMap<Box<str>, Node<V>>,
}

impl<V> Node<V> {
    const EMPTY: Self = Self { value: None, below: None, any: None, named: BTreeMap::new() };

    fn is_empty(&self) -> bool {
        self.value.is_none() && self.below.is_none() && self.any.is_none() && self.named.is_empty()
    }

    /// Calls `found` with every value whose filter matches `rest`; `None` is the end of the name.
    fn visit<'a>(&'a self, rest: Option<&str>, wildcards: bool, found: &mut dyn FnMut(&'a V)) {
        if wildcards && let Some(value) = &self.below {
            found(value);
        }
        let Some(rest) = rest else {
            if let Some(value) = &self.value {
                found(value);
            }
            return;
        };
        let (level, rest) = match rest.split_once('/') {
            Some((level, rest)) => (level, Some(rest)),
            None => (rest, None),
        };
        if wildcards && let Some(node) = &self.any {
            node.visit(rest, true, found);
        }
        if !self.named.is_empty()
            && let Some(node) = self.named.get(level)
        {
            node.visit(rest, true, found);
        }
    }

    fn remove(&mut self, rest: Option<&str>) -> Option<V> {
        let Some(rest) = rest else {
            return self.value.take();
        };
        let (level, rest) = match rest.split_once('/') {
            Some((level, rest)) => (level, Some(rest)),
            None => (rest, None),
        };
        match level {
            "#" => self.below.take(),
            "+" => {
                let node = self.any.as_mut()?;
                let removed = node.remove(rest);
                if node.is_empty() {
                    self.any = None;
                }
                removed
            }
            _ => {
                let node = self.named.get_mut(level)?;
                let removed = node.remove(rest);
                if node.is_empty() {
                    self.named.remove(level);
                }
                removed
            }
        }
    }
}

impl<V> Default for FilterTree<V> {
    fn default() -> Self {
        Self { root: Node::EMPTY, len: 0 }
    }
}

impl<V> FilterTree<V> {
    /// How many filters there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Sets the value of a filter and returns what it was. The filter is valid (`topic::is_filter`).
    pub fn insert(&mut self, filter: &str, value: V) -> Result<Option<V>, TooManyLevels> {
        let before = self.slot(filter)?.replace(value);
        self.len += usize::from(before.is_none());
        Ok(before)
    }

    /// The value of a filter, made where it is absent.
    pub fn entry(&mut self, filter: &str, make: impl FnOnce() -> V) -> Result<&mut V, TooManyLevels> {
        let absent = self.get(filter).is_none();
        self.len += usize::from(absent && filter.split('/').count() <= FILTER_LEVELS_MAX);
        Ok(self.slot(filter)?.get_or_insert_with(make))
    }

    fn slot(&mut self, filter: &str) -> Result<&mut Option<V>, TooManyLevels> {
        if filter.split('/').count() > FILTER_LEVELS_MAX {
            return Err(TooManyLevels);
        }
        let mut node = &mut self.root;
        for level in filter.split('/') {
            match level {
                "#" => return Ok(&mut node.below),
                "+" => node = node.any.get_or_insert_with(|| Box::new(Node::EMPTY)),
                _ => node = node.named.entry(level.into()).or_insert(Node::EMPTY),
            }
        }
        Ok(&mut node.value)
    }

    /// The value of exactly this filter.
    pub fn get(&self, filter: &str) -> Option<&V> {
        let mut node = &self.root;
        for level in filter.split('/') {
            match level {
                "#" => return node.below.as_ref(),
                "+" => node = node.any.as_ref()?,
                _ => node = node.named.get(level)?,
            }
        }
        node.value.as_ref()
    }

    /// Removes a filter and the levels that only it had.
    pub fn remove(&mut self, filter: &str) -> Option<V> {
        let removed = self.root.remove(Some(filter));
        self.len -= usize::from(removed.is_some());
        removed
    }

    /// Calls `found` with the value of every filter that matches `name`; a leading wildcard does not match a name
    /// that begins with `$` ([MQTT-4.7.2-1]).
    pub fn matching<'a>(&'a self, name: &str, mut found: impl FnMut(&'a V)) {
        self.root.visit(Some(name), !name.starts_with('$'), &mut found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::topic;
    use proptest::prelude::*;

    fn found(tree: &FilterTree<String>, name: &str) -> Vec<String> {
        let mut found = Vec::new();
        tree.matching(name, |value| found.push(value.clone()));
        found.sort();
        found
    }

    fn tree_of(filters: &[String]) -> FilterTree<String> {
        let mut tree = FilterTree::default();
        for filter in filters {
            tree.insert(filter, filter.clone()).unwrap();
        }
        tree
    }

    fn filters() -> impl Strategy<Value = Vec<String>> {
        let level = prop_oneof![Just("a"), Just("b"), Just(""), Just("+"), Just("$x")];
        let filter = (proptest::collection::vec(level, 1..5), any::<bool>()).prop_map(|(mut levels, below)| {
            if below {
                levels.push("#");
            }
            levels.join("/")
        });
        proptest::collection::vec(prop_oneof![9 => filter, 1 => Just("#".to_owned())], 0..12)
            .prop_map(|filters| filters.into_iter().filter(|filter| topic::is_filter(filter)).collect())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn the_tree_finds_what_one_by_one_matching_finds(
            filters in filters(),
            removed in any::<Vec<bool>>(),
            levels in proptest::collection::vec(prop_oneof![Just("a"), Just("b"), Just(""), Just("$x")], 1..6),
        ) {
            let mut tree = tree_of(&filters);
            let mut kept: Vec<String> = filters.clone();
            kept.sort();
            kept.dedup();
            prop_assert_eq!(tree.len(), kept.len());
            for (filter, _) in filters.iter().zip(removed).filter(|(_, removed)| *removed) {
                tree.remove(filter);
                kept.retain(|other| other != filter);
            }
            prop_assert_eq!(tree.len(), kept.len());
            let name = levels.join("/");
            let expected: Vec<String> = kept.iter().filter(|filter| topic::matches(filter, &name)).cloned().collect();
            prop_assert_eq!(found(&tree, &name), expected);
            for filter in &kept {
                prop_assert_eq!(tree.get(filter), Some(filter));
                tree.remove(filter);
            }
            prop_assert!(tree.is_empty() && tree.root.is_empty());
        }
    }

    #[test]
    fn a_filter_that_is_too_deep_is_refused_and_leaves_nothing() {
        let mut tree = FilterTree::default();
        let deep = "a/".repeat(FILTER_LEVELS_MAX);
        assert_eq!(tree.insert(&deep, 1), Err(TooManyLevels));
        assert_eq!(tree.entry(&deep, || 1), Err(TooManyLevels));
        assert!(tree.is_empty() && tree.root.is_empty());
        assert_eq!(tree.insert(&deep[..deep.len() - 2], 1), Ok(None));
        assert_eq!(tree.entry("a/+", || 2), Ok(&mut 2));
        assert_eq!(tree.len(), 2);
    }

    #[test]
    fn a_name_of_very_many_levels_is_searched_without_deep_recursion() {
        let mut tree = tree_of(&["#".to_owned(), "+/+/#".to_owned()]);
        assert_eq!(found(&tree, &"/".repeat(65_535)), ["#", "+/+/#"]);
        assert_eq!(tree.remove("+/+/#").as_deref(), Some("+/+/#"));
    }
}
