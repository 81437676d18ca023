//! The group `quic`: durable rates over QUIC, beside MQTT over TCP in the same run, and memory of idle connections.

use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use super::{Dial, mqtt, native};
use crate::bench::error::{BenchError, io};
use crate::bench::groups::Context;
use crate::bench::node::Node;
use crate::bench::options::REPETITIONS;
use crate::bench::payload::Payload;
use crate::bench::proc;
use crate::bench::report::{Goal, Row, Spread, Unit};
use crate::bench::saturate::{Load, Saturation};

/// Idle connections whose memory is measured.
const IDLE_CONNECTIONS: usize = 1_000;
/// How long they rest before memory is looked at.
const REST: Duration = Duration::from_secs(2);

/// Measures the group.
pub fn run(context: &Context) -> Result<Vec<Row>, BenchError> {
    let data = context.store("quic")?;
    let node = Node::start_with_quic(&context.binary, &data)?;
    // One thread, as the load over TCP has.
    let runtime = Builder::new_current_thread().enable_all().build().map_err(io("starting a runtime"))?;
    let (over_mqtt, over_native) = {
        let _entered = runtime.enter();
        (Dial::new(&node, b"mqtt")?, Dial::new(&node, devices::native::ALPN)?)
    };
    let load = Load { qos: 1, subscriber: false, payload: Payload::Reading };
    let mut tcp = Saturation::open(node.mqtt, load)?;
    let (mut over_tcp, mut mqtt_rates, mut ratios, mut native_rates) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..REPETITIONS {
        let rate = tcp_rate(&mut tcp, context.window)?;
        let quic = runtime.block_on(mqtt::rate(&over_mqtt, context.window))?;
        over_tcp.push(rate);
        mqtt_rates.push(quic);
        ratios.push(quic / rate);
        native_rates.push(runtime.block_on(native::rate(&over_native, context.window))?);
    }
    let mut rows = vec![
        Row::new("MQTT over TCP, QoS 1 acknowledged", Unit::PerSecond, Spread::of(over_tcp)),
        Row::new("MQTT over QUIC, QoS 1 acknowledged", Unit::PerSecond, Spread::of(mqtt_rates)),
        Row::new("  of the rate over TCP", Unit::Plain, Spread::of(ratios)).goal(Goal::AtLeast(0.7)),
        Row::new("edgeway/1, durable events", Unit::PerSecond, Spread::of(native_rates)).goal(Goal::AtLeast(500_000.0)),
    ];
    node.stop()?;
    context.remove(&data)?;
    rows.push(idle(context, &runtime)?);
    Ok(rows)
}

fn tcp_rate(load: &mut Saturation, window: Duration) -> Result<f64, BenchError> {
    load.run_until(Instant::now() + window / 3)?;
    let (before, started) = (load.counts().acked, Instant::now());
    load.run_until(started + window)?;
    let rate = (load.counts().acked - before) as f64 / started.elapsed().as_secs_f64();
    load.drain()?;
    Ok(rate)
}

/// What a connection takes that says nothing, on a node that does nothing else.
fn idle(context: &Context, runtime: &Runtime) -> Result<Row, BenchError> {
    let data = context.store("quic-idle")?;
    let node = Node::start_with_quic(&context.binary, &data)?;
    let figure = runtime.block_on(async {
        let dial = Dial::new(&node, devices::native::ALPN)?;
        // What the first connection brings into memory once is not counted.
        let mut kept = vec![native::hello(&dial, "first").await?];
        tokio::time::sleep(REST).await;
        let before = proc::memory(node.pid())?.resident;
        for number in 0..IDLE_CONNECTIONS {
            kept.push(native::hello(&dial, &format!("idle-{number}")).await?);
        }
        tokio::time::sleep(REST).await;
        let after = proc::memory(node.pid())?.resident;
        Ok::<_, BenchError>(after.saturating_sub(before) as f64 / IDLE_CONNECTIONS as f64)
    })?;
    node.stop()?;
    context.remove(&data)?;
    Ok(Row::new("memory per idle QUIC connection", Unit::Bytes, Spread::once(figure)).goal(Goal::AtMost(60e3)))
}
