//! Which topics may come down a link: what the edge lists, and what upstream allows (pure).

use serde::{Deserialize, Serialize};

use super::super::pattern::Pattern;
use crate::config::Problem;
use crate::event_log::{SITE_SEPARATOR, is_internal};

/// Before a pattern of topics, in `down` of a link.
pub const TOPICS: &str = "topics:";
/// Longest pattern, bytes.
pub const PATTERN_BYTES_MAX: usize = 128;
/// Patterns of one list at most.
pub const PATTERNS_MAX: usize = 64;
/// Lists of upstream's at most.
const DOWNLINKS_MAX: usize = 64;

/// `[[downlink]]`: what may go down to sites that feed this one. What no list names stays.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Downlink {
    /// The sites, by what they are called here; `*` stands for any characters.
    pub site: String,
    /// The topics, by name; `*` stands for any characters of one name, and not for `/`: other sites' topics are named with their site. Internal ones go
    /// only where the pattern's last name begins with `_`.
    pub topics: Vec<String>,
}

impl Downlink {
    /// What may go to a site.
    pub fn of_site(all: &[Self], site: &str) -> Vec<String> {
        let mut topics: Vec<String> = Vec::new();
        for list in all.iter().filter(|list| Pattern::new(&list.site).matches(site)) {
            topics.extend(list.topics.iter().cloned());
        }
        topics.truncate(PATTERNS_MAX);
        topics
    }

    /// What is well-formed and still wrong, the first of it.
    ///
    /// # Errors
    /// The [`Problem`].
    pub fn check_all(all: &[Self]) -> Result<(), Problem> {
        let problem =
            |key, found: String, expected: &str| Problem { path: ["downlink", key], found, expected: expected.into() };
        if all.len() > DOWNLINKS_MAX {
            return Err(problem("site", format!("{} lists", all.len()), "at most 64 lists"));
        }
        for list in all {
            if list.site.is_empty() || list.site.len() > PATTERN_BYTES_MAX || list.site.contains(SITE_SEPARATOR) {
                return Err(problem("site", list.site.clone(), "a site's name, as `link list` shows it, or a pattern"));
            }
            if let Some(wrong) = list.topics.iter().find(|pattern| !check_pattern(pattern)) {
                return Err(problem("topics", wrong.clone(), "patterns of 1 to 128 bytes"));
            }
            // What one site is given by several lists is cut to so many as well: it is told here where it can be.
            let of_site =
                all.iter().filter(|other| other.site == list.site).map(|list| list.topics.len()).sum::<usize>();
            if of_site > PATTERNS_MAX {
                return Err(problem("topics", format!("{of_site} patterns"), "at most 64 patterns for a site"));
            }
        }
        Ok(())
    }
}

/// The patterns of topics among the words of `down`.
pub fn of_words(down: &[String]) -> Vec<String> {
    down.iter().filter_map(|word| word.strip_prefix(TOPICS)).map(str::to_owned).collect()
}

/// Whether a pattern can be one.
pub fn check_pattern(pattern: &str) -> bool {
    !pattern.is_empty()
        && pattern.len() <= PATTERN_BYTES_MAX
        && pattern.split(SITE_SEPARATOR).all(|name| !name.is_empty())
}

/// Whether one of the patterns names a topic.
pub fn lists(patterns: &[String], topic: &str) -> bool {
    patterns.iter().any(|pattern| names(pattern, topic))
}

/// Name by name: a star crosses into no other site.
fn names(pattern: &str, topic: &str) -> bool {
    let (patterns, names) = (pattern.split(SITE_SEPARATOR), topic.split(SITE_SEPARATOR));
    if patterns.clone().count() != names.clone().count() {
        return false;
    }
    let is_each = patterns.zip(names).all(|(pattern, name)| Pattern::new(pattern).matches(name));
    is_each && (!is_internal(topic) || is_internal(pattern))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(all: &[&str]) -> Vec<String> {
        all.iter().map(|text| (*text).to_owned()).collect()
    }

    #[test]
    fn a_pattern_names_topics_of_its_own_depth_and_internal_ones_only_by_name() {
        // patterns, topic, whether it is listed
        let cases: [(&[&str], &str, bool); 14] = [
            (&[], "recipes", false),
            (&["recipes"], "recipes", true),
            (&["recipes"], "recipes-2", false),
            (&["rec*"], "recipes", true),
            (&["*"], "recipes", true),
            (&["*"], "plant-8/telemetry", false),
            (&["*"], "_audit", false),
            (&["_audit"], "_audit", true),
            (&["plant-8/*"], "plant-8/telemetry", true),
            (&["plant-8/*"], "plant-8/_audit", false),
            (&["plant-8/*"], "plant-7/telemetry", false),
            (&["*/*"], "plant-8/telemetry", true),
            (&["*/*"], "plant-8/line/telemetry", false),
            (&["a", "b/*"], "b/c", true),
        ];
        for (patterns, topic, expected) in cases {
            assert_eq!(lists(&texts(patterns), topic), expected, "{patterns:?} {topic}");
        }
        assert_eq!(of_words(&texts(&["commands", "topics:a/*", "plugins", "topics:b"])), ["a/*", "b"]);
    }

    #[test]
    fn a_site_is_given_what_its_lists_name() {
        let list = |site: &str, topics: &[&str]| Downlink { site: site.to_owned(), topics: texts(topics) };
        let all = [list("plant-*", &["recipes"]), list("plant-7", &["plans"]), list("yard", &["*"])];
        // site, what it is given
        let cases: [(&str, &[&str]); 4] =
            [("plant-7", &["recipes", "plans"]), ("plant-8", &["recipes"]), ("yard", &["*"]), ("other", &[])];
        for (site, expected) in cases {
            assert_eq!(Downlink::of_site(&all, site), expected, "{site}");
        }
        assert_eq!(Downlink::check_all(&all), Ok(()));
        let long = "x".repeat(PATTERN_BYTES_MAX + 1);
        for wrong in [
            vec![list("", &["a"])],
            vec![list("a/b", &["a"])],
            vec![list("a", &[""])],
            vec![list("a", &["b/"])],
            vec![list("a", &[long.as_str()])],
            vec![list("a", &["b"; 65])],
            vec![list("a", &["b"; 33]), list("a", &["b"; 33])],
            vec![list("a", &["b"]); 65],
        ] {
            assert!(Downlink::check_all(&wrong).is_err(), "{wrong:?}");
        }
    }
}
