//! The whole plugin, on the mock host.

use edgeway_plugin::Action;
use edgeway_plugin::mock::Bench;

use crate::Downsample;

fn bench() -> Bench<Downsample> {
    Bench::new([("path", "v"), ("window_ms", "1000")]).unwrap()
}

fn told(actions: &[Action]) -> Vec<String> {
    let tell = |action: &Action| match action {
        Action::Emit(emit) => {
            let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
            let key = text(emit.key.as_deref().unwrap_or_default());
            format!("{} {key} {} {}", emit.topic, emit.timestamp_ms.unwrap(), text(&emit.value))
        }
        Action::Reject(reject) => format!("{} bad: {}", reject.cause, reject.reason),
        other => panic!("{other:?}"),
    };
    actions.iter().map(tell).collect()
}

#[test]
fn a_window_is_summed_up_per_key_also_over_restarts() {
    let a = r#"downsampled a 1000 {"window_start_ms":0,"window_ms":1000,"count":3,"mean":2,"min":1,"max":3,"late":0}"#;
    for restart in 0..4 {
        let mut bench = bench();
        let mut actions = Vec::new();
        let readings =
            [("a", 10, r#"{"v":1}"#), ("a", 20, r#"{"v":3}"#), ("a", 30, r#"{"v":2}"#), ("a", 1000, r#"{"v":9}"#)];
        for (n, reading) in readings.iter().enumerate() {
            if n == restart {
                bench.restart().unwrap();
            }
            actions.extend(bench.feed(&[*reading, ("b", 500, r#"{"v":7}"#)]).unwrap());
        }
        assert_eq!(told(&actions), [a], "restart before reading {restart}");
    }
}

#[test]
fn one_batch_writes_each_key_once_and_rejects_what_is_no_reading() {
    let mut bench = bench();
    let batch = [
        ("a", 1, "?"),
        ("a", 2, r#"{"v":1}"#),
        ("b", 3, r#"{"v":1}"#),
        ("a", 4, r#"{"w":1}"#),
        ("a", 5, r#"{"v":[]}"#),
    ];
    let actions = bench.feed(&batch).unwrap();
    assert_eq!(told(&actions), ["0 bad: not JSON at byte 0", "4 bad: the reading is not a number"]);
    assert_eq!(bench.host.state.len(), 2);
}

#[test]
fn wrong_settings_are_told() {
    for window in ["0", "-1", "999", "86400001", "x"] {
        let error = Bench::<Downsample>::new([("window_ms", window)]).err().unwrap();
        assert!(error.starts_with(&format!("setting `window_ms` = `{window}`")), "{error}");
    }
}
