//! What a minimal device costs: the size of the sensor example, which speaks MQTT alone.

use std::fs;

use crate::bench::build;
use crate::bench::error::{BenchError, io};
use crate::bench::groups::Context;
use crate::bench::report::{Goal, Row, Spread, Unit};

/// The most that the stripped binary should have, in bytes.
const DEVICE_BYTES_MAX: f64 = 3e6;

/// The size of the minimal device's stripped release binary.
pub fn run(context: &Context) -> Result<Vec<Row>, BenchError> {
    // A folder of its own: features that other packages ask for would make dependencies larger, and be built anew.
    let folder = build::target_folder(&context.root).join("device");
    let target = folder.to_string_lossy();
    let what = ["--package", "devices", "--example", "sensor", "--features", "client", "--target-dir", target.as_ref()];
    build::release(&context.root, &what)?;
    let sensor = folder.join("release/examples/sensor");
    let size = fs::metadata(&sensor).map_err(io(format!("reading the size of {}", sensor.display())))?.len();
    let name = "minimal device (MQTT)";
    Ok(vec![Row::new(name, Unit::Bytes, Spread::once(size as f64)).goal(Goal::AtMost(DEVICE_BYTES_MAX))])
}
