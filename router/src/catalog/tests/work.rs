//! Who works on what: the bounds of what is remembered, and what is forgotten.

use super::*;
use crate::catalog::change::Terms;

fn terms(index: u64) -> Terms {
    Terms { at_ms: 1_000, index, devices_max: 10, bytes_max: 1 << 20 }
}

/// Makes a change; the code of its refusal otherwise.
fn make(state: &mut State, change: &Change, index: u64) -> Result<(), &'static str> {
    let applied = change.judge(state, &terms(index)).map_err(|refusal| refusal.code())?;
    applied.writes.iter().for_each(|write| state.apply(write));
    Ok(())
}

/// A site of nodes 1 and 2 at the newest level.
fn site() -> State {
    let mut state = State::default();
    state.apply(&Write::Level(LEVEL_MAX));
    for id in 1..=2 {
        make(&mut state, &site::member(id), 1).unwrap();
    }
    state
}

fn taken(origin: u64, term: u64) -> Change {
    Change::TakeOver { origin, from_commit: 1, by: NodeId(1), term }
}

fn assigned(plugin: &str, partition: u32, term: u64) -> Change {
    Change::SetAssignment { plugin: plugin.into(), partition, node: NodeId(1), term }
}

fn deployed(name: &str) -> Change {
    Change::DeployPlugin(NewPlugin {
        name: name.into(),
        manifest: "m".into(),
        is_guard: false,
        sha256: [7; 32],
        bytes: 300,
    })
}

#[test]
fn a_full_book_says_so_and_takes_what_is_in_it() {
    let mut state = site();
    for origin in 0..TAKE_OVERS_MAX as u64 {
        make(&mut state, &taken(1_000 + origin, 1), 1).unwrap();
    }
    assert_eq!(make(&mut state, &taken(7, 1), 1), Err("too-many-take-overs"));
    assert_eq!(make(&mut state, &taken(1_000, 3), 1), Ok(()), "one that is in it is decided anew");
    assert_eq!(make(&mut state, &Change::ForgetOrigin { origin: 1_001, term: 1 }, 1), Ok(()));
    assert_eq!(make(&mut state, &taken(7, 1), 1), Ok(()), "there is room again");

    let numbers = crate::event_log::PARTITIONS_MAX as usize;
    for number in 0..ASSIGNMENTS_MAX {
        let plugin = format!("p{}", number / numbers);
        make(&mut state, &assigned(&plugin, (number % numbers) as u32, 1), 1).unwrap();
    }
    assert_eq!(make(&mut state, &assigned("q", 0, 1), 1), Err("too-many-assignments"));
    assert_eq!(make(&mut state, &Change::ForgetAssignments { plugin: "p0".into() }, 1), Ok(()));
    assert_eq!(state.assignments().count(), ASSIGNMENTS_MAX - numbers);
    assert_eq!(make(&mut state, &assigned("q", 0, 1), 1), Ok(()));
}

#[test]
fn what_is_needed_is_not_forgotten() {
    let mut state = site();
    let forget = |origin, term| Change::ForgetOrigin { origin, term };
    make(&mut state, &taken(50, 1), 1).unwrap();
    make(&mut state, &taken(2, 1), 1).unwrap();
    assert_eq!(make(&mut state, &forget(9, 1), 1), Err("not-taken-over"));
    assert_eq!(make(&mut state, &forget(50, 3), 1), Err("stale-term"), "it was decided anew meanwhile");
    // Node 2 writes origin 2.
    assert_eq!(make(&mut state, &forget(2, 1), 1), Err("origin-lives"));
    assert_eq!(make(&mut state, &forget(50, 1), 1), Ok(()));
    assert!(state.take_over(50).is_none() && state.take_over(2).is_some());

    let forget = Change::ForgetAssignments { plugin: "p".into() };
    assert_eq!(make(&mut state, &forget, 2), Err("not_found"));
    make(&mut state, &deployed("p"), 2).unwrap();
    make(&mut state, &assigned("p", 0, 2), 3).unwrap();
    assert_eq!(make(&mut state, &forget, 4), Err("plugin-deployed"));
    make(&mut state, &Change::RemovePlugin { name: "p".into() }, 5).unwrap();
    assert_eq!(make(&mut state, &forget, 6), Ok(()));
    let mut back = State::default();
    state.all().for_each(|write| back.apply(&write));
    assert_eq!((back.assignments().count(), back.take_overs().count()), (0, 1));
}

#[test]
fn a_name_that_comes_back_begins_above_what_was_forgotten() {
    let mut state = site();
    make(&mut state, &deployed("p"), 10).unwrap();
    assert_eq!(make(&mut state, &assigned("p", 0, 9), 11), Err("stale-term"), "below the change that deployed it");
    for (index, term) in [(12, 10), (13, 11), (14, 12)] {
        assert_eq!(make(&mut state, &assigned("p", 0, term), index), Ok(()));
    }
    make(&mut state, &Change::RemovePlugin { name: "p".into() }, 15).unwrap();
    make(&mut state, &Change::ForgetAssignments { plugin: "p".into() }, 16).unwrap();
    make(&mut state, &deployed("p"), 17).unwrap();
    assert_eq!(make(&mut state, &assigned("p", 0, 13), 18), Err("stale-term"));
    assert_eq!(make(&mut state, &assigned("p", 0, 17), 18), Ok(()));

    // As earlier programs judge it.
    let mut older = State::default();
    make(&mut older, &site::member(1), 1).unwrap();
    make(&mut older, &deployed("p"), 10).unwrap();
    assert_eq!(make(&mut older, &assigned("p", 0, 1), 11), Ok(()));
}

#[test]
fn nobody_goes_whose_log_nobody_who_stays_reads_on() {
    let by = |origin, by, term| Change::TakeOver { origin, from_commit: 1, by: NodeId(by), term };
    let origin = |origin| MemberUpdate { origin: Some(origin), ..MemberUpdate::default() };
    let gone = |id| Change::RemoveMember { node: NodeId(id) };
    let leaves = |id| site::set_state(id, MemberState::Leaving);
    // What came before, who goes then, and what that comes to.
    let cases: [(&str, &[Change], u64, Result<(), &str>); 10] = [
        ("nobody was chosen", &[], 3, Err("no-heir")),
        ("one that stays was", &[by(3, 2, 1)], 3, Ok(())),
        ("itself was", &[by(3, 3, 1)], 3, Err("no-heir")),
        ("who was chosen leaves", &[by(3, 2, 1), leaves(2)], 3, Err("no-heir")),
        ("and another one was", &[by(3, 2, 1), leaves(2), by(3, 1, 3)], 3, Ok(())),
        ("each chose the other, and one has gone", &[by(3, 2, 1), by(2, 3, 1), gone(3)], 2, Err("no-heir")),
        ("each chose the other, and both leave", &[by(3, 2, 1), by(2, 3, 1), leaves(3), leaves(2)], 3, Err("no-heir")),
        ("it was given back", &[by(3, 2, 1), Change::GiveBack { origin: 3, term: 1 }], 3, Ok(())),
        (
            "it lives another life",
            &[by(3, 2, 1), Change::UpdateMember { node: NodeId(3), update: origin(33) }],
            3,
            Err("no-heir"),
        ),
        ("of which one was chosen", &[by(3, 2, 1), by(33, 2, 1)], 3, Ok(())),
    ];
    for level in [3, LEVEL_MAX] {
        for (case, before, goes, expected) in &cases {
            let mut state = site();
            make(&mut state, &site::member(3), 1).unwrap();
            state.apply(&Write::Level(level));
            for change in *before {
                assert_eq!(make(&mut state, change, 2), Ok(()), "{case}: {change:?}");
            }
            // As earlier programs judge it.
            let expected = if level < LEVEL_MAX { Ok(()) } else { *expected };
            assert_eq!(make(&mut state, &gone(*goes), 3), expected, "{case}, level {level}");
        }
    }
}
