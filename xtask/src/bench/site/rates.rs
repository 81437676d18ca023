//! What it costs that a majority must have an event before it is acknowledged: rate and latency.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::LOCAL;
use super::nodes::Site;
use crate::bench::error::BenchError;
use crate::bench::groups::Context;
use crate::bench::metrics;
use crate::bench::node::Node;
use crate::bench::options::REPETITIONS;
use crate::bench::paced::puback_latency_below;
use crate::bench::payload::Payload;
use crate::bench::report::{Goal, Row, Spread, Unit};
use crate::bench::saturate::{IN_FLIGHT, Load, Saturation};

/// Before the first timed window.
const WARM_UP: Duration = Duration::from_secs(2);
/// What a quorum should leave of a single node's rate.
const SHARE: f64 = 0.4;
/// Unacknowledged messages on each connection, where it is not the time of one commit that sets the rate.
const IN_FLIGHT_DEEP: u64 = 1024;
/// The first level of MQTT topics whose events ask for a quorum.
const TO_QUORUM: &str = "sensors";

/// Rate beside a single node of the same run, then latency beside a topic without quorum of the same site.
pub fn run(context: &Context, site: &Site) -> Result<Vec<Row>, BenchError> {
    let mut rows = rates(context, site)?;
    rows.extend(latencies(context, site)?);
    Ok(rows)
}

struct Side {
    saturation: Saturation,
    rates: Vec<f64>,
}

impl Side {
    fn open(address: SocketAddr, in_flight: u64) -> Result<Side, BenchError> {
        let load = Load { qos: 1, subscriber: false, payload: Payload::Reading };
        let mut saturation = Saturation::open_with(address, load, in_flight)?;
        saturation.run_until(Instant::now() + WARM_UP)?;
        saturation.drain()?;
        Ok(Side { saturation, rates: Vec::new() })
    }

    fn window(&mut self, length: Duration) -> Result<(), BenchError> {
        let (before, started) = (self.saturation.counts().acked, Instant::now());
        self.saturation.run_until(started + length)?;
        let acked = self.saturation.counts().acked - before;
        self.rates.push(acked as f64 / started.elapsed().as_secs_f64());
        self.saturation.drain().map(drop)
    }
}

fn rates(context: &Context, site: &Site) -> Result<Vec<Row>, BenchError> {
    let data = context.store("site-single")?;
    let single = Node::start(&context.binary, &data)?;
    let nodes = (single.mqtt, site.node(0)?.mqtt);
    let [(quorum, alone, shares), (deep_quorum, deep_alone, deep_shares)] =
        [windows(context, site, nodes, IN_FLIGHT)?, windows(context, site, nodes, IN_FLIGHT_DEEP)?];
    single.stop()?;
    context.remove(&data)?;
    Ok(vec![
        Row::new("QoS 1 acknowledged by two of three nodes", Unit::PerSecond, quorum),
        Row::new("  a single node beside it", Unit::PerSecond, alone),
        Row::new("  share of the single node's rate", Unit::Plain, shares).goal(Goal::AtLeast(SHARE)),
        Row::new("  with 1,024 in flight on each connection", Unit::PerSecond, deep_quorum),
        Row::new("  a single node beside it, so too", Unit::PerSecond, deep_alone),
        Row::new("  share of it", Unit::Plain, deep_shares),
    ])
}

/// The quorum's rates, the single node's, and the shares.
type Measured = (Option<Spread>, Option<Spread>, Option<Spread>);

/// The quorum's rate and the single node's in turn, and the shares, with so many in flight on each connection.
fn windows(
    context: &Context,
    site: &Site,
    (single, node): (SocketAddr, SocketAddr),
    in_flight: u64,
) -> Result<Measured, BenchError> {
    let (mut alone, mut quorum) = (Side::open(single, in_flight)?, Side::open(node, in_flight)?);
    for _ in 0..REPETITIONS {
        alone.window(context.window)?;
        quorum.window(context.window)?;
        site.wait_level()?;
    }
    let shares = quorum.rates.iter().zip(&alone.rates).map(|(quorum, alone)| quorum / alone).collect();
    Ok((Spread::of(quorum.rates), Spread::of(alone.rates), Spread::of(shares)))
}

/// Median and 99th percentile of each window, in milliseconds.
#[derive(Default)]
struct Windows {
    p50: Vec<f64>,
    p99: Vec<f64>,
}

impl Windows {
    fn add(&mut self, root: &str, address: SocketAddr, length: Duration) -> Result<(), BenchError> {
        let latencies = puback_latency_below(root, address, length)?;
        self.p50.extend(latencies.quantile_ms(0.5));
        self.p99.extend(latencies.quantile_ms(0.99));
        Ok(())
    }
}

fn latencies(context: &Context, site: &Site) -> Result<Vec<Row>, BenchError> {
    let address = site.node(0)?.mqtt;
    let (mut local, mut quorum) = (Windows::default(), Windows::default());
    puback_latency_below(LOCAL, address, WARM_UP)?;
    puback_latency_below(TO_QUORUM, address, WARM_UP)?;
    let syncs = || Ok::<_, BenchError>(metrics::sync_seconds(&site.node(0)?.get("/metrics")?));
    let earlier = syncs()?;
    for _ in 0..REPETITIONS {
        local.add(LOCAL, address, context.window)?;
        quorum.add(TO_QUORUM, address, context.window)?;
    }
    let syncs = syncs()?.since(&earlier);
    let sync = |share| syncs.quantile(share).and_then(|seconds| Spread::once(seconds * 1e3));
    let rtts: Vec<f64> = site.view(0)?.nodes.iter().filter_map(|node| node.rtt_ms).collect();
    let (sync_p99, rtt) = (sync(0.99), Spread::of(rtts));
    let added = local.p99.iter().zip(&quorum.p99).map(|(local, quorum)| quorum - local).collect();
    let mut last =
        Row::new("  p99 that the quorum adds (two syncs, a round trip)", Unit::Milliseconds, Spread::of(added));
    if let (Some(sync), Some(rtt)) = (sync_p99, rtt) {
        last = last.goal(Goal::AtMost(2.0 * sync.max + rtt.max));
    }
    let row = |name, samples| Row::new(name, Unit::Milliseconds, Spread::of(samples));
    Ok(vec![
        row("PUBACK at 1,000/s of a quorum topic, p50", quorum.p50),
        row("PUBACK at 1,000/s of a quorum topic, p99", quorum.p99.clone()),
        row("  the same of a local topic, p50", local.p50),
        row("  the same of a local topic, p99", local.p99),
        Row::new("  write and sync of a commit at its origin, p50", Unit::Milliseconds, sync(0.5)),
        Row::new("  write and sync of a commit at its origin, p99", Unit::Milliseconds, sync_p99),
        Row::new("  round trip between nodes", Unit::Milliseconds, rtt),
        last,
    ])
}
