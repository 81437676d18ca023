//! `edgeway plugin`: deployed, listed, granted more or less, removed.

mod sites;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use clap::{Subcommand, ValueEnum};
use serde::Deserialize;
use serde_json::{Value, json};

use super::api::{Api, encoded};
use super::locate::NodeArgs;
use super::out::Out;
use super::progress::Progress;
use super::table::Table;
use super::{Failure, value, when};
use crate::admin::devices::IssuedBy;
use crate::admin::{Deploy, GrantChange, GrantSet};
use crate::plugin_host::{MANIFEST_BYTES_MAX, TwinGrant, WASM_BYTES_MAX};

/// How long compiling a large component may take.
const COMPILE_WITHIN: Duration = Duration::from_secs(180);

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Deploy a plugin or a command guard, or a new version of one, which goes on where the old one was
    Deploy {
        /// The component
        file: PathBuf,
        /// Its manifest; else FILE with the ending .toml, or manifest.toml beside it
        #[arg(long, value_name = "FILE")]
        manifest: Option<PathBuf>,
        /// A site that feeds this one is to have it, instead of this one
        #[arg(long)]
        site: Option<String>,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// List the plugins
    List {
        /// What a site that feeds this one is to have, and what came of it
        #[arg(long)]
        site: Option<String>,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Let a plugin do more; it goes on where it was
    Grant {
        #[command(flatten)]
        what: Grant,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Let a plugin do less; it goes on where it was
    Revoke {
        #[command(flatten)]
        what: Grant,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Stop a plugin and remove it with its state
    Remove {
        /// The plugin
        plugin: String,
        /// A site that feeds this one is not to have it any more
        #[arg(long)]
        site: Option<String>,
        #[command(flatten)]
        node: NodeArgs,
    },
}

/// What a plugin may do, as it is typed.
#[derive(Debug, clap::Args)]
#[group(skip)]
struct Grant {
    /// The plugin
    plugin: String,
    /// Append to this topic
    #[arg(long, value_name = "TOPIC")]
    emit: Vec<String>,
    /// Send commands of this name; * stands for any text
    #[arg(long, value_name = "COMMAND")]
    command: Vec<String>,
    /// Read this internal topic
    #[arg(long, value_name = "TOPIC")]
    internal: Vec<String>,
    /// Read the state of this plugin (command guards)
    #[arg(long, value_name = "PLUGIN")]
    read_state: Vec<String>,
    /// Send urgent commands
    #[arg(long)]
    urgent: bool,
    /// Keep state
    #[arg(long)]
    state: bool,
    /// Be given the events' headers
    #[arg(long)]
    headers: bool,
    /// Read device twins, or set what is desired as well
    #[arg(long, value_enum)]
    twins: Option<Twins>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Twins {
    Read,
    Set,
}

impl Grant {
    fn set(&self) -> GrantSet {
        GrantSet {
            emit: self.emit.clone(),
            commands: self.command.clone(),
            internal: self.internal.clone(),
            read_state: self.read_state.clone(),
            urgent: self.urgent,
            state: self.state,
            headers: self.headers,
            twins: match self.twins {
                None => TwinGrant::None,
                Some(Twins::Read) => TwinGrant::Read,
                Some(Twins::Set) => TwinGrant::Set,
            },
        }
    }
}

#[derive(Deserialize)]
struct Plugins {
    plugins: Vec<Value>,
}

pub fn run(args: Args, out: &mut Out<impl Write>) -> Result<(), Failure> {
    match args.action {
        Action::Deploy { file, manifest, site, node } => deploy(&node, &file, manifest, site.as_deref(), out),
        Action::List { site: Some(site), node } => sites::list(&Api::to(&node)?, &site, out),
        Action::List { site: None, node } => list(&Api::to(&node)?, out),
        Action::Grant { what, node } => {
            let change = GrantChange { grant: what.set(), ..GrantChange::default() };
            grant(&Api::to(&node)?, &what.plugin, change, out)
        }
        Action::Revoke { what, node } => {
            let change = GrantChange { revoke: what.set(), ..GrantChange::default() };
            grant(&Api::to(&node)?, &what.plugin, change, out)
        }
        Action::Remove { plugin, site: Some(site), node } => sites::take_back(&Api::to(&node)?, &site, &plugin, out),
        Action::Remove { plugin, site: None, node } => {
            Api::to(&node)?.delete(&format!("plugins/{}?issued_by=cli", encoded(&plugin)))?;
            out.done(&json!({"removed": plugin}), &format!("plugin {plugin} is removed"))
        }
    }
}

fn grant(api: &Api, plugin: &str, change: GrantChange, out: &mut Out<impl Write>) -> Result<(), Failure> {
    if change.grant == change.revoke {
        return Err(Failure::usage("nothing is said of what it may do").hint("name at least one, such as --emit TOPIC"));
    }
    let body = serde_json::to_value(GrantChange { issued_by: IssuedBy::Cli, ..change }).unwrap_or_default();
    let granted: Value = api.post(&format!("plugins/{}/grants", encoded(plugin)), &body, COMPILE_WITHIN)?;
    out.done(&granted, &format!("plugin {plugin} may do: {}", granted["grants"]))
}

/// The manifest that is meant.
fn manifest_of(file: &Path, typed: Option<PathBuf>) -> Result<PathBuf, Failure> {
    let beside = [file.with_extension("toml"), file.with_file_name("manifest.toml")];
    typed.or_else(|| beside.into_iter().find(|path| path.is_file())).ok_or_else(|| {
        let what = format!("{} has no manifest beside it", file.display());
        Failure::usage(what).hint("name it with --manifest FILE")
    })
}

fn deploy(
    node: &NodeArgs,
    file: &Path,
    manifest: Option<PathBuf>,
    site: Option<&str>,
    out: &mut Out<impl Write>,
) -> Result<(), Failure> {
    let manifest = manifest_of(file, manifest)?;
    let wasm = value::read_file(&file.to_string_lossy(), WASM_BYTES_MAX as u64)?;
    let text = value::read_file(&manifest.to_string_lossy(), MANIFEST_BYTES_MAX as u64)?;
    let text = String::from_utf8(text)
        .map_err(|_| Failure::usage(format!("the manifest {} is no text", manifest.display())))?;
    let api = Api::to(node)?;
    let body = Deploy { manifest: text, wasm_base64: BASE64.encode(&wasm), issued_by: IssuedBy::Cli };
    let body = serde_json::to_value(&body).unwrap_or_default();
    if let Some(site) = site {
        return sites::give(&api, site, &body, out);
    }
    let mut progress = Progress::start("bytes sent; the node compiles", None);
    progress.at(wasm.len() as u64);
    let deployed: Value = api.post("plugins", &body, COMPILE_WITHIN)?;
    progress.end();
    let again = if deployed["redeployed"] == true { "again " } else { "" };
    let name = deployed["name"].as_str().unwrap_or_default();
    out.done(&deployed, &format!("plugin {name} is deployed {again}and runs"))?;
    match deployed["nodes"].as_u64() {
        Some(nodes @ 2..) if !out.is_json() => out.line(&format!("it is to run on {nodes} nodes of the site")),
        _ => Ok(()),
    }
}

fn list(api: &Api, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let Plugins { plugins } = api.get("plugins")?;
    if out.is_json() {
        return plugins.iter().try_for_each(|plugin| out.object(plugin));
    }
    let titles =
        ["PLUGIN", "STATE", "READS", ">LAG", ">EVENTS", ">APPENDED", ">COMMANDS", ">TRAPS", ">DEAD", "DEPLOYED"];
    let mut table = Table::new(&titles);
    let titles = [
        "COMMAND GUARD",
        "STATE",
        "JUDGES",
        ">ASKED",
        ">ALLOWED",
        ">DENIED",
        ">REWRITTEN",
        ">FAILED",
        ">OVERRIDDEN",
        "DEPLOYED",
    ];
    let mut guards = Table::new(&titles);
    for plugin in &plugins {
        match plugin["kind"].as_str() {
            Some("command-guard") => guards.row(guard_row(plugin)),
            _ => table.row(row(plugin)),
        }
    }
    if guards.is_empty() {
        return out.table(&table, "no plugins; `edgeway plugin deploy FILE.wasm` deploys one");
    }
    if !table.is_empty() {
        out.table(&table, "")?;
        out.line("")?;
    }
    out.table(&guards, "")
}

/// The plugin's state, with the reason where there is one, and with what keeps this node from what was agreed on.
fn state(plugin: &Value) -> String {
    let state = plugin["state"].as_str().unwrap_or_default();
    let told = [plugin["reason"].as_str(), plugin["problem"].as_str()].into_iter().flatten();
    told.fold(state.to_owned(), |all, text| format!("{all}: {text}"))
}

/// The texts of a list in the manifest.
fn listed(plugin: &Value, entry: &str) -> String {
    let texts = plugin["manifest"][entry].as_array().map(Vec::as_slice).unwrap_or_default();
    texts.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}

fn guard_row(guard: &Value) -> [String; 10] {
    let number = |name: &str| guard["guard"][name].as_u64().unwrap_or(0).to_string();
    let (commands, devices) = (listed(guard, "commands"), listed(guard, "devices"));
    [
        guard["name"].as_str().unwrap_or_default().to_owned(),
        state(guard),
        if devices.is_empty() { commands } else { format!("{commands} of {devices}") },
        number("asked"),
        number("allowed"),
        number("denied"),
        number("rewritten"),
        number("failed"),
        number("overridden"),
        when::show_ms(guard["deployed_ms"].as_i64().unwrap_or(i64::MAX)),
    ]
}

fn row(plugin: &Value) -> [String; 10] {
    let number = |name: &str| plugin[name].as_u64().unwrap_or(0).to_string();
    [
        plugin["name"].as_str().unwrap_or_default().to_owned(),
        state(plugin),
        listed(plugin, "topics"),
        number("lag_events"),
        number("events"),
        number("appended"),
        number("commands"),
        number("traps"),
        number("dead_letters"),
        when::show_ms(plugin["deployed_ms"].as_i64().unwrap_or(i64::MAX)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_manifest_is_found_beside_the_component() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("p.wasm");
        assert!(manifest_of(&file, None).is_err());
        std::fs::write(folder.path().join("manifest.toml"), "").unwrap();
        assert_eq!(manifest_of(&file, None).unwrap(), folder.path().join("manifest.toml"));
        std::fs::write(folder.path().join("p.toml"), "").unwrap();
        assert_eq!(manifest_of(&file, None).unwrap(), folder.path().join("p.toml"));
        assert_eq!(manifest_of(&file, Some("x".into())).unwrap(), Path::new("x"));
    }

    #[test]
    fn a_broken_plugin_says_why() {
        let plugin = json!({"name": "p", "state": "broken", "reason": "no memory", "manifest": {"topics": ["a", "b"]},
            "lag_events": 3, "deployed_ms": i64::MAX});
        let expected = ["p", "broken: no memory", "a,b", "3", "0", "0", "0", "0", "0", "-"];
        assert_eq!(row(&plugin), expected.map(str::to_owned));
        let waits = json!({"name": "p", "state": "starting", "problem": "no node has its component"});
        assert_eq!(state(&waits), "starting: no node has its component");
    }

    #[test]
    fn a_guard_shows_what_it_judges() {
        let mut guard = json!({"name": "g", "kind": "command-guard", "state": "running", "deployed_ms": i64::MAX,
            "manifest": {"commands": ["open*", "purge"]}, "guard": {"asked": 5, "allowed": 1, "denied": 2, "failed": 2,
            "overridden": 1}});
        let expected = ["g", "running", "open*,purge", "5", "1", "2", "0", "2", "1", "-"];
        assert_eq!(guard_row(&guard), expected.map(str::to_owned));
        guard["manifest"]["devices"] = json!(["valve-*"]);
        assert_eq!(guard_row(&guard)[2], "open*,purge of valve-*");
    }
}
