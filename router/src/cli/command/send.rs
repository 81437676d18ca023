//! `edgeway command send`: to one device, or as a job to many; what the node is told, and the wait for the end.

use std::io::Write;
use std::time::{Duration, Instant};

use devices::command::{
    DELIVER_WITHIN_DEFAULT_MS, DELIVER_WITHIN_MAX_MS, EXECUTION_TIMEOUT_DEFAULT_MS, EXECUTION_TIMEOUT_MAX_MS,
    KEY_BYTES_MAX, Payload, Repeat, State,
};
use serde_json::{Map, Value, json};

use super::super::api::{Api, encoded};
use super::super::locate::NodeArgs;
use super::super::out::Out;
use super::super::wait::{Patience, goes_on};
use super::super::{Exit, Failure, job, value, when};
use super::{millis, show};
use crate::admin::WAIT_MS_MAX;
use crate::catalog::Filter;
use crate::commands::AbortAbove;
use crate::event_log::SITE_SEPARATOR;

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
    /// How long it may take until it is delivered, such as 10m, at most 7d; else a minute
    #[arg(long, value_name = "SPAN", value_parser = parse_deliver_by)]
    deliver_by: Option<Duration>,
    /// How long the device may take to do it, at most 1d; else a minute
    #[arg(long, value_name = "SPAN", value_parser = parse_timeout)]
    timeout: Option<Duration>,
    /// It overtakes what waits for the device, and no guard holds it: an emergency
    #[arg(long)]
    priority: bool,
    /// It takes the place of the device's waiting commands with this key, of 1 to 128 bytes
    #[arg(long, value_name = "KEY", value_parser = parse_key)]
    supersede: Option<String>,
    /// The same key again, of 1 to 128 bytes, is the same command, and is not sent twice
    #[arg(long, value_name = "KEY", value_parser = parse_key)]
    idempotency_key: Option<String>,
    /// Never send it again after a send that was not confirmed: rather an unknown end
    #[arg(long)]
    never_repeat: bool,
    /// Send it so often at most, once at least; else the node's bound
    #[arg(long, value_name = "NUMBER", value_parser = parse_count)]
    deliveries_max: Option<u32>,
    /// To every known device that a filter takes, such as 'tag = pump and pressure > 4', as a job
    #[arg(long = "where", value_name = "EXPR")]
    filter: Option<String>,
    /// With --where: commands a second, one at least; else 50
    #[arg(long, value_name = "NUMBER", requires = "filter", value_parser = parse_count)]
    rate: Option<u32>,
    /// With --where: abort when more commands than this did not succeed: a number, or a share of those that have
    /// ended such as 10% (once ten have); what was not sent is called off then
    #[arg(long, value_name = "NUMBER|PERCENT%", requires = "filter")]
    abort_above: Option<AbortAbove>,
    /// With --where: say which devices it is, and send nothing
    #[arg(long, requires = "filter", conflicts_with = "wait")]
    dry_run: bool,
    /// The device is at a site that feeds this one: the same as SITE/DEVICE. Not with --where: a job has no devices of other sites
    #[arg(long, value_name = "SITE", conflicts_with_all = ["filter", "unknown"])]
    site: Option<String>,
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
    /// Whether what was typed contradicts itself.
    fn check(&self) -> Result<(), Failure> {
        match self.deliveries_max {
            Some(times) if self.never_repeat && times > 1 => {
                let what = format!("--never-repeat and --deliveries-max {times} exclude each other");
                Err(Failure::usage(what).hint("a command that is never repeated is sent once"))
            }
            _ => Ok(()),
        }
    }

    /// How long the command can live.
    fn lives(&self) -> Duration {
        let or = |span: Option<Duration>, default_ms| span.unwrap_or(Duration::from_millis(default_ms));
        or(self.deliver_by, DELIVER_WITHIN_DEFAULT_MS) + or(self.timeout, EXECUTION_TIMEOUT_DEFAULT_MS)
    }

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

    /// The device, with the site that it is at.
    fn target(&self) -> Option<String> {
        let device = self.device.as_ref()?;
        Some(self.site.as_ref().map_or_else(|| device.clone(), |site| format!("{site}{SITE_SEPARATOR}{device}")))
    }

    /// What the API is to be told.
    fn body(&self) -> Result<Value, Failure> {
        let payload = Payload(value::read(&self.payload)?);
        let mut body: Map<String, Value> = match serde_json::to_value(&payload) {
            Ok(Value::Object(fields)) => fields,
            _ => Map::new(),
        };
        let fields = [
            ("device", self.target().map(|device| json!(device))),
            ("where", self.filter.as_ref().map(|filter| json!(filter))),
            ("rate", self.rate.map(|rate| json!(rate))),
            ("dry_run", self.dry_run.then_some(json!(true))),
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
    typed.check()?;
    let is_job = typed.is_job()?;
    let body = typed.body()?;
    let api = Api::to(&typed.node)?;
    if typed.dry_run {
        return job::dry_run(&api, &body, out);
    }
    if is_job {
        return job::start(&typed.node, api, &body, typed.wait.then(|| typed.lives()), out);
    }
    let submitted: Value = api.post("commands", &body, Duration::ZERO)?;
    let id = submitted["id"].as_str().unwrap_or_default();
    if !typed.wait {
        return out.done(&submitted, id);
    }
    out.aside(&json!({"id": id}), &format!("command {id}"));
    let mut patience = Patience::new(&typed.node, api, typed.lives());
    let command = wait(&mut patience, id).map_err(|failure| goes_on(failure, "command", id))?;
    show::one(&command, out)?;
    out.ended(exit(&command))
}

/// A time for delivery.
pub(super) fn parse_deliver_by(text: &str) -> Result<Duration, String> {
    when::parse_span_to(text, Duration::from_millis(DELIVER_WITHIN_MAX_MS))
}

/// A time for the execution.
fn parse_timeout(text: &str) -> Result<Duration, String> {
    when::parse_span_to(text, Duration::from_millis(EXECUTION_TIMEOUT_MAX_MS))
}

fn parse_count(text: &str) -> Result<u32, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| "it is a whole number, 1 at least".to_owned())
}

fn parse_key(text: &str) -> Result<String, String> {
    let fits = (1..=KEY_BYTES_MAX).contains(&text.len());
    if fits { Ok(text.to_owned()) } else { Err(format!("a key has 1 to {KEY_BYTES_MAX} bytes")) }
}

/// What the end of a command means.
pub(super) fn exit(command: &Value) -> Exit {
    let state = command["state"].as_str().and_then(State::from_name);
    // A state that this CLI does not know is no success.
    state.map_or(Exit::Failed, Exit::of_command)
}

/// Waits until a command has ended: every command does, by its times.
fn wait(patience: &mut Patience<'_>, id: &str) -> Result<Value, Failure> {
    let begun = Instant::now();
    loop {
        let path = format!("commands/{}?wait_ms={WAIT_MS_MAX}", encoded(id));
        let command: Value = patience.get(&path)?;
        if has_ended(&command) {
            return Ok(command);
        }
        tracing::debug!(id, waited_s = begun.elapsed().as_secs(), "the command has not ended yet");
    }
}

pub(super) fn has_ended(command: &Value) -> bool {
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
            dry_run: false,
            site: None,
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
        let far = Send { site: Some("plant-7".into()), ..typed("") };
        assert_eq!(far.body().unwrap()["device"], "plant-7/s1");
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
    fn what_is_typed_is_checked() {
        let typed_twice = Send { never_repeat: true, deliveries_max: Some(2), ..typed("") };
        let Err(Failure::Told { exit: Exit::Usage, what, .. }) = typed_twice.check() else { panic!("it is taken") };
        assert!(what.contains("--never-repeat"), "{what}");
        assert!(Send { never_repeat: true, deliveries_max: Some(1), ..typed("") }.check().is_ok());
        assert_eq!(parse_timeout("2d").unwrap_err(), "it is between 1ms and 1d");
        assert_eq!(parse_deliver_by("0s").unwrap_err(), "it is between 1ms and 7d");
        assert_eq!(parse_timeout("1d"), Ok(Duration::from_secs(86_400)));
        assert!(parse_key("").is_err() && parse_key(&"k".repeat(128)).is_ok() && parse_key(&"k".repeat(129)).is_err());
        assert_eq!(typed("").lives(), Duration::from_secs(660));
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
