//! The group `storm`: thousands of simulated devices that connect again at once, when their node comes back.

use std::time::{Duration, Instant};

use devices::client;
use devices::fleet::{Config, Fleet, Found, compare};
use tokio::runtime::Builder;

use crate::bench::error::{BenchError, io};
use crate::bench::groups::Context;
use crate::bench::node::Node;
use crate::bench::report::{Goal, Row, Spread, Unit};

/// Devices.
const DEVICES: usize = 5_000;
/// Between two readings of one device.
const INTERVAL: Duration = Duration::from_secs(2);
/// The longest wait of a device before it connects again.
const RECONNECT_MAX: Duration = Duration::from_secs(1);
/// How long any of it may take.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(20);

fn broke(error: impl std::fmt::Display) -> BenchError {
    BenchError::Program(format!("the fleet: {error}"))
}

/// Measures the group: the node is killed and started again under the fleet.
pub fn run(context: &Context) -> Result<Vec<Row>, BenchError> {
    let data = context.store("storm")?;
    let runtime =
        Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(io("starting a runtime"))?;
    let _entered = runtime.enter();
    let node = Node::start_with_quic(&context.binary, &data)?;
    let (address, fingerprint) = node.quic()?;
    let url = format!("quic://{address}?pin={}", fingerprint.trim());
    let mut client = client::Config::from_url(&url, "sensor").map_err(broke)?;
    client.backoff_max = RECONNECT_MAX;
    let mut config = Config::of(client, DEVICES);
    config.interval = INTERVAL;
    let fleet = Fleet::start(config).map_err(broke)?;
    let first = until(|| fleet.totals().online == DEVICES)?;
    // All break off at once, the node being there.
    fleet.storm();
    until(|| fleet.totals().online < DEVICES / 2)?;
    let storm = settled(&fleet)?;
    // The node is killed and comes back.
    drop(node);
    let node = Node::start_with(&context.binary, &data, NOWHERE, &["--quic", &address.to_string()])?;
    let killed = settled(&fleet)?;
    let ledgers = runtime.block_on(fleet.stop(PATIENCE));
    let tail = node.cli(&["tail", "telemetry", "--from", "start", "--json"])?;
    let found: Vec<Found> = tail.lines().filter_map(Found::from_line).collect();
    let accounts = ledgers.iter().map(|(device, ledger)| (device.as_str(), ledger));
    let differences = compare(accounts, found.iter().map(|found| (found.device.as_str(), found.seq)));
    if !differences.is_clean() || differences.repeated > 0 {
        return Err(broke(format!("{}; {} stored twice", differences.told(), differences.repeated)));
    }
    node.stop()?;
    context.remove(&data)?;
    let row = |name: &str, took: Duration| Row::new(name, Unit::Milliseconds, Spread::once(took.as_secs_f64() * 1e3));
    Ok(vec![
        row("5,000 devices connect by QUIC", first),
        row("5,000 devices reconnect at once and settle", storm).goal(Goal::AtMost(10e3)),
        row("  the same after SIGKILL of the node, from ready", killed).goal(Goal::AtMost(10e3)),
        Row::new("  readings lost or stored twice", Unit::Plain, Spread::once(0.0)),
    ])
}

/// Any free port.
const NOWHERE: std::net::SocketAddr = std::net::SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// All are connected, and all that was sent until now is acknowledged.
fn settled(fleet: &Fleet) -> Result<Duration, BenchError> {
    let sent = fleet.totals().sent;
    until(|| {
        let totals = fleet.totals();
        totals.online == DEVICES && totals.acked >= sent
    })
}

fn until(holds: impl Fn() -> bool) -> Result<Duration, BenchError> {
    let begin = Instant::now();
    while !holds() {
        if begin.elapsed() > PATIENCE {
            return Err(BenchError::Timeout { what: "the fleet to settle".to_owned(), limit: PATIENCE });
        }
        std::thread::sleep(LOOK_EVERY);
    }
    Ok(begin.elapsed())
}
