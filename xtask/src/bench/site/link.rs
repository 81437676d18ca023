//! A plant that feeds its headquarters: how fast a backlog drains, and what memory that takes at either end.

use std::time::{Duration, Instant};

use super::nodes::{Site, wait};
use super::{QUORUM as TOPIC, ROUTING};
use crate::bench::error::BenchError;
use crate::bench::groups::Context;
use crate::bench::node::Node;
use crate::bench::payload::Payload;
use crate::bench::proc;
use crate::bench::report::{Goal, Row, Spread, Unit};
use crate::bench::saturate::{Load, Saturation};

/// Events that wait when the link goes on.
const BACKLOG_EVENTS: u64 = 10_000_000;
/// How long making them may take, and draining them.
const FILL_MAX: Duration = Duration::from_secs(600);
const DRAIN_MAX: Duration = Duration::from_secs(600);
/// Events a second that the drain should reach.
const GOAL_EVENTS_PER_S: f64 = 500_000.0;

/// Stores a backlog at a plant whose link is paused, and lets it go on.
pub fn run(context: &Context) -> Result<Vec<Row>, BenchError> {
    let folder = context.store("link")?;
    let mut upstream = Site::found(&context.binary, &folder, ROUTING)?;
    let edge = Node::start(&context.binary, &folder.join("plant"))?;
    let token = upstream.node(0)?.cli(&["link", "invite", "plant"])?;
    edge.cli(&["link", "accept", token.trim(), "--name", "hq"])?;
    edge.cli(&["link", "pause", "hq"])?;
    fill(&edge)?;
    let waiting = events(&edge, TOPIC);
    let before = [&edge, upstream.node(0)?].map(|node| proc::memory(node.pid()).map(|memory| memory.resident));
    let [edge_before, upstream_before] = before;
    let mut most = (edge_before?, upstream_before?);
    let (edge_before, upstream_before) = most;
    let began = Instant::now();
    edge.cli(&["link", "resume", "hq"])?;
    let far = format!("plant%2F{TOPIC}");
    wait("the backlog to drain", DRAIN_MAX, || {
        most.0 = proc::memory(edge.pid())?.resident.max(most.0);
        most.1 = proc::memory(upstream.node(0)?.pid())?.resident.max(most.1);
        Ok(events(upstream.node(0)?, &far) >= waiting)
    })?;
    let rate = waiting as f64 / began.elapsed().as_secs_f64();
    edge.stop()?;
    upstream.stop()?;
    context.remove(&folder)?;
    let memory = |name, bytes: u64| Row::new(name, Unit::Bytes, Spread::once(bytes as f64));
    Ok(vec![
        Row::new("events that wait at a plant", Unit::Plain, Spread::once(waiting as f64)),
        Row::new("  they drain at", Unit::PerSecond, Spread::once(rate)).goal(Goal::AtLeast(GOAL_EVENTS_PER_S)),
        memory("  memory of the plant", most.0),
        memory("  ... more than before", most.0 - edge_before),
        memory("  memory of the headquarters", most.1),
        memory("  ... more than before", most.1 - upstream_before),
    ])
}

/// How many events a topic has; none where it is not there yet.
fn events(node: &Node, topic: &str) -> u64 {
    let shown = node.get(&format!("/v1/topics/{topic}")).unwrap_or_default();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap_or_default();
    shown["events"].as_u64().unwrap_or(0)
}

fn fill(node: &Node) -> Result<(), BenchError> {
    let load = Load { qos: 1, subscriber: false, payload: Payload::Reading };
    let mut saturation = Saturation::open(node.mqtt, load)?;
    let started = Instant::now();
    while events(node, TOPIC) < BACKLOG_EVENTS {
        if started.elapsed() > FILL_MAX {
            return Err(BenchError::Timeout { what: "storing the backlog".to_owned(), limit: FILL_MAX });
        }
        saturation.run_until(Instant::now() + Duration::from_secs(1))?;
    }
    saturation.drain().map(drop)
}
