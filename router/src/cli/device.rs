//! `edgeway device list`: who has been seen, and who is connected.

use std::io::Write;

use clap::Subcommand;

use super::api::{Api, encoded};
use super::locate::NodeArgs;
use super::out::Out;
use super::table::Table;
use super::{Failure, when};
use crate::admin::devices::{DeviceView, Devices};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the devices that have been seen
    List {
        /// Those that are connected
        #[arg(long)]
        connected: bool,
        #[command(flatten)]
        node: NodeArgs,
    },
}

pub fn run(args: &Args, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let Action::List { connected, node } = &args.action;
    let api = Api::to(node)?;
    let mut table = Table::new(&["DEVICE", "CONNECTED", "PROTOCOL", "FROM", "FIRST SEEN", "LAST SEEN"]);
    let mut after: Option<String> = None;
    loop {
        let path = match &after {
            Some(after) => format!("devices?after={}", encoded(after)),
            None => "devices".to_owned(),
        };
        let Devices { devices, next } = api.get(&path)?;
        for device in devices.iter().filter(|device| device.connected || !connected) {
            match out.is_json() {
                true => out.object(device)?,
                false => table.row(row(device)),
            }
        }
        after = next;
        if after.is_none() {
            break;
        }
    }
    if out.is_json() { Ok(()) } else { out.table(&table, "no device has been seen yet") }
}

fn row(device: &DeviceView) -> [String; 6] {
    [
        device.device.clone(),
        if device.connected { "yes" } else { "no" }.to_owned(),
        device.protocol.clone(),
        device.remote.clone(),
        when::show_ms(device.first_seen_ms),
        when::show_ms(device.last_seen_ms),
    ]
}
