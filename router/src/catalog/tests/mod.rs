//! The catalog: on one node, and on several with a way between them that can be cut.
#![allow(clippy::unwrap_used)]

mod agree;
mod catch_up;
mod devices;
mod hanging;
mod judge;
mod levels;
mod restored;
mod site;
mod survive;
mod terms;
mod touch;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sled_data::{Backend, MemoryBackend, Options, Store};

use super::*;
use crate::clock::Clock;
use crate::event_log;

fn open_log<B: Backend + 'static>(backend: &Arc<B>) -> Arc<EventLog> {
    let backend: Arc<dyn Backend> = Arc::clone(backend) as _;
    let (store, recovered) = Store::on(backend, Options { seed: Some(9), ..Options::default() }).unwrap();
    let clock = Arc::new(Clock::starting_after(recovered.last_hlc));
    let log = EventLog::open(Arc::new(store), clock, event_log::Config::default()).unwrap();
    log.ensure_topic(event_log::AUDIT_TOPIC, None).unwrap();
    log
}

fn add(device: &str) -> Change {
    let (tags, attributes) = (BTreeSet::new(), BTreeMap::new());
    Change::AddDevice { device: device.into(), tags, attributes, refuses_repeats: None }
}

fn tag(device: &str, tags: &[&str], untag: &[&str], seen: bool) -> Change {
    let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
    Change::SetTags { device: device.into(), add: names(tags), remove: names(untag), seen }
}

/// The values of a topic's events, in order.
fn events(log: &EventLog, topic: &str) -> Vec<serde_json::Value> {
    let topic = log.topic(topic).unwrap();
    let mut values: Vec<serde_json::Value> = Vec::new();
    for partition in topic.all_partitions() {
        for batch in log.read(partition.id(), 0, 1 << 20).unwrap() {
            values.extend(batch.events_from(0).map(|(_, event)| serde_json::from_slice(event.value.unwrap()).unwrap()));
        }
    }
    values
}
