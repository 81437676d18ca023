//! `edgeway command`: sent to devices, listed, shown.

use std::io::Write;
use std::time::{Duration, Instant};

use clap::Subcommand;
use devices::command::{Payload, State};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::api::{Api, encoded};
use super::locate::NodeArgs;
use super::out::Out;
use super::table::{Table, printable};
use super::{Exit, Failure, value, when};
use crate::admin::WAIT_MS_MAX;

#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Send a command to a device
    Send(Send),
    /// List commands, the newest first
    List {
        /// Of this device alone
        #[arg(long)]
        device: Option<String>,
        /// In this state alone: queued, sent, delivered, succeeded, failed, expired, ...
        #[arg(long, value_parser = parse_state)]
        state: Option<State>,
        /// Those that have not ended
        #[arg(long)]
        pending: bool,
        /// At most so many
        #[arg(long, short = 'n', value_name = "NUMBER", default_value_t = 100)]
        max: usize,
        #[command(flatten)]
        node: NodeArgs,
    },
    /// Show a command
    Show {
        /// The command's id
        id: String,
        #[command(flatten)]
        node: NodeArgs,
    },
}

/// A command as it is typed.
#[derive(Debug, clap::Args)]
struct Send {
    /// The device: its MQTT client id
    device: String,
    /// What to do
    name: String,
    /// What it is to be done with: text, most often JSON, or @FILE
    #[arg(long, short, value_name = "TEXT|@FILE", default_value = "")]
    payload: String,
    /// How long it may take until it is delivered, such as 10m; else a minute
    #[arg(long, value_name = "SPAN", value_parser = when::parse_span)]
    deliver_by: Option<Duration>,
    /// How long the device may take for its answer; else a minute
    #[arg(long, value_name = "SPAN", value_parser = when::parse_span)]
    timeout: Option<Duration>,
    /// Wait until it has ended; exit code 5 unless it succeeded
    #[arg(long, short)]
    wait: bool,
    #[command(flatten)]
    node: NodeArgs,
}

impl Send {
    /// What the API is to be told.
    fn body(&self) -> Result<Value, Failure> {
        let payload = Payload(value::read(&self.payload)?);
        let mut body: Map<String, Value> = match serde_json::to_value(&payload) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        body.insert("device".into(), json!(self.device));
        body.insert("name".into(), json!(self.name));
        body.insert("issued_by".into(), json!("cli"));
        let spans = [("deliver_within_ms", self.deliver_by), ("answer_within_ms", self.timeout)];
        for (field, span) in spans {
            if let Some(span) = span {
                body.insert(field.into(), json!(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)));
            }
        }
        Ok(Value::Object(body))
    }
}

#[derive(Deserialize)]
struct Commands {
    commands: Vec<Value>,
}

fn parse_state(text: &str) -> Result<State, String> {
    let states =
        "queued, sent, delivered, accepted, in-progress, succeeded, failed, rejected, expired, unknown, timed-out";
    serde_json::from_value(json!(text)).map_err(|_| format!("expected one of {states}"))
}

pub fn run(args: Args, out: &mut Out<impl Write>) -> Result<(), Failure> {
    match args.action {
        Action::Send(typed) => send(&typed, out),
        Action::List { device, state, pending, max, node } => {
            let mut path = format!("commands?max={max}");
            if let Some(device) = device {
                path.push_str(&format!("&device={}", encoded(&device)));
            }
            if let Some(state) = state {
                path.push_str(&format!("&state={}", json!(state).as_str().unwrap_or_default()));
            }
            if pending {
                path.push_str("&ended=false");
            }
            list(&Api::to(&node)?, &path, out)
        }
        Action::Show { id, node } => {
            let command: Value = Api::to(&node)?.get(&format!("commands/{}", encoded(&id)))?;
            show(&command, out)
        }
    }
}

fn send(typed: &Send, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let body = typed.body()?;
    let api = Api::to(&typed.node)?;
    let submitted: Value = api.post("commands", &body, Duration::ZERO)?;
    let id = submitted["id"].as_str().unwrap_or_default();
    if !typed.wait {
        return out.done(&submitted, id);
    }
    let command = wait(&api, id)?;
    show(&command, out)?;
    match command["state"].as_str() {
        Some("succeeded") => Ok(()),
        _ => out.flush().and(Err(Failure::Shown(Exit::Outcome))),
    }
}

/// Waits until a command has ended: every command does, by its times.
fn wait(api: &Api, id: &str) -> Result<Value, Failure> {
    let begun = Instant::now();
    loop {
        let path = format!("commands/{}?wait_ms={WAIT_MS_MAX}", encoded(id));
        let command: Value = api.get(&path)?;
        if has_ended(&command) {
            return Ok(command);
        }
        tracing::debug!(id, waited_s = begun.elapsed().as_secs(), "the command has not ended yet");
    }
}

fn has_ended(command: &Value) -> bool {
    let state: Option<State> = serde_json::from_value(command["state"].clone()).ok();
    // A state that this CLI does not know ends the wait rather than never.
    state.is_none_or(State::is_outcome)
}

fn list(api: &Api, path: &str, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let Commands { commands } = api.get(path)?;
    if out.is_json() {
        return commands.iter().try_for_each(|command| out.object(command));
    }
    let mut table = Table::new(&["ID", "DEVICE", "COMMAND", "STATE", "ISSUED BY", "SENT AT", ">ATTEMPTS"]);
    for command in &commands {
        let text = |name: &str| command[name].as_str().unwrap_or_default().to_owned();
        let at = when::show_ms(command["at_ms"].as_i64().unwrap_or(i64::MAX));
        let attempts = command["attempts"].to_string();
        table.row([text("id"), text("device"), text("name"), text("state"), text("issued_by"), at, attempts]);
    }
    out.table(&table, "no commands")
}

fn show(command: &Value, out: &mut Out<impl Write>) -> Result<(), Failure> {
    if out.is_json() {
        return out.object(command);
    }
    let text = |of: &Value, name: &str| printable(of[name].as_str().unwrap_or_default());
    out.line(&format!("command    {}", text(command, "id")))?;
    out.line(&format!("device     {}", text(command, "device")))?;
    out.line(&format!("name       {}", text(command, "name")))?;
    out.line(&format!("state      {}", text(command, "state")))?;
    out.line(&format!("issued by  {}", text(command, "issued_by")))?;
    out.line(&format!("sent at    {}", when::show_ms(command["at_ms"].as_i64().unwrap_or(i64::MAX))))?;
    out.line(&format!("until      {}", when::show_ms(command["deliver_by_ms"].as_i64().unwrap_or(i64::MAX))))?;
    match command.get("result") {
        Some(result) if result.get("payload").is_some() => out.line(&format!("result     {}", text(result, "payload"))),
        Some(result) if result.get("payload_base64").is_some() => {
            out.line(&format!("result     base64:{}", text(result, "payload_base64")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn typed(payload: &str) -> Send {
        Send {
            device: "s1".into(),
            name: "cool".into(),
            payload: payload.into(),
            deliver_by: Some(Duration::from_secs(600)),
            timeout: None,
            wait: false,
            node: NodeArgs::default(),
        }
    }

    #[test]
    fn the_call_says_what_is_meant() {
        let body = typed(r#"{"to":5}"#).body().unwrap();
        let expected = json!({"device": "s1", "name": "cool", "issued_by": "cli", "payload": "{\"to\":5}", "deliver_within_ms": 600_000});
        assert_eq!(body, expected);
        let body = Send { deliver_by: None, timeout: Some(Duration::from_secs(30)), ..typed("") }.body().unwrap();
        assert_eq!(body, json!({"device": "s1", "name": "cool", "issued_by": "cli", "answer_within_ms": 30_000}));
    }

    #[test]
    fn outcomes_end_the_wait() {
        let cases =
            [("queued", false), ("in-progress", false), ("succeeded", true), ("timed-out", true), ("strange", true)];
        for (state, ended) in cases {
            assert_eq!(has_ended(&json!({"state": state})), ended, "{state}");
        }
    }

    #[test]
    fn states_are_read() {
        assert_eq!(parse_state("in-progress"), Ok(State::InProgress));
        assert!(parse_state("gone").unwrap_err().contains("queued, sent"));
    }
}
