//! `edgeway command`: sent to devices, listed, shown, watched, called off, sent again.

mod send;
mod show;
mod watch;

use std::io::Write;
use std::time::Duration;

use clap::Subcommand;
use devices::command::{CommandId, State};
use serde_json::{Value, json};

use super::Failure;
use super::api::{Api, encoded};
use super::locate::NodeArgs;
use super::out::Out;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Send a command to a device, or as a job to many
    Send(Box<send::Send>),
    /// List commands, the newest first
    List(List),
    /// Show a command
    Show {
        /// The command's id
        #[arg(value_parser = parse_id)]
        id: CommandId,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Watch the steps of commands as they come
    Watch(watch::Watch),
    /// Call a command off that no device has yet
    Cancel {
        /// The command's id
        #[arg(value_parser = parse_id)]
        id: CommandId,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Send a command again that ended without its device's word: expired, unknown, timed-out or refused
    Redrive {
        /// The command's id
        #[arg(value_parser = parse_id)]
        id: CommandId,
        /// How long the new one may take until it is delivered, such as 10m, at most 7d; else a minute
        #[arg(long, value_name = "SPAN", value_parser = send::parse_deliver_by)]
        deliver_by: Option<Duration>,
        /// Even where it was sent again before, or must not be repeated and may have been done
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        node: NodeArgs,
    },
}

/// Which commands are listed.
#[derive(Debug, clap::Args)]
struct List {
    /// Of this device alone
    #[arg(long)]
    device: Option<String>,
    /// In this state alone: queued, sent, delivered, succeeded, failed, expired, ...
    #[arg(long, value_parser = parse_state)]
    state: Option<State>,
    /// Those that have not ended
    #[arg(long)]
    pending: bool,
    /// Those that ended without their device's word: what `redrive` takes
    #[arg(long, conflicts_with = "pending")]
    dead: bool,
    /// At most so many
    #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 100)]
    max: usize,
    #[command(flatten)]
    node: NodeArgs,
}

impl List {
    /// The call that is meant.
    fn path(&self) -> String {
        let mut path = format!("commands?max={}", self.max);
        if let Some(device) = &self.device {
            path.push_str(&format!("&device={}", encoded(device)));
        }
        if let Some(state) = self.state {
            path.push_str(&format!("&state={}", state.as_str()));
        }
        if self.pending {
            path.push_str("&ended=false");
        }
        if self.dead {
            path.push_str("&dead=true");
        }
        path
    }
}

pub(super) fn parse_id(text: &str) -> Result<CommandId, String> {
    text.parse().map_err(|_| "expected an id, a UUID such as 01920d3c-5b7a-7c3d-8e4f-0123456789ab".to_owned())
}

pub(super) fn parse_state(text: &str) -> Result<State, String> {
    State::from_name(text).ok_or_else(|| {
        let names: Vec<&str> = State::ALL.into_iter().map(State::as_str).collect();
        format!("expected one of {}", names.join(", "))
    })
}

pub fn run(args: Args, out: &mut Out<impl Write>) -> Result<(), Failure> {
    match args.action {
        Action::Send(typed) => send::run(&typed, out),
        Action::List(typed) => show::list(&Api::to(&typed.node)?, &typed.path(), out),
        Action::Show { id, node } => {
            let command: Value = Api::to(&node)?.get(&format!("commands/{}", id))?;
            show::one(&command, out)
        }
        Action::Watch(typed) => watch::run(&typed, out),
        Action::Cancel { id, node } => {
            let path = format!("commands/{}/cancel", id);
            let ended: Value = Api::to(&node)?.post(&path, &json!({"issued_by": "cli"}), Duration::ZERO)?;
            let state = ended["state"].as_str().unwrap_or_default();
            match ended["asked"] == true {
                true => {
                    out.done(&ended, &format!("{state}: its site is asked to call it off, and has not answered yet"))
                }
                false => out.done(&ended, state),
            }
        }
        Action::Redrive { id, deliver_by, force, node } => {
            let path = format!("commands/{}/redrive", id);
            let deliver_within_ms = deliver_by.map(millis);
            let body = json!({"deliver_within_ms": deliver_within_ms, "force": force, "issued_by": "cli"});
            let new: Value = Api::to(&node)?.post(&path, &body, Duration::ZERO)?;
            out.done(&new, new["id"].as_str().unwrap_or_default())
        }
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_are_read() {
        assert_eq!(parse_state("in-progress"), Ok(State::InProgress));
        assert!(parse_state("gone").unwrap_err().contains("queued, sent"));
    }

    #[test]
    fn the_list_that_is_meant() {
        let list = List {
            device: Some("a b".into()),
            state: Some(State::TimedOut),
            pending: true,
            dead: false,
            max: 3,
            node: NodeArgs::default(),
        };
        assert_eq!(list.path(), "commands?max=3&device=a%20b&state=timed-out&ended=false");
        let dead = List { device: None, state: None, pending: false, dead: true, ..list };
        assert_eq!(dead.path(), "commands?max=3&dead=true");
    }
}
