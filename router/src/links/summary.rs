//! `[[link.summary]]`: a topic that stays, and goes as what a plugin makes of it (pure).

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::config::LinkConfig;
use crate::config::Problem;
use crate::event_log::TOPIC_NAME_BYTES_MAX;

/// Summaries of one link at most.
const SUMMARIES_MAX: usize = 64;

/// One summary.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinkSummary {
    /// The topic that stays; upstream may ask for ranges of it.
    pub topic: String,
    /// The plugin that reads it.
    pub plugin: String,
    /// The topic that the plugin writes, which goes in its place.
    #[serde(rename = "as")]
    pub made: String,
    /// What that one is called upstream, behind the link's prefix; empty: as it is called here.
    pub upstream: String,
}

/// What is known of a plugin that is deployed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PluginFacts {
    /// Its name.
    pub name: String,
    /// The topics that it reads; none for a guard of commands.
    pub reads: Vec<String>,
    /// The topics that it may write.
    pub writes: Vec<String>,
    /// Why it does not run, where it does not.
    pub problem: Option<String>,
}

impl LinkSummary {
    /// What is wrong with it beside the others of its link, whatever is deployed.
    pub fn mistake(&self, others: &[Self]) -> Option<&'static str> {
        let Self { topic, plugin, made, .. } = self;
        if topic.is_empty() || plugin.is_empty() || made.is_empty() {
            return Some("topic, plugin and as: what stays, who reads it, and what goes in its place");
        }
        if topic == made {
            return Some("another topic in `as`: what goes in its place is not the topic that stays");
        }
        if others.iter().any(|other| other.topic == *made) {
            return Some("a topic in `as` that no other summary keeps from going");
        }
        let same = others.iter().filter(|other| other.called() == self.called()).count();
        (same > 1).then_some("a name of its own upstream")
    }

    /// What goes is called so upstream, behind the link's prefix.
    pub fn called(&self) -> &str {
        if self.upstream.is_empty() { &self.made } else { &self.upstream }
    }

    /// Why nothing goes of it, and what to do, for people; `None` where all is well. `has_topic` is whether the topic that stays is
    /// there.
    pub fn problem(&self, plugins: &[PluginFacts], has_topic: bool) -> Option<String> {
        let Self { topic, plugin, made, .. } = self;
        if !has_topic {
            return Some(format!("there is no topic {topic} here yet: `edgeway topic create {topic}`"));
        }
        let Some(facts) = plugins.iter().find(|facts| facts.name == *plugin) else {
            return Some(format!("plugin {plugin} is not deployed: `edgeway plugin deploy`"));
        };
        if !facts.reads.contains(topic) {
            let reads = named(&facts.reads);
            return Some(format!("plugin {plugin} does not read {topic}, but {reads}: see `topics` in its manifest"));
        }
        if !facts.writes.contains(made) {
            let writes = named(&facts.writes);
            return Some(format!(
                "plugin {plugin} may not write {made}, but {writes}: `edgeway plugin grant {plugin} --emit {made}`, and have it \
                 write there"
            ));
        }
        if leads_to(plugins, made, topic) {
            return Some(format!("plugins make {topic} of {made} again: what is summarised would be its own summary"));
        }
        facts.problem.as_ref().map(|problem| format!("plugin {plugin} does not run: {problem}"))
    }
}

/// What is well-formed and still wrong in a link's summaries, the first of it.
///
/// # Errors
/// The [`Problem`].
pub fn check(link: &LinkConfig) -> Result<(), Problem> {
    let problem =
        |found: String, expected: &str| Problem { path: ["link", "summary"], found, expected: expected.into() };
    if link.summary.len() > SUMMARIES_MAX {
        return Err(problem(format!("{} summaries", link.summary.len()), "at most 64 summaries"));
    }
    for summary in &link.summary {
        if let Some(expected) = summary.mistake(&link.summary) {
            return Err(problem(format!("{} as {}", summary.topic, summary.made), expected));
        }
        let called = summary.called();
        if !is_topic_name(called) {
            return Err(problem(called.to_owned(), "a topic's name"));
        }
        if called != summary.made && link.carries(called) {
            return Err(problem(called.to_owned(), "a name upstream that no topic has which goes itself"));
        }
    }
    Ok(())
}

fn is_topic_name(name: &str) -> bool {
    let is_of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    !name.is_empty() && name.len() <= TOPIC_NAME_BYTES_MAX && name.chars().all(is_of_name)
}

fn named(topics: &[String]) -> String {
    if topics.is_empty() { "nothing".to_owned() } else { topics.join(", ") }
}

/// Whether what is on one topic comes to another one, through any number of plugins.
fn leads_to(plugins: &[PluginFacts], from: &str, to: &str) -> bool {
    let (mut seen, mut next) = (BTreeSet::new(), vec![from]);
    while let Some(topic) = next.pop() {
        let readers = plugins.iter().filter(|facts| facts.reads.iter().any(|read| read == topic));
        for written in readers.flat_map(|facts| &facts.writes) {
            if written == to {
                return true;
            }
            if seen.insert(written.as_str()) {
                next.push(written);
            }
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(text: &str) -> LinkSummary {
        let mut parts = text.split(' ').map(str::to_owned);
        let mut next = || parts.next().unwrap_or_default();
        LinkSummary { topic: next(), plugin: next(), made: next(), upstream: next() }
    }

    #[test]
    fn what_cannot_be_is_a_mistake() {
        // the summaries of a link, a word of what would be right for the first that is wrong
        let cases: [(&[&str], Option<&str>); 8] = [
            (&["raw p mean"], None),
            (&["raw p mean raw"], None),
            (&["raw p mean", "raw p max"], None),
            (&["raw p"], Some("what stays")),
            (&["raw p raw"], Some("another topic")),
            (&["raw p mean", "mean p hour"], Some("keeps from going")),
            (&["raw p mean", "other p mean"], Some("a name of its own")),
            (&["raw p mean all", "other p most all"], Some("a name of its own")),
        ];
        for (texts, expected) in cases {
            let all: Vec<LinkSummary> = texts.iter().map(|text| summary(text)).collect();
            let found = all.iter().find_map(|one| one.mistake(&all));
            let fits = match expected {
                None => found.is_none(),
                Some(word) => found.is_some_and(|found| found.contains(word)),
            };
            assert!(fits, "{texts:?}: {found:?}");
        }
    }

    #[test]
    fn a_summary_that_brings_nothing_says_why() {
        let plugin = |text: &str| {
            let mut parts = text.split('>');
            let mut next = || parts.next().map(str::to_owned);
            let name = next().unwrap_or_default();
            let topics = |text: Option<String>| text.filter(|text| !text.is_empty()).into_iter().collect::<Vec<_>>();
            let (reads, writes) = (topics(next()), topics(next()));
            PluginFacts { name, reads, writes, problem: next() }
        };
        // plugins as NAME>READS>WRITES>PROBLEM, whether the topic is there, a word of the problem
        let cases: [(&[&str], bool, Option<&str>); 8] = [
            (&["p>raw>mean"], true, None),
            (&["p>raw>mean"], false, Some("no topic raw")),
            (&["q>raw>mean"], true, Some("not deployed")),
            (&["p>other>mean"], true, Some("does not read raw, but other")),
            (&["p>raw>max"], true, Some("may not write mean, but max")),
            (&["p>raw>mean", "q>mean>x", "r>x>raw"], true, Some("again")),
            (&["p>raw>mean", "q>mean>x", "r>x>mean"], true, None),
            (&["p>raw>mean>it trapped"], true, Some("does not run: it trapped")),
        ];
        for (plugins, has_topic, expected) in cases {
            let plugins: Vec<PluginFacts> = plugins.iter().map(|text| plugin(text)).collect();
            let found = summary("raw p mean").problem(&plugins, has_topic);
            let fits = match expected {
                None => found.is_none(),
                Some(word) => found.as_ref().is_some_and(|found| found.contains(word)),
            };
            assert!(fits, "{plugins:?}: {found:?}");
        }
    }
}
