//! A plant that feeds its headquarters: how fast a backlog drains, and what memory that takes at either end.

use std::time::{Duration, Instant};

use super::nodes::{Site, wait};
use super::{QUORUM as TOPIC, ROUTING};
use crate::bench::error::BenchError;
use crate::bench::groups::Context;
use crate::bench::node::{NOWHERE, Node};
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
/// What four times the backlog may add to the memory of either side, bytes: less than noise.
const GOAL_GROWN_BYTES: f64 = 32e6;

/// By what a link goes.
#[derive(Debug, Clone, Copy)]
enum Way {
    /// QUIC by UDP.
    Quic,
    /// QUIC's packets through TCP.
    Tcp,
}

impl Way {
    /// As the configuration and the API write it.
    fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        }
    }
}

/// A backlog that has drained.
struct Drained {
    events: u64,
    per_second: f64,
    /// The most memory of the plant and of the headquarters meanwhile, bytes, and what that is more than before.
    memory: [u64; 2],
    added: [u64; 2],
}

/// Stores a backlog at a plant whose link is paused, and lets it go on; also a quarter of it and four times as many, to see
/// what memory depends on. A quarter is upstream within two seconds, before queues and caches have been as full as they get:
/// what the backlog itself takes shows in four times as many. And a quarter once more, by TCP.
pub fn run(context: &Context) -> Result<Vec<Row>, BenchError> {
    let quarter = drain(context, BACKLOG_EVENTS / 4, Way::Quic)?;
    let whole = drain(context, BACKLOG_EVENTS, Way::Quic)?;
    let fourfold = drain(context, BACKLOG_EVENTS * 4, Way::Quic)?;
    let by_tcp = drain(context, BACKLOG_EVENTS / 4, Way::Tcp)?;
    let memory = |name: &str, bytes: u64| Row::new(name, Unit::Bytes, Spread::once(bytes as f64));
    let mut rows = vec![
        Row::new("events that wait at a plant", Unit::Plain, Spread::once(whole.events as f64)),
        Row::new("  they drain at", Unit::PerSecond, Spread::once(whole.per_second))
            .goal(Goal::AtLeast(GOAL_EVENTS_PER_S)),
        Row::new("  four times as many drain at", Unit::PerSecond, Spread::once(fourfold.per_second))
            .goal(Goal::AtLeast(GOAL_EVENTS_PER_S)),
        Row::new("  a quarter of them drains at", Unit::PerSecond, Spread::once(quarter.per_second)),
        Row::new("  ... by TCP", Unit::PerSecond, Spread::once(by_tcp.per_second)),
    ];
    for (place, name) in ["the plant", "the headquarters"].into_iter().enumerate() {
        let more = |than: &Drained, drained: &Drained| drained.added[place].saturating_sub(than.added[place]);
        rows.push(memory(&format!("  memory of {name}"), whole.memory[place]));
        rows.push(memory("  ... more than before", whole.added[place]));
        rows.push(memory("  ... more than with a quarter of them", more(&quarter, &whole)));
        let grown = memory("  with four times as many, more than with these", more(&whole, &fourfold));
        rows.push(grown.goal(Goal::AtMost(GOAL_GROWN_BYTES)));
    }
    Ok(rows)
}

fn drain(context: &Context, backlog: u64, way: Way) -> Result<Drained, BenchError> {
    let folder = context.store("link")?;
    let mut upstream = Site::found(&context.binary, &folder, ROUTING)?;
    let settings = format!("[[link]]\nname = \"hq\"\ntransport = \"{}\"\n", way.as_str());
    let edge = Node::start_configured(&context.binary, &folder.join("plant"), NOWHERE, &[], &settings)?;
    let token = upstream.node(0)?.cli(&["link", "invite", "plant"])?;
    edge.cli(&["link", "accept", token.trim(), "--name", "hq"])?;
    edge.cli(&["link", "pause", "hq"])?;
    fill(&edge, backlog)?;
    let waiting = events(&edge, TOPIC);
    let pids = [edge.pid(), upstream.node(0)?.pid()];
    let mut before = [0; 2];
    for (before, pid) in before.iter_mut().zip(pids) {
        *before = proc::memory(pid)?.resident;
    }
    let mut memory = before;
    let began = Instant::now();
    edge.cli(&["link", "resume", "hq"])?;
    let far = format!("plant%2F{TOPIC}");
    wait("the backlog to drain", DRAIN_MAX, || {
        for (most, pid) in memory.iter_mut().zip(pids) {
            *most = proc::memory(pid)?.resident.max(*most);
        }
        Ok(events(upstream.node(0)?, &far) >= waiting)
    })?;
    let per_second = waiting as f64 / began.elapsed().as_secs_f64();
    went_by(&edge, way)?;
    edge.stop()?;
    upstream.stop()?;
    context.remove(&folder)?;
    let added = [0, 1].map(|place: usize| memory[place] - before[place]);
    Ok(Drained { events: waiting, per_second, memory, added })
}

/// Whether the link went as it was told to: else the figure is of something else.
fn went_by(edge: &Node, way: Way) -> Result<(), BenchError> {
    let shown = edge.get("/v1/links/hq")?;
    let view: serde_json::Value = serde_json::from_str(&shown).unwrap_or_default();
    match view["transport"] == way.as_str() {
        true => Ok(()),
        false => Err(BenchError::Program(format!("the link did not go by {}: {shown}", way.as_str()))),
    }
}

/// How many events a topic has; none where it is not there yet.
fn events(node: &Node, topic: &str) -> u64 {
    let shown = node.get(&format!("/v1/topics/{topic}")).unwrap_or_default();
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap_or_default();
    shown["events"].as_u64().unwrap_or(0)
}

fn fill(node: &Node, backlog: u64) -> Result<(), BenchError> {
    let load = Load { qos: 1, subscriber: false, payload: Payload::Reading };
    let mut saturation = Saturation::open(node.mqtt, load)?;
    let started = Instant::now();
    while events(node, TOPIC) < backlog {
        if started.elapsed() > FILL_MAX {
            return Err(BenchError::Timeout { what: "storing the backlog".to_owned(), limit: FILL_MAX });
        }
        saturation.run_until(Instant::now() + Duration::from_secs(1))?;
    }
    saturation.drain().map(drop)
}
