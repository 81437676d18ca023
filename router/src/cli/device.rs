//! `edgeway device`: what people set of devices, and what was seen of them.

mod list;

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use devices::command::check_device_name;
use serde::Serialize;
use serde_json::json;

use super::api::{Api, encoded};
use super::locate::NodeArgs;
use super::out::Out;
use super::{Exit, Failure};
use crate::admin::devices::{AttributeChange, IssuedBy, NewDevice, TagChange};
use crate::catalog::Value;
use crate::directory::{DeviceView, Removed};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the devices: those that were added, and those that have been seen
    List {
        #[command(flatten)]
        which: list::Which,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Show all that is known of a device
    Show {
        /// The device
        device: String,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Add a device: it is enrolled, and may connect where only enrolled devices may
    Add {
        #[command(flatten)]
        new: Add,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Remove a device: what is set of it, and what was seen of it; its twin and pending commands stay
    Remove {
        /// The device
        device: String,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Add tags to a device, and remove others
    Tag {
        /// The device
        device: String,
        /// Tags that it shall have: letters, digits and _ - . : / @
        #[arg(required_unless_present = "remove")]
        tags: Vec<String>,
        /// A tag that it shall not have; may be given several times
        #[arg(long, value_name = "TAG")]
        remove: Vec<String>,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Set attributes of a device
    Set {
        /// The device
        device: String,
        /// What an attribute shall say: true, false, a number, or text (quotes make it text)
        #[arg(value_name = "NAME=VALUE", value_parser = pair)]
        attributes: Vec<(String, Value)>,
        /// An attribute that it shall not have; may be given several times
        #[arg(long, value_name = "NAME")]
        unset: Vec<String>,
        /// Whether it refuses a command whose id it has seen
        #[arg(long, value_enum)]
        refuses_repeats: Option<Known>,
        #[command(flatten)]
        node: NodeArgs,
    },
}

/// A device as it is typed.
#[derive(Debug, clap::Args)]
#[group(skip)]
struct Add {
    /// Its name: the client id with which it connects
    device: String,
    /// A tag; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<String>,
    /// An attribute; may be given several times
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = pair)]
    attributes: Vec<(String, Value)>,
    /// Whether it refuses a command whose id it has seen
    #[arg(long, value_enum)]
    refuses_repeats: Option<Known>,
}

/// What people know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Known {
    Yes,
    No,
    /// Nobody knows
    Unknown,
}

impl Known {
    fn flag(self) -> Option<bool> {
        match self {
            Self::Yes => Some(true),
            Self::No => Some(false),
            Self::Unknown => None,
        }
    }
}

/// An attribute as it is typed.
fn pair(text: &str) -> Result<(String, Value), String> {
    let (name, value) = text.split_once('=').ok_or("expected NAME=VALUE, such as pressure=5")?;
    Ok((name.to_owned(), Value::typed(value)))
}

pub fn run(args: Args, out: &mut Out<impl Write>) -> Result<(), Failure> {
    match args.action {
        Action::List { which, node } => list::run(&Api::to(&node)?, &which, out),
        Action::Show { device, node } => {
            let view: DeviceView = Api::to(&node)?.get(&format!("devices/{}", encoded(&device)))?;
            list::show(&view, out)
        }
        Action::Add { new, node } => add(&Api::to(&node)?, new, out),
        Action::Remove { device, node } => remove(&Api::to(&node)?, &device, out),
        Action::Tag { device, tags, remove, node } => {
            let (add, remove) = (tags.into_iter().collect(), remove.into_iter().collect());
            let body = TagChange { add, remove, issued_by: IssuedBy::Cli };
            change(&Api::to(&node)?, &device, "tags", &body, out)
        }
        Action::Set { device, attributes, unset, refuses_repeats, node } => {
            if attributes.is_empty() && unset.is_empty() && refuses_repeats.is_none() {
                let failure = Failure::usage(format!("nothing is to be set of device {device}"));
                return Err(failure.hint("say NAME=VALUE, --unset NAME or --refuses-repeats"));
            }
            let mut set: BTreeMap<String, Option<Value>> = unset.into_iter().map(|name| (name, None)).collect();
            set.extend(attributes.into_iter().map(|(name, value)| (name, Some(value))));
            let refuses_repeats = refuses_repeats.map(Known::flag);
            let body = AttributeChange { set, refuses_repeats, issued_by: IssuedBy::Cli };
            change(&Api::to(&node)?, &device, "attributes", &body, out)
        }
    }
}

fn add(api: &Api, new: Add, out: &mut Out<impl Write>) -> Result<(), Failure> {
    check_device_name(&new.device)
        .map_err(|why| Failure::usage(format!("{:?} cannot be a device's name: {why}", new.device)))?;
    let body = NewDevice {
        device: new.device,
        tags: new.tags.into_iter().collect(),
        attributes: new.attributes.into_iter().collect(),
        refuses_repeats: new.refuses_repeats.and_then(Known::flag),
        issued_by: IssuedBy::Cli,
    };
    let body = serde_json::to_value(&body).unwrap_or_default();
    let view: DeviceView = api.post("devices", &body, Duration::ZERO)?;
    out.done(&view, &format!("device {} is added", view.device))
}

fn change(
    api: &Api,
    device: &str,
    what: &str,
    body: &impl Serialize,
    out: &mut Out<impl Write>,
) -> Result<(), Failure> {
    let body = serde_json::to_value(body).unwrap_or_default();
    let view: DeviceView = api.post(&format!("devices/{}/{what}", encoded(device)), &body, Duration::ZERO)?;
    list::show(&view, out)
}

fn remove(api: &Api, device: &str, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let removed: Removed = api.delete_told(&format!("devices/{}?issued_by=cli", encoded(device)))?;
    let text = match removed {
        Removed { connected: true, .. } => {
            format!("what was set of device {device} is removed; it is connected, and stays listed as seen")
        }
        Removed { removed: false, .. } => format!("what was seen of device {device} is forgotten"),
        Removed { removed: true, .. } => format!("device {device} is removed"),
    };
    let Removed { removed, forgotten, connected } = removed;
    let (twin, pending) = stays(api, device)?;
    let told = json!({
        "device": device, "removed": removed, "forgotten": forgotten, "connected": connected,
        "twin": twin, "pending_commands": pending,
    });
    out.done(&told, &format!("{text}{}", what_stays(device, twin, pending)))
}

/// What of a device stays when it is removed: whether it has a twin, and how many commands wait for it.
fn stays(api: &Api, device: &str) -> Result<(bool, usize), Failure> {
    let twin: Result<serde_json::Value, Failure> = api.get(&format!("twins/{}", encoded(device)));
    let has_twin = match twin {
        Ok(_) => true,
        Err(Failure::Told { exit: Exit::NotFound, .. }) => false,
        Err(failure) => return Err(failure),
    };
    let pending: serde_json::Value = api.get(&format!("commands?device={}&ended=false&max=10000", encoded(device)))?;
    Ok((has_twin, pending["commands"].as_array().map_or(0, Vec::len)))
}

fn what_stays(device: &str, twin: bool, pending: usize) -> String {
    let commands = format!("{pending} pending command{}", if pending == 1 { "" } else { "s" });
    match (twin, pending) {
        (false, 0) => String::new(),
        (true, 0) => format!("; its twin stays (`edgeway twin delete {device}`)"),
        (false, _) => format!("; {commands} stay (`edgeway command list --pending --device {device}`)"),
        (true, _) => {
            let hint = format!("`edgeway twin delete {device}`, `edgeway command list --pending --device {device}`");
            format!("; its twin and {commands} stay ({hint})")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_of_a_removed_device_is_said() {
        assert_eq!(what_stays("d", false, 0), "");
        assert!(what_stays("d", true, 0).starts_with("; its twin stays"));
        assert!(what_stays("d", false, 1).starts_with("; 1 pending command stay"));
        assert!(what_stays("d", true, 2).starts_with("; its twin and 2 pending commands stay"));
    }
}
