//! `[[link]]`: what a link to an upstream site carries. Whether there is one is said by `edgeway link accept`.

use serde::{Deserialize, Serialize};

use super::class::{Backlog, LinkClass, Priority, backlog_of, drop_after_ms, may_go, priority_of, used};
use super::down::{COMMANDS, URGENT, WORDS};
use super::hours::Hours;
use super::pattern::Pattern;
use super::summary::{self, LinkSummary};
use super::topics::{TOPICS, check_pattern, of_words};
use super::ways::Transport;
use crate::config::Problem;

/// The shortest deadline of a class, seconds: with a shorter one a partition has as many holes as there may be within minutes.
const DROP_AFTER_S_MIN: u32 = 10;
/// Links of one node at most.
pub const LINKS_MAX: usize = 16;
/// Patterns of one list at most.
const PATTERNS_MAX: usize = 64;
/// Classes of one link at most.
const CLASSES_MAX: usize = 16;
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

/// Whether what a link sends is compressed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compress {
    /// Where the link has a rate, so that it is thin or dear.
    #[default]
    Auto,
    /// Always.
    On,
    /// Never.
    Off,
}

/// One link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinkConfig {
    /// What the link is called here, as `edgeway link accept --name` was told.
    pub name: String,
    /// `HOST:PORT` of a node upstream; empty: those that the token named.
    pub address: String,
    /// By what it goes.
    pub transport: Transport,
    /// The topics that go, by name; `*` stands for any characters. Internal ones go only where a pattern begins with `_`.
    pub include: Vec<String>,
    /// Topics that stay all the same.
    pub exclude: Vec<String>,
    /// What is put before the topics' names upstream.
    pub prefix: String,
    /// What upstream may bring down: `commands` to devices; `urgent`, that those which are urgent there are urgent here; `topics:PATTERN`, its topics
    /// of these names; `plugins`, which run here.
    pub down: Vec<String>,
    /// Whose events go.
    pub origins: Origins,
    /// Which topics go before others; what no class names is `normal`. The first class that names a topic counts.
    pub class: Vec<LinkClass>,
    /// In which order what was missed goes when the link comes up again, unless a class says otherwise.
    pub backlog: Backlog,
    /// Bytes a second that are sent at most, all that QUIC adds counted; 0 sets no bound.
    pub rate_bytes_max: u64,
    /// Whether what is sent is compressed again.
    pub compress: Compress,
    /// Stored bytes of one partition that retention leaves for the link while they are not upstream; beyond, they go, and
    /// upstream is told of a gap.
    pub hold_bytes_max: u64,
    /// The topics of which upstream may ask for a range, by name, as in `include`; none said: those that go.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<Vec<String>>,
    /// Topics that stay, and go as what plugins make of them.
    pub summary: Vec<LinkSummary>,
    /// Not said in a file: the id of what has come down the link, which does not go up it.
    #[serde(skip)]
    pub brings_down_as: Option<u64>,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            address: String::new(),
            transport: Transport::Auto,
            include: vec!["*".to_owned()],
            exclude: Vec::new(),
            prefix: String::new(),
            down: vec![COMMANDS.to_owned()],
            origins: Origins::All,
            class: Vec::new(),
            backlog: Backlog::Oldest,
            rate_bytes_max: 0,
            compress: Compress::Auto,
            hold_bytes_max: HOLD_BYTES_MAX,
            detail: None,
            summary: Vec::new(),
            brings_down_as: None,
        }
    }
}

impl LinkConfig {
    /// Whether a topic goes.
    pub fn carries(&self, topic: &str) -> bool {
        if self.summarises(topic) {
            return false;
        }
        if self.summary.iter().any(|summary| summary.made == topic) {
            return true;
        }
        let included = self.include.iter().any(|pattern| Pattern::new(pattern).includes(topic));
        included && !self.exclude.iter().any(|pattern| Pattern::new(pattern).matches(topic))
    }

    /// Whether upstream may ask for a range of a topic.
    pub fn gives(&self, topic: &str) -> bool {
        match &self.detail {
            Some(patterns) => patterns.iter().any(|pattern| Pattern::new(pattern).includes(topic)),
            None => self.carries(topic) || self.summarises(topic),
        }
    }

    /// Whether a topic stays, and goes as what a plugin makes of it.
    fn summarises(&self, topic: &str) -> bool {
        self.summary.iter().any(|summary| summary.topic == topic)
    }

    /// What a topic is to be called upstream, behind the link's name.
    pub fn upstream_name(&self, topic: &str) -> String {
        let summary = self.summary.iter().find(|summary| summary.made == topic);
        format!("{}{}", self.prefix, summary.map_or(topic, LinkSummary::called))
    }

    /// How urgent a topic is.
    pub fn priority(&self, topic: &str) -> Priority {
        priority_of(&self.class, topic)
    }

    /// Whether a topic may go at a moment, Unix milliseconds; what may not waits.
    pub fn may_go(&self, topic: &str, at_ms: i64) -> bool {
        may_go(&self.class, topic, at_ms)
    }

    /// How old a topic's events may be when they are sent, milliseconds; 0: as old as they are kept.
    pub fn drop_after_ms(&self, topic: &str) -> u64 {
        drop_after_ms(&self.class, topic)
    }

    /// Whether what is newest of a topic goes before what was missed.
    pub fn is_newest_first(&self, topic: &str) -> bool {
        backlog_of(&self.class, topic, self.backlog) == Backlog::Newest
    }

    /// The priorities that are used, the most urgent first; never none.
    pub fn priorities(&self) -> Vec<Priority> {
        used(&self.class, self.backlog)
    }

    /// The rate, where there is one.
    pub fn rate(&self) -> Option<u64> {
        (self.rate_bytes_max > 0).then_some(self.rate_bytes_max)
    }

    /// Whether what is sent is compressed again.
    pub fn compresses(&self) -> bool {
        match self.compress {
            Compress::Auto => self.rate_bytes_max > 0,
            Compress::On => true,
            Compress::Off => false,
        }
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
            if let Some(many) = link.detail.as_ref().map(Vec::len).filter(|many| *many > PATTERNS_MAX) {
                return Err(problem("detail", format!("{many} patterns"), "at most 64 patterns"));
            }
            let patterns = link.class.iter().map(|class| class.topics.len()).max().unwrap_or(0);
            if link.class.len() > CLASSES_MAX || patterns > PATTERNS_MAX {
                return Err(problem(
                    "class",
                    format!("{} classes, up to {patterns} patterns in one", link.class.len()),
                    "at most 16 classes of at most 64 patterns",
                ));
            }
            let hours = link.class.iter().map(|class| class.hours.as_str());
            if let Some(wrong) = hours.filter(|hours| !hours.is_empty()).find(|hours| Hours::parse(hours).is_none()) {
                return Err(problem("class", wrong.to_owned(), "hours as 22:00-06:00, in UTC"));
            }
            let has = |word: &str| link.down.iter().any(|listed| listed == word);
            let is_word = |word: &&String| match word.strip_prefix(TOPICS) {
                Some(pattern) => check_pattern(pattern),
                None => WORDS.contains(&word.as_str()),
            };
            if let Some(wrong) = link.down.iter().find(|word| !is_word(word)) {
                let expected =
                    "\"commands\", \"urgent\" beside it, \"plugins\", or \"topics:PATTERN\"; [] lets nothing come down";
                return Err(problem("down", wrong.clone(), expected));
            }
            let topics = of_words(&link.down).len();
            let is_twice = link.down.iter().enumerate().any(|(at, word)| link.down[..at].contains(word));
            if topics > PATTERNS_MAX || is_twice || (has(URGENT) && !has(COMMANDS)) {
                let expected = "each once, at most 64 of topics, and \"urgent\" beside \"commands\" alone";
                return Err(problem("down", link.down.join(", "), expected));
            }
            let is_both =
                |class: &&LinkClass| class.priority == Priority::Low && class.backlog == Some(Backlog::Newest);
            if let Some(class) = link.class.iter().find(is_both) {
                let found = format!("priority = \"low\" and backlog = \"newest\" of {}", class.topics.join(", "));
                let expected = "one of both: what is newest goes at the class's own turn and what was missed behind it at that of \
                                \"low\", so a class that is low itself has one turn for both; leave backlog out, and it goes in order, \
                                or take \"normal\"";
                return Err(problem("class", found, expected));
            }
            let drops = link.class.iter().map(|class| class.drop_after_s);
            if let Some(short) = drops.into_iter().find(|drop| (1..DROP_AFTER_S_MIN).contains(drop)) {
                return Err(problem("class", format!("drop_after_s = {short}"), "0 for never, or at least 10 seconds"));
            }
            summary::check(link)?;
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
    fn upstream_may_ask_for_what_goes_unless_it_is_said_otherwise() {
        // detail, topic, whether it is given
        let cases: [(Option<&[&str]>, &str, bool); 7] = [
            (None, "telemetry", true),
            (None, "private", false),
            (Some(&[]), "telemetry", false),
            (Some(&["*"]), "private", true),
            (Some(&["*"]), "_audit", false),
            (Some(&["raw-*", "_audit"]), "raw-1", true),
            (Some(&["raw-*", "_audit"]), "_audit", true),
        ];
        for (detail, topic, is_given) in cases {
            let patterns = |patterns: &[&str]| patterns.iter().map(|text| (*text).to_owned()).collect();
            let exclude = vec!["private".to_owned()];
            let link = LinkConfig { detail: detail.map(patterns), exclude, ..LinkConfig::default() };
            assert_eq!(link.gives(topic), is_given, "{detail:?} {topic}");
        }
    }

    #[test]
    fn what_is_summarised_stays_and_its_summary_goes_by_its_name_upstream() {
        let made = |topic: &str, made: &str, upstream: &str| LinkSummary {
            topic: topic.to_owned(),
            plugin: "downsample".to_owned(),
            made: made.to_owned(),
            upstream: upstream.to_owned(),
        };
        let link = |include: &str, summary: Vec<LinkSummary>| LinkConfig {
            name: "hq".to_owned(),
            include: vec![include.to_owned()],
            prefix: "p-".to_owned(),
            summary,
            ..LinkConfig::default()
        };
        let alarms = link("alarms", vec![made("raw", "mean", "raw"), made("raw", "max", "")]);
        // topic, whether it goes, whether it is given on demand, what it is called upstream
        let cases = [
            ("raw", false, true, "p-raw"),
            ("mean", true, true, "p-raw"),
            ("max", true, true, "p-max"),
            ("alarms", true, true, "p-alarms"),
            ("other", false, false, "p-other"),
        ];
        for (topic, goes, is_given, called) in cases {
            let found = (alarms.carries(topic), alarms.gives(topic), alarms.upstream_name(topic));
            assert_eq!(found, (goes, is_given, called.to_owned()), "{topic}");
        }
        assert_eq!(LinkConfig::check_all(&[alarms]), Ok(()));
        assert_eq!(LinkConfig::check_all(&[link("*", vec![made("raw", "mean", "raw")])]), Ok(()));
        for wrong in [
            link("*", vec![made("raw", "mean", "alarms")]),
            link("*", vec![made("raw", "mean", "a b")]),
            link("*", vec![made("raw", "raw", "")]),
            link("*", vec![LinkSummary::default()]),
            link("*", (0..65).map(|n| made("raw", &format!("m{n}"), "")).collect()),
        ] {
            assert!(LinkConfig::check_all(std::slice::from_ref(&wrong)).is_err(), "{:?}", wrong.summary);
        }
    }

    #[test]
    fn what_cannot_be_is_named() {
        let named = |name: &str| LinkConfig { name: name.to_owned(), ..LinkConfig::default() };
        assert_eq!(LinkConfig::check_all(&[named("hq"), named("cloud")]), Ok(()));
        let prefixed = LinkConfig { prefix: "a/".to_owned(), ..named("hq") };
        let many = LinkConfig { include: vec!["*".to_owned(); 65], ..named("hq") };
        let classes = LinkConfig { class: vec![LinkClass::default(); 17], ..named("hq") };
        let class = LinkClass { topics: vec!["*".to_owned(); 65], ..LinkClass::default() };
        let class = LinkConfig { class: vec![class], ..named("hq") };
        let hours = LinkClass { hours: "22-6".to_owned(), ..LinkClass::default() };
        let hours = LinkConfig { class: vec![hours], ..named("hq") };
        let down = |words: &[&str]| {
            let down = words.iter().map(|word| (*word).to_owned()).collect();
            vec![LinkConfig { down, ..named("hq") }]
        };
        let topics = down(&["commands", "topics:recipes", "topics:plant-8/*"]);
        for fine in [down(&[]), down(&["plugins"]), down(&["commands"]), down(&["commands", "urgent"]), topics] {
            assert_eq!(LinkConfig::check_all(&fine), Ok(()), "{fine:?}");
        }
        assert_eq!(named("hq").down, ["commands"]);
        let late = LinkClass { topics: vec!["video-*".to_owned()], priority: Priority::Low, ..LinkClass::default() };
        let newest = LinkClass { backlog: Some(Backlog::Newest), ..late.clone() };
        let of_class = |class| vec![LinkConfig { class: vec![class], backlog: Backlog::Newest, ..named("hq") }];
        let refused = LinkConfig::check_all(&of_class(newest)).unwrap_err();
        assert_eq!(refused.found, "priority = \"low\" and backlog = \"newest\" of video-*");
        assert!(refused.expected.contains("leave backlog out"), "{}", refused.expected);
        // Where the link says so for all, what is low goes in order.
        let in_order = of_class(late);
        assert_eq!(LinkConfig::check_all(&in_order), Ok(()));
        assert!(in_order[0].is_newest_first("telemetry") && !in_order[0].is_newest_first("video-7"));
        let short = LinkClass { drop_after_s: 9, ..LinkClass::default() };
        let short = LinkConfig { class: vec![short], ..named("hq") };
        let detail = LinkConfig { detail: Some(vec!["*".to_owned(); 65]), ..named("hq") };
        let over: Vec<String> = (0..65).map(|n| format!("topics:t{n}")).collect();
        for wrong in [
            vec![detail],
            down(&["topics"]),
            down(&["urgent"]),
            down(&["topics:"]),
            down(&["topics:a//b"]),
            down(&["topics:a", "topics:a"]),
            down(&over.iter().map(String::as_str).collect::<Vec<_>>()),
            down(&["commands", "commands", "urgent"]),
            vec![hours],
            vec![short],
            vec![named("")],
            vec![named("a b")],
            vec![named("hq"), named("hq")],
            vec![prefixed],
            vec![many],
            vec![classes],
            vec![class],
        ] {
            assert!(LinkConfig::check_all(&wrong).is_err(), "{wrong:?}");
        }
    }
}
