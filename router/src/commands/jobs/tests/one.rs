//! One job by examples.

use devices::command::{CommandId, State};

use crate::commands::jobs::job::{Job, Notice};
use crate::commands::jobs::terms::{AbortAbove, Given, JobState};
use crate::commands::{JobError, NewCommand, Now};

pub(super) fn now(steady: u64) -> Now {
    Now { steady, wall: 1_000_000 + steady }
}

pub(super) fn id() -> CommandId {
    CommandId::v7(1_000_000, [1; 10])
}

pub(super) fn given(total: u32, rate: u32, abort_above: Option<AbortAbove>) -> Given {
    let command = NewCommand::new("", "cool", "cli");
    Given { id: id(), filter: "tag = pump".into(), command, rate, abort_above, total, at_ms: 1_000_000 }
}

/// Submits what is due at `at`; how many that are.
fn submit(job: &mut Job, at: u64) -> u32 {
    let due = job.due(now(at)).count() as u32;
    if due > 0 {
        job.submitted(due, now(at));
    }
    due
}

/// A job of twenty whose commands are all submitted.
fn submitted(abort_above: Option<AbortAbove>) -> Job {
    let mut job = Job::new(given(20, 20, abort_above), now(0));
    assert_eq!((submit(&mut job, 0), submit(&mut job, 1_000)), (1, 19));
    job.take_unwritten(now(1_000));
    job
}

#[test]
fn a_job_is_done_when_every_command_has_ended() {
    let mut job = Job::new(given(3, 1, None), now(0));
    let first = job.take_unwritten(now(0));
    assert_eq!((first.is_new, first.moving, first.notices), (true, true, vec![Notice::Started]));
    assert_eq!((submit(&mut job, 0), submit(&mut job, 999), submit(&mut job, 1_000)), (1, 0, 1));
    job.ended_as(0, State::Succeeded, now(1_001));
    job.ended_as(0, State::Failed, now(1_001));
    job.ended_as(2, State::Failed, now(1_001));
    assert_eq!(
        (job.ended(), job.outcome(0), job.outcome(2)),
        (1, Some(State::Succeeded), None),
        "first word, submitted"
    );
    assert_eq!(submit(&mut job, 5_000), 1, "no burst beyond a second, and not more than there are");
    assert_eq!(job.under_way().collect::<Vec<_>>(), [1, 2]);
    job.ended_as(1, State::Failed, now(5_001));
    assert_eq!(job.state(), JobState::Running);
    let written = job.take_unwritten(now(5_002));
    assert_eq!((written.notices, written.has_ended), (vec![Notice::Progress], false));
    job.ended_as(2, State::Expired, now(5_003));
    let written = job.take_unwritten(now(5_003));
    assert_eq!((written.notices, written.has_ended), (vec![Notice::Came(JobState::Done)], true));
    assert_eq!((job.next_due(), job.has_ended()), (None, true));
}

#[test]
fn progress_is_told_once_a_second() {
    let mut job = submitted(None);
    let mut told = 0;
    for at in 1_001..1_016 {
        job.ended_as(at as u32 - 1_001, State::Succeeded, now(at));
        told += job.take_unwritten(now(at)).notices.len();
    }
    assert_eq!(told, 0, "it was told at 1000");
    assert_eq!(job.next_due(), Some(2_000));
    assert_eq!(job.take_unwritten(now(2_000)).notices, [Notice::Progress]);
    assert_eq!(job.next_due(), None);
}

#[test]
fn a_pause_holds_the_rest_back_and_nothing_else() {
    let mut job = Job::new(given(3, 1, None), now(0));
    submit(&mut job, 0);
    job.pause("cli", now(1)).unwrap();
    job.pause("cli", now(1)).unwrap();
    assert_eq!((submit(&mut job, 9_000), job.state()), (0, JobState::Paused));
    job.ended_as(0, State::Succeeded, now(9_000));
    assert_eq!(job.ended(), 1);
    job.resume("cli", now(9_001)).unwrap();
    job.resume("cli", now(9_001)).unwrap();
    assert_eq!((submit(&mut job, 9_001), submit(&mut job, 9_002)), (1, 0));
    let notices = job.take_unwritten(now(9_002)).notices;
    assert_eq!(notices, [Notice::Started, Notice::Came(JobState::Paused), Notice::Resumed]);
}

#[test]
fn a_cancelled_job_calls_off_what_was_submitted() {
    let mut job = submitted(None);
    job.ended_as(3, State::Succeeded, now(1_001));
    job.cancel("cli", now(1_002)).unwrap();
    for asked in [job.pause("cli", now(3)), job.resume("cli", now(3)), job.cancel("cli", now(3))] {
        assert!(matches!(asked, Err(JobError::Ended { state: JobState::Cancelled, .. })), "{asked:?}");
    }
    assert!(!job.has_ended());
    let call_off = job.take_call_off(now(1_002));
    assert_eq!(call_off.len(), 19);
    job.call_off_later(vec![4], now(1_002));
    assert_eq!((job.take_call_off(now(1_003)).len(), job.next_due()), (0, Some(1_007)));
    assert_eq!(job.take_call_off(now(1_007)), [4]);
    job.came_back(5);
    job.came_back(3);
    assert_eq!(job.take_call_off(now(1_008)), [5], "that one has ended");
    job.take_unwritten(now(1_008));
    for index in call_off {
        job.ended_as(index, State::Cancelled, now(1_009));
    }
    let last = job.take_unwritten(now(1_009));
    assert_eq!((last.notices, last.has_ended), (vec![Notice::Progress], true), "told at once");
    assert!(job.has_ended() && job.next_due().is_none());
}

#[test]
fn a_stopped_job_goes_on_calling_off_after_a_restart() {
    let mut job = submitted(None);
    job.cancel("cli", now(1_001)).unwrap();
    job.ended_as(2, State::Cancelled, now(1_002));
    let mut job = Job::restore(given(20, 20, None), job.moving, job.outcomes);
    assert_eq!((job.state(), job.ended(), job.next_due()), (JobState::Cancelled, 1, Some(0)));
    assert_eq!((job.take_call_off(now(0)).len(), submit(&mut job, 0)), (19, 0));
    (0..20).for_each(|index| job.ended_as(index, State::Cancelled, now(5)));
    assert!(job.take_unwritten(now(5)).has_ended);
    let mut again = Job::restore(given(20, 20, None), job.moving, job.outcomes);
    assert!(!again.take_unwritten(now(9)).has_ended, "it is written down once");
    assert_eq!(again.next_due(), None);
}

#[test]
fn a_job_gives_up_above_its_bound() {
    // (bound, succeeded, then failed, aborted after so many of those)
    let cases = [
        (Some(AbortAbove::Count(0)), 5, 15, Some(1)),
        (Some(AbortAbove::Count(3)), 5, 15, Some(4)),
        (Some(AbortAbove::Percent(50)), 0, 20, Some(10)),
        (Some(AbortAbove::Percent(50)), 8, 12, Some(9)),
        (Some(AbortAbove::Percent(10)), 9, 11, Some(2)),
        (Some(AbortAbove::Percent(100)), 0, 20, None),
        (Some(AbortAbove::Count(20)), 0, 20, None),
        (None, 0, 20, None),
    ];
    for (above, succeeded, failed, expected) in cases {
        let mut job = submitted(above);
        (0..succeeded).for_each(|index| job.ended_as(index, State::Succeeded, now(1_001)));
        let mut aborted = None;
        for n in 0..failed {
            job.ended_as(succeeded + n, State::TimedOut, now(1_002));
            if aborted.is_none() && job.state() == JobState::Aborted {
                aborted = Some(n + 1);
            }
        }
        assert_eq!(aborted, expected, "{above:?}");
        let state = if expected.is_some() { JobState::Aborted } else { JobState::Done };
        assert_eq!((job.state(), job.has_ended()), (state, true), "{above:?}");
    }
}

#[test]
fn batches_are_bounded_in_number_and_bytes() {
    let mut job = Job::new(given(100_000, 100_000, None), now(0));
    submit(&mut job, 0);
    assert_eq!((submit(&mut job, 4), submit(&mut job, 60_000)), (0, 1_000));
    let mut large = given(100_000, 100_000, None);
    large.command.payload = vec![0; 16 * 1024];
    let mut job = Job::new(large, now(0));
    submit(&mut job, 0);
    assert_eq!(submit(&mut job, 60_000), 31);
}

#[test]
fn ten_thousand_a_second_are_kept_with_rounds_of_several_milliseconds() {
    let mut job = Job::new(given(10_000, 10_000, None), now(0));
    let mut at = 0;
    while job.moving.next < 10_000 {
        submit(&mut job, at);
        at += 7;
    }
    assert!((990..=1_020).contains(&at), "{at} ms");
}
