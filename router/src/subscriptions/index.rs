//! A trie of topic filters: which subscribers want a topic (pure).

use std::collections::HashMap;

/// A tree over the levels of topic filters; `T` names a subscriber.
#[derive(Debug)]
pub(super) struct Index<T> {
    root: Node<T>,
}

#[derive(Debug)]
struct Node<T> {
    children: HashMap<Box<str>, Node<T>>,
    any_level: Option<Box<Node<T>>>,
    /// Subscribers whose filter ends here.
    here: Vec<T>,
    /// Subscribers whose filter ends here with `#`.
    below: Vec<T>,
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { children: HashMap::new(), any_level: None, here: Vec::new(), below: Vec::new() }
    }
}

impl<T> Node<T> {
    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.any_level.is_none() && self.here.is_empty() && self.below.is_empty()
    }
}

impl<T: Copy + PartialEq> Index<T> {
    pub(super) fn new() -> Self {
        Self { root: Node::default() }
    }

    /// Adds `who` under a valid filter; adding it twice counts once.
    pub(super) fn insert(&mut self, filter: &str, who: T) {
        let mut node = &mut self.root;
        for level in filter.split('/') {
            node = match level {
                "#" => {
                    add(&mut node.below, who);
                    return;
                }
                "+" => node.any_level.get_or_insert_default(),
                name => node.children.entry(name.into()).or_default(),
            };
        }
        add(&mut node.here, who);
    }

    /// Removes `who` from under a filter, and branches that nobody needs any more.
    pub(super) fn remove(&mut self, filter: &str, who: T) {
        let levels: Vec<&str> = filter.split('/').collect();
        remove_below(&mut self.root, &levels, who);
    }

    /// Everyone with a filter that matches `topic`, once each. `#` and `+` in first place do not match
    /// a topic that begins with `$` [MQTT-4.7.2-1].
    pub(super) fn matching(&self, topic: &str) -> Vec<T> {
        let mut found = Vec::new();
        let hidden = topic.starts_with('$');
        let levels: Vec<&str> = topic.split('/').collect();
        collect(&self.root, &levels, hidden, &mut found);
        found
    }
}

fn add<T: PartialEq>(list: &mut Vec<T>, who: T) {
    if !list.contains(&who) {
        list.push(who);
    }
}

fn remove_below<T: Copy + PartialEq>(node: &mut Node<T>, levels: &[&str], who: T) {
    match levels {
        [] => node.here.retain(|entry| *entry != who),
        ["#", ..] => node.below.retain(|entry| *entry != who),
        ["+", rest @ ..] => {
            if let Some(child) = &mut node.any_level {
                remove_below(child, rest, who);
                if child.is_empty() {
                    node.any_level = None;
                }
            }
        }
        [name, rest @ ..] => {
            if let Some(child) = node.children.get_mut(*name) {
                remove_below(child, rest, who);
                if child.is_empty() {
                    node.children.remove(*name);
                }
            }
        }
    }
}

fn collect<T: Copy + PartialEq>(node: &Node<T>, levels: &[&str], hidden: bool, found: &mut Vec<T>) {
    if !hidden {
        node.below.iter().for_each(|who| add(found, *who));
    }
    let Some((level, rest)) = levels.split_first() else {
        node.here.iter().for_each(|who| add(found, *who));
        return;
    };
    if let Some(child) = node.children.get(*level) {
        collect(child, rest, false, found);
    }
    if let (false, Some(child)) = (hidden, &node.any_level) {
        collect(child, rest, false, found);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// filter, topic, whether it matches
    const CASES: &[(&str, &str, bool)] = &[
        ("a/b", "a/b", true),
        ("a/b", "a/b/c", false),
        ("a/+", "a/b", true),
        ("a/+", "a", false),
        ("a/+", "a/", true),
        ("+/b", "a/b", true),
        ("#", "a/b", true),
        ("#", "$SYS/b", false),
        ("+/b", "$SYS/b", false),
        ("$SYS/#", "$SYS/b", true),
        ("a/#", "a", true),
        ("a/#", "a/b/c", true),
        ("a/#", "b", false),
        ("+", "/", false),
        ("+/+", "/", true),
        ("/+", "/x", true),
    ];

    #[test]
    fn matches_as_the_specification_says() {
        for (filter, topic, expected) in CASES {
            let mut index = Index::new();
            index.insert(filter, 1);
            assert_eq!(index.matching(topic) == [1], *expected, "{filter} against {topic}");
            index.remove(filter, 1);
            assert!(index.root.is_empty(), "{filter} leaves a branch behind");
        }
    }

    #[test]
    fn overlapping_filters_name_a_subscriber_once() {
        let mut index = Index::new();
        for filter in ["a/#", "a/+", "a/b", "#"] {
            index.insert(filter, 7);
        }
        assert_eq!(index.matching("a/b"), [7]);
    }
}
