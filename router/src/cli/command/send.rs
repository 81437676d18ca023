//! `edgeway command send`: to one device, or as a job to many; what the node is told, and the wait for the end.

use std::io::Write;
use std::time::{Duration, Instant};

use devices::command::{Payload, Repeat, State};
use serde_json::{Map, Value, json};

use super::super::api::{Api, encoded};
use super::super::locate::NodeArgs;
use super::super::out::Out;
use super::super::{Exit, Failure, job, value, when};
use super::{millis, show};
use crate::admin::WAIT_MS_MAX;
use crate::catalog::Filter;
use crate::commands::AbortAbove;

const USAGE: &str = "\
edgeway command send [OPTIONS] DEVICE NAME
       edgeway command send [OPTIONS] NAME --where EXPR";

const WHERE_HELP: &str = "\
With --where the command is a job: each known device that EXPR takes now has it once, at most --rate of them a second, \
over restarts of the node; see `edgeway job`. The time for delivery counts from when a device has its turn, and an \
idempotency key stands for the job.

With --where and --wait the exit code is 0 only where every device's command succeeded; else it is that of the first of \
these that a command ended as: failed 10, rejected 11, timed-out 12, unknown 13, expired 14, refused 17, superseded 16, \
cancelled or not submitted 15.";

/// A command as it is typed.
#[derive(Debug, clap::Args)]
#[command(allow_missing_positional = true, override_usage = USAGE, after_help = WHERE_HELP)]
pub(super) struct Send {
    /// The device: its MQTT client id, or the name that a gateway subscribes for; none with --where
    device: Option<String>,
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
    /// To every known device that a filter takes, such as 'tag = pump and pressure > 4', as a job
    #[arg(long = "where", value_name = "EXPR")]
    filter: Option<String>,
    /// With --where: commands a second; else 50
    #[arg(long, value_name = "NUMBER", requires = "filter")]
    rate: Option<u32>,
    /// With --where: abort when more commands than this did not succeed: a number, or a share of those that have
    /// ended such as 10% (once ten have); what was not sent is called off then
    #[arg(long, value_name = "NUMBER|PERCENT%", requires = "filter")]
    abort_above: Option<AbortAbove>,
    /// Even to a device that nobody knows yet: it waits for its first contact
    #[arg(long, conflicts_with = "filter")]
    unknown: bool,
    /// Wait until it has ended; the exit code tells how (see `edgeway help`)
    #[arg(long, short)]
    wait: bool,
    #[command(flatten)]
    node: NodeArgs,
}

impl Send {
    /// Whether devices are chosen by a filter.
    ///
    /// # Errors
    /// When neither or both of a device and a filter are given, or the filter is wrong.
    fn is_job(&self) -> Result<bool, Failure> {
        match (&self.device, &self.filter) {
            (Some(_), None) => Ok(false),
            (None, Some(filter)) => match Filter::parse(filter) {
                Ok(_) => Ok(true),
                Err(error) => Err(Failure::usage(format!("--where is wrong {error}"))),
            },
            (Some(device), Some(_)) => {
                let what = format!("the device {device:?} and --where exclude each other");
                Err(Failure::usage(what)
                    .hint("edgeway command send DEVICE NAME, or edgeway command send NAME --where EXPR"))
            }
            (None, None) => {
                let what = format!("{:?} is one word where a device and a command are expected", self.name);
                Err(Failure::usage(what)
                    .hint("edgeway command send DEVICE NAME, or edgeway command send NAME --where EXPR"))
            }
        }
    }

    /// What the API is to be told.
    fn body(&self) -> Result<Value, Failure> {
        let payload = Payload(value::read(&self.payload)?);
        let mut body: Map<String, Value> = match serde_json::to_value(&payload) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        let fields = [
            ("device", self.device.as_ref().map(|device| json!(device))),
            ("where", self.filter.as_ref().map(|filter| json!(filter))),
            ("rate", self.rate.map(|rate| json!(rate))),
            ("abort_above", self.abort_above.map(|above| json!(above))),
            ("name", Some(json!(self.name))),
            ("issued_by", Some(json!("cli"))),
            ("deliver_within_ms", self.deliver_by.map(|span| json!(millis(span)))),
            ("execution_timeout_ms", self.timeout.map(|span| json!(millis(span)))),
            ("urgent", self.priority.then_some(json!(true))),
            ("supersede", self.supersede.as_ref().map(|key| json!(key))),
            ("idempotency_key", self.idempotency_key.as_ref().map(|key| json!(key))),
            ("repeat", self.never_repeat.then(|| json!(Repeat::Never))),
            ("allow_unknown", self.unknown.then_some(json!(true))),
            ("deliveries_max", self.deliveries_max.map(|times| json!(times))),
        ];
        let given = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
        body.extend(given);
        Ok(Value::Object(body))
    }
}

pub(super) fn run(typed: &Send, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let is_job = typed.is_job()?;
    let body = typed.body()?;
    let api = Api::to(&typed.node)?;
    if is_job {
        return job::start(&api, &body, typed.wait, out);
    }
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
            device: Some("s1".into()),
            name: "cool".into(),
            payload: payload.into(),
            deliver_by: Some(Duration::from_secs(600)),
            timeout: None,
            priority: false,
            supersede: None,
            idempotency_key: None,
            never_repeat: false,
            deliveries_max: None,
            filter: None,
            rate: None,
            abort_above: None,
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
    fn a_device_or_a_filter_is_named() {
        let job = Send {
            device: None,
            deliver_by: None,
            filter: Some("tag = pump".into()),
            rate: Some(7),
            abort_above: Some(AbortAbove::Percent(10)),
            ..typed("x")
        };
        assert!(job.is_job().unwrap());
        let expected = json!({
            "name": "cool", "issued_by": "cli", "payload": "x", "where": "tag = pump", "rate": 7, "abort_above": "10%",
        });
        assert_eq!(job.body().unwrap(), expected);
        assert!(!typed("").is_job().unwrap());
        let wrong = [
            Send { device: None, ..typed("") },
            Send { filter: Some("tag = pump".into()), ..typed("") },
            Send { device: None, filter: Some("tag =".into()), ..typed("") },
        ];
        for (send, said) in wrong.into_iter().zip(["one word", "exclude each other", "--where is wrong"]) {
            let Err(Failure::Told { exit: Exit::Usage, what, .. }) = send.is_job() else { panic!("{said}") };
            assert!(what.contains(said), "{what}");
        }
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
