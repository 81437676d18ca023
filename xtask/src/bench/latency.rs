//! The time from a PUBLISH to its PUBACK when the node is not busy.

use std::net::SocketAddr;
use std::time::Duration;

use crate::bench::error::BenchError;
use crate::bench::groups::Context;
use crate::bench::mosquitto::Mosquitto;
use crate::bench::node::Node;
use crate::bench::options::REPETITIONS;
use crate::bench::paced::puback_latency;
use crate::bench::report::{Goal, Row, Spread, Unit};

const WARM_UP: Duration = Duration::from_secs(1);

/// Median and 99th percentile of each window, in milliseconds.
#[derive(Default)]
struct Windows {
    p50: Vec<f64>,
    p99: Vec<f64>,
}

impl Windows {
    fn add(&mut self, address: SocketAddr, length: Duration) -> Result<(), BenchError> {
        let latencies = puback_latency(address, length)?;
        self.p50.extend(latencies.quantile_ms(0.5));
        self.p99.extend(latencies.quantile_ms(0.99));
        Ok(())
    }
}

/// Measures the node and mosquitto in turn.
pub fn run(context: &Context) -> Result<Vec<Row>, BenchError> {
    let data = context.store("latency")?;
    let node = Node::start(&context.binary, &data)?;
    let broker = context.mosquitto.as_ref().map(Mosquitto::start).transpose()?;
    puback_latency(node.mqtt, WARM_UP)?;
    let (mut ours, mut theirs) = (Windows::default(), Windows::default());
    for _ in 0..REPETITIONS {
        ours.add(node.mqtt, context.window)?;
        if let Some(broker) = &broker {
            theirs.add(broker.address, context.window)?;
        }
    }
    node.stop()?;
    context.remove(&data)?;
    Ok(vec![
        row("PUBACK at 1,000/s, p50", ours.p50, theirs.p50, 0.7),
        row("PUBACK at 1,000/s, p99", ours.p99, theirs.p99, 3.0),
    ])
}

fn row(name: &str, ours: Vec<f64>, theirs: Vec<f64>, goal: f64) -> Row {
    Row::new(name, Unit::Milliseconds, Spread::of(ours)).beside(Spread::of(theirs)).goal(Goal::AtMost(goal))
}
