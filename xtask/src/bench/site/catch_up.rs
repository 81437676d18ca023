//! A node that was away while 1 GB was stored: how fast it catches up, and what others feel of that.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::nodes::{Site, wait};
use super::{LOCAL, ROUTING};
use crate::bench::error::BenchError;
use crate::bench::groups::Context;
use crate::bench::metrics;
use crate::bench::node::Node;
use crate::bench::options::REPETITIONS;
use crate::bench::paced::puback_latency_below;
use crate::bench::payload::Payload;
use crate::bench::proc;
use crate::bench::report::{Goal, Row, Spread, Unit};
use crate::bench::saturate::{Load, Saturation};

/// Stored bytes that the node lacks.
const BEHIND_BYTES: f64 = 1e9;
/// How long storing them may take, and catching up.
const FILL_MAX: Duration = Duration::from_secs(600);
const CATCH_UP_MAX: Duration = Duration::from_secs(300);
/// Bytes of records that may be under way in a node that has caught up, with 1,000 events a second.
const LEVEL_BYTES: u64 = 1_000_000;
/// The length of one look at the latency while the node catches up.
const LOOK: Duration = Duration::from_secs(2);
/// Bytes a second that the catch-up should reach.
const GOAL_BYTES_PER_S: f64 = 100e6;
/// How much longer others may wait for their PUBACK meanwhile.
const GOAL_TIMES: f64 = 2.0;
/// How much more memory a node may take that has caught up than one that was never behind, or that serves it than
/// before; what it reads is bounded, not what it lacks.
const GOAL_MEMORY_BYTES: f64 = 64e6;

/// What was seen while the node caught up.
#[derive(Default)]
struct Seen {
    p50: Vec<f64>,
    p99: Vec<f64>,
    /// The most memory of the source and of the one that was behind.
    source: u64,
    behind: u64,
    /// The share of what it lacked that it still lacked when it was heard again, and the time from then on.
    share: f64,
    took: Duration,
}

/// Kills the last of three nodes, stores 1 GB at the first, and starts it again.
pub fn run(context: &Context) -> Result<Vec<Row>, BenchError> {
    let folder = context.store("site-catch-up")?;
    let mut site = Site::start(&context.binary, &folder, 3, ROUTING)?;
    site.create_topic(LOCAL, "sync")?;
    site.kill(2);
    let before = stored_bytes(site.node(0)?)?;
    fill(site.node(0)?, before + BEHIND_BYTES)?;
    site.wait_level()?;
    let lacking = stored_bytes(site.node(0)?)? - before;
    let address = site.node(0)?.mqtt;
    let mut alone = Seen::default();
    for _ in 0..REPETITIONS {
        look(&mut alone, address, context.window)?;
    }
    alone.source = proc::memory(site.node(0)?.pid())?.resident;
    let seen = caught_up(&mut site, address)?;
    let never_behind = proc::memory(site.node(1)?.pid())?.peak;
    site.stop()?;
    context.remove(&folder)?;
    Ok(rows(&alone, &seen, lacking, never_behind))
}

fn stored_bytes(node: &Node) -> Result<f64, BenchError> {
    let text = node.get("/metrics")?;
    metrics::value(&text, "edgeway_store_batch_bytes")
        .ok_or_else(|| BenchError::Program("the node does not say how much it stores".to_owned()))
}

/// Publishes random payloads until so many bytes are stored.
fn fill(node: &Node, bytes: f64) -> Result<(), BenchError> {
    let load = Load { qos: 1, subscriber: false, payload: Payload::Random };
    let mut saturation = Saturation::open(node.mqtt, load)?;
    let started = Instant::now();
    while stored_bytes(node)? < bytes {
        if started.elapsed() > FILL_MAX {
            return Err(BenchError::Timeout { what: "storing 1 GB".to_owned(), limit: FILL_MAX });
        }
        saturation.run_until(Instant::now() + Duration::from_secs(1))?;
    }
    saturation.drain().map(drop)
}

fn look(seen: &mut Seen, address: SocketAddr, length: Duration) -> Result<(), BenchError> {
    let latencies = puback_latency_below(LOCAL, address, length)?;
    seen.p50.extend(latencies.quantile_ms(0.5));
    seen.p99.extend(latencies.quantile_ms(0.99));
    Ok(())
}

/// Starts the last node again, publishes on while it catches up, and looks at both. Of the looks those count that lie between when it is heard again and
/// when it is level.
fn caught_up(site: &mut Site, address: SocketAddr) -> Result<Seen, BenchError> {
    let is_level = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Others publish all the while: what comes before anybody does would come as fast as it can.
        let looking = scope.spawn(|| {
            let mut looks = Vec::new();
            while !is_level.load(Ordering::Relaxed) {
                let (began, mut seen) = (Instant::now(), Seen::default());
                look(&mut seen, address, LOOK)?;
                looks.push((began, Instant::now(), seen));
            }
            Ok(looks)
        });
        let came = come_up(site);
        is_level.store(true, Ordering::Relaxed);
        let looks: Result<Vec<_>, BenchError> =
            looking.join().unwrap_or_else(|_| Err(BenchError::Program("the looking thread panicked".to_owned())));
        let (heard, mut seen) = came?;
        let level = heard + seen.took;
        for (_, _, one) in looks?.into_iter().filter(|(began, ended, _)| *began >= heard && *ended <= level) {
            seen.p50.extend(one.p50);
            seen.p99.extend(one.p99);
        }
        Ok(seen)
    })
}

/// Starts the last node again and waits until it is level: when it was heard, and what it took.
fn come_up(site: &mut Site) -> Result<(Instant, Seen), BenchError> {
    let name = site.members[2].name.clone();
    let lag = |site: &Site| Ok::<_, BenchError>(site.view(0)?.follower(&name).map_or(0, |follower| follower.lag_bytes));
    let lacked = lag(site)?;
    if lacked == 0 {
        return Err(BenchError::Program("no lag is told of a node that is away".to_owned()));
    }
    site.restart(2)?;
    // How soon a node is found again is no matter of how much it lacks.
    wait("the node to be heard again", CATCH_UP_MAX, || Ok(site.view(0)?.hears(&name)))?;
    let heard = Instant::now();
    let mut seen = Seen { share: lag(site)? as f64 / lacked as f64, ..Seen::default() };
    let (source, behind) = (site.node(0)?.pid(), site.node(2)?.pid());
    wait("the node to catch up", CATCH_UP_MAX, || {
        seen.source = proc::memory(source)?.resident.max(seen.source);
        seen.behind = proc::memory(behind)?.resident.max(seen.behind);
        let view = site.view(0)?;
        let follower = view.follower(&name);
        Ok(follower.is_some_and(|follower| follower.connected && follower.lag_bytes < LEVEL_BYTES))
    })?;
    seen.took = heard.elapsed();
    Ok((heard, seen))
}

fn rows(alone: &Seen, seen: &Seen, lacking: f64, never_behind: u64) -> Vec<Row> {
    let rate = lacking * seen.share / seen.took.as_secs_f64();
    let (before, during) = (Spread::of(alone.p99.clone()), Spread::of(seen.p99.clone()));
    let times = before.zip(during).and_then(|(before, during)| Spread::once(during.median / before.median));
    let ms = |name, samples: &[f64]| Row::new(name, Unit::Milliseconds, Spread::of(samples.to_vec()));
    let more = |bytes: u64, than: u64| Spread::once(bytes.saturating_sub(than) as f64);
    let memory = |name, grown| Row::new(name, Unit::Bytes, grown).goal(Goal::AtMost(GOAL_MEMORY_BYTES));
    vec![
        Row::new("a node lacks, stored", Unit::Bytes, Spread::once(lacking)),
        Row::new("  ... when it is heard again", Unit::Bytes, Spread::once(lacking * seen.share)),
        Row::new("  it catches up at, a second", Unit::Bytes, Spread::once(rate)).goal(Goal::AtLeast(GOAL_BYTES_PER_S)),
        ms("  others' PUBACK at 1,000/s before, p50", &alone.p50),
        ms("  others' PUBACK at 1,000/s before, p99", &alone.p99),
        ms("  the same meanwhile, p50", &seen.p50),
        ms("  the same meanwhile, p99", &seen.p99),
        Row::new("  p99 meanwhile, times that before", Unit::Plain, times).goal(Goal::AtMost(GOAL_TIMES)),
        Row::new("  memory of the one that serves", Unit::Bytes, Spread::once(seen.source as f64)),
        memory("  ... more than before", more(seen.source, alone.source)),
        Row::new("  memory of the one that catches up", Unit::Bytes, Spread::once(seen.behind as f64)),
        memory("  ... more than of one that was never behind", more(seen.behind, never_behind)),
    ]
}
