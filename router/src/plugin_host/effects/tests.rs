//! Answers against grants and bounds.

use sled_data::HeadersRef;

use super::*;
use crate::plugin_host::batch::EventRef;
use crate::plugin_host::bindings::edgeway::plugin::types::{Forward, HeaderResult, Reject};

const EVENT: EventRef<'static> = EventRef {
    offset: 9,
    timestamp_ms: 1,
    key: Some(b"pump"),
    value: Some(&[b'x'; 200]),
    headers: HeadersRef::EMPTY,
    is_late: false,
};

fn batch<'a>(events: &'a [EventRef<'a>]) -> Batch<'a> {
    Batch { topic: "in", partition: 0, origin: 1, term: 0, state_of: None, doubt: None, events }
}

fn manifest() -> Manifest {
    let text = "name='p'\ntopics=['in']\n[grants]\nemit=['out']\ncommands=['cool*']\n[limits]\noutput_kib=2";
    Manifest::parse(text).unwrap()
}

fn emit(topic: &str) -> Emit {
    Emit { cause: 0, topic: topic.into(), key: None, value: vec![], headers: vec![], timestamp_ms: None }
}

fn command(name: &str) -> Command {
    Command {
        cause: 0,
        device: "pump".into(),
        name: name.into(),
        payload: vec![],
        deliver_within_ms: None,
        repeat: None,
        urgent: false,
        execution_timeout_s: None,
        supersede: None,
    }
}

fn set_desired(device: &str, document: &str) -> Action {
    let (device, document) = (device.into(), document.into());
    Action::SetDesired(SetDesired { cause: 0, device, document, replace: false, if_version: None })
}

fn forward(cause: u32) -> Action {
    Action::Forward(Forward { cause, topic: "out".into() })
}

#[test]
fn what_is_not_granted_is_refused_in_words() {
    let header = |name: &str| HeaderResult { name: name.into(), value: vec![] };
    let with = |name: &str| Action::Emit(Emit { headers: vec![header(name)], ..emit("out") });
    let cases: Vec<(Action, Option<&str>)> = vec![
        (Action::Emit(emit("out")), None),
        (Action::Emit(emit("other")), Some("topic `other` is not granted")),
        (Action::Emit(emit("_commands")), Some("topic `_commands` is internal")),
        (Action::Emit(Emit { cause: 2, ..emit("out") }), Some("names event 2 of a batch of 1")),
        (Action::Emit(Emit { value: vec![0; 3000], ..emit("out") }), Some("more than 2 KiB")),
        (with("unit"), None),
        (with("mqtt.user"), None),
        (with("mqtt.topic"), Some("header `mqtt.topic` is reserved")),
        (with("cause"), Some("header `cause` is reserved")),
        (forward(0), None),
        (forward(1), Some("names event 1")),
        (Action::Command(command("cool")), None),
        (Action::Command(command("cool-down")), None),
        (Action::Command(command("heat")), Some("command `heat` is not granted")),
        (Action::Command(Command { device: String::new(), ..command("cool") }), Some("device \"\": the name is empty")),
        (
            Action::Command(Command { deliver_within_ms: Some(u32::MAX), ..command("cool") }),
            Some("deliver-within-ms 4294967295 is more than 604800000"),
        ),
        (Action::Command(Command { device: "a/b".into(), ..command("cool") }), Some("device \"a/b\"")),
        (Action::Command(Command { payload: vec![0; 17 << 10], ..command("cool") }), Some("payload has 17408 bytes")),
        (Action::Command(Command { repeat: Some(Repeat::Never), ..command("cool") }), None),
        (Action::Command(Command { urgent: true, ..command("cool") }), Some("which is not granted")),
        (Action::Command(Command { supersede: Some(String::new()), ..command("cool") }), Some("1 to 128 bytes")),
        (Action::Command(Command { supersede: Some("set-point".into()), ..command("cool") }), None),
        (Action::Command(Command { repeat: Some(Repeat::Allowed), ..command("cool") }), None),
        (Action::Reject(Reject { cause: 0, reason: "bad".into() }), None),
    ];
    for (action, want) in cases {
        let told = format!("{action:?}");
        let got = Effects::default().add(vec![action], &batch(&[EVENT]), 0, &manifest());
        match want {
            None => assert_eq!(got, Ok(()), "{told}"),
            Some(want) => assert!(got.clone().unwrap_err().contains(want), "{told}: {got:?}"),
        }
    }
}

#[test]
fn twins_are_set_where_that_is_granted() {
    let granted = Manifest::parse("name='p'\ntopics=['in']\n[grants]\ntwins='set'").unwrap();
    let reads = Manifest::parse("name='p'\ntopics=['in']\n[grants]\ntwins='read'").unwrap();
    let deep = format!("{}1{}", "{\"a\":".repeat(17), "}".repeat(17));
    let cases = [
        (&granted, set_desired("pump", r#"{"a":1}"#), None),
        (&reads, set_desired("pump", "{}"), Some("write `grants.twins = \"set\"`")),
        (&manifest(), set_desired("pump", "{}"), Some("twins may not be set")),
        (&granted, set_desired("a/b", "{}"), Some("device \"a/b\"")),
        (&granted, set_desired("pump", "[]"), Some("is not a JSON object")),
        (&granted, set_desired("pump", &deep), Some("deeper than 16 levels")),
    ];
    for (manifest, action, want) in cases {
        let told = format!("{action:?}");
        let got = Effects::default().add(vec![action], &batch(&[EVENT]), 0, manifest);
        match want {
            None => assert_eq!(got, Ok(()), "{told}"),
            Some(want) => assert!(got.clone().unwrap_err().contains(want), "{told}: {got:?}"),
        }
    }
}

#[test]
fn a_refused_answer_adds_nothing() {
    let mut effects = Effects::default();
    let events = [EVENT; 4];
    effects.add(vec![forward(1)], &batch(&events), 0, &manifest()).unwrap();
    let too_much = vec![forward(0), forward(1), forward(2)];
    assert!(effects.add(too_much, &batch(&events), 0, &manifest()).is_err(), "forwards count as output");
    assert_eq!(effects.list.len(), 1);
}

#[test]
fn places_are_those_of_the_whole_batch_and_commands_are_counted_per_event() {
    let mut effects = Effects::default();
    let one = |cause| Action::Command(Command { cause, ..command("cool") });
    effects.add(vec![one(0), one(1), one(0)], &batch(&[EVENT, EVENT]), 10, &manifest()).unwrap();
    let places: Vec<_> = effects
        .list
        .iter()
        .map(|effect| match effect {
            Effect::Command { cause, ordinal, .. } => (*cause, *ordinal),
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(places, [(10, 0), (11, 0), (10, 1)]);
}

#[test]
fn patterns_match() {
    let cases = [
        ("cool", "cool", true),
        ("cool", "cooler", false),
        ("*", "", true),
        ("cool*", "cool", true),
        ("*-on", "fan-on", true),
        ("*-on", "fan-off", false),
        ("a*b*c", "a-b-b-c", true),
        ("a*b*c", "a-c", false),
        ("ab*ba", "aba", false),
        ("", "x", false),
    ];
    for (pattern, text, want) in cases {
        assert_eq!(matches(pattern, text), want, "{pattern} {text}");
    }
}
