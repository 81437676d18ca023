//! What goes first on a link: each topic is of one priority, and each priority is a stream of its own (pure).

use serde::{Deserialize, Serialize};

use super::hours::Hours;
use super::pattern::Pattern;

/// How urgent a topic is. Each used one is a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// Before all others, always: commands, alarms.
    High,
    /// Four parts of what is left, while `low` waits too.
    #[default]
    Normal,
    /// One part of it.
    Low,
}

impl Priority {
    /// All, the most urgent first.
    pub const ALL: [Self; 3] = [Self::High, Self::Normal, Self::Low];

    /// Its place in [`Self::ALL`], as it is said on the wire.
    pub fn place(self) -> usize {
        self as usize
    }

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::High => "high",
            Self::Normal => "normal",
            Self::Low => "low",
        }
    }
}

/// In which order what was missed goes when a link comes up again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backlog {
    /// All in its order.
    #[default]
    Oldest,
    /// What is newest at once, and what was missed behind it, at the turn of `low`.
    Newest,
}

/// `[[link.class]]`: topics of one priority.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinkClass {
    /// The topics, by name; `*` stands for any characters.
    pub topics: Vec<String>,
    /// How urgent they are.
    pub priority: Priority,
    /// When they may go, each day, as `22:00-06:00` in UTC; empty: always.
    pub hours: String,
    /// Seconds after which events are not worth sending any more, by the hybrid clock that they are stored with: upstream is told of
    /// a gap in their place. 0: never.
    pub drop_after_s: u32,
    /// In which order what was missed goes; none said: as the link says, but in order where the priority is `low`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub backlog: Option<Backlog>,
}

/// The first class that names a topic.
fn class_of<'a>(classes: &'a [LinkClass], topic: &str) -> Option<&'a LinkClass> {
    classes.iter().find(|class| class.topics.iter().any(|pattern| Pattern::new(pattern).matches(topic)))
}

/// The priority of a topic: that of the first class that names it, else `normal`.
pub fn priority_of(classes: &[LinkClass], topic: &str) -> Priority {
    class_of(classes, topic).map_or(Priority::Normal, |class| class.priority)
}

/// Whether a topic may go at a moment, Unix milliseconds. Hours that cannot be read do not hold it back.
pub fn may_go(classes: &[LinkClass], topic: &str, at_ms: i64) -> bool {
    let hours = class_of(classes, topic).and_then(|class| Hours::parse(&class.hours));
    hours.is_none_or(|hours| hours.contain(at_ms))
}

/// How old a topic's events may be when they are sent, milliseconds; 0: as old as they are kept.
pub fn drop_after_ms(classes: &[LinkClass], topic: &str) -> u64 {
    class_of(classes, topic).map_or(0, |class| u64::from(class.drop_after_s) * 1_000)
}

/// In which order what was missed of a topic goes.
pub fn backlog_of(classes: &[LinkClass], topic: &str, of_link: Backlog) -> Backlog {
    match class_of(classes, topic) {
        Some(LinkClass { priority: Priority::Low, .. }) => Backlog::Oldest,
        Some(class) => class.backlog.unwrap_or(of_link),
        None => of_link,
    }
}

/// The priorities that classes use, the most urgent first; `normal` is always among them, and `low` where it brings what was missed.
pub fn used(classes: &[LinkClass], of_link: Backlog) -> Vec<Priority> {
    let is_newest = |class: &LinkClass| class.backlog == Some(Backlog::Newest);
    let has_fills = of_link == Backlog::Newest || classes.iter().any(is_newest);
    let is_used = |priority: &Priority| {
        *priority == Priority::Normal
            || has_fills && *priority == Priority::Low
            || classes.iter().any(|class| class.priority == *priority)
    };
    Priority::ALL.into_iter().filter(is_used).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_class_that_names_a_topic_counts() {
        let class = |topics: &[&str], priority| LinkClass {
            topics: topics.iter().map(|text| (*text).to_owned()).collect(),
            priority,
            hours: if priority == Priority::Low { "22:00-06:00".to_owned() } else { String::new() },
            drop_after_s: if priority == Priority::Low { 60 } else { 0 },
            backlog: (priority == Priority::High).then_some(Backlog::Newest),
        };
        let classes = [
            class(&["alarms", "line-*/alarms"], Priority::High),
            class(&["video-*"], Priority::Low),
            class(&["*"], Priority::Normal),
        ];
        let cases = [
            ("alarms", Priority::High),
            ("line-3/alarms", Priority::High),
            ("video-7", Priority::Low),
            ("telemetry", Priority::Normal),
            ("_audit", Priority::Normal),
        ];
        for (topic, priority) in cases {
            assert_eq!(priority_of(&classes, topic), priority, "{topic}");
        }
        for (topic, by_day) in [("video-7", false), ("telemetry", true), ("alarms", true)] {
            assert_eq!(may_go(&classes, topic, 12 * 3_600_000), by_day, "{topic}");
            assert!(may_go(&classes, topic, 23 * 3_600_000), "{topic}");
        }
        for (topic, expected) in [("video-7", 60_000), ("telemetry", 0), ("alarms", 0)] {
            assert_eq!(drop_after_ms(&classes, topic), expected, "{topic}");
        }
        for (topic, of_link, expected) in [
            ("alarms", Backlog::Oldest, Backlog::Newest),
            ("telemetry", Backlog::Oldest, Backlog::Oldest),
            ("telemetry", Backlog::Newest, Backlog::Newest),
            ("video-7", Backlog::Newest, Backlog::Oldest),
        ] {
            assert_eq!(backlog_of(&classes, topic, of_link), expected, "{topic} {of_link:?}");
        }
        let oldest = Backlog::Oldest;
        assert_eq!(used(&classes, oldest), Priority::ALL);
        assert_eq!(used(&classes[..1], oldest), Priority::ALL, "what was missed goes as low");
        assert_eq!(used(&classes[1..2], oldest), [Priority::Normal, Priority::Low]);
        assert_eq!(used(&[], oldest), [Priority::Normal]);
        assert_eq!(used(&[], Backlog::Newest), [Priority::Normal, Priority::Low]);
    }
}
