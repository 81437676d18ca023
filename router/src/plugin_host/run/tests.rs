//! A hostile guest in the sandbox.

use super::*;
use crate::plugin_host::counters::read;
use crate::plugin_host::effects::Effect;
use crate::plugin_host::test_guest::{MANIFEST, batch, events, hostile, sandbox};

/// Effects in short: `n` forwarded, `n!` set aside, `n?` commanded.
fn told(effects: &Effects) -> Vec<String> {
    let tell = |effect: &Effect| match effect {
        Effect::Forward { cause, .. } => format!("{cause}"),
        Effect::Emit { cause, emit } => format!("{cause}>{}", emit.topic),
        Effect::Command { cause, ordinal, command } => format!("{cause}?{ordinal}{}", command.name),
        Effect::SetDesired { cause, wish, .. } => format!("{cause}={}", wish.document.to_json()),
        Effect::DeadLetter { cause, reason } => format!("{cause}! {reason}"),
    };
    effects.list.iter().map(tell).collect()
}

/// Runs the values as one batch.
fn hostile_run(values: &[&str]) -> (Vec<String>, PluginCounters) {
    let counters = PluginCounters::default();
    let mut sandbox = sandbox(&hostile(), MANIFEST);
    let effects = run(&mut sandbox, &batch(&events(values)), &counters, &AtomicBool::new(false)).unwrap();
    (told(&effects), counters)
}

#[test]
fn good_events_pass_in_one_call() {
    let (told, counters) = hostile_run(&["a", "b", "C", "R"]);
    assert_eq!(told, ["0", "1", "2?0cool", "3! told so"]);
    assert_eq!(read(&counters.calls), 1);
    assert_eq!(read(&counters.traps), 0);
}

#[test]
fn each_misdeed_costs_its_own_event_alone() {
    let cases = [
        ("T", "trap: wasm trap: wasm `unreachable` instruction executed"),
        ("P", "trap: wasm trap: wasm `unreachable` instruction executed: panicked at x"),
        ("L", "the call took longer than 50 ms"),
        ("B", "more memory than 8 MiB asked for"),
        ("E", "told so"),
        ("O", "trap: "),
        ("U", "topic `secret` is not granted: add it to `grants.emit` in the manifest"),
    ];
    for (misdeed, reason) in cases {
        let (told, counters) = hostile_run(&["a", misdeed, "b", "c"]);
        assert_eq!(told.len(), 4, "{misdeed}: {told:?}");
        assert_eq!([&told[0], &told[2], &told[3]], ["0", "2", "3"], "{misdeed}");
        assert!(told[1].starts_with(&format!("1! {reason}")), "{misdeed}: {}", told[1]);
        let faults = read(&counters.traps) + read(&counters.refusals);
        assert_eq!(faults, 4, "{misdeed}: the batch, its half, and the event twice");
    }
}

#[test]
fn state_of_failed_calls_is_dropped_and_of_others_kept() {
    let counters = PluginCounters::default();
    let mut sandbox = sandbox(&hostile(), MANIFEST);
    // `S1` succeeds once its neighbour is gone; `S2` is written before the trap
    // in the same call, but again after it.
    let values = ["S1", "T", "S2", "S3"];
    let effects = run(&mut sandbox, &batch(&events(&values)), &counters, &AtomicBool::new(false)).unwrap();
    assert_eq!(told(&effects).len(), 4);
    let keys = |sandbox: &Sandbox| -> Vec<String> {
        let state = sandbox.state().lock();
        let keys =
            state.accepted().keys().map(|(place, key)| format!("{}{}", place.partition, String::from_utf8_lossy(key)));
        keys.collect()
    };
    assert_eq!(keys(&sandbox), ["2S1", "2S2", "2S3"]);

    // An event that sets state and is then set aside leaves none.
    sandbox.state().lock().clear();
    let failing = sandbox.call(&batch(&events(&["S4", "T"])));
    assert!(failing.is_err());
    assert!(keys(&sandbox).is_empty());

    // What was accepted is seen by later calls, also by a new instance.
    let values = ["S5", "T", "G5", "G6"];
    let effects = run(&mut sandbox, &batch(&events(&values)), &counters, &AtomicBool::new(false)).unwrap();
    let told = told(&effects);
    assert_eq!([&told[0], &told[2]], ["0", "2"]);
    assert!(told[3].starts_with("3! trap"), "S6 was never set: {told:?}");
}

#[test]
fn headers_and_state_need_their_grants() {
    let without = MANIFEST.replace("state = true", "");
    let counters = PluginCounters::default();
    let mut sandbox = sandbox(&hostile(), &without);
    let effects = run(&mut sandbox, &batch(&events(&["a", "S1"])), &counters, &AtomicBool::new(false)).unwrap();
    let told = told(&effects);
    assert_eq!(told[0], "0");
    assert!(told[1].contains("does not grant `state`"), "{}", told[1]);
}

#[test]
fn a_plugin_that_does_not_start_blames_no_event() {
    let with = format!("{MANIFEST}[config]\nany = 1");
    let counters = PluginCounters::default();
    let mut sandbox = sandbox(&hostile(), &with);
    let fault = run(&mut sandbox, &batch(&events(&["a"])), &counters, &AtomicBool::new(false)).unwrap_err();
    assert_eq!(fault, Fault::Start("no settings wanted".into()));
}

#[test]
fn a_whole_batch_of_poison_is_set_aside_event_by_event() {
    let values = ["T"; 32];
    let (told, counters) = hostile_run(&values);
    assert_eq!(told.len(), 32);
    assert!(told.iter().all(|effect| effect.contains('!')));
    assert_eq!(read(&counters.calls), 31 + 64, "each range once, each event twice");
}

#[test]
fn a_stop_ends_the_search() {
    let counters = PluginCounters::default();
    let mut sandbox = sandbox(&hostile(), MANIFEST);
    let stopped = run(&mut sandbox, &batch(&events(&["L", "L"])), &counters, &AtomicBool::new(true));
    assert_eq!(stopped.unwrap_err(), Fault::Stopped);
    assert_eq!(read(&counters.calls), 0);
}
