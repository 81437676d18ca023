//! Commands that are called off at the headquarters while they are at the plant, or on their way: one outcome at both ends.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::Ordering;

use devices::command::{CommandId, Refusal, Repeat, State, Status};

use super::super::tests::{backend, command, next_offer, until};
use super::super::{CallOffError, CancelError};
use super::tests::{ALL, LINK, Pair, above, steps_are};
use super::wire::{CalledOffV2, GivenV1, VERSION_CALL_OFF, decode_as, encode, encode_as};

/// What a call-off came to.
async fn called_off(pair: &Pair, id: CommandId) -> Result<State, CancelError> {
    match pair.hq().room.cancel(id, "cli").await {
        Ok(state) => Ok(state),
        Err(CallOffError::Command(error)) => Err(error),
        Err(error) => panic!("{error}"),
    }
}

/// A plant that knows the device `away`, which is not connected.
async fn pair() -> Pair {
    let pair = Pair::new();
    let away = pair.plant().connect("away").await;
    pair.plant().sessions.disconnect(&away, None, Vec::new());
    pair
}

async fn given(pair: &Pair, device: &str) -> CommandId {
    let id = pair.give(|new| {
        (new.device, new.repeat, new.deliver_within_ms) = (device.to_owned(), Repeat::Never, Some(600_000));
    });
    id.await
}

async fn is_there(pair: &Pair, id: CommandId) {
    steps_are(pair.hq(), id, &["queued", "moving", "moved"]).await;
    until("the plant lists it", || pair.plant().room.get(id)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_its_device_has_not_had_is_cancelled_at_both_ends() {
    let pair = pair().await;
    let id = given(&pair, "plant/away").await;
    is_there(&pair, id).await;
    assert_eq!(called_off(&pair, id).await, Ok(State::Cancelled));
    assert_eq!(pair.end_of(id).await, State::Cancelled);
    let why = pair.plant().room.get(id).unwrap().why.unwrap();
    assert_eq!(why.by, "link:hq/cli");
    steps_are(pair.hq(), id, &["queued", "moving", "moved", "calling-off", "cancelled"]).await;
    assert_eq!(called_off(&pair, id).await, Err(CancelError::Refused(Refusal::AlreadyEnded)));
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_its_device_has_goes_on() {
    let pair = pair().await;
    let pump = pair.plant().connect("pump").await;
    let id = given(&pair, "plant/pump").await;
    next_offer(&pump).await.acked();
    is_there(&pair, id).await;
    assert_eq!(called_off(&pair, id).await, Err(CancelError::Refused(Refusal::AlreadySent)));
    assert_eq!(pair.hq().room.get(id).unwrap().called_off_by, None);
    pair.plant().answer(&pump, "pump", id, Status::Succeeded);
    assert_eq!(pair.end_of(id).await, State::Succeeded);
    // It has ended, and upstream was not told yet: that is the answer, and is what it is told.
    let id = given(&pair, "plant/pump").await;
    next_offer(&pump).await.acked();
    pair.plant().answer(&pump, "pump", id, Status::Failed);
    until("it has ended", || pair.plant().room.has_ended_from_above(LINK).then_some(())).await;
    assert_eq!(called_off(&pair, id).await, Err(CancelError::Refused(Refusal::AlreadyEnded)));
    assert_eq!(pair.end_of(id).await, State::Failed);
    // An edge of an older release calls nothing off.
    pair.line.is_old.store(true, Ordering::Relaxed);
    let id = given(&pair, "plant/away").await;
    is_there(&pair, id).await;
    assert_eq!(called_off(&pair, id).await, Err(CancelError::Refused(Refusal::AlreadySent)));
    // One that is no command, and one of the headquarters' own.
    assert_eq!(called_off(&pair, CommandId::from_bytes([9; 16])).await, Err(CancelError::NoCommand));
    let own = pair.hq().room.submit(command("fan", "start")).await.unwrap().id;
    assert_eq!(called_off(&pair, own).await, Ok(State::Cancelled));
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_off_waits_for_the_link_whatever_happens_meanwhile() {
    // What has arrived at the plant when the link is cut, what happens before it stands again, the outcome.
    let cases = [
        ("taken", "nothing", State::Cancelled),
        ("taken", "hq restarts", State::Cancelled),
        ("taken", "plant restarts", State::Cancelled),
        ("taken", "its device comes", State::Succeeded),
        ("taken", "plant is set back", State::Unknown),
        ("answer lost", "hq restarts", State::Cancelled),
        ("answer lost", "its device comes", State::Succeeded),
        ("question lost", "nothing", State::Cancelled),
        ("question lost", "hq restarts", State::Cancelled),
    ];
    for (arrived, meanwhile, outcome) in cases {
        let text = format!("{arrived}, {meanwhile}");
        let mut pair = pair().await;
        pair.line.loses_answers.store(arrived == "answer lost", Ordering::Relaxed);
        pair.line.loses_questions.store(arrived == "question lost", Ordering::Relaxed);
        let id = given(&pair, "plant/away").await;
        let steps: &[&str] = if arrived == "taken" { &["queued", "moving", "moved"] } else { &["queued", "moving"] };
        steps_are(pair.hq(), id, steps).await;
        // What nothing was asked about is taken back where the line is cut, and called off here.
        match arrived {
            "question lost" => until(&text, || (pair.line.lost.load(Ordering::Relaxed) > 0).then_some(())).await,
            _ => drop(until(&text, || pair.plant().room.get(id)).await),
        }
        pair.cut(true);
        assert_eq!(called_off(&pair, id).await, Err(CancelError::Asked), "{text}");
        assert_eq!(called_off(&pair, id).await, Err(CancelError::Asked), "{text}: it is asked once");
        let shown = pair.hq().room.get(id).unwrap();
        assert_eq!((shown.state, shown.called_off_by.as_deref()), (State::Queued, Some("cli")), "{text}");
        let calls = |pair: &Pair| pair.hq().steps(id).iter().filter(|step| *step == "calling-off").count();
        assert_eq!(calls(&pair), 1, "{text}");
        let mut device = None;
        match meanwhile {
            "hq restarts" => pair.restart_hq().await,
            "plant restarts" => pair.restart_plant().await,
            "plant is set back" => {
                pair.disks[1] = backend();
                pair.restart_plant().await;
            }
            "its device comes" => {
                let away = pair.plant().connect("away").await;
                next_offer(&away).await.acked();
                device = Some(away);
            }
            _ => {}
        }
        pair.line.loses_answers.store(false, Ordering::Relaxed);
        pair.line.loses_questions.store(false, Ordering::Relaxed);
        pair.cut(false);
        if let Some(away) = &device {
            until("it goes on", || pair.hq().room.get(id)?.called_off_by.is_none().then_some(())).await;
            pair.plant().answer(away, "away", id, Status::Succeeded);
        }
        assert_eq!(pair.end_of(id).await, outcome, "{text}");
        let sent = pair.plant().steps(id).iter().filter(|step| *step == "sent").count();
        assert_eq!(sent, usize::from(device.is_some()), "{text}");
        assert_eq!(calls(&pair), 1, "{text}");
        pair.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_off_that_is_put_off_holds_up_no_other_question() {
    let pair = pair().await;
    let id = given(&pair, "plant/away").await;
    is_there(&pair, id).await;
    pair.line.is_later.store(true, Ordering::Relaxed);
    assert_eq!(called_off(&pair, id).await, Err(CancelError::Asked));
    pair.line.loses_answers.store(true, Ordering::Relaxed);
    let next = given(&pair, "plant/away").await;
    until("the plant has it", || pair.plant().room.get(next)).await;
    steps_are(pair.hq(), next, &["queued", "moving"]).await;
    pair.line.loses_answers.store(false, Ordering::Relaxed);
    is_there(&pair, next).await;
    assert_eq!(pair.hq().room.get(id).unwrap().called_off_by.as_deref(), Some("cli"), "it is asked for still");
    pair.line.is_later.store(false, Ordering::Relaxed);
    assert_eq!(pair.end_of(id).await, State::Cancelled);
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_calls_off_on_and_on_keeps_no_command_behind_from_being_called_off() {
    let pair = pair().await;
    // Here the headquarters is an edge itself.
    let hq = &pair.hq().room;
    let pump = pair.hq().connect("pump").await;
    let of = |n: u8, device: &str| GivenV1 {
        id: [n; 16],
        device: device.to_owned(),
        name: "start".to_owned(),
        payload: Vec::new(),
        age_ms: 0,
        left_ms: 600_000,
        asked_ms: None,
        execution_timeout_ms: 600_000,
        urgent: false,
        supersede: None,
        never_repeat: true,
        deliveries_max: None,
        issued_by: "x".to_owned(),
    };
    hq.take_from_above(above(ALL), encode(&vec![of(1, "pump"), of(2, "plant/away")])).await;
    next_offer(&pump).await.acked();
    is_there(&pair, CommandId::from_bytes([2; 16])).await;
    let delivered = || (hq.get(CommandId::from_bytes([1; 16]))?.state == State::Delivered).then_some(());
    until("the other is delivered", delivered).await;
    let call_off = async |n: u8| {
        let asked = encode_as(VERSION_CALL_OFF, &vec![([n; 16], "x".to_owned())]);
        let answer = hq.take_from_above(above(ALL), asked).await;
        decode_as::<Vec<CalledOffV2>>(VERSION_CALL_OFF, &answer).unwrap().remove(0)
    };
    for _ in 0..300 {
        assert!(matches!(call_off(1).await, CalledOffV2::Not(_)));
    }
    let answer = call_off(2).await;
    assert!(matches!(answer, CalledOffV2::Asked), "{answer:?}");
    assert_eq!(pair.end_of(CommandId::from_bytes([2; 16])).await, State::Cancelled);
    pair.end().await;
}
