//! `cargo run -p devices --features fleet,quic --example replay -- FILE.csv 3600 mqtt://127.0.0.1:1883`
//!
//! Replays a CSV of `timestamp,value` through one device, at a speed (0: as fast as possible). The address may as
//! well be `mqtts://HOST?pin=HEX` or `quic://HOST?pin=HEX`; HEX is in the node's file `quic.fingerprint`.

use std::error::Error;
use std::time::Duration;

use devices::client;
use devices::fleet::{Config, Fleet, Source};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let file = arguments.next().ok_or("usage: replay FILE.csv [SPEED [URL]]")?;
    let speed: f64 = arguments.next().map_or(Ok(0.0), |speed| speed.parse())?;
    let url = arguments.next().unwrap_or_else(|| "mqtt://127.0.0.1:1883".into());

    // The fleet numbers its devices: this one is machine-0001.
    let client = client::Config::from_url(&url, "machine").map_err(|error| error.to_string())?;
    let mut config = Config::of(client, 1);
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
