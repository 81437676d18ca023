//! The whole plugin, on the mock host.

use edgeway_plugin::Action;
use edgeway_plugin::mock::Bench;

use crate::ThresholdAlarm;

const SETTINGS: &[(&str, &str)] = &[
    ("path", "temperature"),
    ("limit", "80"),
    ("clear", "75"),
    ("readings", "2"),
    ("command", "cool"),
    ("payload", r#"{"on":true}"#),
    ("clear_command", "cool"),
    ("clear_payload", r#"{"on":false}"#),
];

fn bench() -> Bench<ThresholdAlarm> {
    Bench::new(SETTINGS.iter().copied()).unwrap()
}

/// Actions in short.
fn told(actions: &[Action]) -> Vec<String> {
    let tell = |action: &Action| match action {
        Action::Emit(emit) => {
            let value = String::from_utf8(emit.value.clone()).unwrap();
            format!("{} {} {value}", emit.cause, emit.topic)
        }
        Action::Command(command) => {
            let payload = String::from_utf8(command.payload.clone()).unwrap();
            format!("{} {} {} {payload}", command.cause, command.device, command.name)
        }
        Action::SetDesired(set) => format!("twin {}", set.document),
        Action::Forward(forward) => format!("{} -> {}", forward.cause, forward.topic),
        Action::Reject(reject) => format!("{} bad: {}", reject.cause, reject.reason),
    };
    actions.iter().map(tell).collect()
}

#[test]
fn an_alarm_is_raised_and_cleared_with_its_commands() {
    let mut bench = bench();
    let hot = r#"{"temperature":91.5}"#;
    let actions = bench.feed(&[("pump", 5, hot), ("fan", 6, hot), ("pump", 7, hot)]).unwrap();
    assert_eq!(
        told(&actions),
        [
            r#"2 alarms {"alarm":"raised","device":"pump","path":"temperature","value":91.5,"limit":80,"clear":75,"offset":2,"timestamp_ms":7}"#,
            r#"2 pump cool {"on":true}"#,
        ]
    );
    assert!(bench.feed(&[("pump", 8, r#"{"temperature":78}"#)]).unwrap().is_empty());
    let actions = bench.feed(&[("pump", 9, r#"{"temperature":75}"#)]).unwrap();
    assert_eq!(told(&actions)[1], r#"0 pump cool {"on":false}"#);
    let keys: Vec<_> = bench.host.state.keys().collect();
    assert_eq!(keys, [&(0, b"fan".to_vec())], "an alarm at rest costs no state");
}

#[test]
fn a_restart_in_the_middle_changes_nothing() {
    let hot = r#"{"temperature":91.5}"#;
    for cut in [1, 2] {
        let mut bench = bench();
        let mut actions = Vec::new();
        for round in 0..3 {
            if round == cut {
                bench.restart().unwrap();
            }
            actions.extend(bench.feed(&[("pump", round, hot)]).unwrap());
        }
        assert_eq!(actions.len(), 2, "restart before reading {cut}");
    }
}

#[test]
fn partitions_do_not_share_alarms() {
    let mut bench = bench();
    let hot = r#"{"temperature":91.5}"#;
    assert!(bench.feed(&[("pump", 1, hot)]).unwrap().is_empty());
    bench.host.partition = 1;
    assert!(bench.feed(&[("pump", 2, hot)]).unwrap().is_empty());
}

#[test]
fn what_is_no_reading_is_rejected_or_passed_over() {
    let mut bench = bench();
    let batch = [("a", 1, "hello"), ("a", 2, r#"{"humidity":1}"#), ("a", 3, r#"{"temperature":"hot"}"#)];
    let actions = bench.feed(&batch).unwrap();
    assert_eq!(told(&actions), ["0 bad: not JSON at byte 5", "2 bad: the reading is not a number"]);
}

#[test]
fn the_device_may_stand_in_the_reading() {
    let settings = [("limit", "1"), ("path", "v"), ("device_path", "id"), ("command", "stop")];
    let mut bench = Bench::<ThresholdAlarm>::new(settings).unwrap();
    let actions = bench.feed(&[("line-1", 1, r#"{"id":"press","v":2}"#)]).unwrap();
    assert_eq!(told(&actions)[1], "0 press stop ");
}

#[test]
fn a_key_that_is_no_device_gets_its_alarm_but_no_command() {
    let mut bench = Bench::<ThresholdAlarm>::new([("limit", "1"), ("command", "stop")]).unwrap();
    for key in ["", "plant/pump"] {
        let actions = bench.feed(&[(key, 1, "2")]).unwrap();
        assert_eq!(actions.len(), 1, "{key}");
    }
}

#[test]
fn wrong_settings_are_told() {
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[], "setting `limit` is missing"),
        (&[("limit", "x")], "setting `limit` = `x`"),
        (&[("limit", "1"), ("clear", "2")], "setting `clear` = `2` is on the alarming side"),
        (&[("limit", "1"), ("side", "left")], "setting `side` = `left`"),
        (&[("limit", "1"), ("readings", "0")], "setting `readings` must be"),
        (&[("limit", "inf")], "settings `limit` and `clear` must be finite"),
    ];
    for (settings, want) in cases {
        let error = Bench::<ThresholdAlarm>::new(settings.iter().copied()).err().unwrap();
        assert!(error.starts_with(want), "{error}");
    }
}
