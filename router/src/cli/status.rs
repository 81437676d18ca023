//! `edgeway status`: the node at a glance.

use std::io::Write;
use std::time::Duration;

use super::api::Api;
use super::locate::NodeArgs;
use super::out::Out;
use super::table::{bytes, printable};
use super::{Failure, when};
use crate::admin::status::Status;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    node: NodeArgs,
}

pub fn run(args: &Args, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let status: Status = Api::to(&args.node)?.get("status")?;
    if out.is_json() {
        return out.object(&status);
    }
    lines(&status).iter().try_for_each(|(name, value)| out.line(&format!("{name:<10}  {}", printable(value))))
}

fn lines(status: &Status) -> Vec<(&'static str, String)> {
    let store = &status.store;
    let free = store.free_bytes.map_or_else(String::new, |free| format!(", {} free", bytes(free)));
    let mut lines = vec![
        ("node", format!("{} ({})", status.name, status.state)),
        ("version", status.version.clone()),
        ("up", when::show_span(Duration::from_secs(status.uptime_s))),
        ("mqtt", status.mqtt.clone()),
    ];
    lines.extend(status.secure.mqtts.iter().map(|address| ("mqtts", address.to_string())));
    lines.extend(status.secure.quic.iter().map(|address| ("quic", address.to_string())));
    lines.extend(status.secure.fingerprint.iter().map(|fingerprint| ("pin", fingerprint.clone())));
    lines.extend([
        ("sessions", status.sessions.to_string()),
        ("commands", format!("{} pending, {} jobs under way", status.commands_pending, status.jobs_open)),
        ("guards", format!("{} on duty", status.guards)),
        ("twins", format!("{} differ", status.twins_differing)),
        ("topics", status.topics.to_string()),
        ("memory", bytes(status.memory_bytes)),
        ("store", format!("{} on disk, {} of events{free}", bytes(store.bytes), bytes(store.batch_bytes))),
        ("origin", store.origin.clone()),
        ("commit", store.commit.to_string()),
    ]);
    lines.extend(status.problems.iter().map(|problem| ("problem", problem.clone())));
    lines.extend(store.alarm.iter().map(|alarm| ("alarm", alarm.clone())));
    lines
}
