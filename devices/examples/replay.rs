//! Replays a CSV of `timestamp,value` through one device, at a speed (0: as fast as possible).
//!
//! `cargo run -p devices --features fleet --example replay -- FILE.csv 3600 127.0.0.1 1883`

use std::error::Error;
use std::time::Duration;

use devices::fleet::{Config, Fleet, Source};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("usage: replay FILE.csv [SPEED [HOST [PORT]]]")?;
    let speed: f64 = arguments.next().map_or(Ok(0.0), |speed| speed.parse())?;
    let host = arguments.next().unwrap_or_else(|| "127.0.0.1".into());
    let port = arguments.next().map_or(Ok(1883), |port| port.parse())?;

    let mut config = Config::new(host, port, 1);
    config.prefix = "machine".into();
    config.source = Source::from_csv(file, speed)?;
    let fleet = Fleet::start(config)?;
    while !fleet.is_finished() {
        tokio::time::sleep(Duration::from_millis(500)).await;
        let totals = fleet.totals();
        println!("{} sent, {} durable", totals.sent, totals.acked);
    }
    for (device, ledger) in fleet.stop(Duration::from_secs(10)).await {
        println!("{device}: {} of {} readings are durable", ledger.acked_count(), ledger.sent_count());
    }
    Ok(())
}
