//! The group `alarm`: how long an alarm takes beside a bulk upload that takes all it can get, by the device client.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use devices::client::{Client, Config, Fate, Handlers, PublishOptions};
use devices::fleet::relay::{LineConfig, Relay};
use tokio::runtime::Builder;

use crate::bench::error::{BenchError, io};
use crate::bench::groups::Context;
use crate::bench::metrics;
use crate::bench::node::Node;
use crate::bench::payload::Numbers;
use crate::bench::quantile::Latencies;
use crate::bench::report::{Goal, Row, Spread, Unit};

/// Bytes of a bulk publish.
const BULK_BYTES: usize = 1_000;
/// Bulk publishes that the client holds at any time.
const BULK_HELD: usize = 2_000;
/// Bytes of an alarm.
const ALARM_BYTES: usize = 100;
/// Between two alarms on loopback.
const EVERY: Duration = Duration::from_millis(20);
/// Between two alarms on the thin link, and how many.
const THIN_EVERY: Duration = Duration::from_millis(200);
const THIN_ALARMS: usize = 300;
/// The thin link: its rate and one way's delay, half of its round trip of 100 ms.
const THIN_BITS_PER_S: u64 = 1_000_000;
const THIN_DELAY: Duration = Duration::from_millis(50);
/// Until the upload has filled the link.
const WARM_UP: Duration = Duration::from_secs(3);
/// How long the last may take.
const LAST_MAX: Duration = Duration::from_secs(60);

/// What was measured.
struct Measured {
    latencies: Latencies,
    /// Bulk bytes acknowledged a second.
    bulk_per_s: f64,
}

/// Measures on loopback and on the thin link.
pub fn run(context: &Context) -> Result<Vec<Row>, BenchError> {
    let data = context.store("alarm")?;
    let node = Node::start_with_quic(&context.binary, &data)?;
    let runtime =
        Builder::new_multi_thread().worker_threads(1).enable_all().build().map_err(io("starting a runtime"))?;
    let alarms = (3 * context.window.as_millis() / EVERY.as_millis()) as usize;
    let (near, syncs, thin) = runtime.block_on(async {
        let (address, fingerprint) = node.quic()?;
        let earlier = metrics::sync_seconds(&node.get("/metrics")?);
        let near = measure(address, &fingerprint, "near", EVERY, alarms).await?;
        let syncs = metrics::sync_seconds(&node.get("/metrics")?).since(&earlier);
        let line = LineConfig::modem(THIN_BITS_PER_S, THIN_DELAY);
        let relay = Relay::start(address, line, 1).await.map_err(io("starting the relay"))?;
        let thin = measure(relay.address(), &fingerprint, "thin", THIN_EVERY, THIN_ALARMS).await?;
        Ok::<_, BenchError>((near, syncs, thin))
    })?;
    node.stop()?;
    context.remove(&data)?;
    let once = |figure: Option<f64>| figure.and_then(Spread::once);
    let ms = |name: &str, figure| Row::new(name, Unit::Milliseconds, once(figure));
    let share = thin.bulk_per_s * 8.0 / THIN_BITS_PER_S as f64;
    Ok(vec![
        ms("alarm beside bulk, loopback, p50", near.latencies.quantile_ms(0.5)),
        ms("alarm beside bulk, loopback, p99", near.latencies.quantile_ms(0.99)).goal(Goal::AtMost(20.0)),
        Row::new("  bulk bytes a second meanwhile", Unit::PerSecond, Spread::once(near.bulk_per_s)),
        ms("  write and sync of a commit meanwhile, p50", syncs.quantile(0.5).map(|seconds| seconds * 1e3)),
        ms("  write and sync of a commit meanwhile, p99", syncs.quantile(0.99).map(|seconds| seconds * 1e3)),
        ms("alarm beside bulk, 1 Mbit/s and 100 ms, p50", thin.latencies.quantile_ms(0.5)),
        ms("alarm beside bulk, 1 Mbit/s and 100 ms, p99", thin.latencies.quantile_ms(0.99)).goal(Goal::AtMost(300.0)),
        Row::new("  bulk payload, of the link's rate", Unit::Plain, Spread::once(share)),
    ])
}

fn broke(error: impl std::fmt::Display) -> BenchError {
    BenchError::Program(format!("the device client: {error}"))
}

async fn measure(
    address: SocketAddr,
    fingerprint: &str,
    device: &str,
    every: Duration,
    alarms: usize,
) -> Result<Measured, BenchError> {
    let url = format!("quic://{address}?pin={}", fingerprint.trim());
    let config = Config::from_url(&url, device).map_err(broke)?;
    let client = Arc::new(Client::start(config, Handlers::new()).map_err(broke)?);
    let (stop, bulk_bytes) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let upload = tokio::spawn(upload(Arc::clone(&client), Arc::clone(&stop), Arc::clone(&bulk_bytes)));
    tokio::time::sleep(WARM_UP).await;
    let (before, started) = (bulk_bytes.load(Ordering::Relaxed), Instant::now());
    let mut receipts = Vec::with_capacity(alarms);
    let mut ticks = tokio::time::interval(every);
    for _ in 0..alarms {
        ticks.tick().await;
        let (sent, acked) = (Instant::now(), tokio::sync::oneshot::channel());
        let done = move |fate| {
            // Nobody waits any more where the bench was given up.
            let _ = acked.0.send((fate, sent.elapsed()));
        };
        client.publish_then("plant/alarm", vec![b'!'; ALARM_BYTES], PublishOptions::urgent(), done).map_err(broke)?;
        receipts.push(acked.1);
    }
    let bulk = bulk_bytes.load(Ordering::Relaxed) - before;
    let bulk_per_s = bulk as f64 / started.elapsed().as_secs_f64();
    let mut samples = Vec::with_capacity(alarms);
    for receipt in receipts {
        let told = tokio::time::timeout(LAST_MAX, receipt).await;
        match told.map_err(broke)?.map_err(broke)? {
            (Fate::Acked { .. }, took) => samples.push(took),
            (fate, _) => return Err(broke(format!("an alarm was not stored: {fate:?}"))),
        }
    }
    stop.store(true, Ordering::Relaxed);
    upload.await.map_err(broke)?;
    Ok(Measured { latencies: Latencies::new(samples), bulk_per_s })
}

/// Keeps the client's buffer filled with bytes that nothing compresses.
async fn upload(client: Arc<Client>, stop: Arc<AtomicBool>, bytes: Arc<AtomicU64>) {
    let mut numbers = Numbers::new(1);
    let held = Arc::new(tokio::sync::Semaphore::new(BULK_HELD));
    while !stop.load(Ordering::Relaxed) {
        let Ok(permit) = Arc::clone(&held).acquire_owned().await else { return };
        let payload: Vec<u8> = (0..BULK_BYTES / 8).flat_map(|_| numbers.next().to_le_bytes()).collect();
        let bytes = Arc::clone(&bytes);
        let done = move |fate| {
            if matches!(fate, Fate::Acked { .. }) {
                bytes.fetch_add(BULK_BYTES as u64, Ordering::Relaxed);
            }
            drop(permit);
        };
        if client.publish_then("plant/history", payload, PublishOptions::bulk(), done).is_err() {
            return;
        }
    }
}
