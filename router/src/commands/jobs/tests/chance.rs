//! A job and its store by chance: restarts and failed commits at any moment, and every device has its turn once.

use std::collections::{BTreeMap, BTreeSet};

use devices::command::State;
use proptest::prelude::*;

use super::one::{given, id, now};
use crate::commands::jobs::job::Job;
use crate::commands::jobs::record::{self, OUTCOMES_CHUNK};
use crate::commands::jobs::terms::{JobState, OUTCOMES};

/// What is durable: the stored parts, and the log's submissions and outcomes.
#[derive(Default, Clone)]
struct Durable {
    moving: Vec<u8>,
    parts: BTreeMap<u32, Vec<u8>>,
    submitted: Vec<u32>,
    ended: BTreeMap<u32, State>,
}

const TOTAL: u32 = 1_200;

struct World {
    durable: Durable,
    job: Job,
    at: u64,
}

impl World {
    fn new() -> Self {
        let mut world = Self { durable: Durable::default(), job: Job::new(given(TOTAL, 5_000, None), now(0)), at: 0 };
        world.round(&[], true);
        world
    }

    /// One round: these commands end as said, what is due is submitted, and the commit is stored, or not.
    fn round(&mut self, ends: &[(usize, usize)], is_stored: bool) {
        self.at += 20;
        let mut next = self.durable.clone();
        let under_way: Vec<u32> = next.submitted.iter().copied().filter(|i| !next.ended.contains_key(i)).collect();
        for (which, how) in ends {
            let Some(index) = under_way.get(which % under_way.len().max(1)).copied() else { continue };
            let outcome = OUTCOMES[how % OUTCOMES.len()];
            if next.ended.contains_key(&index) {
                continue;
            }
            next.ended.insert(index, outcome);
            self.job.ended_as(index, outcome, now(self.at));
        }
        let due = self.job.due(now(self.at));
        self.job.submitted(due.end - due.start, now(self.at));
        next.submitted.extend(due);
        let unwritten = self.job.take_unwritten(now(self.at));
        if unwritten.moving {
            next.moving = record::encode_moving(&self.job.moving);
        }
        for number in unwritten.chunks {
            next.parts.insert(number, record::encode_outcomes(&self.job.outcomes, number));
        }
        if is_stored {
            self.durable = next;
        } else {
            self.restart();
        }
    }

    fn restart(&mut self) {
        let moving = record::decode_moving(&self.durable.moving);
        let mut outcomes = vec![0; TOTAL as usize];
        for (number, part) in &self.durable.parts {
            let from = (number * OUTCOMES_CHUNK) as usize;
            let part = record::decode_outcomes(part).unwrap();
            outcomes[from..from + part.len()].copy_from_slice(part);
        }
        self.job = match moving {
            Some(moving) => Job::restore(given(TOTAL, 5_000, None), moving, outcomes),
            None => Job::new(given(TOTAL, 5_000, None), now(self.at)),
        };
    }

    fn check(&self) -> Result<(), TestCaseError> {
        let once: BTreeSet<u32> = self.durable.submitted.iter().copied().collect();
        prop_assert_eq!(once.len(), self.durable.submitted.len(), "each once");
        prop_assert_eq!(self.job.moving.next as usize, once.len(), "none is left out");
        prop_assert_eq!(self.job.ended() as usize, self.durable.ended.len());
        for (place, outcome) in OUTCOMES.iter().enumerate() {
            let expected = self.durable.ended.values().filter(|ended| *ended == outcome).count();
            prop_assert_eq!(self.job.counts[place] as usize, expected, "{:?}", outcome);
        }
        Ok(())
    }
}

#[derive(Debug, Clone)]
enum Move {
    Round(Vec<(usize, usize)>),
    FailedCommit(Vec<(usize, usize)>),
    Restart,
    Pause,
    Resume,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let ends = || prop::collection::vec((any::<usize>(), any::<usize>()), 0..60);
    let one = prop_oneof![
        8 => ends().prop_map(Move::Round),
        2 => ends().prop_map(Move::FailedCommit),
        2 => Just(Move::Restart),
        1 => Just(Move::Pause),
        2 => Just(Move::Resume),
    ];
    prop::collection::vec(one, 0..60)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn every_device_has_its_turn_once_and_every_outcome_counts_once(moves in moves()) {
        let mut world = World::new();
        for step in moves {
            match step {
                Move::Round(ends) => world.round(&ends, true),
                Move::FailedCommit(ends) => world.round(&ends, false),
                Move::Restart => world.restart(),
                Move::Pause => drop(world.job.pause("cli", now(world.at))),
                Move::Resume => drop(world.job.resume("cli", now(world.at))),
            }
            // What was said of a pause is in no commit before the next round.
            world.round(&[], true);
            world.check()?;
        }
        let _ = world.job.resume("cli", now(world.at));
        for n in 0..TOTAL as usize {
            let ends: Vec<(usize, usize)> = (0..60).map(|m| (m * n, m)).collect();
            world.round(&ends, true);
            if world.job.state() == JobState::Done {
                break;
            }
        }
        world.check()?;
        prop_assert_eq!((world.job.state(), world.job.ended(), world.job.given.id), (JobState::Done, TOTAL, id()));
    }
}
