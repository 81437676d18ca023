//! How fast a stored backlog goes through a plugin.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

use crate::bench::error::{BenchError, io};
use crate::bench::groups::Context;
use crate::bench::metrics;
use crate::bench::node::Node;
use crate::bench::options::REPETITIONS;
use crate::bench::payload::Payload;
use crate::bench::report::{Goal, Row, Spread, Unit};
use crate::bench::saturate::{Load, Saturation};
use crate::components;

/// Events in the backlog: about a second's work.
const BACKLOG: u64 = 2_000_000;
/// How long one plugin may take.
const PASS_MAX: Duration = Duration::from_secs(300);

/// Events a second of one plugin's passes.
#[derive(Default)]
struct Passes {
    /// From the deployment to the last event, effects committed.
    whole: Vec<f64>,
    /// By the time spent in the guest alone.
    guest: Vec<f64>,
}

/// A component and what its manifest adds to the name.
struct Plugin {
    name: &'static str,
    component: PathBuf,
    manifest: String,
}

/// Pass-through and JSON threshold over the same backlog.
pub fn run(context: &Context) -> Result<Vec<Row>, BenchError> {
    let forward = Plugin {
        name: "forward",
        component: forward_component(context)?,
        manifest: "topics = ['telemetry']\nfrom = 'start'\n[grants]\nemit = ['out']\nstate = true\ntwins = 'read'\n"
            .to_owned(),
    };
    let threshold = Plugin {
        name: "threshold",
        component: threshold_component(context)?,
        manifest: format!("topics = ['telemetry']\nfrom = 'start'\n{}", threshold_settings(3)),
    };
    let data = context.store("plugin")?;
    let node = Node::start(&context.binary, &data)?;
    let events = fill(&node)?;
    let (mut forwards, mut thresholds) = (Passes::default(), Passes::default());
    for repetition in 0..REPETITIONS {
        pass(&node, &forward, repetition, events, &mut forwards)?;
        pass(&node, &threshold, repetition, events, &mut thresholds)?;
    }
    node.stop()?;
    context.remove(&data)?;
    let row = |name: &str, samples| Row::new(name, Unit::PerSecond, Spread::of(samples));
    Ok(vec![
        row("plugin, pass-through", forwards.whole),
        row("  by time in the guest", forwards.guest),
        row("plugin, JSON threshold", thresholds.whole),
        row("  by time in the guest", thresholds.guest).goal(Goal::AtLeast(1_000_000.0)),
    ])
}

/// Grants and settings of threshold-alarm for the bench's readings.
pub fn threshold_settings(readings: u32) -> String {
    format!(
        "[grants]\nemit = ['alarms']\ncommands = ['cool']\nstate = true\n\
         [config]\npath = 'temperature'\nlimit = 80.0\nclear = 75.0\nreadings = {readings}\n\
         command = 'cool'\npayload = 'on'\nclear_command = 'cool'\nclear_payload = 'off'\n"
    )
}

/// The shipped threshold-alarm, built where it can be.
pub fn threshold_component(context: &Context) -> Result<PathBuf, BenchError> {
    components::build_plugins(&context.root).map_err(|error| BenchError::Program(error.to_string()))?;
    Ok(context.root.join("target/plugins/threshold-alarm.wasm"))
}

/// The host's own test guest, which forwards every event that gives it no order.
fn forward_component(context: &Context) -> Result<PathBuf, BenchError> {
    let text = context.root.join("router/src/plugin_host/test_guest.wat");
    let wit = context.root.join("plugin-sdk/wit");
    let refused = |error: String| BenchError::Program(format!("{}: {error}", text.display()));
    let mut module = wat::parse_file(&text).map_err(|error| refused(error.to_string()))?;
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_path(&wit).map_err(|error| refused(format!("{error:#}")))?;
    let encoded = resolve.select_world(&[package], Some("plugin")).and_then(|world| {
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false)?;
        ComponentEncoder::default().module(&module)?.validate(true).encode()
    });
    let bytes = encoded.map_err(|error| refused(format!("{error:#}")))?;
    let path = context.scratch.path().join("forward.wasm");
    fs::write(&path, bytes).map_err(io(format!("writing {}", path.display())))?;
    Ok(path)
}

/// Deploys a component from its start; the manifest lies beside the node's data.
pub fn deploy(node: &Node, name: &str, component: &Path, manifest: &str) -> Result<(), BenchError> {
    let path = node.data().with_file_name(format!("{name}.toml"));
    fs::write(&path, format!("name = '{name}'\n{manifest}")).map_err(io(format!("writing {}", path.display())))?;
    let (component, manifest) = (component.to_string_lossy(), path.to_string_lossy());
    node.cli(&["plugin", "deploy", &component, "--manifest", &manifest]).map(|_| ())
}

/// Stores the backlog and returns how many events it has.
fn fill(node: &Node) -> Result<u64, BenchError> {
    let load = Load { qos: 1, subscriber: false, payload: Payload::Reading };
    let mut saturation = Saturation::open(node.mqtt, load)?;
    while saturation.counts().acked < BACKLOG {
        saturation.run_until(Instant::now() + Duration::from_millis(100))?;
    }
    Ok(saturation.drain()?.acked)
}

/// One plugin over the whole backlog, under a name of its own, so that it begins at the start.
fn pass(node: &Node, plugin: &Plugin, repetition: usize, events: u64, passes: &mut Passes) -> Result<(), BenchError> {
    let name = format!("{}-{repetition}", plugin.name);
    deploy(node, &name, &plugin.component, &plugin.manifest)?;
    let started = Instant::now();
    let busy = loop {
        let text = node.get("/metrics")?;
        let seen = metrics::sum_with(&text, "edgeway_plugin_events_total", "plugin", &name).unwrap_or(0.0);
        if seen >= events as f64 {
            break metrics::sum_with(&text, "edgeway_plugin_busy_seconds_total", "plugin", &name);
        }
        if started.elapsed() > PASS_MAX {
            return Err(BenchError::Timeout { what: format!("{name} ({seen} of {events} events)"), limit: PASS_MAX });
        }
        std::thread::sleep(Duration::from_millis(10));
    };
    passes.whole.push(events as f64 / started.elapsed().as_secs_f64());
    passes.guest.extend(busy.map(|busy| events as f64 / busy));
    node.cli(&["plugin", "remove", &name]).map(|_| ())
}
