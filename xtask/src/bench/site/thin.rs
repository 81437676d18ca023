//! A plant behind a thin line, through a relay that delays, throttles and loses: how much of the line is used, how small what
//! goes becomes, and how long an alarm takes beside a backlog.

use std::path::Path;
use std::time::{Duration, Instant};

use devices::fleet::relay::{LineConfig, Relay};
use serde_json::Value;
use tokio::runtime::Runtime;

use super::ROUTING;
use super::cuts::Cuts;
use super::nodes::{Site, wait};
use crate::bench::error::{BenchError, io};
use crate::bench::groups::Context;
use crate::bench::node::{NOWHERE, Node};
use crate::bench::payload::Payload;
use crate::bench::quantile::Latencies;
use crate::bench::report::{Goal, Row, Spread, Unit};
use crate::bench::saturate::{Load, Saturation};

/// What goes first.
const ALARMS: &str = "alarms";
/// Between two alarms.
const ALARM_EVERY: Duration = Duration::from_secs(2);
/// How often the alarm is looked for upstream.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// How long the link may take to stand and fill the line.
const WARM_UP: Duration = Duration::from_secs(10);
const BEGIN_MAX: Duration = Duration::from_secs(60);
/// How long an alarm may take until the run is given up.
const ALARM_MAX: Duration = Duration::from_secs(60);
/// Timed windows for which the thinnest line is watched: a minute by default. The group `link-flap` watches it for ten.
const WINDOWS: u32 = 12;

/// A line, and what is asked of it.
pub struct Case {
    pub name: &'static str,
    pub bits_per_s: u64,
    pub rtt: Duration,
    pub loss: f64,
    /// Whether the link is told the line's rate.
    pub is_told: bool,
    pub payload: Payload,
    /// How long the backlog is filled, so that it outlasts the run.
    pub fill: Duration,
    /// How long it is watched, by the length of a timed window.
    pub length: fn(Duration) -> Duration,
}

/// The lines, the thinnest one first.
pub const CASES: [Case; 4] = [
    Case {
        name: "50 kbit/s, 300 ms, 2 % lost",
        bits_per_s: 50_000,
        rtt: Duration::from_millis(300),
        loss: 0.02,
        is_told: true,
        payload: Payload::Reading,
        fill: Duration::from_secs(4),
        length: |window| window * WINDOWS,
    },
    Case {
        name: "1 Mbit/s, 100 ms, 0.5 % lost",
        bits_per_s: 1_000_000,
        rtt: Duration::from_millis(100),
        loss: 0.005,
        is_told: true,
        payload: Payload::Reading,
        fill: Duration::from_secs(3),
        length: |_| Duration::from_secs(20),
    },
    Case {
        name: "10 Mbit/s, 50 ms, 1 % lost, no rate set",
        bits_per_s: 10_000_000,
        rtt: Duration::from_millis(50),
        loss: 0.01,
        is_told: false,
        payload: Payload::Random,
        fill: Duration::from_secs(3),
        length: |_| Duration::from_secs(10),
    },
    Case {
        name: "100 Mbit/s, 20 ms",
        bits_per_s: 100_000_000,
        rtt: Duration::from_millis(20),
        loss: 0.0,
        is_told: true,
        payload: Payload::Random,
        fill: Duration::from_secs(12),
        length: |_| Duration::from_secs(10),
    },
];

/// What a run came to.
pub struct Measured {
    /// How long it was watched.
    pub watched: Duration,
    /// Bytes of frames that were stored upstream, a second.
    sent_per_s: f64,
    /// Bytes that the edge put on the wire, a second.
    wire_per_s: f64,
    ratio: f64,
    pub alarms: Latencies,
    /// Connections since the node was started.
    pub connections: u64,
    pub cuts: Cuts,
}

/// All lines.
pub fn run(context: &Context) -> Result<Vec<Row>, BenchError> {
    let runtime = runtime()?;
    let mut rows = Vec::new();
    for case in &CASES {
        eprintln!("  {} ...", case.name);
        let measured = measure(context, &runtime, case)?;
        rows.extend(told(case, &measured));
    }
    Ok(rows)
}

/// What the relay runs on.
pub fn runtime() -> Result<Runtime, BenchError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.map_err(io("starting a runtime"))
}

/// What of the line's rate went into frames that were stored.
pub fn useful_share(case: &Case, measured: &Measured) -> f64 {
    measured.sent_per_s / (case.bits_per_s as f64 / 8.0)
}

fn told(case: &Case, measured: &Measured) -> Vec<Row> {
    let rate = case.bits_per_s as f64 / 8.0;
    let is_reading = case.payload == Payload::Reading;
    let plain = |name: &str, figure: f64| Row::new(name, Unit::Plain, Spread::once(figure));
    let ms = |name: &str, share: f64| {
        let figure = measured.alarms.quantile_ms(share).and_then(Spread::once);
        Row::new(name, Unit::Milliseconds, figure)
    };
    let mut rows = vec![
        plain(&format!("link at {}: useful bytes of its rate", case.name), useful_share(case, measured))
            .goal(Goal::AtLeast(0.9)),
        plain("  bytes on the wire of its rate", measured.wire_per_s / rate),
        ms("  an alarm beside a backlog, p50", 0.5),
        ms("  an alarm beside a backlog, the longest", 1.0).goal(Goal::AtMost(2_000.0)),
        plain("  connections", measured.connections as f64).goal(Goal::AtMost(1.0)),
    ];
    if is_reading {
        rows.push(plain("  readings become smaller, times", measured.ratio).goal(Goal::AtLeast(6.0)));
    }
    rows
}

fn settings(case: &Case, address: std::net::SocketAddr) -> String {
    let compress = if case.payload == Payload::Reading { "on" } else { "off" };
    let rate = if case.is_told { case.bits_per_s / 8 } else { 0 };
    format!(
        "[[link]]\nname = \"hq\"\naddress = \"{address}\"\nrate_bytes_max = {rate}\ncompress = \"{compress}\"\n\
         [[link.class]]\ntopics = [\"{ALARMS}\"]\npriority = \"high\"\n"
    )
}

/// Fills a backlog, lets the link go on over the line, and watches it.
pub fn measure(context: &Context, runtime: &Runtime, case: &Case) -> Result<Measured, BenchError> {
    let folder = context.store("link-thin")?;
    let mut upstream = Site::found(&context.binary, &folder, ROUTING)?;
    let line = LineConfig::modem(case.bits_per_s, case.rtt / 2).losing(case.loss);
    let relay = runtime.block_on(Relay::start(upstream.address(0)?, line, 1)).map_err(io("starting the relay"))?;
    let plant = start(context, &folder.join("plant"), &settings(case, relay.address()))?;
    plant.cli(&["topic", "create", ALARMS])?;
    let token = upstream.node(0)?.cli(&["link", "invite", "plant"])?;
    plant.cli(&["link", "accept", token.trim(), "--name", "hq"])?;
    plant.cli(&["link", "pause", "hq"])?;
    fill(&plant, case)?;
    plant.cli(&["link", "resume", "hq"])?;
    wait("the backlog to flow", BEGIN_MAX, || Ok(number(&plant, "events")? > 0.0))?;
    // The first alarm makes its topic upstream.
    alarm(&plant, upstream.node(0)?, 1)?;
    std::thread::sleep(WARM_UP);
    let measured = watch(context, case, &plant, upstream.node(0)?)?;
    plant.stop()?;
    upstream.stop()?;
    drop(relay);
    context.remove(&folder)?;
    Ok(measured)
}

fn start(context: &Context, data: &Path, settings: &str) -> Result<Node, BenchError> {
    Node::start_configured(&context.binary, data, NOWHERE, &[], settings)
}

fn fill(plant: &Node, case: &Case) -> Result<(), BenchError> {
    let load = Load { qos: 1, subscriber: false, payload: case.payload };
    let mut saturation = Saturation::open(plant.mqtt, load)?;
    saturation.run_until(Instant::now() + case.fill)?;
    saturation.drain().map(drop)
}

fn watch(context: &Context, case: &Case, plant: &Node, upstream: &Node) -> Result<Measured, BenchError> {
    let length = (case.length)(context.window);
    let (before, began) = (view(plant)?, Instant::now());
    let mut cuts = Cuts::since(&before);
    let mut samples = Vec::new();
    let mut count = 1;
    while began.elapsed() < length {
        let turn = Instant::now();
        count += 1;
        samples.push(alarm(plant, upstream, count)?);
        cuts.look(began.elapsed(), &view(plant)?);
        std::thread::sleep(ALARM_EVERY.saturating_sub(turn.elapsed()));
    }
    let (after, watched) = (view(plant)?, began.elapsed());
    if after["lag_events"].as_u64().unwrap_or(0) == 0 {
        return Err(BenchError::Program("the backlog was drained before the end: the figures say nothing".to_owned()));
    }
    let per_s = |of: fn(&Value) -> f64| (of(&after) - of(&before)) / watched.as_secs_f64();
    Ok(Measured {
        watched,
        sent_per_s: per_s(|view| sum(view, "sent_bytes")),
        wire_per_s: per_s(|view| view["traffic"]["sent_bytes"].as_f64().unwrap_or(0.0)),
        ratio: (sum(&after, "record_bytes") - sum(&before, "record_bytes"))
            / (sum(&after, "sent_bytes") - sum(&before, "sent_bytes")),
        alarms: Latencies::new(samples),
        connections: after["connections"].as_u64().unwrap_or(0),
        cuts,
    })
}

/// Publishes the so-manieth alarm; how long it took until upstream shows it.
fn alarm(plant: &Node, upstream: &Node, count: u64) -> Result<Duration, BenchError> {
    let began = Instant::now();
    plant.cli(&["publish", ALARMS, "--key", "pump", "--value", "hot"])?;
    while events(upstream) < count {
        if began.elapsed() > ALARM_MAX {
            return Err(BenchError::Timeout { what: "an alarm".to_owned(), limit: ALARM_MAX });
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(began.elapsed())
}

/// How many alarms are upstream.
fn events(upstream: &Node) -> u64 {
    let shown = upstream.get(&format!("/v1/topics/plant%2F{ALARMS}")).unwrap_or_default();
    let shown: Value = serde_json::from_str(&shown).unwrap_or_default();
    shown["events"].as_u64().unwrap_or(0)
}

fn view(plant: &Node) -> Result<Value, BenchError> {
    let text = plant.get("/v1/links/hq")?;
    serde_json::from_str(&text).map_err(|error| BenchError::Program(format!("{error} in what a link says: {text}")))
}

fn number(plant: &Node, field: &str) -> Result<f64, BenchError> {
    Ok(view(plant)?[field].as_f64().unwrap_or(0.0))
}

/// A figure over all priorities.
fn sum(view: &Value, field: &str) -> f64 {
    let classes = view["classes"].as_array();
    classes.into_iter().flatten().filter_map(|class| class[field].as_f64()).sum()
}
