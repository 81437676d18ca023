//! 200 sites that feed one upstream node at once: whether all are served, how evenly, and how long one that has little waits.
//!
//! The sites live in this process and speak what `docs/links.md` says: `wire` has the bytes, `dial` the connections, `join` lets a
//! site in, `stream` serves one stream of its link, `site` is one of them. Pure are `backlog` (what waits), `window` (what
//! is under way), `shares` (how even it is) and `wire`. `crowd` has all sites do the same at once.

mod backlog;
mod crowd;
mod dial;
mod join;
mod shares;
mod site;
mod stream;
mod tally;
mod window;
mod wire;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use self::backlog::Maker;
use self::crowd::Crowd;
use self::dial::Upstream;
use self::shares::Shares;
use self::site::{Demand, Site, TRICKLE_EVERY};
use super::nodes;
use crate::bench::error::{BenchError, io};
use crate::bench::groups::Context;
use crate::bench::node::Node;
use crate::bench::proc;
use crate::bench::quantile::Latencies;
use crate::bench::report::{Goal, Row, Spread, Unit};

/// What the sites' topic is called, behind a site's name upstream.
const TOPIC: &str = "telemetry";
/// How many there are of each kind.
const KINDS: [(Demand, usize); 3] = [(Demand::Equal, 150), (Demand::Greedy, 20), (Demand::Trickle, 30)];
const SITES: usize = KINDS[0].1 + KINDS[1].1 + KINDS[2].1;
/// Events that wait at each of the equal ones for each second of a timed window; of one that is greedy so many times more.
const EVENTS_PER_S: u64 = 15_000;
const GREEDY_TIMES: u64 = 4;
/// How long all of it may take to drain; one that trickles has events for as long.
const DRAIN_MAX: Duration = Duration::from_secs(300);
/// What should come of it.
const GOAL_JAIN: f64 = 0.9;
const GOAL_TRICKLE_MS: f64 = 2_000.0;

/// What it came to.
struct Measured {
    /// Sites that were sent away before they were let in, and before they were connected.
    refused: [u64; 2],
    /// How long it took until all had joined, and until all were connected.
    took: [Duration; 2],
    drained: Duration,
    events: u64,
    bytes: u64,
    /// Events of each when the first equal one had all.
    at_first: Vec<u64>,
    /// Of all that trickle.
    latencies: Latencies,
    /// Resident bytes before, and the most there were.
    memory: [u64; 2],
    /// Sites of which upstream has what they have sent, and events that it has too many or too few.
    served: usize,
    differing: u64,
}

/// All of it, once.
pub fn run(context: &Context) -> Result<Vec<Row>, BenchError> {
    let folder = context.store("link-many")?;
    let mut upstream = nodes::Site::found(&context.binary, &folder, "")?;
    let measured = measure(&upstream, context.window)?;
    upstream.stop()?;
    context.remove(&folder)?;
    Ok(told(&measured))
}

fn measure(upstream: &nodes::Site, window: Duration) -> Result<Measured, BenchError> {
    let node = upstream.node(0)?;
    let tokens = (0..SITES).map(|place| invite(node, &Site::name(place))).collect::<Result<Vec<_>, _>>()?;
    eprintln!("  making what waits at {SITES} sites ...");
    let sites = sites(window);
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(io("starting a runtime"))?;
    let crowd = Crowd::new(Upstream::of(upstream.address(0)?, node.data())?);
    eprintln!("  they join, connect and drain ...");
    runtime.block_on(async {
        let joined = crowd.join(tokens).await?;
        let standing = crowd.connect(sites, joined.each).await?;
        let before = proc::memory(node.pid())?.resident;
        let refused = [joined.refused, standing.refused];
        let took = [joined.took, standing.took];
        let drained = tokio::time::timeout(DRAIN_MAX, crowd.drain(standing.each, SITES)).await;
        let drained = drained.map_err(|_| BenchError::Timeout { what: "the drain".to_owned(), limit: DRAIN_MAX })?;
        for why in &drained.failures {
            eprintln!("  {why}");
        }
        let sent = drained.board.events();
        let differing = differing(node, &sent)?;
        let all = drained.board.all();
        Ok(Measured {
            refused,
            took,
            drained: drained.took,
            events: all.events,
            bytes: all.bytes,
            at_first: drained.board.at_first(),
            latencies: Latencies::new(drained.trickled),
            memory: [before, proc::memory(node.pid())?.peak],
            served: differing.iter().filter(|more| **more == 0).count().saturating_sub(drained.failures.len()),
            differing: differing.iter().sum(),
        })
    })
}

/// The sites with what waits at them, kind by kind.
fn sites(window: Duration) -> Vec<Site> {
    let now_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.as_millis() as i64);
    let mut maker = Maker::new(now_ms);
    demands().enumerate().map(|(place, demand)| Site::new(place, demand, waiting(demand, window), &mut maker)).collect()
}

fn demands() -> impl Iterator<Item = Demand> {
    KINDS.into_iter().flat_map(|(demand, count)| std::iter::repeat_n(demand, count))
}

/// How many events wait at a site.
fn waiting(demand: Demand, window: Duration) -> u64 {
    match demand {
        Demand::Equal => EVENTS_PER_S * window.as_secs(),
        Demand::Greedy => EVENTS_PER_S * window.as_secs() * GREEDY_TIMES,
        Demand::Trickle => (DRAIN_MAX.as_millis() / TRICKLE_EVERY.as_millis()) as u64,
    }
}

fn invite(node: &Node, site: &str) -> Result<String, BenchError> {
    let answer = node.post("/v1/links/invite", &json!({ "site": site }))?;
    let answer: Value = serde_json::from_str(&answer).unwrap_or_default();
    answer["token"].as_str().map(str::to_owned).ok_or_else(|| BenchError::Program("an invitation has no token".into()))
}

/// How many events of each site upstream has too many or too few.
fn differing(node: &Node, sent: &[u64]) -> Result<Vec<u64>, BenchError> {
    let topics: Value = serde_json::from_str(&node.get("/v1/topics")?)
        .map_err(|error| BenchError::Program(format!("{error} in the topics")))?;
    let topics = topics["topics"].as_array().cloned().unwrap_or_default();
    let has = |name: &str| topics.iter().find(|topic| topic["name"] == name)?["events"].as_u64();
    let differ = |(place, sent): (usize, &u64)| {
        let name = format!("{}/{TOPIC}", Site::name(place));
        has(&name).unwrap_or(0).abs_diff(*sent)
    };
    Ok(sent.iter().enumerate().map(differ).collect())
}

fn told(measured: &Measured) -> Vec<Row> {
    let row = |name: &str, unit: Unit, figure: f64| Row::new(name, unit, Spread::once(figure));
    let plain = |name: &str, figure: f64| row(name, Unit::Plain, figure);
    let ms = |name: &str, took: Duration| row(name, Unit::Milliseconds, took.as_secs_f64() * 1e3);
    let seconds = measured.drained.as_secs_f64();
    let trickled = |name: &str, share: f64| {
        Row::new(name, Unit::Milliseconds, measured.latencies.quantile_ms(share).and_then(Spread::once))
    };
    let [before, most] = measured.memory;
    let mut rows = vec![
        plain("sites served, of 200 that feed one node", measured.served as f64).goal(Goal::AtLeast(SITES as f64)),
        plain("  events too many or too few upstream", measured.differing as f64).goal(Goal::AtMost(0.0)),
        plain("  sent away while they joined", measured.refused[0] as f64).goal(Goal::AtMost(0.0)),
        plain("  sent away while they connected", measured.refused[1] as f64).goal(Goal::AtMost(0.0)),
        ms("  all have joined after", measured.took[0]),
        ms("  all are connected after", measured.took[1]),
        row("  events of all", Unit::PerSecond, measured.events as f64 / seconds),
        row("  bytes of their batches", Unit::PerSecond, measured.bytes as f64 / seconds),
    ];
    rows.extend(shared(&measured.at_first));
    rows.extend([
        plain("  events of sites that trickle", measured.latencies.len() as f64),
        trickled("  one of them is stored, p50", 0.5),
        trickled("  ... p99", 0.99).goal(Goal::AtMost(GOAL_TRICKLE_MS)),
        trickled("  ... the longest", 1.0),
        row("  memory of the node, the most", Unit::Bytes, most as f64),
        row("  ... more than before the drain", Unit::Bytes, most.saturating_sub(before) as f64),
    ]);
    rows
}

/// How it was shared out when the first of the equal sites had all.
fn shared(at_first: &[u64]) -> Vec<Row> {
    let of = |kind: Demand| {
        let had = demands().zip(at_first).filter(|(demand, _)| *demand == kind).map(|(_, had)| *had);
        Shares::of(&had.collect::<Vec<_>>())
    };
    let plain = |name: &str, figure: Option<f64>| Row::new(name, Unit::Plain, figure.and_then(Spread::once));
    let (equal, greedy) = (of(Demand::Equal), of(Demand::Greedy));
    let greed = greedy.zip(equal).map(|(greedy, equal)| greedy.mean / equal.mean);
    vec![
        plain("  equal sites, Jain's index", equal.map(|equal| equal.jain)).goal(Goal::AtLeast(GOAL_JAIN)),
        plain("  ... the least that one got, of the mean", equal.map(|equal| equal.least)),
        plain("  ... the most", equal.map(|equal| equal.most)),
        plain("  a greedy site got, times as much as an equal one", greed),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_kind_has_its_places_and_its_backlog() {
        let all: Vec<Demand> = demands().collect();
        assert_eq!(all.len(), SITES);
        let window = Duration::from_secs(5);
        let had: Vec<u64> = all.iter().map(|demand| waiting(*demand, window)).collect();
        let rows = shared(&had);
        let figure = |name: &str| rows.iter().find(|row| row.name.contains(name)).and_then(|row| row.edgeway);
        assert_eq!(figure("Jain"), Spread::once(1.0));
        assert_eq!(figure("greedy"), Spread::once(GREEDY_TIMES as f64));
        assert_eq!(waiting(Demand::Equal, window), 75_000);
    }
}
