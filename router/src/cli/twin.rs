//! `edgeway twin`: what devices shall be and say they are.

use std::io::Write;

use clap::Subcommand;

use super::api::{Api, encoded};
use super::locate::NodeArgs;
use super::out::Out;
use super::table::{Table, printable};
use super::{Failure, value, when};
use crate::admin::WAIT_MS_MAX;
use crate::admin::twins::List;
use crate::twins::{SideView, TwinView};

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show a device's twin
    Get {
        /// The device
        device: String,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Set what a device shall be
    Set(Set),
    /// Show a device's twin, and again with every change
    Watch {
        /// The device
        device: String,
        /// End after so many
        #[arg(long, short = 'n', value_name = "NUMBER")]
        max: Option<u64>,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// List the devices that have a twin
    List {
        /// Those that are not yet as they shall be
        #[arg(long)]
        differing: bool,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Delete a device's twin
    Delete {
        /// The device
        device: String,
        /// Where the desired version is this one
        #[arg(long, value_name = "N")]
        if_version: Option<u64>,
        #[command(flatten)]
        node: NodeArgs,
    },
}

/// A change as it is typed.
#[derive(Debug, clap::Args)]
struct Set {
    /// The device
    device: String,
    /// A JSON object that is merged into what is desired (null removes a member), or @FILE
    #[arg(value_name = "JSON|@FILE")]
    document: String,
    /// It is all that is desired
    #[arg(long)]
    replace: bool,
    /// Where the desired version is this one
    #[arg(long, value_name = "N")]
    if_version: Option<u64>,
    #[command(flatten)]
    node: NodeArgs,
}

pub fn run(args: &Args, out: &mut Out<impl Write>) -> Result<(), Failure> {
    match &args.action {
        Action::Get { device, node } => show(&Api::to(node)?.get(&format!("twins/{}", encoded(device)))?, out),
        Action::Set(typed) => set(typed, out),
        Action::Watch { device, max, node } => watch(&Api::to(node)?, device, max.unwrap_or(u64::MAX), out),
        Action::List { differing, node } => list(&Api::to(node)?, *differing, out),
        Action::Delete { device, if_version, node } => Api::to(node)?.delete(&path(device, *if_version)),
    }
}

/// Where a twin is changed.
fn path(device: &str, if_version: Option<u64>) -> String {
    let condition = if_version.map(|version| format!("&if_version={version}")).unwrap_or_default();
    format!("twins/{}?by=cli{condition}", encoded(device))
}

fn set(typed: &Set, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let document = value::read(&typed.document)?;
    let api = Api::to(&typed.node)?;
    let path = path(&typed.device, typed.if_version);
    let twin: TwinView = match typed.replace {
        true => api.put(&path, &document)?,
        false => api.patch(&path, &document)?,
    };
    show(&twin, out)
}

fn watch(api: &Api, device: &str, max: u64, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let mut known = 0;
    let mut shown = 0;
    while shown < max {
        let path = format!("twins/{}?wait_ms={WAIT_MS_MAX}&after_version={known}", encoded(device));
        let twin: TwinView = match api.get(&path) {
            // It has none yet, or none any more: one may come.
            Err(Failure::Told { exit: super::Exit::NotFound, .. }) => {
                known = 0;
                continue;
            }
            answer => answer?,
        };
        if twin.version != known {
            (known, shown) = (twin.version, shown + 1);
            show(&twin, out)?;
            out.flush()?;
        }
    }
    Ok(())
}

fn list(api: &Api, differing: bool, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let mut any = false;
    let mut table = Table::new(&["DEVICE", ">DESIRED", ">REPORTED", "DIFFERS", "CHANGED AT"]);
    let mut after: Option<String> = None;
    loop {
        let path = match &after {
            Some(after) => format!("twins?after={}", encoded(after)),
            None => "twins".to_owned(),
        };
        let List { twins, next } = api.get(&path)?;
        any |= !twins.is_empty();
        for twin in twins.iter().filter(|twin| twin.differs || !differing) {
            let at = when::show_ms(i64::try_from(twin.changed_ms).unwrap_or(i64::MAX));
            let differs = if twin.differs { "yes" } else { "no" }.to_owned();
            let versions = [twin.desired_version.to_string(), twin.reported_version.to_string()];
            let [desired, reported] = versions;
            match out.is_json() {
                true => out.object(twin)?,
                false => table.row([twin.device.clone(), desired, reported, differs, at]),
            }
        }
        after = next;
        if after.is_none() {
            break;
        }
    }
    let empty = if any { "no twin differs: all devices are as they shall be" } else { "no device has a twin yet" };
    if out.is_json() { Ok(()) } else { out.table(&table, empty) }
}

fn show(twin: &TwinView, out: &mut Out<impl Write>) -> Result<(), Failure> {
    if out.is_json() {
        return out.object(twin);
    }
    out.line(&format!("device    {}", printable(&twin.device)))?;
    out.line(&format!("desired   {}", side(&twin.desired)))?;
    out.line(&format!("reported  {}", side(&twin.reported)))?;
    let delta = serde_json::to_string(&twin.delta).unwrap_or_default();
    out.line(&format!("delta     {}", printable(&delta)))
}

fn side(side: &SideView) -> String {
    match side.version {
        0 => "nothing yet".to_owned(),
        version => {
            let at = when::show_ms(i64::try_from(side.at_ms).unwrap_or(i64::MAX));
            let state = side.state.to_json();
            format!("{}   version {version}, by {}, {at}", printable(&state), printable(&side.by))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_names_device_and_condition() {
        assert_eq!(path("a b", None), "twins/a%20b?by=cli");
        assert_eq!(path("d", Some(3)), "twins/d?by=cli&if_version=3");
    }

    #[test]
    fn a_half_is_shown_in_a_line() {
        let document = devices::twin::Document::parse(br#"{"b":1,"a":"x"}"#).unwrap();
        let mut half = SideView { version: 0, at_ms: 0, by: "cli".into(), state: document };
        assert_eq!(side(&half), "nothing yet");
        half.version = 4;
        assert!(side(&half).starts_with(r#"{"a":"x","b":1}   version 4, by cli, "#));
    }
}
