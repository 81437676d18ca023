//! `cargo run -p devices --features client --example sensor -- mqtt://127.0.0.1:1883`
//!
//! A minimal sensor: ten readings to a node, each printed when it is durable. With the feature `quic` it also goes to
//! `mqtts://HOST?pin=HEX` and `quic://HOST?pin=HEX`; HEX is in the node's file `quic.fingerprint`.

use std::error::Error;
use std::time::Duration;

use devices::client::{Config, Handlers, blocking};

fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "mqtt://127.0.0.1:1883".into());
    let config = Config::from_url(&url, "sensor-0001").map_err(|error| error.to_string())?;

    let client = blocking::Client::start(config, Handlers::new())?;
    for seq in 0..10 {
        let reading = format!(r#"{{"seq":{seq},"temperature":{:.1}}}"#, 20.0 + f64::from(seq) / 10.0);
        let receipt = client.publish("sensors/sensor-0001/temperature", reading.clone())?;
        println!("{reading}: {:?}", receipt.wait());
        std::thread::sleep(Duration::from_millis(200));
    }
    let left = client.stop(Duration::from_secs(5));
    println!("{left} readings were not acknowledged");
    Ok(())
}
