//! The event log as its tail shows it.

use serde_json::Value;

use super::node::Node;
use super::wait;

/// One event of a tail.
#[derive(Debug, Clone, PartialEq)]
pub struct Event(pub Value);

impl Event {
    /// The partition's number.
    pub fn partition(&self) -> u64 {
        self.0["partition"].as_u64().unwrap()
    }

    /// The number in the partition.
    pub fn offset(&self) -> u64 {
        self.0["offset"].as_u64().unwrap()
    }

    /// The key as text; empty where there is none.
    pub fn key(&self) -> &str {
        self.0["key"].as_str().unwrap_or_default()
    }

    /// The value as text.
    pub fn text(&self) -> String {
        match &self.0["value"] {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        }
    }

    /// The value as JSON, whether shown as a value or as text.
    pub fn json(&self) -> Value {
        match &self.0["value"] {
            Value::String(text) => serde_json::from_str(text).unwrap(),
            other => other.clone(),
        }
    }
}

impl Node {
    /// What the tail of a topic says from its start: events and gaps.
    fn tail(&self, topic: &str) -> Vec<Value> {
        self.get(&format!("topics/{topic}/events?from=start")).ok().lines()
    }

    /// All events of a topic, in the order of its tail; there must be no gap.
    pub fn events(&self, topic: &str) -> Vec<Event> {
        let lines = self.tail(topic);
        assert!(lines.iter().all(|line| line.get("gap").is_none()), "a gap in {topic}: {lines:?}");
        lines.into_iter().map(Event).collect()
    }

    /// The same where there may be gaps, which are left out, or no such topic yet.
    pub fn readable_events(&self, topic: &str) -> Vec<Event> {
        let answer = self.get(&format!("topics/{topic}/events?from=start"));
        let lines = if answer.status == 404 { Vec::new() } else { answer.ok().lines() };
        lines.into_iter().filter(|line| line.get("offset").is_some()).map(Event).collect()
    }

    /// The steps of a command, as the log has them.
    pub fn command_steps(&self, id: &str) -> Vec<Value> {
        let steps = self.readable_events("_commands").into_iter().map(|event| event.json());
        steps.filter(|step| step["id"] == id).collect()
    }

    /// Waits until a step of a command is durable: where a command stands is told a moment earlier.
    pub fn wait_step(&self, id: &str, step: &str) {
        let has = |steps: Vec<Value>| steps.iter().any(|found| found["step"] == step);
        wait::until_true(&format!("{id} {step}"), || has(self.command_steps(id)));
    }

    /// All events of a topic, as soon as there are `count`.
    pub fn events_when(&self, topic: &str, count: usize) -> Vec<Event> {
        wait::until(&format!("{count} events of {topic}"), || {
            let events = self.readable_events(topic);
            (events.len() >= count).then_some(events)
        })
    }
}

/// The offsets of each partition must be dense from 0.
pub fn assert_dense(events: &[Event]) {
    let mut next = std::collections::BTreeMap::new();
    for event in events {
        let expected = next.entry(event.partition()).or_insert(0);
        assert_eq!(event.offset(), *expected, "partition {}", event.partition());
        *expected += 1;
    }
}
