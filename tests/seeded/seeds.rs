//! The runs of a simulation: which seeds, that every promise holds in them, and that each planted bug is seen.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::ops::Range;

/// The promises that a run breaks, each with its story.
pub type Broken = Vec<(&'static str, String)>;

/// Seeds whose runs break a promise after which no more are run.
const BROKEN_MAX: usize = 20;

/// The seeds of a simulation.
pub struct Seeds {
    /// The environment's variable that says how many are run, from the first one on; or which, as in `1000..2000`.
    pub count: &'static str,
    /// The one that names a seed to be run alone.
    pub alone: &'static str,
    /// How many are run where nothing is said.
    pub quick: u64,
    /// Within how many each planted bug must be seen.
    pub to_see: u64,
}

impl Seeds {
    fn chosen(&self) -> Range<u64> {
        match number(self.alone) {
            Some(seed) => seed..seed + 1,
            None => std::env::var(self.count).map_or(0..self.quick, |text| range(&text)),
        }
    }

    /// Fails where a run breaks a promise, with the story of the first one, and the seeds of others.
    pub fn assert_all_hold(&self, run: impl Fn(u64) -> Broken) {
        let mut first = None;
        let mut seeds = Vec::new();
        for seed in self.chosen() {
            if let Some((name, story)) = run(seed).into_iter().next() {
                seeds.push((seed, name));
                first.get_or_insert((seed, name, story));
            }
            if seeds.len() == BROKEN_MAX {
                break;
            }
        }
        if let Some((seed, name, story)) = first {
            panic!("seed {seed} breaks {name} ({}={seed} runs it alone): {story}\nbroken: {seeds:?}", self.alone);
        }
    }

    /// Fails where one of the first `count` seeds has two histories. Says which number each history has: who changes how a simulation is made up,
    /// and not what it does, finds the same ones.
    pub fn assert_always_the_same<H: Debug>(&self, count: u64, run: impl Fn(u64) -> H) {
        for seed in 0..count {
            let number = number_of(&run(seed));
            assert_eq!(number, number_of(&run(seed)), "seed {seed} has two histories");
            eprintln!("seed {seed}: history {number:016x}");
        }
    }

    /// Fails where a bug is not seen by one of the invariants that are named with it, in a seed that holds without it: one that breaks by itself
    /// shows no bug. Says which seed shows each.
    pub fn assert_each_is_seen<B: Copy + Debug>(&self, bugs: &[(B, &[&str])], run: impl Fn(u64, Option<B>) -> Broken) {
        for (bug, names) in bugs {
            let mut seen = BTreeSet::new();
            let found = (0..self.to_see).find(|seed| {
                let broken = run(*seed, Some(*bug));
                seen.extend(broken.iter().map(|(name, _)| *name));
                broken.iter().any(|(name, _)| names.contains(name)) && run(*seed, None).is_empty()
            });
            assert!(found.is_some(), "{bug:?} is not seen by {names:?} but by {seen:?}");
            eprintln!("{bug:?}: seed {found:?}, {seen:?}");
        }
    }
}

/// Fails where something that simulations are to meet was never met: one in which nothing happens proves nothing.
pub fn assert_met(met: &BTreeSet<&str>, wanted: &[&str]) {
    let missing: Vec<_> = wanted.iter().filter(|name| !met.contains(**name)).collect();
    assert!(missing.is_empty(), "{missing:?} are never met: {met:?}");
}

/// A number that stands for a history.
fn number_of(history: &impl Debug) -> u64 {
    let mut hasher = DefaultHasher::new();
    format!("{history:?}").hash(&mut hasher);
    hasher.finish()
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

/// So many seeds from the first one on, or those from one to before another.
fn range(text: &str) -> Range<u64> {
    let seed = |text: &str| text.parse::<u64>().unwrap();
    text.split_once("..").map_or_else(|| 0..seed(text), |(from, to)| seed(from)..seed(to))
}

#[test]
fn a_run_is_of_the_first_seeds_or_of_a_range() {
    assert_eq!(range("40"), 0..40);
    assert_eq!(range("1000..2500"), 1_000..2_500);
}

#[test]
#[should_panic(expected = "is not seen")]
fn a_seed_that_breaks_by_itself_shows_no_bug() {
    let seeds = Seeds { count: "", alone: "", quick: 0, to_see: 5 };
    seeds.assert_each_is_seen(&[((), &["order"])], |seed, bug| match (seed, bug) {
        (3, _) => vec![("order", String::new())],
        _ => Vec::new(),
    });
}
