//! Routing rules (pure): those of the site, then the node's own, then the catch-all say where an MQTT topic goes.

use serde::{Deserialize, Serialize};

use crate::catalog::{CompiledRule, Destination, Rule, RuleError};

/// Rules that a configuration may have.
pub const RULES_MAX: usize = 1_000;

/// How MQTT topics become topics and keys.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Refuse what no rule names, instead of taking it into the catch-all topic.
    pub strict: bool,
    /// The node's own rules, asked when none of the site's matches; the first that matches counts.
    pub rules: Vec<Rule>,
}

impl Config {
    /// Whether every rule can be.
    ///
    /// # Errors
    /// The first mistake.
    pub fn check(&self) -> Result<(), RulesError> {
        Rules::compile(self).map(drop)
    }
}

/// What is wrong with a configuration's rules.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RulesError {
    /// One of them is wrong.
    #[error(transparent)]
    Rule(#[from] RuleError),
    /// Too many rules.
    #[error("{0} routing rules, at most {RULES_MAX}")]
    TooMany(usize),
}

/// Compiled rules.
#[derive(Debug)]
pub(super) struct Rules {
    /// Those of the site.
    site: Vec<CompiledRule>,
    /// Those of the node's configuration.
    own: Vec<CompiledRule>,
    strict: bool,
}

impl Rules {
    pub(super) fn compile(config: &Config) -> Result<Self, RulesError> {
        if config.rules.len() > RULES_MAX {
            return Err(RulesError::TooMany(config.rules.len()));
        }
        let own = config.rules.iter().map(Rule::compile).collect::<Result<_, _>>()?;
        Ok(Self { site: Vec::new(), own, strict: config.strict })
    }

    /// Those of the site are these from now on.
    pub(super) fn set_site(&mut self, rules: Vec<CompiledRule>) {
        self.site = rules;
    }

    /// `None`: no rule names it, and the rules are strict.
    pub(super) fn route(&self, mqtt_topic: &str) -> Option<Destination> {
        let levels: Vec<&str> = mqtt_topic.split('/').collect();
        let by_rule = self.site.iter().chain(&self.own).find_map(|rule| rule.route(mqtt_topic, &levels));
        by_rule.or_else(|| {
            let catch_all = Destination { topic: super::CATCH_ALL_TOPIC.to_owned(), key: mqtt_topic.to_owned() };
            (!self.strict).then_some(catch_all)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(pattern: &str, topic: &str, key: Option<&str>) -> Rule {
        Rule { pattern: pattern.into(), topic: topic.into(), key: key.map(Into::into) }
    }

    #[test]
    fn routes_by_the_first_rule_that_matches() {
        let rules = vec![
            rule("sensors/{device}/{metric}", "telemetry", Some("{device}")),
            rule("plant/{site}/#", "plant-{site}", None),
            rule("a/+/c", "abc", Some("x")),
        ];
        let rules = Rules::compile(&Config { strict: false, rules }).unwrap();
        let cases = [
            ("sensors/s1/temp", "telemetry", "s1"),
            ("sensors/s1", "mqtt", "sensors/s1"),
            ("plant/7/x/y", "plant-7", "plant/7/x/y"),
            ("plant/7", "plant-7", "plant/7"),
            ("a/b/c", "abc", "x"),
            ("other", "mqtt", "other"),
        ];
        for (mqtt_topic, topic, key) in cases {
            let expected = Destination { topic: topic.into(), key: key.into() };
            assert_eq!(rules.route(mqtt_topic), Some(expected), "{mqtt_topic}");
        }
    }

    #[test]
    fn the_rules_of_the_site_stand_before_the_nodes_own() {
        let own = vec![rule("a/#", "own", None), rule("b", "own", None)];
        let mut rules = Rules::compile(&Config { strict: true, rules: own }).unwrap();
        let topic = |rules: &Rules, mqtt_topic: &str| rules.route(mqtt_topic).map(|found| found.topic);
        assert_eq!(topic(&rules, "a/b").as_deref(), Some("own"));
        let site = [rule("a/b", "first", None), rule("a/+", "second", None)];
        rules.set_site(site.iter().map(|rule| rule.compile().unwrap()).collect());
        let cases =
            [("a/b", Some("first")), ("a/c", Some("second")), ("a/b/c", Some("own")), ("b", Some("own")), ("c", None)];
        for (mqtt_topic, expected) in cases {
            assert_eq!(topic(&rules, mqtt_topic).as_deref(), expected, "{mqtt_topic}");
        }
        rules.set_site(Vec::new());
        assert_eq!(topic(&rules, "a/b").as_deref(), Some("own"));
    }

    #[test]
    fn strict_rules_refuse_what_they_do_not_name() {
        let config = Config { strict: true, rules: vec![rule("a", "a", None)] };
        let rules = Rules::compile(&config).unwrap();
        assert!(rules.route("a").is_some());
        assert_eq!(rules.route("b"), None);
    }
}
