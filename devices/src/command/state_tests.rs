//! The table of `state.md` against the machine: every cell, and what holds over random walks.

use proptest::prelude::*;

use super::*;

const MINE: u64 = 7;
const OTHER: u64 = 8;

fn input(column: &str) -> Input {
    match column {
        "sent" => Input::Sent(MINE),
        "unsent" => Input::Unsent(MINE),
        "dropped" => Input::Dropped(MINE),
        "lost" => Input::Lost(MINE),
        "delivered" => Input::Delivered(MINE),
        "deliver-by" => Input::DeliverByPassed,
        "execution-timeout" => Input::ExecutionTimedOut,
        "refused" => Input::Refused,
        "cancelled" => Input::Cancelled,
        "superseded" => Input::Superseded,
        "elsewhere" => Input::Elsewhere(State::Succeeded),
        status => Input::Answered(MINE, Status::from_name(status).unwrap()),
    }
}

fn verdict(cell: &str, column: &str) -> Verdict {
    match cell {
        "." => Verdict::Nothing,
        "late" => Verdict::Late(Status::from_name(column).unwrap()),
        "!not-sent" => Verdict::Refuse(Refusal::NotSent),
        "!second-answer" => Verdict::Refuse(Refusal::SecondAnswer),
        "!out-of-order" => Verdict::Refuse(Refusal::OutOfOrder),
        "!already-sent" => Verdict::Refuse(Refusal::AlreadySent),
        "!already-ended" => Verdict::Refuse(Refusal::AlreadyEnded),
        state => Verdict::Move(State::from_name(state).unwrap()),
    }
}

/// The inputs that lead to a row of the table.
fn path(row: &str) -> &'static str {
    match row {
        "queued" => "",
        "queued, returned" => "sent dropped",
        "sent" => "sent",
        "delivered" => "sent delivered",
        "accepted" => "sent delivered accepted",
        "in-progress" => "sent delivered in-progress",
        "succeeded" => "sent succeeded",
        "failed" => "sent failed",
        "rejected" => "sent rejected",
        "expired" => "deliver-by",
        "refused" => "refused",
        "cancelled" => "cancelled",
        "superseded" => "superseded",
        "unknown" => "sent execution-timeout",
        "unknown, answered late" => "sent execution-timeout in-progress succeeded",
        "timed-out" => "sent delivered execution-timeout",
        "timed-out, answered late" => "sent delivered execution-timeout failed",
        other => panic!("a row without a path: {other}"),
    }
}

fn reach(row: &str) -> Progress {
    let mut progress = Progress::default();
    for step in path(row).split_whitespace() {
        progress.apply(input(step));
    }
    let state = row.split(',').next().unwrap();
    assert_eq!(progress.state().as_str(), state, "{row}");
    progress
}

fn rows() -> (Vec<&'static str>, Vec<Vec<&'static str>>) {
    let mut lines = include_str!("state.md")
        .lines()
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>());
    let head = lines.next().unwrap();
    (head, lines.skip(1).collect())
}

#[test]
fn every_cell_of_the_table_holds() {
    let (head, rows) = rows();
    assert_eq!(head.len(), 17, "one column an input");
    let mut seen = std::collections::HashSet::new();
    for row in &rows {
        assert_eq!(row.len(), head.len(), "{}", row[0]);
        seen.insert(reach(row[0]).state());
        for (column, cell) in head.iter().zip(row).skip(1) {
            let mut progress = reach(row[0]);
            let before = progress.clone();
            let expected = verdict(cell, column);
            assert_eq!(progress.judge(input(column)), expected, "{} x {column}", row[0]);
            assert_eq!(progress.apply(input(column)), expected);
            match expected {
                Verdict::Move(state) => assert_eq!(progress.state(), state),
                Verdict::Late(_) => assert_eq!(progress.state(), before.state()),
                Verdict::Nothing | Verdict::Refuse(_) => assert_eq!(progress, before),
            }
        }
    }
    assert_eq!(seen.len(), State::ALL.len(), "every state has a row");
}

#[test]
fn another_sessions_inputs_never_count() {
    for row in rows().1 {
        let progress = reach(row[0]);
        let refusal = match progress.session() {
            None => Refusal::NotSent,
            Some(_) => Refusal::OtherSession,
        };
        for status in Status::ALL {
            assert_eq!(
                progress.judge(Input::Answered(OTHER, status)),
                Verdict::Refuse(refusal),
                "{} x {status:?}",
                row[0]
            );
        }
        for input in [Input::Unsent(OTHER), Input::Dropped(OTHER), Input::Lost(OTHER), Input::Delivered(OTHER)] {
            assert_eq!(progress.judge(input), Verdict::Nothing, "{} x {input:?}", row[0]);
        }
    }
}

#[test]
fn an_earlier_recipient_may_answer_after_the_command_was_sent_again() {
    let mut progress = reach("queued, returned");
    progress.apply(Input::Sent(OTHER));
    assert_eq!(progress.attempts(), 2);
    assert_eq!(progress.session(), Some(OTHER));
    assert_eq!(progress.judge(Input::Dropped(MINE)), Verdict::Nothing);
    assert_eq!(progress.apply(Input::Answered(MINE, Status::Succeeded)), Verdict::Move(State::Succeeded));
}

#[test]
fn what_was_never_written_was_never_sent() {
    let mut progress = reach("sent");
    progress.apply(Input::Unsent(MINE));
    assert_eq!((progress.attempts(), progress.session()), (0, None));
    assert_eq!(progress.judge(Input::DeliverByPassed), Verdict::Move(State::Expired));
    let mut progress = reach("queued, returned");
    progress.apply(Input::Sent(MINE));
    progress.apply(Input::Unsent(MINE));
    assert_eq!(progress.judge(Input::DeliverByPassed), Verdict::Move(State::Unknown), "it was written once");
}

#[test]
fn what_comes_from_another_node_goes_on_where_it_was() {
    // state there, whether a device may have it; what the time ends it as, whether an answer counts
    let cases = [
        (State::Queued, false, State::Expired, false),
        (State::Queued, true, State::Unknown, true),
        (State::Delivered, true, State::TimedOut, true),
    ];
    for (state, may_have_arrived, ends_as, answers) in cases {
        let progress = Progress::taken(state, 2, may_have_arrived);
        assert_eq!((progress.state(), progress.attempts()), (state, 2));
        let answer = progress.judge(Input::Answered(EARLIER_NODES, Status::Failed));
        assert_eq!(answer.moved(), answers, "{state:?} {may_have_arrived}");
        let mut ended = progress;
        ended.apply(Input::ExecutionTimedOut);
        ended.apply(Input::DeliverByPassed);
        assert_eq!(ended.state(), ends_as, "{state:?} {may_have_arrived}");
    }
}

#[test]
fn recipients_are_bounded() {
    let mut progress = Progress::default();
    for session in 0..20 {
        progress.apply(Input::Sent(session));
        progress.apply(Input::Dropped(session));
    }
    assert_eq!(progress.recipients, [16, 17, 18, 19]);
    assert_eq!(progress.attempts(), 20);
    assert_eq!(progress.judge(Input::Answered(0, Status::Failed)), Verdict::Refuse(Refusal::OtherSession));
}

fn any_input() -> impl Strategy<Value = Input> {
    let session = 0..3u64;
    prop_oneof![
        session.clone().prop_map(Input::Sent),
        session.clone().prop_map(Input::Unsent),
        session.clone().prop_map(Input::Dropped),
        session.clone().prop_map(Input::Lost),
        session.clone().prop_map(Input::Delivered),
        (session, 0..5usize).prop_map(|(s, i)| Input::Answered(s, Status::ALL[i])),
        Just(Input::DeliverByPassed),
        Just(Input::ExecutionTimedOut),
        Just(Input::Refused),
        Just(Input::Cancelled),
        Just(Input::Superseded),
        Just(Input::Elsewhere(State::Succeeded)),
        Just(Input::Elsewhere(State::Queued)),
    ]
}

proptest! {
    #[test]
    fn exactly_one_outcome_and_never_back(inputs in proptest::collection::vec(any_input(), 0..60)) {
        let mut progress = Progress::default();
        let mut outcome = None;
        for input in inputs {
            let before = progress.state();
            let verdict = progress.apply(input);
            if let Some(outcome) = outcome {
                prop_assert_eq!(progress.state(), outcome);
                prop_assert!(!matches!(verdict, Verdict::Move(_)));
            }
            if matches!(progress.state(), State::Expired | State::Refused | State::Cancelled | State::Superseded) {
                prop_assert_eq!(progress.attempts(), 0);
            }
            if before.is_with_device() {
                prop_assert!(progress.state() >= before);
            }
            outcome = progress.state().is_outcome().then_some(progress.state());
        }
    }

    #[test]
    fn the_two_clocks_always_end_a_command(inputs in proptest::collection::vec(any_input(), 0..60)) {
        let mut progress = Progress::default();
        for input in inputs {
            progress.apply(input);
        }
        progress.apply(Input::ExecutionTimedOut);
        progress.apply(Input::DeliverByPassed);
        prop_assert!(progress.state().is_outcome());
    }
}
