//! Golden bytes of stored jobs.
#![allow(clippy::unwrap_used)]

use super::*;

fn id() -> CommandId {
    CommandId::from_bytes([9; 16])
}

fn given() -> Given {
    let command = NewCommand {
        payload: vec![0xff],
        deliver_within_ms: Some(3),
        execution_timeout_ms: Some(4),
        urgent: true,
        supersede: Some("s".into()),
        idempotency_key: Some("k".into()),
        repeat: Repeat::Never,
        deliveries_max: Some(5),
        ..NewCommand::new("", "c", "i")
    };
    let abort_above = Some(AbortAbove::Percent(10));
    Given { id: id(), filter: "f".into(), command, rate: 50, abort_above, total: 2, at_ms: 7 }
}

#[test]
fn a_stored_job_has_these_bytes() {
    let golden = [
        1, 1, b'f', 50, 1, 1, 10, 2, 7, // version; filter; rate; abort above; total; when
        1, b'c', 1, 0xff, 1, 3, 1, 4, 1, // name to urgent
        1, 1, b's', 1, 1, b'k', 1, 1, 5, 1, b'i', // keys, repeat, deliveries, who
    ];
    assert_eq!(encode_given(&given()), golden);
    assert_eq!(decode_given(id(), &golden), Some(given()));

    let states = [JobState::Running, JobState::Paused, JobState::Cancelled, JobState::Aborted, JobState::Done];
    for (state, byte) in states.into_iter().zip(0..) {
        let moving = Moving { state, next: 2, changed_ms: 9, by: "u".into() };
        assert_eq!(encode_moving(&moving), [1, byte, 2, 9, 1, b'u']);
        assert_eq!(decode_moving(&[1, byte, 2, 9, 1, b'u']), Some(moving));
    }

    assert_eq!(encode_targets(&["a".into(), "bc".into()]), [1, 2, 1, b'a', 2, b'b', b'c']);
    assert_eq!(decode_targets(&[1, 2, 1, b'a', 2, b'b', b'c']), Some(vec!["a".into(), "bc".into()]));

    let outcomes: Vec<u8> = (0..1_030_u32).map(|n| (n % 10) as u8).collect();
    assert_eq!(encode_outcomes(&outcomes, 1), [1, 4, 5, 6, 7, 8, 9]);
    assert_eq!(decode_outcomes(&encode_outcomes(&outcomes, 0)), Some(&outcomes[..1_024]));
}

#[test]
fn keys_are_golden_and_come_back() {
    let cases = [(Part::Given, vec![0]), (Part::Moving, vec![1]), (Part::Outcomes(258), vec![2, 0, 0, 1, 2])];
    for (part, tail) in cases {
        let golden = [vec![9; 16], tail].concat();
        assert_eq!(key(id(), part), golden);
        assert_eq!(parse_key(&golden), Some((id(), part)));
    }
    for other in
        [vec![], vec![9; 16], vec![9; 17], [vec![9; 16], vec![0, 0]].concat(), [vec![9; 16], vec![2, 1]].concat()]
    {
        assert_eq!(parse_key(&other), None, "{other:?}");
    }
    assert_eq!(targets_key(id(), 258), [vec![9; 16], vec![0, 0, 1, 2]].concat());
    assert_eq!(keys(id(), 100_000).len(), 2 + 391 + 98);
}

#[test]
fn other_bytes_are_not_taken_for_a_job() {
    let stored = encode_given(&given());
    for cut in 0..stored.len() {
        assert_eq!(decode_given(id(), &stored[..cut]), None, "cut at {cut}");
    }
    assert_eq!(decode_given(id(), &[&[9], &stored[1..]].concat()), None);
    assert_eq!(decode_moving(&[1, 5, 2, 9, 0]), None);
    assert_eq!(decode_targets(&[1, 1]), None);
    for bad in [vec![], vec![2, 0], vec![1, 10], vec![1; 1_026]] {
        assert_eq!(decode_outcomes(&bad), None);
    }
}

#[test]
fn the_largest_parts_fit_the_store() {
    let names = vec![std::sync::Arc::from("d".repeat(devices::command::DEVICE_BYTES_MAX)); TARGETS_CHUNK as usize];
    assert!(crate::event_log::fits_state(&targets_key(id(), 0), &encode_targets(&names)));
    let long = Given {
        filter: "f".repeat(4_096),
        command: NewCommand { payload: vec![0; devices::command::PAYLOAD_BYTES_MAX], ..given().command },
        ..given()
    };
    assert!(crate::event_log::fits_state(&key(id(), Part::Given), &encode_given(&long)));
}
