//! `cargo run -p devices --features quic --example actuator -- mqtt://127.0.0.1:1883`
//!
//! A sensor with an actuator: it heats up until a `cool` command comes, and answers how it went. The address may as
//! well be `mqtts://HOST?pin=HEX` or `quic://HOST?pin=HEX`; HEX is in the node's file `quic.fingerprint`.

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use devices::client::{Client, Config, Handlers};

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let url = std::env::args().nth(1).unwrap_or_else(|| "mqtt://127.0.0.1:1883".into());
    let config = Config::from_url(&url, "oven-1").map_err(|error| error.to_string())?;

    let cooling = Arc::new(AtomicBool::new(false));
    let valve = cooling.clone();
    let handlers = Handlers::new().on("cool", move |call| {
        println!("command {}: cool", call.id);
        let valve = valve.clone();
        // Opening the valve takes a while: answer from a task, and let the connection go on.
        tokio::spawn(async move {
            call.accept();
            tokio::time::sleep(Duration::from_millis(500)).await;
            valve.store(true, Relaxed);
            call.succeed(r#"{"valve":"open"}"#);
        });
    });

    let client = Client::start(config, handlers)?;
    let mut temperature = 60.0;
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    loop {
        tokio::select! {
            _ = tick.tick() => {
                temperature += if cooling.load(Relaxed) { -2.0 } else { 1.0 };
                if temperature < 50.0 {
                    cooling.store(false, Relaxed);
                }
                let reading = format!(r#"{{"temperature":{temperature:.1}}}"#);
                println!("{reading}");
                // The receipt is not awaited: the client keeps the reading until it is durable.
                drop(client.publish("sensors/oven-1/temperature", reading)?);
            }
            _ = tokio::signal::ctrl_c() => break,
        }
    }
    let left = client.stop(Duration::from_secs(5)).await;
    println!("{left} readings were not acknowledged");
    Ok(())
}
