//! `edgeway command send`: what was typed, what the node is told, and the wait for the end.

use std::io::Write;
use std::time::{Duration, Instant};

use devices::command::{Payload, Repeat, State};
use serde_json::{Map, Value, json};

use super::super::api::{Api, encoded};
use super::super::locate::NodeArgs;
use super::super::out::Out;
use super::super::{Exit, Failure, value, when};
use super::{millis, show};
use crate::admin::WAIT_MS_MAX;

/// A command as it is typed.
#[derive(Debug, clap::Args)]
pub(super) struct Send {
    /// The device: its MQTT client id, or the name that a gateway subscribes for
    device: String,
    /// What to do
    name: String,
    /// What it is to be done with: text, most often JSON, or @FILE
    #[arg(long, short, value_name = "TEXT|@FILE", default_value = "")]
    payload: String,
    /// How long it may take until it is delivered, such as 10m; else a minute
    #[arg(long, value_name = "SPAN", value_parser = when::parse_span)]
    deliver_by: Option<Duration>,
    /// How long the device may take to do it; else a minute
    #[arg(long, value_name = "SPAN", value_parser = when::parse_span)]
    timeout: Option<Duration>,
    /// It overtakes what waits for the device, and no guard holds it: an emergency
    #[arg(long)]
    priority: bool,
    /// It takes the place of the device's waiting commands with this key
    #[arg(long, value_name = "KEY")]
    supersede: Option<String>,
    /// The same key again is the same command, and is not sent twice
    #[arg(long, value_name = "KEY")]
    idempotency_key: Option<String>,
    /// Never send it again after a send that was not confirmed: rather an unknown end
    #[arg(long)]
    never_repeat: bool,
    /// Send it so often at most
    #[arg(long, value_name = "NUMBER")]
    deliveries_max: Option<u32>,
    /// Even to a device that nobody knows yet: it waits for its first contact
    #[arg(long)]
    unknown: bool,
    /// Wait until it has ended; the exit code tells how (see `edgeway help`)
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
        let fields = [
            ("device", Some(json!(self.device))),
            ("name", Some(json!(self.name))),
            ("issued_by", Some(json!("cli"))),
            ("deliver_within_ms", self.deliver_by.map(|span| json!(millis(span)))),
            ("execution_timeout_ms", self.timeout.map(|span| json!(millis(span)))),
            ("urgent", self.priority.then(|| json!(true))),
            ("supersede", self.supersede.as_ref().map(|key| json!(key))),
            ("idempotency_key", self.idempotency_key.as_ref().map(|key| json!(key))),
            ("repeat", self.never_repeat.then(|| json!(Repeat::Never))),
            ("allow_unknown", self.unknown.then(|| json!(true))),
            ("deliveries_max", self.deliveries_max.map(|times| json!(times))),
        ];
        let given = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        body.extend(given);
        Ok(Value::Object(body))
    }
}

pub(super) fn run(typed: &Send, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let body = typed.body()?;
    let api = Api::to(&typed.node)?;
    let submitted: Value = api.post("commands", &body, Duration::ZERO)?;
    let id = submitted["id"].as_str().unwrap_or_default();
    if !typed.wait {
        return out.done(&submitted, id);
    }
    let command = wait(&api, id)?;
    show::one(&command, out)?;
    match exit(&command) {
        Exit::Done => Ok(()),
        exit => out.flush().and(Err(Failure::Shown(exit))),
    }
}

/// What the end of a command means.
fn exit(command: &Value) -> Exit {
    let state = command["state"].as_str().and_then(State::from_name);
    // A state that this CLI does not know is no success.
    state.map_or(Exit::Failed, Exit::of_command)
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
    let state = command["state"].as_str().and_then(State::from_name);
    // A state that this CLI does not know ends the wait rather than never.
    state.is_none_or(State::is_outcome)
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
            priority: false,
            supersede: None,
            idempotency_key: None,
            never_repeat: false,
            deliveries_max: None,
            unknown: false,
            wait: false,
            node: NodeArgs::default(),
        }
    }

    #[test]
    fn the_call_says_what_is_meant() {
        let body = typed(r#"{"to":5}"#).body().unwrap();
        let expected = json!({"device": "s1", "name": "cool", "issued_by": "cli", "payload": "{\"to\":5}", "deliver_within_ms": 600_000});
        assert_eq!(body, expected);
        let all = Send {
            deliver_by: None,
            timeout: Some(Duration::from_secs(30)),
            priority: true,
            supersede: Some("s".into()),
            idempotency_key: Some("k".into()),
            never_repeat: true,
            deliveries_max: Some(2),
            unknown: true,
            ..typed("")
        };
        let expected = json!({
            "device": "s1", "name": "cool", "issued_by": "cli", "execution_timeout_ms": 30_000, "urgent": true,
            "supersede": "s", "idempotency_key": "k", "repeat": "never", "deliveries_max": 2, "allow_unknown": true,
        });
        assert_eq!(all.body().unwrap(), expected);
    }

    #[test]
    fn outcomes_end_the_wait_and_have_codes_of_their_own() {
        let cases = [
            ("queued", false, Exit::Done),
            ("in-progress", false, Exit::Done),
            ("succeeded", true, Exit::Done),
            ("timed-out", true, Exit::CommandTimedOut),
            ("refused", true, Exit::CommandRefused),
            ("strange", true, Exit::Failed),
        ];
        for (state, ended, code) in cases {
            let command = json!({"state": state});
            assert_eq!((has_ended(&command), exit(&command)), (ended, code), "{state}");
        }
        let outcomes = State::ALL.into_iter().filter(|state| state.is_outcome());
        let codes: std::collections::HashSet<u8> = outcomes.map(|state| Exit::of_command(state) as u8).collect();
        assert_eq!(codes.len(), 9, "each outcome has its own");
    }
}
