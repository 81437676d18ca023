//! What `/v1/site` says, as far as bench and demo read it.

use serde::Deserialize;

/// The site as one node sees it.
#[derive(Debug, Clone, Deserialize)]
pub struct View {
    pub quorum: Quorum,
    pub nodes: Vec<Node>,
    pub origins: Vec<Origin>,
}

/// The quorum of the node's own log.
#[derive(Debug, Clone, Deserialize)]
pub struct Quorum {
    pub voters: u64,
    pub in_reach: bool,
}

/// Another node, or the one that answers.
#[derive(Debug, Clone, Deserialize)]
pub struct Node {
    pub name: String,
    pub is_self: bool,
    pub connected: bool,
    pub rtt_ms: Option<f64>,
}

/// The log of one origin, as it is kept there.
#[derive(Debug, Clone, Deserialize)]
pub struct Origin {
    pub origin: String,
    pub own: bool,
    #[serde(default)]
    pub node: Option<String>,
    #[serde(default)]
    pub read_by: Option<String>,
    pub commit: u64,
    pub whole: bool,
    pub partitions: Vec<Partition>,
    pub followers: Vec<Follower>,
}

/// A partition of it.
#[derive(Debug, Clone, Deserialize)]
pub struct Partition {
    pub topic: String,
    pub partition: u32,
    pub visible_end: u64,
}

/// A node that follows it from there.
#[derive(Debug, Clone, Deserialize)]
pub struct Follower {
    pub node: String,
    pub connected: bool,
    pub lag_events: u64,
    pub lag_bytes: u64,
}

impl View {
    /// Whether another node is heard.
    pub fn hears(&self, name: &str) -> bool {
        self.nodes.iter().any(|node| node.name == name && node.connected)
    }

    /// Whether another node's work is given to a survivor.
    pub fn is_taken_over(&self, name: &str) -> bool {
        self.origins.iter().any(|origin| origin.node.as_deref() == Some(name) && origin.read_by.is_some())
    }

    /// How far another node is with the log of the one that answers.
    pub fn follower(&self, name: &str) -> Option<&Follower> {
        let own = self.origins.iter().find(|origin| origin.own)?;
        own.followers.iter().find(|follower| follower.node == name)
    }

    /// Whether this node can show all that `other` has shown to its readers.
    pub fn is_level_with(&self, other: &View) -> bool {
        other.origins.iter().all(|there| {
            let here = self.origins.iter().find(|here| here.origin == there.origin);
            here.is_some_and(|here| here.is_level_with(there))
        })
    }
}

impl Origin {
    fn is_level_with(&self, there: &Origin) -> bool {
        let shown = |there: &Partition| {
            let same = |here: &&Partition| (&here.topic, here.partition) == (&there.topic, there.partition);
            self.partitions.iter().find(same).map_or(0, |here| here.visible_end) >= there.visible_end
        };
        self.whole && self.commit >= there.commit && there.partitions.iter().all(shown)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(commit: u64, whole: bool, visible: &[u64]) -> Origin {
        let partition = |(partition, visible_end): (u32, &u64)| Partition {
            topic: "t".to_owned(),
            partition,
            visible_end: *visible_end,
        };
        let partitions = (0..).zip(visible).map(partition).collect();
        Origin {
            origin: "a".to_owned(),
            own: false,
            commit,
            whole,
            partitions,
            followers: Vec::new(),
            node: None,
            read_by: None,
        }
    }

    fn view(origins: Vec<Origin>) -> View {
        View { quorum: Quorum { voters: 3, in_reach: true }, nodes: Vec::new(), origins }
    }

    #[test]
    fn one_is_level_that_has_and_shows_all() {
        let there = view(vec![origin(5, true, &[3, 4])]);
        let cases = [
            ("more", vec![origin(6, true, &[3, 9])], true),
            ("a commit less", vec![origin(4, true, &[3, 4])], false),
            ("a copy that is not whole", vec![origin(5, false, &[3, 4])], false),
            ("an event that is not shown", vec![origin(5, true, &[3, 3])], false),
            ("no such partition", vec![origin(5, true, &[3])], false),
            ("no such origin", vec![], false),
        ];
        for (case, origins, is_level) in cases {
            assert_eq!(view(origins).is_level_with(&there), is_level, "{case}");
        }
    }
}
