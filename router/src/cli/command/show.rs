//! Commands as people see them: a table of many, and all that is known of one.

use std::io::Write;
use std::time::Duration;

use devices::command::{PAYLOAD_BYTES_MAX, Why};
use serde::Deserialize;
use serde_json::Value;

use super::super::api::Api;
use super::super::out::Out;
use super::super::table::{Table, printable};
use super::super::{Failure, when};
use super::watch;

#[derive(Deserialize)]
struct Commands {
    commands: Vec<Value>,
}

pub(super) fn list(api: &Api, path: &str, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let Commands { commands } = api.get(path)?;
    if out.is_json() {
        return commands.iter().try_for_each(|command| out.object(command));
    }
    let mut table =
        Table::new(&["ID", "DEVICE", "COMMAND", "STATE", "PRIORITY", "WHY", "ISSUED BY", "ISSUED AT", ">ATTEMPTS"]);
    for command in &commands {
        let text = |name: &str| command[name].as_str().unwrap_or_default().to_owned();
        let at = when::show_ms(command["at_ms"].as_i64().unwrap_or(i64::MAX));
        let attempts = command["attempts"].to_string();
        let why = reason(command);
        let priority = if command["urgent"] == true { "urgent" } else { "" }.to_owned();
        let (id, device, name, state) = (text("id"), text("device"), text("name"), text("state"));
        table.row([id, device, name, state, priority, why, text("issued_by"), at, attempts]);
    }
    out.table(&table, "no commands")
}

/// Why it ended as it did: the node's word, or the device's.
fn reason(command: &Value) -> String {
    match why(&command["why"]) {
        node if !node.is_empty() => node,
        _ => said(&command["result"]),
    }
}

/// Why the node ended it: `denied by valve-guard: the pressure is high`.
fn why(why: &Value) -> String {
    Why::deserialize(why).map_or_else(|_| String::new(), |why| printable(&watch::reason(&why)))
}

/// A device's reason: `sensor-drift: recalibrate it`.
fn said(result: &Value) -> String {
    let (code, text) = (field(result, "code"), field(result, "text"));
    [code, text].into_iter().filter(|part| !part.is_empty()).collect::<Vec<_>>().join(": ")
}

fn field(of: &Value, name: &str) -> String {
    printable(of[name].as_str().unwrap_or_default())
}

pub(super) fn one(command: &Value, out: &mut Out<impl Write>) -> Result<(), Failure> {
    if out.is_json() {
        return out.object(command);
    }
    lines(command).iter().try_for_each(|(name, value)| out.line(&format!("{name:<15} {value}")))
}

/// Names and values, those left out that have nothing to say.
fn lines(command: &Value) -> Vec<(&'static str, String)> {
    let time = |name: &str| command[name].as_i64().map_or_else(String::new, when::show_ms);
    let number = |name: &str| command[name].as_u64().map_or_else(String::new, |number| number.to_string());
    let span =
        |name: &str| command[name].as_u64().map_or_else(String::new, |ms| when::show_span(Duration::from_millis(ms)));
    let result = &command["result"];
    let mut lines = vec![
        ("command", field(command, "id")),
        ("device", field(command, "device")),
        ("name", field(command, "name")),
        ("payload", payload(command)),
        ("state", field(command, "state")),
        ("with", with(command)),
        ("at its site", at_site(&command["at_site"])),
        ("called off by", called_off(command)),
        ("issued by", field(command, "issued_by")),
        ("issued at", time("at_ms")),
        ("deliver by", time("deliver_by_ms")),
        ("timeout", span("execution_timeout_ms")),
        ("answer by", time("execute_by_ms")),
        ("changed", time("changed_ms")),
        ("attempts", number("attempts")),
        ("deliveries max", number("deliveries_max")),
        ("priority", if command["urgent"] == true { "urgent".to_owned() } else { String::new() }),
        ("repeat", if command["repeat"] == "never" { "never".to_owned() } else { String::new() }),
        ("supersede", field(command, "supersede")),
        ("key", field(command, "idempotency_key")),
        ("job", field(command, "job")),
        ("why", why(&command["why"])),
        ("overridden", why(&command["overridden"])),
        ("reason", said(result)),
        ("progress", result["percent"].as_u64().map_or(String::new(), |percent| format!("{percent} %"))),
        ("result", answer(result)),
        ("refused answers", number("answers_refused")),
        ("redrives", field(command, "redrives")),
        ("redriven as", field(command, "redriven_as")),
    ];
    if result["late"] == true {
        let status = result["status"].as_str().map_or_else(String::new, |status| format!(" {}", printable(status)));
        lines.push(("late", format!("the answer{status} came after the end")));
    }
    lines.retain(|(_, value)| !value.is_empty());
    lines
}

/// The node or gateway that has it.
fn with(command: &Value) -> String {
    match (field(command, "moved_to"), command["in_doubt"] == true) {
        (to, true) if !to.is_empty() => format!("{to}, which has not said so yet"),
        (to, _) => to,
    }
}

/// How far it is at its linked site, as that has told last.
fn at_site(at: &Value) -> String {
    let (state, attempts) = (field(at, "state"), at["attempts"].as_u64().unwrap_or(0));
    let percent = at["percent"].as_u64().map_or(String::new(), |percent| format!(", {percent} %"));
    let times = if attempts > 0 { format!(" (attempt {attempts})") } else { String::new() };
    match (state.as_str(), at["device_connected"] == true) {
        ("queued", false) => format!("waits for its device{times}"),
        _ => format!("{state}{times}{percent}"),
    }
}

/// Who calls it off, while its site has not answered.
fn called_off(command: &Value) -> String {
    match field(command, "called_off_by") {
        by if by.is_empty() => by,
        by => format!("{by}; its site has not answered yet"),
    }
}

/// What came with the last answer.
fn answer(result: &Value) -> String {
    let most = PAYLOAD_BYTES_MAX / 1024;
    match result["left_out_bytes"].as_u64() {
        Some(bytes) => format!("{bytes} bytes, not kept (over {most} KiB)"),
        None => payload(result),
    }
}

fn payload(of: &Value) -> String {
    match (of["payload"].as_str(), of["payload_base64"].as_str()) {
        (Some(text), _) => printable(text),
        (None, Some(bytes)) => format!("base64:{}", printable(bytes)),
        (None, None) => String::new(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_known_is_shown_and_nothing_else() {
        let command = json!({
            "id": "i", "device": "d\u{1b}", "name": "cool", "state": "failed", "issued_by": "cli", "attempts": 2,
            "at_ms": i64::MAX, "deliver_by_ms": 0, "changed_ms": i64::MAX, "urgent": true, "repeat": "safe",
            "execution_timeout_ms": 90_000, "payload": "5", "deliveries_max": 3, "answers_refused": 4,
            "result": {"status": "succeeded", "payload": "x", "code": "stuck", "text": "it is", "percent": 40, "late": true},
            "overridden": {"code": "denied", "by": "g", "text": "high"},
        });
        let shown: Vec<String> = lines(&command).iter().map(|(name, value)| format!("{name}={value}")).collect();
        let expected = "command=i|device=d?|name=cool|payload=5|state=failed|issued by=cli|issued at=-|\
                        deliver by=1970-01-01 00:00:00Z|timeout=1m30s|changed=-|attempts=2|deliveries max=3|\
                        priority=urgent|overridden=denied by g: high|reason=stuck: it is|progress=40 %|result=x|\
                        refused answers=4|late=the answer succeeded came after the end";
        assert_eq!(shown.join("|"), expected);
    }

    #[test]
    fn how_far_it_is_at_its_site_is_said_in_words() {
        let at = |state: &str, attempts: u32, connected: bool, percent: Option<u8>| {
            at_site(&json!({"state": state, "attempts": attempts, "device_connected": connected, "percent": percent}))
        };
        let cases = [
            (at_site(&json!(null)), ""),
            (at("queued", 0, false, None), "waits for its device"),
            (at("queued", 0, true, None), "queued"),
            (at("queued", 2, false, None), "waits for its device (attempt 2)"),
            (at("sent", 1, true, None), "sent (attempt 1)"),
            (at("in-progress", 1, false, Some(40)), "in-progress (attempt 1), 40 %"),
        ];
        cases.into_iter().for_each(|(shown, text)| assert_eq!(shown, text));
        let called = |by: serde_json::Value| called_off(&json!({"called_off_by": by}));
        assert_eq!(
            (called(json!("cli")).as_str(), called(json!(null)).as_str()),
            ("cli; its site has not answered yet", "")
        );
    }

    #[test]
    fn why_a_command_ended_is_said_in_words() {
        let cases = [
            (json!({"result": {"code": "sensor-drift", "text": "twice"}}), "sensor-drift: twice"),
            (json!({"result": {"text": "twice"}}), "twice"),
            (json!({"why": {"code": "no-room"}}), "no-room"),
            (json!({"why": {"code": "superseded", "by": "0192"}}), "superseded by 0192"),
            (json!({"why": {"code": "denied", "by": "g", "text": "high"}}), "denied by g: high"),
            (json!({}), ""),
        ];
        for (command, text) in cases {
            assert_eq!(reason(&command), text, "{command}");
        }
        assert_eq!(answer(&json!({"left_out_bytes": 17_000})), "17000 bytes, not kept (over 16 KiB)");
    }
}
