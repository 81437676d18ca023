//! Events per second through a plugin: `cargo run --release --example plugin_bench -- FOLDER_OF_COMPONENTS`.
//!
//! Without components (`cargo xtask build-plugins` makes them) it measures the pass-through alone.

use std::path::{Path, PathBuf};
use std::time::Duration;

use edgeway::plugin_host::Manifest;
use edgeway::plugin_host::bench::measure;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

const TIME: Duration = Duration::from_secs(1);

const PASS_THROUGH: &str = "
name = 'pass-through'
topics = ['in']
[grants]
emit = ['out']
commands = ['cool']
state = true
[limits]
";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let folder = std::env::args_os().nth(1).map_or_else(|| PathBuf::from("target/plugins"), PathBuf::from);
    let cache = std::env::temp_dir().join(format!("edgeway-plugin-bench-{}", std::process::id()));
    println!("{:<18} {:>6} {:>12} {:>9}", "plugin", "batch", "events/s", "effects");
    for batch_events in [1, 32, 128, 256, 512] {
        let mut manifest = Manifest::parse(PASS_THROUGH)?;
        manifest.limits.batch_events = batch_events;
        tell(&pass_through()?, &manifest, &cache)?;
    }
    for (name, text) in [
        ("threshold-alarm", include_str!("../../plugins/threshold-alarm/manifest.toml")),
        ("downsample", include_str!("../../plugins/downsample/manifest.toml")),
    ] {
        let Ok(wasm) = std::fs::read(folder.join(format!("{name}.wasm"))) else {
            println!("{name:<18} skipped: no component in {}", folder.display());
            continue;
        };
        for batch_events in [1, 32, 128, 256, 512] {
            let mut manifest = Manifest::parse(text)?;
            manifest.limits.batch_events = batch_events;
            tell(&wasm, &manifest, &cache)?;
        }
    }
    std::fs::remove_dir_all(&cache)?;
    Ok(())
}

fn tell(wasm: &[u8], manifest: &Manifest, cache: &Path) -> Result<(), Box<dyn std::error::Error>> {
    let events: Vec<(Vec<u8>, Vec<u8>)> = (0..4096u32).map(event).collect();
    let measured = measure(wasm, manifest, &events, TIME, cache)?;
    let (name, batch) = (&manifest.name, manifest.limits.batch_events);
    println!("{name:<18} {batch:>6} {:>12.0} {:>9}", measured.events_per_second(), measured.effects);
    Ok(())
}

/// A reading of about 100 bytes; one in 500 is over the limit.
fn event(n: u32) -> (Vec<u8>, Vec<u8>) {
    let temperature = if n % 500 == 499 { 91.5 } else { 20.0 + f64::from(n % 50) };
    let device = format!("device-{:02}", n % 50);
    let value = format!(
        r#"{{"device":"{device}","seq":{n},"humidity":41.5,"temperature":{temperature:.2},"unit":"C","ok":true}}"#
    );
    (device.into_bytes(), value.into_bytes())
}

/// A guest that forwards everything, written by hand.
fn pass_through() -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let mut module = wat::parse_str(include_str!("../src/plugin_host/test_guest.wat"))?;
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_path(concat!(env!("CARGO_MANIFEST_DIR"), "/../plugin-sdk/wit"))?;
    let world = resolve.select_world(&[package], Some("plugin"))?;
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false)?;
    Ok(ComponentEncoder::default().module(&module)?.validate(true).encode()?)
}
