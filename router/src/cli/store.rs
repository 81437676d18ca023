//! `edgeway store`: `verify` reads everything, and names what is damaged; `salvage` makes a new store of the rest.

mod salvage;

use std::io::{BufRead, Write};

use clap::Subcommand;
use sled_data::{OpenError, Store};

use super::api::Api;
use super::locate::NodeArgs;
use super::out::Out;
use super::progress::Progress;
use super::table::{Table, bytes};
use super::{Exit, Failure};
use crate::admin::store::{Report, VerifyLine};
use crate::config::StoreConfig;
use crate::node::STORE_FOLDER;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Read every stored event and compare all checksums; exit code 6 where something is damaged
    Verify {
        /// Read the store in the data folder itself: no node may run on it
        #[arg(long, conflicts_with_all = ["node", "token_file"])]
        offline: bool,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Make a new data folder of what a damaged store that does not open still holds; exit code 6 where events are missing
    Salvage(salvage::Args),
}

pub fn run(args: &Args, out: &mut Out<impl Write>) -> Result<(), Failure> {
    match &args.action {
        Action::Verify { offline, node } => verify(*offline, node, out),
        Action::Salvage(args) => salvage::run(args, out),
    }
}

fn verify(offline: bool, node: &NodeArgs, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let report = if offline { verify_folder(node)? } else { verify_node(node)? };
    show(&report, out)?;
    match report.clean {
        true => Ok(()),
        false => out.flush().and(Err(Failure::Shown(Exit::Damaged))),
    }
}

fn verify_node(node: &NodeArgs) -> Result<Report, Failure> {
    let api = Api::to(node).map_err(|failure| match failure {
        Failure::Told { exit: Exit::Unreachable, what, .. } => {
            Failure::new(Exit::Unreachable, what).hint("to read the store of a stopped node, add --offline")
        }
        other => other,
    })?;
    let mut progress = Progress::start("bytes", None);
    for line in api.post_stream("store/verify", &serde_json::json!({}))?.lines() {
        let line = line.map_err(|error| Failure::new(Exit::Unreachable, format!("the node broke off: {error}")))?;
        match serde_json::from_str(&line) {
            Ok(VerifyLine::Progress { bytes, bytes_total }) => {
                progress.of(bytes_total);
                progress.at(bytes);
            }
            Ok(VerifyLine::Report(report)) => return Ok(report),
            Ok(VerifyLine::Error { message }) => return Err(Failure::new(Exit::Failed, message)),
            Err(error) => {
                return Err(Failure::new(Exit::Failed, format!("the node's answer is not understood: {error}")));
            }
        }
    }
    Err(Failure::new(Exit::Unreachable, "the node ended before its report").hint("call again"))
}

fn verify_folder(node: &NodeArgs) -> Result<Report, Failure> {
    let data = node.data_dir();
    let path = data.join(STORE_FOLDER);
    // Opening would make a store where there is none.
    if !path.is_dir() {
        let what = format!("there is no store in {}", data.display());
        return Err(Failure::new(Exit::NotFound, what).hint("name the data folder with --data DIR"));
    }
    let opened = Store::open(&path, StoreConfig::default().to_options());
    let (store, _) = opened.map_err(|error| {
        let (exit, hint) = match error {
            OpenError::InUse => (Exit::Failed, "a node runs on it: leave --offline out"),
            OpenError::Damaged(_) => {
                (Exit::Damaged, "`edgeway store salvage` saves what it still holds; or restore it from a backup")
            }
            _ => (Exit::Failed, ""),
        };
        Failure::new(exit, format!("the store in {} does not open: {error}", path.display())).hint(hint)
    })?;
    let mut bar = Progress::start("bytes", None);
    let found = store.verify(&mut |progress| {
        bar.of(progress.bytes_total);
        bar.at(progress.bytes);
    });
    let report = found.map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    store.close().map_err(|error| Failure::new(Exit::Failed, error.to_string()))?;
    Ok(report.into())
}

fn show(report: &Report, out: &mut Out<impl Write>) -> Result<(), Failure> {
    if out.is_json() {
        return out.object(report);
    }
    let read = format!(
        "{} events in {} batches of {} partitions, {}",
        report.events,
        report.batches,
        report.partitions,
        bytes(report.bytes)
    );
    for (why, events) in &report.never_came {
        out.line(&format!("{events} events never came by a link: {why}"))?;
    }
    if report.clean {
        return out.line(&format!("nothing is damaged: {read}"));
    }
    let mut table = Table::new(&["TOPIC", ">PARTITION", "ORIGIN", ">FROM", ">TO", "REASON"]);
    for damage in &report.damaged {
        let topic = damage.topic.clone().unwrap_or_else(|| "-".to_owned());
        let (from, to) = (damage.from.to_string(), damage.to.saturating_sub(1).to_string());
        table.row([topic, damage.partition.to_string(), damage.origin.clone(), from, to, damage.reason.clone()]);
    }
    out.table(&table, "no events are damaged")?;
    if report.damaged_unlisted > 0 {
        out.line(&format!("and {} ranges more", report.damaged_unlisted))?;
    }
    report.meta_damaged.iter().try_for_each(|damage| out.line(&format!("damaged: {damage}")))?;
    out.line(&format!("sound: {read}"))
}
