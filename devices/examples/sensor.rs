//! A minimal sensor: ten readings to a node, each printed when it is durable.
//!
//! `cargo run -p devices --features client --example sensor -- 127.0.0.1 1883`

use std::error::Error;
use std::time::Duration;

use devices::client::{Config, Handlers, blocking};

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let host = arguments.next().unwrap_or_else(|| "127.0.0.1".into());
    let port = arguments.next().map_or(Ok(1883), |port| port.parse())?;

    let client = blocking::Client::start(Config::new(host, port, "sensor-0001"), Handlers::new())?;
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
