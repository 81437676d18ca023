//! `edgeway link`: a site feeds another one: invite, accept, look, pause, remove.

mod show;

use std::io::Write;
use std::time::Duration;

use clap::Subcommand;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Failure;
use super::api::{Api, encoded};
use super::locate::NodeArgs;
use super::out::Out;
use super::token::{self, Serves};
use crate::admin::links::{AcceptedJson, InviteJson, LinkJson};

/// How long a change of links may take, besides what any call may.
const WAITS: Duration = Duration::from_secs(30);
/// Between two lines of a watch.
const WATCH_EVERY: Duration = Duration::from_secs(1);

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print a token with which one gateway of a site may feed this one; it serves once, for 15 minutes
    Invite {
        /// What the site is called here: its topics are SITE/TOPIC
        site: String,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Accept an invitation: this node feeds the site that made the token, from now on
    Accept {
        /// What `edgeway link invite` printed there
        token: String,
        /// What the link is called here
        #[arg(long, default_value = "upstream")]
        name: String,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// List links, of both directions
    List {
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Show how a link is: what waits, what was refused, what never came
    Show {
        /// The link's name
        name: String,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Watch a link: one line a second, of what waits, how fast it goes and what the line is like
    Watch {
        /// The link's name
        name: String,
        /// End after so many seconds; 0 goes on until it is interrupted
        #[arg(long, default_value_t = 0)]
        seconds: u64,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Pause a link that begins here; what it carries waits
    Pause {
        /// The link's name
        name: String,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Let a paused link go on
    Resume {
        /// The link's name
        name: String,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Remove a link. Upstream, what it brought stays, and its certificates serve no more
    Remove {
        /// The link's name
        name: String,
        #[command(flatten)]
        node: NodeArgs,
    },
}

#[derive(Deserialize)]
struct All {
    links: Vec<LinkJson>,
}

pub fn run(args: Args, out: &mut Out<impl Write>) -> Result<(), Failure> {
    match args.action {
        Action::Invite { site, node } => invite(&Api::to(&node)?, &site, out),
        Action::Accept { token, name, node } => {
            let asked = json!({"token": token, "name": name});
            let said: AcceptedJson = Api::to(&node)?.post("links/accept", &asked, WAITS)?;
            let text = format!("this site is {} upstream; `edgeway link show {name}` tells how it goes", said.site);
            out.done(&said, &text)
        }
        Action::List { node } => show::list(&Api::to(&node)?.get::<All>("links")?.links, out),
        Action::Show { name, node } => show::show(&Api::to(&node)?.get(&format!("links/{}", encoded(&name)))?, out),
        Action::Watch { name, seconds, node } => watch(&Api::to(&node)?, &name, seconds, out),
        Action::Pause { name, node } => act(&Api::to(&node)?, &name, "pause", "is paused; what it carries waits", out),
        Action::Resume { name, node } => act(&Api::to(&node)?, &name, "resume", "goes on", out),
        Action::Remove { name, node } => {
            let said: Value = Api::to(&node)?.delete_told(&format!("links/{}", encoded(&name)))?;
            out.done(&said, &format!("link {name} is removed"))
        }
    }
}

fn watch(api: &Api, name: &str, seconds: u64, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let path = format!("links/{}", encoded(name));
    let mut left = seconds;
    loop {
        show::watched(&api.get::<LinkJson>(&path)?, out)?;
        left = left.saturating_sub(1);
        if seconds > 0 && left == 0 {
            return Ok(());
        }
        std::thread::sleep(WATCH_EVERY);
    }
}

fn act(api: &Api, name: &str, act: &str, text: &str, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let said: Value = api.post(&format!("links/{}/{act}", encoded(name)), &json!({}), WAITS)?;
    out.done(&said, &format!("link {name} {text}"))
}

fn invite(api: &Api, site: &str, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let invited: InviteJson = api.post("links/invite", &json!({"site": site}), WAITS)?;
    let serves = Serves { whom: "gateway", until_ms: invited.expires_at_ms, by: "edgeway link accept TOKEN" };
    token::print(&invited, &invited.token, serves, out)
}
