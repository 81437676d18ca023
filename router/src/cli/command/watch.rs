//! `edgeway command watch`: the steps of commands, as they come.

use std::io::{BufRead, Write};

use devices::command::{Answer, COMMANDS_TOPIC, CommandId, Step, StepEvent, Why};
use serde_json::Value;

use super::super::api::Api;
use super::super::locate::NodeArgs;
use super::super::out::Out;
use super::super::table::printable;
use super::super::{Exit, Failure, when};
use super::send::{exit, has_ended};

/// Which steps are watched.
#[derive(Debug, clap::Args)]
pub(super) struct Watch {
    /// Of this command alone; ends with its outcome, and the exit code tells it as `send --wait` does
    #[arg(value_parser = super::parse_id)]
    id: Option<CommandId>,
    /// Of this device alone
    #[arg(long)]
    device: Option<String>,
    /// Where to begin: start, end, a time (RFC 3339), or an age such as -10m
    #[arg(long, value_name = "FROM", default_value = "end", value_parser = when::parse_from, allow_hyphen_values = true)]
    from: when::From,
    #[command(flatten)]
    node: NodeArgs,
}

impl Watch {
    /// The call that is meant; `named`: the command that is named, as it is.
    fn path(&self, named: Option<&Value>, now_ms: i64) -> String {
        // A command that is named began some time ago.
        let since = named.and_then(|named| named["at_ms"].as_i64()).map(when::From::TimeMs);
        let from = since.unwrap_or(self.from).to_query(now_ms);
        let follow = if named.is_some_and(has_ended) { "" } else { "&follow=true" };
        format!("topics/{COMMANDS_TOPIC}/events?from={from}{follow}")
    }

    fn takes(&self, device: &str, event: &StepEvent) -> bool {
        self.device.as_deref().is_none_or(|wanted| wanted == device) && self.id.is_none_or(|wanted| wanted == event.id)
    }
}

pub(super) fn run(typed: &Watch, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let api = Api::to(&typed.node)?;
    // Asked first: one that there is not would be waited for in vain.
    let named: Option<Value> = typed.id.map(|id| api.get(&format!("commands/{id}"))).transpose()?;
    let mut lines = api.get_stream(&typed.path(named.as_ref(), when::now_ms()))?;
    let is_over = named.as_ref().is_some_and(has_ended);
    let mut line = Vec::new();
    loop {
        line.clear();
        let read = lines.read_until(b'\n', &mut line).map_err(|error| {
            Failure::new(Exit::Unreachable, format!("the node broke off: {error}")).hint("watch again")
        })?;
        if read == 0 {
            // Of one that has ended, the steps that are still kept.
            return out.ended(named.as_ref().map_or(Exit::Done, exit));
        }
        let Ok(event) = serde_json::from_slice::<Value>(&line) else { continue };
        let step = event["value"].as_str().and_then(|value| StepEvent::decode(value.as_bytes()).ok());
        let (Some(device), Some(step)) = (event["key"].as_str(), step) else { continue };
        if !typed.takes(device, &step) {
            continue;
        }
        if out.is_json() {
            out.raw(&line)?;
        } else {
            out.line(&human(device, &step))?;
        }
        if lines.buffer().is_empty() {
            out.flush()?;
        }
        if let Some(outcome) = step.step.outcome().filter(|_| typed.id.is_some() && !is_over) {
            return out.ended(Exit::of_command(outcome));
        }
    }
}

/// One step as a line: time, device, command, what happened.
fn human(device: &str, event: &StepEvent) -> String {
    let at = when::show_ms(i64::try_from(event.at_ms).unwrap_or(i64::MAX));
    printable(&format!("{at}  {device}  {}  {}", event.id, what(&event.step)))
}

fn what(step: &Step) -> String {
    match step {
        Step::Queued(queued) => match &queued.taken {
            Some(taken) => format!("queued {}, taken from the node of life {}", queued.name, taken.from),
            None => format!("queued {} by {}", queued.name, queued.issued_by),
        },
        Step::Rewritten(rewritten) => format!("rewritten by {}", rewritten.by),
        Step::GuardOverridden(why) => format!("guard overridden: {}", reason(why)),
        Step::Sent { client, attempt, .. } => format!("sent to {client} (attempt {attempt})"),
        Step::Returned { unsent: true, .. } => "returned, not sent".to_owned(),
        Step::Returned { .. } => "returned, not confirmed".to_owned(),
        Step::Delivered { .. } => "delivered".to_owned(),
        Step::Accepted(answer) => answered("accepted", answer),
        Step::InProgress(answer) => answered("in-progress", answer),
        Step::Succeeded(answer) => answered("succeeded", answer),
        Step::Failed(answer) => answered("failed", answer),
        Step::Rejected(answer) => answered("rejected", answer),
        Step::AnswerRefused { status, code, .. } => format!("answer {} refused: {}", status.as_str(), code.code()),
        Step::Moving { to, .. } => format!("handed to the node of life {to}"),
        Step::Moved { to, .. } => format!("with the node of life {to}"),
        Step::Stays => "not taken there, waits here".to_owned(),
        Step::CallingOff { by } => format!("called off by {by}, its site is asked"),
        Step::NotCalledOff { code } => format!("not called off: {}", code.code()),
        Step::Expired => "expired".to_owned(),
        Step::Unknown(why) => ended("unknown", why),
        Step::TimedOut => "timed-out".to_owned(),
        Step::Refused(why) => ended("refused", why),
        Step::Cancelled(why) => ended("cancelled", why),
        Step::Superseded(why) => ended("superseded", why),
    }
}

fn answered(state: &str, answer: &Answer) -> String {
    let mut text = state.to_owned();
    if let Some(percent) = answer.percent {
        text.push_str(&format!(" {percent} %"));
    }
    for more in [answer.code.as_str(), answer.text.as_str(), &String::from_utf8_lossy(&answer.payload.0)] {
        if !more.is_empty() {
            text.push(' ');
            text.push_str(more);
        }
    }
    if answer.late { format!("{text} (late)") } else { text }
}

fn ended(state: &str, why: &Why) -> String {
    let reason = reason(why);
    // `cancelled by cli` needs no second `cancelled`.
    if reason.starts_with(state) { reason } else { format!("{state}: {reason}") }
}

/// Why a command ended, as people say it: `denied by valve-guard: pressure`.
pub(super) fn reason(why: &Why) -> String {
    let by = if why.by.is_empty() { String::new() } else { format!(" by {}", why.by) };
    let text = if why.text.is_empty() { String::new() } else { format!(": {}", why.text) };
    format!("{}{by}{text}", why.code.as_str())
}

#[cfg(test)]
mod tests {
    use devices::command::{Queued, Refusal, WhyCode};
    use serde_json::json;

    use super::*;

    #[test]
    fn steps_are_lines() {
        let answer = Answer { percent: Some(40), code: "slow".into(), late: true, ..Answer::default() };
        let cases = [
            (Step::Queued(Box::new(Queued::new("cool", Vec::new(), 1, "cli"))), "queued cool by cli", false),
            (Step::Sent { session: 1, client: "gw".into(), attempt: 2 }, "sent to gw (attempt 2)", false),
            (Step::Succeeded(answer), "succeeded 40 % slow (late)", false),
            (Step::Refused(Why::by(WhyCode::Denied, "g")), "refused: denied by g", true),
            (Step::Cancelled(Why::by(WhyCode::Cancelled, "cli")), "cancelled by cli", true),
            (
                Step::GuardOverridden(Why { text: "high".into(), ..Why::by(WhyCode::Denied, "g") }),
                "guard overridden: denied by g: high",
                false,
            ),
            (Step::CallingOff { by: "cli".into() }, "called off by cli, its site is asked", false),
            (Step::NotCalledOff { code: Refusal::AlreadySent }, "not called off: already-sent", false),
            (Step::Expired, "expired", true),
        ];
        for (step, line, last) in cases {
            assert_eq!((what(&step).as_str(), step.outcome().is_some()), (line, last));
        }
    }

    #[test]
    fn one_command_or_one_devices_are_watched() {
        let id: devices::command::CommandId = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f".parse().unwrap();
        let event = StepEvent::new(id, 1, 1, Step::Expired);
        let watch = |id: Option<CommandId>, device: Option<&str>| Watch {
            id,
            device: device.map(str::to_owned),
            from: when::From::End,
            node: NodeArgs::default(),
        };
        assert!(watch(None, None).takes("d", &event) && watch(Some(id), Some("d")).takes("d", &event));
        assert!(
            !watch(Some(CommandId::from_bytes([7; 16])), None).takes("d", &event)
                && !watch(None, Some("e")).takes("d", &event)
        );
        assert_eq!(watch(None, None).path(None, 0), "topics/_commands/events?from=end&follow=true");
        let (pending, ended) = (json!({"at_ms": 7, "state": "sent"}), json!({"at_ms": 7, "state": "expired"}));
        assert_eq!(watch(Some(id), None).path(Some(&pending), 0), "topics/_commands/events?from=@7&follow=true");
        assert_eq!(watch(Some(id), None).path(Some(&ended), 0), "topics/_commands/events?from=@7");
    }
}
