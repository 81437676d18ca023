//! `edgeway node`: a site of nodes that keep each other's logs: found one, join it, leave it, see how it is.

mod found;
mod join;
mod logs;
mod show;

use std::io::Write;
use std::time::Duration;

use clap::{Subcommand, ValueEnum};
use serde_json::{Value, json};

use super::Failure;
use super::api::{Api, encoded};
use super::locate::NodeArgs;
use super::out::Out;
use super::token::Serves;
use crate::admin::devices::IssuedBy;
use crate::admin::site::{LeftView, RemovedView, SiteChange, SiteView, TokenView};
use crate::catalog::Lease;

/// How long a change of the site may take, besides what any call may.
const WAITS: Duration = Duration::from_secs(15);

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Found a site on a stopped node: make its certificates, so that others can join
    Init(found::Args),
    /// Print a token with which one node may join within 15 minutes
    Token {
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Join a site with a token; the data folder must be new. Start the node afterwards
    Join(join::Args),
    /// Take this node out of its site in good order
    Leave {
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Take a node out of the site: one that is lost, or shall not come back
    Remove {
        /// Its name or its id
        name: String,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// List the site's nodes
    List {
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Show how far each node's log is on each other, and what is wrong
    Status {
        /// Show all partitions: internal ones and empty ones as well, and each that another node is behind with
        #[arg(long)]
        partitions: bool,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Say what nodes do with plugins while they are cut off from most of the site
    Policy {
        /// Go on, or stop until they are back
        #[arg(value_enum)]
        policy: Policy,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Make the last node that is left of a site go on alone, where the majority is lost for good
    Promote {
        /// Yes: changes that only the lost nodes had agreed on are given up
        #[arg(long, required = true)]
        lost: bool,
        #[command(flatten)]
        node: NodeArgs,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Policy {
    /// They go on; what they do is told from what others do for them
    Run,
    /// They stop, and go on when they are back
    Pause,
}

pub fn run(args: Args, out: &mut Out<impl Write>) -> Result<(), Failure> {
    match args.action {
        Action::Init(args) => found::run(&args, out),
        Action::Join(args) => join::run(&args, out),
        Action::Token { node } => token(&Api::to(&node)?, out),
        Action::Leave { node } => {
            let said: LeftView = Api::to(&node)?.post("site/leave", &json!({}), WAITS)?;
            if !said.behind.is_empty() {
                let behind = said.behind.join(", ");
                out.remark(&format!("not all of its log was at {behind} yet; they take the rest from others"));
            }
            out.done(
                &said,
                "the node has left its site and stops; its data folder can be read, and is never a member again",
            )
        }
        Action::Remove { name, node } => {
            let said: RemovedView = Api::to(&node)?.delete_told(&format!("site/nodes/{}", encoded(&name)))?;
            if let Some(why) = &said.not_handed_over {
                let text =
                    format!("{name} has not handed its log over ({why}): what it alone had acknowledged went with it");
                out.remark(&text);
            }
            out.done(&said, &format!("node {name} is removed; it comes back only as a new one, with a new data folder"))
        }
        Action::List { node } => show::list(&Api::to(&node)?.get::<SiteView>("site")?, out),
        Action::Status { partitions, node } => show::status(&Api::to(&node)?.get::<SiteView>("site")?, partitions, out),
        Action::Policy { policy, node } => set_policy(&Api::to(&node)?, policy, out),
        Action::Promote { lost: _, node } => {
            let said: Value = Api::to(&node)?.post("site/promote-lost", &json!({}), WAITS)?;
            out.done(
                &said,
                "the node decides alone now; remove the lost ones with `edgeway node remove`: until then events of quorum topics are refused. \
                 Let none of them come back with its data folder: wipe it, and let it join anew",
            )
        }
    }
}

fn set_policy(api: &Api, policy: Policy, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let (lease, does) = match policy {
        Policy::Run => (Lease::Run, "goes on"),
        Policy::Pause => (Lease::Pause, "pauses until it is back"),
    };
    let change = SiteChange { lease: Some(lease), issued_by: IssuedBy::Cli, ..SiteChange::default() };
    let view: SiteView = api.patch("site", &serde_json::to_vec(&change).unwrap_or_default())?;
    out.done(&json!({"lease": view.lease}), &format!("what plugins do on a node that is cut off: it {does}"))
}

fn token(api: &Api, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let token: TokenView = api.post("site/tokens", &json!({}), WAITS)?;
    let by = "edgeway node join TOKEN --data FOLDER --name NAME --address HOST:PORT";
    let serves = Serves { whom: "node", until_ms: token.expires_at_ms, by };
    super::token::print(&token, &token.token, serves, out)
}
