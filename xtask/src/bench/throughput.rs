//! MQTT at full speed, the node and mosquitto in turn.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::bench::error::BenchError;
use crate::bench::groups::Context;
use crate::bench::metrics;
use crate::bench::mosquitto::Mosquitto;
use crate::bench::node::Node;
use crate::bench::options::REPETITIONS;
use crate::bench::payload::{PAYLOAD_BYTES, Payload};
use crate::bench::proc::{self, Usage};
use crate::bench::report::{Goal, Row, Spread, Unit};
use crate::bench::saturate::{Counts, Load, Saturation};

/// Before the first timed window.
const WARM_UP: Duration = Duration::from_secs(2);

/// Durable QoS 1 ingest.
pub fn ingest(context: &Context) -> Result<Vec<Row>, BenchError> {
    let load = Load { qos: 1, subscriber: false, payload: Payload::Reading };
    measure(context, "ingest", "QoS 1 acknowledged", load, 3.0)
}

/// The same with one subscriber; what was delivered counts.
pub fn ingest_subscriber(context: &Context) -> Result<Vec<Row>, BenchError> {
    let load = Load { qos: 1, subscriber: true, payload: Payload::Reading };
    measure(context, "ingest-subscriber", "QoS 1 delivered to one", load, 3.0)
}

/// QoS 0 to one subscriber.
pub fn fan_out(context: &Context) -> Result<Vec<Row>, BenchError> {
    let load = Load { qos: 0, subscriber: true, payload: Payload::Reading };
    measure(context, "fan-out", "QoS 0 delivered to one", load, 4.0)
}

/// QoS 1 ingest of what cannot be compressed.
pub fn incompressible(context: &Context) -> Result<Vec<Row>, BenchError> {
    let load = Load { qos: 1, subscriber: false, payload: Payload::Random };
    measure(context, "incompressible", "QoS 1 acknowledged, random bytes", load, 1.5)
}

/// One broker under load, and what it did in each window.
struct Side {
    pid: u32,
    saturation: Saturation,
    rates: Vec<f64>,
    cpu_us: Vec<f64>,
    written: Vec<f64>,
    lost: u64,
}

impl Side {
    fn open(address: SocketAddr, pid: u32, load: Load) -> Result<Side, BenchError> {
        let mut saturation = Saturation::open(address, load)?;
        saturation.run_until(Instant::now() + WARM_UP)?;
        saturation.drain()?;
        Ok(Side { pid, saturation, rates: Vec::new(), cpu_us: Vec::new(), written: Vec::new(), lost: 0 })
    }

    fn window(&mut self, length: Duration) -> Result<(), BenchError> {
        let before = (self.saturation.counts(), proc::usage(self.pid)?);
        let started = Instant::now();
        self.saturation.run_until(started + length)?;
        let (counts, took) = (self.saturation.counts(), started.elapsed());
        let usage = proc::usage(self.pid)?;
        let done = done(counts).saturating_sub(done(before.0)) as f64;
        self.rates.push(done / took.as_secs_f64());
        self.cpu_us.push((usage.cpu - before.1.cpu).as_secs_f64() * 1e6 / done.max(1.0));
        let end = self.saturation.drain()?;
        self.lost = end.lost;
        self.written.push(bytes_per_payload_byte(before, (end, proc::usage(self.pid)?)));
        Ok(())
    }
}

/// Messages that went all the way.
fn done(counts: Counts) -> u64 {
    match counts.delivered {
        0 => counts.acked,
        delivered => delivered,
    }
}

fn bytes_per_payload_byte(before: (Counts, Usage), after: (Counts, Usage)) -> f64 {
    let payload = (after.0.sent - before.0.sent) * PAYLOAD_BYTES as u64;
    (after.1.write_bytes - before.1.write_bytes) as f64 / payload.max(1) as f64
}

fn measure(context: &Context, group: &str, what: &str, load: Load, goal: f64) -> Result<Vec<Row>, BenchError> {
    let data = context.store(group)?;
    let node = Node::start(&context.binary, &data)?;
    let mut ours = Side::open(node.mqtt, node.pid(), load)?;
    let broker = context.mosquitto.as_ref().map(Mosquitto::start).transpose()?;
    let mut theirs = match &broker {
        Some(broker) => Some(Side::open(broker.address, broker.pid(), load)?),
        None => None,
    };
    let earlier = metrics::sync_seconds(&node.get("/metrics")?);
    for _ in 0..REPETITIONS {
        ours.window(context.window)?;
        if let Some(theirs) = &mut theirs {
            theirs.window(context.window)?;
        }
    }
    let syncs = metrics::sync_seconds(&node.get("/metrics")?).since(&earlier);
    let mut rows = rate_rows(what, load, goal, &ours, theirs.as_ref());
    if load.qos == 1 {
        let written = Spread::of(ours.written.clone());
        rows.push(Row::new("  bytes written per payload byte", Unit::Plain, written));
        for (name, share) in [("p50", 0.5), ("p99", 0.99)] {
            let quantile = syncs.quantile(share).and_then(|seconds| Spread::once(seconds * 1e3));
            rows.push(Row::new(format!("  write and sync of a commit, {name}"), Unit::Milliseconds, quantile));
        }
    }
    let peak = |pid| proc::memory(pid).ok().and_then(|memory| Spread::once(memory.peak as f64));
    let beside = theirs.as_ref().and_then(|side| peak(side.pid));
    rows.push(Row::new("  peak memory", Unit::Bytes, peak(node.pid())).beside(beside));
    node.stop()?;
    context.remove(&data)?;
    Ok(rows)
}

fn rate_rows(what: &str, load: Load, goal: f64, ours: &Side, theirs: Option<&Side>) -> Vec<Row> {
    let beside = |figures: fn(&Side) -> &Vec<f64>| theirs.and_then(|side| Spread::of(figures(side).clone()));
    let mut rows = vec![
        Row::new(what, Unit::PerSecond, Spread::of(ours.rates.clone()))
            .beside(beside(|side| &side.rates))
            .goal(Goal::TimesMosquitto(goal)),
        Row::new("  processor time per message", Unit::Microseconds, Spread::of(ours.cpu_us.clone()))
            .beside(beside(|side| &side.cpu_us)),
    ];
    if load.qos == 0 {
        let lost = theirs.and_then(|side| Spread::once(side.lost as f64));
        rows.push(Row::new("  messages lost", Unit::Plain, Spread::once(ours.lost as f64)).beside(lost));
    }
    rows
}
