//! What was typed, what is meant, what it does: one small file a command.
//!
//! A command's file holds its arguments as they are typed, turns them into what is meant (pure) and
//! does it. `run` is the node; everything else speaks HTTP to a running node through `api`.

mod api;
mod command;
mod completions;
mod device;
mod failure;
mod fleet;
mod get;
mod job;
mod link;
mod locate;
mod node;
mod out;
mod plugin;
mod progress;
mod publish;
mod route;
mod run;
mod status;
mod store;
mod table;
mod tail;
mod token;
mod topic;
mod twin;
mod value;
mod wait;
mod when;

use std::io;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use failure::{Exit, Failure};

use out::Out;

/// An event router for edge and IoT: MQTT in, a durable log, WebAssembly plugins, commands back.
#[derive(Debug, Parser)]
#[command(name = "edgeway", version, after_help = EXIT_HELP, arg_required_else_help = true)]
pub struct Cli {
    /// Print JSON: one object, or one a line where there are many
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    verb: Verb,
}

const EXIT_HELP: &str = "\
Exit codes:
  0  done
  1  failed
  2  the command line or the configuration is wrong
  3  no node answers
  4  what was named does not exist
  6  the store is damaged
  7  the node refused the token
  of `command send --wait`, where the command did not succeed (of many: the first of 10 to 14, 17, 16, 15):
  10  failed: the device tried
  11  rejected by the device
  12  timed out: the device did not say in time how it ended
  13  unknown: nobody knows whether it arrived
  14  expired: not sent in time
  15  cancelled
  16  superseded by a newer one
  17  refused by the node: no room, or a guard";

#[derive(Debug, Subcommand)]
enum Verb {
    /// Start a node and run it until it is told to stop
    Run(run::Args),
    /// Topics: list, create, delete, show
    Topic(topic::Args),
    /// Publish events to a topic
    Publish(publish::Args),
    /// Print a topic's events
    Tail(tail::Args),
    /// Print the newest value of a key
    Get(get::Args),
    /// Routing rules, MQTT topics to topics: set, list, delete, test
    Route(route::Args),
    /// Plugins: deploy, list, grant, revoke, remove
    Plugin(plugin::Args),
    /// Commands to devices: send, list, show, watch, cancel, redrive
    Command(command::Args),
    /// Jobs, commands to many devices: list, show, watch, pause, resume, cancel
    Job(job::Args),
    /// Devices: list, show, add, remove, tag, set
    Device(device::Args),
    /// Device twins, what devices shall be and say they are: get, set, watch, list, delete
    Twin(twin::Args),
    /// Simulate devices, and compare what they sent with the log
    Fleet(Box<fleet::Args>),
    /// Links between sites, by which one feeds another: invite, accept, list, show, pause, resume, remove
    Link(link::Args),
    /// A site of nodes that keep each other's logs: init, token, join, leave, remove, list, status, policy
    Node(node::Args),
    /// Show how the node is
    Status(status::Args),
    /// The store: verify, salvage
    Store(store::Args),
    /// Print a script that completes commands in a shell
    Completions(completions::Args),
}

/// Parses the process's arguments, does what they say, and gives the exit code.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    let mut out = Out::new(io::stdout().lock(), cli.json);
    let done = dispatch(cli.verb, &mut out).and_then(|()| out.flush());
    match done {
        Ok(()) => Exit::Done.into(),
        Err(failure) => failure.report(cli.json),
    }
}

/// Help and version are no mistakes; everything else that clap says is.
fn usage(error: &clap::Error) -> ExitCode {
    let printed = error.print();
    match (error.use_stderr(), printed) {
        (false, _) => Exit::Done.into(),
        (true, _) => Exit::Usage.into(),
    }
}

fn dispatch(verb: Verb, out: &mut Out<impl io::Write>) -> Result<(), Failure> {
    match verb {
        Verb::Run(args) => run::run(args),
        Verb::Topic(args) => topic::run(args, out),
        Verb::Publish(args) => publish::run(&args, out),
        Verb::Tail(args) => tail::run(&args, out),
        Verb::Get(args) => get::run(&args, out),
        Verb::Route(args) => route::run(args, out),
        Verb::Plugin(args) => plugin::run(args, out),
        Verb::Command(args) => command::run(args, out),
        Verb::Job(args) => job::run(args, out),
        Verb::Device(args) => device::run(args, out),
        Verb::Twin(args) => twin::run(&args, out),
        Verb::Fleet(args) => fleet::run(&args, out),
        Verb::Link(args) => link::run(args, out),
        Verb::Node(args) => node::run(args, out),
        Verb::Status(args) => status::run(&args, out),
        Verb::Store(args) => store::run(&args, out),
        Verb::Completions(args) => completions::run(&args, out),
    }
}

#[cfg(test)]
mod tests;
