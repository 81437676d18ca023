//! `[[link]]`: what a link to an upstream site carries. Whether there is one is said by `edgeway link accept`.

use serde::{Deserialize, Serialize};

use super::pattern::Pattern;
use crate::config::Problem;

/// Links of one node at most.
pub const LINKS_MAX: usize = 16;
/// Patterns of one list at most.
const PATTERNS_MAX: usize = 64;
/// Longest prefix, in bytes.
const PREFIX_BYTES_MAX: usize = 64;

/// Stored bytes of one partition that retention leaves for a link, unless the configuration says otherwise.
const HOLD_BYTES_MAX: u64 = 64 << 20;

/// Whose events a link carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Origins {
    /// This node's.
    Own,
    /// Those of this site's nodes.
    Site,
    /// Those of this site's nodes, and of the sites that feed this one.
    #[default]
    All,
}

/// One link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinkConfig {
    /// What the link is called here, as `edgeway link accept --name` was told.
    pub name: String,
    /// `HOST:PORT` of a node upstream; empty: those that the token named.
    pub address: String,
    /// The topics that go, by name; `*` stands for any characters. Internal ones go only where a pattern begins with `_`.
    pub include: Vec<String>,
    /// Topics that stay all the same.
    pub exclude: Vec<String>,
    /// What is put before the topics' names upstream.
    pub prefix: String,
    /// Whose events go.
    pub origins: Origins,
    /// Bytes a second that are sent at most, besides the headers of QUIC; 0 sets no bound.
    pub rate_bytes_max: u64,
    /// Stored bytes of one partition that retention leaves for the link while they are not upstream; beyond, they go, and
    /// upstream is told of a gap.
    pub hold_bytes_max: u64,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            address: String::new(),
            include: vec!["*".to_owned()],
            exclude: Vec::new(),
            prefix: String::new(),
            origins: Origins::All,
            rate_bytes_max: 0,
            hold_bytes_max: HOLD_BYTES_MAX,
        }
    }
}

impl LinkConfig {
    /// Whether a topic goes.
    pub fn carries(&self, topic: &str) -> bool {
        let included = self.include.iter().any(|pattern| Pattern::new(pattern).includes(topic));
        included && !self.exclude.iter().any(|pattern| Pattern::new(pattern).matches(topic))
    }

    /// What is well-formed and still wrong in all links, the first of it.
    ///
    /// # Errors
    /// The [`Problem`].
    pub fn check_all(links: &[Self]) -> Result<(), Problem> {
        let problem =
            |key, found: String, expected: &str| Problem { path: ["link", key], found, expected: expected.into() };
        if links.len() > LINKS_MAX {
            return Err(problem("name", format!("{} links", links.len()), "at most 16 links"));
        }
        for (at, link) in links.iter().enumerate() {
            if !super::is_link_name(&link.name) || links[..at].iter().any(|other| other.name == link.name) {
                return Err(problem(
                    "name",
                    link.name.clone(),
                    "a name of its own: 1 to 64 of a-z, A-Z, 0-9, '.', '-', '_'",
                ));
            }
            if link.include.len().max(link.exclude.len()) > PATTERNS_MAX {
                return Err(problem("include", format!("{} patterns", link.include.len()), "at most 64 patterns"));
            }
            let is_prefix = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
            if link.prefix.len() > PREFIX_BYTES_MAX || !link.prefix.chars().all(is_prefix) {
                return Err(problem("prefix", link.prefix.clone(), "at most 64 of a-z, A-Z, 0-9, '.', '-', '_'"));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_go_by_include_and_exclude_and_internal_ones_only_by_name() {
        let link = |include: &[&str], exclude: &[&str]| LinkConfig {
            include: include.iter().map(|text| (*text).to_owned()).collect(),
            exclude: exclude.iter().map(|text| (*text).to_owned()).collect(),
            ..LinkConfig::default()
        };
        // include, exclude, topic, whether it goes
        let cases: [(&[&str], &[&str], &str, bool); 8] = [
            (&["*"], &[], "telemetry", true),
            (&["*"], &[], "_audit", false),
            (&["_audit"], &[], "_audit", true),
            (&["_*"], &[], "telemetry", false),
            (&["*"], &["tele*"], "telemetry", false),
            (&["alarms", "line-*"], &[], "line-3/telemetry", true),
            (&["*"], &[], "line-3/_audit", false),
            (&[], &[], "telemetry", false),
        ];
        for (include, exclude, topic, goes) in cases {
            assert_eq!(link(include, exclude).carries(topic), goes, "{include:?} {exclude:?} {topic}");
        }
    }

    #[test]
    fn what_cannot_be_is_named() {
        let named = |name: &str| LinkConfig { name: name.to_owned(), ..LinkConfig::default() };
        assert_eq!(LinkConfig::check_all(&[named("hq"), named("cloud")]), Ok(()));
        let prefixed = LinkConfig { prefix: "a/".to_owned(), ..named("hq") };
        let many = LinkConfig { include: vec!["*".to_owned(); 65], ..named("hq") };
        for wrong in [vec![named("")], vec![named("a b")], vec![named("hq"), named("hq")], vec![prefixed], vec![many]] {
            assert!(LinkConfig::check_all(&wrong).is_err(), "{wrong:?}");
        }
    }
}
