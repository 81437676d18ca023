//! A sensor whose readings outlive its process: what it took is on disk, and the next start sends it.
//!
//! `cargo run -p devices --features disk --example buffered -- 127.0.0.1 1883 ./buffer monday 1000`
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
    let [host, port, folder, run, count] = &arguments[..] else {
        return Err("usage: buffered HOST PORT FOLDER RUN COUNT".into());
    };
    let mut config = Config::new(host, port.parse()?, "sensor-0002");
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
