//! Whether plugins would feed each other for ever: pure.

use std::collections::{HashMap, HashSet};

/// What a plugin reads and what it may append to.
#[derive(Debug, Clone, Copy)]
pub struct Edge<'a> {
    /// The plugin's name.
    pub plugin: &'a str,
    /// Topics read.
    pub reads: &'a [String],
    /// Topics granted.
    pub emits: &'a [String],
}

/// The plugins of a circle, in order, if there is one through the first edge.
#[must_use]
pub fn find_loop(edges: &[Edge<'_>]) -> Option<Vec<String>> {
    let first = edges.first()?;
    let mut readers: HashMap<&str, Vec<usize>> = HashMap::new();
    for (index, edge) in edges.iter().enumerate() {
        for topic in edge.reads {
            readers.entry(topic).or_default().push(index);
        }
    }
    // Depth first over plugins; a path back to the first one is a circle.
    let mut seen = HashSet::new();
    let mut paths = vec![vec![0usize]];
    while let Some(path) = paths.pop() {
        let last = edges.get(*path.last()?)?;
        let next = last.emits.iter().filter_map(|topic| readers.get(topic.as_str())).flatten();
        for &reader in next {
            if reader == 0 {
                let names = path.iter().filter_map(|&i| edges.get(i)).map(|e| e.plugin.to_owned());
                return Some(names.chain([first.plugin.to_owned()]).collect());
            }
            if seen.insert(reader) {
                let mut longer = path.clone();
                longer.push(reader);
                paths.push(longer);
            }
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles_through_the_first_plugin_are_found() {
        let topics = |names: &str| -> Vec<String> { names.chars().map(String::from).collect() };
        // Plugins as `reads>emits`, and the circle.
        let cases: &[(&[&str], Option<&str>)] = &[
            (&["a>b"], None),
            (&["a>a"], Some("0 0")),
            (&["a>b", "b>c"], None),
            (&["a>b", "b>a"], Some("0 1 0")),
            (&["a>b", "b>c", "c>d", "bc>a"], Some("0 3 0")),
            (&["a>b", "b>c", "c>b"], None),
            (&["a>x", "x>yz", "y>q", "z>a"], Some("0 1 3 0")),
        ];
        for (plugins, want) in cases {
            let parts: Vec<_> = plugins
                .iter()
                .map(|plugin| plugin.split_once('>').unwrap())
                .map(|(reads, emits)| (topics(reads), topics(emits)))
                .collect();
            let names: Vec<String> = (0..parts.len()).map(|i| i.to_string()).collect();
            let edges: Vec<Edge<'_>> =
                parts.iter().zip(&names).map(|((reads, emits), plugin)| Edge { plugin, reads, emits }).collect();
            let got = find_loop(&edges).map(|names| names.join(" "));
            assert_eq!(got.as_deref(), *want, "{plugins:?}");
        }
    }
}
