//! The edge alone: what it takes of an upstream site, and what it tells it.

#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use devices::command::{CommandId, Refusal, State, Status};

use super::super::tests::{Node, backend, command, next_offer, until};
use super::super::{Config, NewCommand};
use super::tests::{ALL, LINK, above};
use super::wire::{
    ASKED_MAX, Answer, CalledOffV2, EndedV1, GivenV1, VERSION_CALL_OFF, decode, decode_as, encode, encode_as,
};
use super::*;
use crate::event_log::AUDIT_TOPIC;

fn given(n: u8) -> GivenV1 {
    GivenV1 {
        id: [n; 16],
        device: "pump".into(),
        name: "start".into(),
        payload: vec![1],
        age_ms: 5,
        left_ms: 60_000,
        asked_ms: None,
        execution_timeout_ms: 60_000,
        urgent: true,
        supersede: None,
        never_repeat: true,
        deliveries_max: None,
        issued_by: "x/\u{7}y".into(),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_edge_takes_what_is_listed_and_no_more() {
    let node = Node::open_in(None, 8, &backend(), Config::default()).run();
    let _pump = node.connect("pump").await;
    let local = node.room.submit(NewCommand { allow_unknown: true, ..command("pump", "own") }).await.unwrap().id;
    // A submission waits a second for the room to read it, and no longer.
    until("it is listed", || node.room.get(local)).await;
    let nothing = Listed { commands: false, urgent: true };
    let not_urgent = Listed { commands: true, urgent: false };
    let refused = |code: &'static str| (code, None);
    let said = |answer: Answer| ("", Some(answer));
    let long_ago = Some(3_600_000);
    let cases = [
        (nothing, given(1), refused("not-listed")),
        (not_urgent, given(1), said(Answer::Taken)),
        (not_urgent, given(1), said(Answer::Taken)),
        // It is not listed any more, and was taken before.
        (nothing, given(1), said(Answer::Taken)),
        (ALL, GivenV1 { id: *local.as_bytes(), ..given(2) }, refused("known-id")),
        (ALL, GivenV1 { device: "#".into(), ..given(2) }, refused("bad-request")),
        (ALL, GivenV1 { name: "a/b".into(), ..given(2) }, refused("bad-request")),
        (ALL, GivenV1 { device: "line/pump".into(), ..given(2) }, refused("unknown-device")),
        (ALL, GivenV1 { payload: vec![0; 16_385], ..given(2) }, refused("too-large")),
        (ALL, GivenV1 { execution_timeout_ms: u64::MAX, ..given(2) }, refused("bad-request")),
        (ALL, GivenV1 { left_ms: 0, ..given(2) }, said(Answer::TooLate)),
        (ALL, GivenV1 { asked_ms: long_ago, ..given(2) }, said(Answer::Lost)),
        (ALL, GivenV1 { asked_ms: long_ago, left_ms: 0, never_repeat: false, ..given(2) }, said(Answer::Lost)),
        (ALL, GivenV1 { asked_ms: Some(0), ..given(3) }, said(Answer::Taken)),
        (ALL, GivenV1 { asked_ms: long_ago, never_repeat: false, ..given(4) }, said(Answer::Taken)),
        (ALL, GivenV1 { left_ms: u64::MAX, age_ms: u64::MAX, ..given(5) }, said(Answer::Taken)),
    ];
    for (listed, given, (code, expected)) in cases {
        let text = format!("{listed:?} {given:?}");
        let answer = node.room.take_from_above(above(listed), encode(&vec![given])).await;
        let answers: Vec<Answer> = decode(&answer).unwrap();
        match (&answers[..], expected) {
            ([answer], Some(expected)) => assert_eq!(*answer, expected, "{text}"),
            ([Answer::Refused { code: found, .. }], None) => assert_eq!(found, code, "{text}"),
            other => panic!("{other:?} of {text}"),
        }
    }
    let other = Above { link: LINK + 1, ..above(ALL) };
    let answer: Vec<Answer> = decode(&node.room.take_from_above(other, encode(&vec![given(1)])).await).unwrap();
    assert!(matches!(&answer[..], [Answer::Refused { code, .. }] if code == "other-link"), "{answer:?}");
    // Each was taken by a commit of its own, which the room reads in its time.
    let listed = async |n| until("it is listed", || node.room.get(CommandId::from_bytes([n; 16]))).await;
    let shown = listed(1).await;
    assert_eq!((shown.urgent, shown.issued_by.as_str()), (false, "link:hq/x/y"));
    assert!(listed(3).await.urgent);
    // What cannot be read is answered by nothing, and there are not too many at once.
    assert_eq!(node.room.take_from_above(above(ALL), vec![9, 9]).await, encode(&Vec::<Answer>::new()));
    let many: Vec<GivenV1> = (100..200).map(given).collect();
    let answers: Vec<Answer> = decode(&node.room.take_from_above(above(ALL), encode(&many)).await).unwrap();
    assert_eq!(answers.len(), ASKED_MAX);
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_headquarters_that_was_set_back_is_told_again_and_nothing_is_done_twice() {
    let node = Node::open_in(None, 8, &backend(), Config::default()).run();
    let pump = node.connect("pump").await;
    let id = CommandId::from_bytes([1; 16]);
    let told =
        async || node.room.ended_from_above(LINK, 0).await.map(|(told, _)| decode::<Vec<EndedV1>>(&told).unwrap());
    for round in 0..3 {
        let answer = node.room.take_from_above(above(ALL), encode(&vec![given(1)])).await;
        assert_eq!(decode::<Vec<Answer>>(&answer), Some(vec![Answer::Taken]));
        if round == 0 {
            next_offer(&pump).await.acked();
            node.answer(&pump, "pump", id, Status::Succeeded);
            until("it has ended", || node.room.has_ended_from_above(LINK).then_some(())).await;
        }
        let ends = told().await.unwrap();
        assert_eq!((ends.len(), ends[0].outcome.as_str()), (1, "succeeded"), "{round}");
        // Upstream of another link knows nothing of it.
        node.room.known_above(LINK + 1, &encode(&vec![[1_u8; 16]]));
        assert!(node.room.has_ended_from_above(LINK));
        node.room.known_above(LINK, &encode(&vec![[1_u8; 16]]));
        assert!(!node.room.has_ended_from_above(LINK) && told().await.is_none());
    }
    assert_eq!(node.steps(id).iter().filter(|step| *step == "sent").count(), 1);
    node.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_calls_off_on_and_on_does_not_flood_the_audit() {
    let node = Node::open_in(None, 8, &backend(), Config::default()).run();
    let pump = node.connect("pump").await;
    node.room.take_from_above(above(ALL), encode(&vec![given(1)])).await;
    next_offer(&pump).await.acked();
    until("it is delivered", || {
        let shown = node.room.get(CommandId::from_bytes([1; 16]))?;
        (shown.state == State::Delivered).then_some(())
    })
    .await;
    // The same one in all places of a question, and many questions.
    let asked = vec![([1_u8; 16], "x".to_owned()); ASKED_MAX];
    for round in 0..300 {
        let answer = node.room.take_from_above(above(ALL), encode_as(VERSION_CALL_OFF, &asked)).await;
        let answers: Vec<CalledOffV2> = decode_as(VERSION_CALL_OFF, &answer).unwrap();
        let (first, rest) = answers.split_first().unwrap();
        assert!(matches!(first, CalledOffV2::Not(code) if code == Refusal::AlreadySent.code()), "{round} {first:?}");
        assert!(rest.len() == ASKED_MAX - 1 && rest.iter().all(|answer| matches!(answer, CalledOffV2::Later)));
    }
    let acts = acts_with(&node, "command.cancel");
    // The minute may have turned.
    assert!((1..=2 * 120).contains(&acts), "{acts}");
    // Another upstream is written down all the same.
    let other = Above { name: "other".to_owned(), link: LINK + 1, listed: Listed { commands: false, urgent: false } };
    node.room.take_from_above(other, encode(&vec![given(2)])).await;
    until("it is written", || (acts_with(&node, "link:other") == 1).then_some(())).await;
    node.end().await;
}

/// Acts that are written down with this in them.
fn acts_with(node: &Node, text: &str) -> usize {
    let audit = node.log.topic(AUDIT_TOPIC).unwrap();
    let written = |partition: &Arc<crate::event_log::PartitionLog>| {
        let batches = node.log.read(partition.id(), 0, 1 << 24).unwrap();
        let is_one = |value: &[u8]| String::from_utf8_lossy(value).contains(text);
        let count = |batch: &crate::event_log::Batch| {
            batch.events_from(0).filter(|(_, record)| is_one(record.value.unwrap())).count()
        };
        batches.iter().map(count).sum::<usize>()
    };
    audit.all_partitions().iter().map(written).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ends_that_upstream_knows_keep_no_place_from_new_commands() {
    const PLACES: usize = 4_096;
    let node = Node::open_in(None, 8, &backend(), Config::default()).run();
    let one = |n: usize| GivenV1 {
        id: (n as u128 + 1).to_be_bytes(),
        // Each ends the one before it.
        supersede: Some("set".into()),
        urgent: false,
        left_ms: 600_000,
        ..given(0)
    };
    let ask = async |ids: std::ops::Range<usize>, again: Option<usize>| {
        let asked: Vec<GivenV1> = again.into_iter().chain(ids).map(one).collect();
        let answers = node.room.take_from_above(above(ALL), encode(&asked)).await;
        let answers: Vec<Answer> = decode(&answers).unwrap();
        assert_eq!(answers, vec![Answer::Taken; asked.len()], "{again:?}");
    };
    let is_noted = |n: usize| node.room.down.notes.lock().get(CommandId::from_bytes(one(n).id)).is_some();
    for n in (0..PLACES).step_by(ASKED_MAX) {
        ask(n..n + ASKED_MAX, None).await;
    }
    until("all but the last have ended", || (node.room.pending() == 1).then_some(())).await;
    while let Some((told, _)) = node.room.ended_from_above(LINK, 0).await {
        let known: Vec<[u8; 16]> = decode::<Vec<EndedV1>>(&told).unwrap().iter().map(|end| end.id).collect();
        node.room.known_above(LINK, &encode(&known));
    }
    assert!(!node.room.has_ended_from_above(LINK));
    // There is a place for none; the oldest one is asked about by the same question.
    ask(PLACES..PLACES + ASKED_MAX - 1, Some(0)).await;
    let oldest = node.room.down.notes.lock().get(CommandId::from_bytes(one(0).id)).map(|note| note.phase);
    assert_eq!(oldest, Some(notes::Phase::Ended), "of that it is told again");
    assert_eq!([0, 1, ASKED_MAX - 1, ASKED_MAX].map(is_noted), [true, false, false, true]);
    assert_eq!([PLACES - 1, PLACES, PLACES + ASKED_MAX - 2].map(is_noted), [true; 3]);
    assert_eq!(node.log.state_scan(NOTES_TREE, &[], None, 2 * PLACES).unwrap().len(), PLACES + 1, "and the life");
    node.end().await;
}
