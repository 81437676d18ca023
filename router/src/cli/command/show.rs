//! Commands as people see them: a table of many, and all that is known of one.

use std::io::Write;

use serde::Deserialize;
use serde_json::Value;

use super::super::api::Api;
use super::super::out::Out;
use super::super::table::{Table, printable};
use super::super::{Failure, when};

#[derive(Deserialize)]
struct Commands {
    commands: Vec<Value>,
}

pub(super) fn list(api: &Api, path: &str, out: &mut Out<impl Write>) -> Result<(), Failure> {
    let Commands { commands } = api.get(path)?;
    if out.is_json() {
        return commands.iter().try_for_each(|command| out.object(command));
    }
    let mut table = Table::new(&["ID", "DEVICE", "COMMAND", "STATE", "WHY", "ISSUED BY", "SENT AT", ">ATTEMPTS"]);
    for command in &commands {
        let text = |name: &str| command[name].as_str().unwrap_or_default().to_owned();
        let at = when::show_ms(command["at_ms"].as_i64().unwrap_or(i64::MAX));
        let attempts = command["attempts"].to_string();
        let why = reason(command);
        table.row([text("id"), text("device"), text("name"), text("state"), why, text("issued_by"), at, attempts]);
    }
    out.table(&table, "no commands")
}

/// The code of why it ended as it did: the node's, or the device's.
fn reason(command: &Value) -> String {
    let node = command["why"]["code"].as_str();
    let device = command["result"]["code"].as_str();
    node.or(device).unwrap_or_default().to_owned()
}

pub(super) fn one(command: &Value, out: &mut Out<impl Write>) -> Result<(), Failure> {
    if out.is_json() {
        return out.object(command);
    }
    lines(command).iter().try_for_each(|(name, value)| out.line(&format!("{name:<10} {value}")))
}

/// Names and values, those left out that have nothing to say.
fn lines(command: &Value) -> Vec<(&'static str, String)> {
    let text = |of: &Value, name: &str| printable(of[name].as_str().unwrap_or_default());
    let time = |name: &str| when::show_ms(command[name].as_i64().unwrap_or(i64::MAX));
    let (why, result) = (&command["why"], &command["result"]);
    let mut lines = vec![
        ("command", text(command, "id")),
        ("device", text(command, "device")),
        ("name", text(command, "name")),
        ("state", text(command, "state")),
        ("issued by", text(command, "issued_by")),
        ("sent at", time("at_ms")),
        ("until", time("deliver_by_ms")),
        ("changed", time("changed_ms")),
        ("attempts", command["attempts"].to_string()),
        ("priority", if command["urgent"] == true { "urgent".to_owned() } else { String::new() }),
        ("repeat", if command["repeat"] == "never" { "never".to_owned() } else { String::new() }),
        ("supersede", text(command, "supersede")),
        ("key", text(command, "idempotency_key")),
        ("job", text(command, "job")),
        ("why", [text(why, "code"), text(why, "by"), text(why, "text")].join(" ").trim().to_owned()),
        ("reason", [text(result, "code"), text(result, "text")].join(" ").trim().to_owned()),
        ("progress", result["percent"].as_u64().map_or(String::new(), |percent| format!("{percent} %"))),
        ("result", payload(result)),
        ("redrives", text(command, "redrives")),
        ("redriven", text(command, "redriven_as")),
    ];
    if result["late"] == true {
        lines.push(("late", "the answer came after the end".to_owned()));
    }
    lines.retain(|(_, value)| !value.is_empty());
    lines
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
            "at_ms": i64::MAX, "deliver_by_ms": i64::MAX, "changed_ms": i64::MAX, "urgent": true, "repeat": "safe",
            "result": {"payload": "x", "code": "stuck", "text": "it is", "percent": 40, "late": true},
        });
        let shown: Vec<String> = lines(&command).iter().map(|(name, value)| format!("{name}={value}")).collect();
        let expected = "command=i device=d? name=cool state=failed issued by=cli sent at=- until=- changed=- attempts=2 \
                        priority=urgent reason=stuck it is progress=40 % result=x late=the answer came after the end";
        assert_eq!(shown.join(" "), expected);
        assert_eq!(reason(&command), "stuck");
        assert_eq!(reason(&json!({"why": {"code": "no-room"}})), "no-room");
    }
}
