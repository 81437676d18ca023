//! What people see of topics that go down a link, at both ends. Reads the store: not for a task.

use std::collections::BTreeMap;
use std::sync::Arc;

use sled_data::OriginId;

use super::super::book::{Lag, Shared, State};
use super::flow::Given;
use crate::event_log::EventLog;

/// Topics that are shown of one link.
const TOPICS_SHOWN_MAX: usize = 500;

/// What goes down to one gateway, as upstream knows it.
#[derive(Debug, Clone)]
pub struct Going {
    /// What is known of it.
    pub page: Shared,
    /// What goes.
    pub given: Arc<Given>,
}

/// What comes down, as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicsDown {
    /// Upstream: the gateway to which it goes; empty at the edge.
    pub gateway: String,
    /// How it is.
    pub state: State,
    /// Why nothing comes, where there is a reason.
    pub reason: String,
    /// What upstream allows.
    pub allowed: Vec<String>,
    /// Events stored at the edge, since the start.
    pub events: u64,
    /// Bytes of their batches.
    pub bytes: u64,
    /// How far the edge is behind.
    pub lag: Lag,
    /// The topics.
    pub topics: Vec<TopicDown>,
    /// What is not taken, since the start.
    pub refusals: Vec<String>,
}

/// One topic.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct TopicDown {
    /// Its name here.
    pub name: String,
    /// Events that are at the edge, those that are not kept any more included.
    pub events: u64,
    /// Events that are not; upstream alone knows.
    pub waiting: Option<u64>,
}

fn view(page: &Shared, gateway: String, allowed: Vec<String>, topics: BTreeMap<String, TopicDown>) -> TopicsDown {
    let page = page.lock();
    TopicsDown {
        gateway,
        state: page.state,
        reason: page.reason.clone(),
        allowed,
        events: page.events,
        bytes: page.bytes,
        lag: page.lag,
        topics: topics.into_values().take(TOPICS_SHOWN_MAX).collect(),
        refusals: page.refusals.clone(),
    }
}

/// Upstream: what goes down to a gateway.
pub fn going(log: &EventLog, going: &Going, gateway: String) -> TopicsDown {
    let stored = going.page.lock().stored.clone();
    let mut topics: BTreeMap<String, TopicDown> = BTreeMap::new();
    for partition in going.given.carried(log) {
        let name = partition.topic().to_string();
        let stored = stored.get(&partition.id()).copied().unwrap_or(0);
        let topic = topics.entry(name.clone()).or_insert_with(|| TopicDown { name, ..TopicDown::default() });
        topic.events += stored;
        let waiting = topic.waiting.get_or_insert(0);
        *waiting += partition.visible_end().saturating_sub(stored.max(log.store().reach(partition.id()).start));
    }
    view(&going.page, gateway, going.given.allowed.clone(), topics)
}

/// The edge: what comes down by the link of this id.
pub fn coming(log: &EventLog, page: &Shared, link: u64) -> TopicsDown {
    let linked: BTreeMap<OriginId, u64> =
        log.store().linked().into_iter().map(|(origin, linked)| (origin, linked.link)).collect();
    let mut topics: BTreeMap<String, TopicDown> = BTreeMap::new();
    for partition in log.all_partitions() {
        if linked.get(&partition.id().origin) == Some(&link) {
            let name = partition.topic().to_string();
            let topic = topics.entry(name.clone()).or_insert_with(|| TopicDown { name, ..TopicDown::default() });
            topic.events += partition.visible_end();
        }
    }
    let allowed = page.lock().down.clone();
    view(page, String::new(), allowed, topics)
}
