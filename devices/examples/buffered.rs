//! `cargo run -p devices --features disk,quic --example buffered -- mqtt://127.0.0.1:1883 ./buffer monday 1000`
//!
//! A sensor whose readings outlive its process: what it took is on disk, and the next start sends it. The address may
//! as well be `mqtts://HOST?pin=HEX` or `quic://HOST?pin=HEX`; HEX is in the node's file `quic.fingerprint`.
//!
//! It takes so many readings, as `{run} {n}`, prints `n` for each that is in the buffer, and then waits until the node
//! has all of them.

use std::error::Error;
use std::io::Write;
use std::time::Duration;

use devices::client::disk::Disk;
use devices::client::{Config, Handlers, Overflow, blocking};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, folder, run, count] = &arguments[..] else {
        return Err("usage: buffered URL FOLDER RUN COUNT".into());
    };
    let mut config = Config::from_url(url, "sensor-0002").map_err(|error| error.to_string())?;
    config.disk = Some(Disk::new(folder));
    // Where the disk's bound is reached, the oldest readings make room.
    config.buffer.overflow = Overflow::DropOldest;
    let client = blocking::Client::start(config, Handlers::new())?;
    for n in 0..count.parse::<u64>()? {
        // Once this has returned, the reading outlives a kill of this process.
        drop(client.publish("sensors/sensor-0002/count", format!("{run} {n}"))?);
        writeln!(std::io::stdout(), "{n}")?;
        std::thread::sleep(Duration::from_micros(200));
    }
    while client.unacked() > 0 {
        std::thread::sleep(Duration::from_millis(20));
    }
    client.stop(Duration::from_secs(5));
    Ok(())
}
