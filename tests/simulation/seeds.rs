//! The runs of a simulation: which seeds, that every promise holds in them, and that each planted bug is seen.

use std::collections::BTreeSet;
use std::fmt::Debug;
use std::ops::Range;

/// The promises that a run breaks, each with its story.
pub type Broken = Vec<(&'static str, String)>;

/// The seeds of a simulation.
pub struct Seeds {
    /// The environment's variable that says how many are run.
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
            None => 0..number(self.count).unwrap_or(self.quick),
        }
    }

    /// Fails at the first seed whose run breaks a promise.
    pub fn assert_all_hold(&self, run: impl Fn(u64) -> Broken) {
        for seed in self.chosen() {
            if let Some((name, story)) = run(seed).first() {
                panic!("seed {seed} breaks {name} ({}={seed} runs it alone): {story}", self.alone);
            }
        }
    }

    /// Fails where a bug is not seen by one of the invariants that are named with it. Says which seed shows each.
    pub fn assert_each_is_seen<B: Copy + Debug>(&self, bugs: &[(B, &[&str])], run: impl Fn(u64, B) -> Broken) {
        for (bug, names) in bugs {
            let mut seen = BTreeSet::new();
            let found = (0..self.to_see).find(|seed| {
                let broken = run(*seed, *bug);
                seen.extend(broken.iter().map(|(name, _)| *name));
                broken.iter().any(|(name, _)| names.contains(name))
            });
            assert!(found.is_some(), "{bug:?} is not seen by {names:?} but by {seen:?}");
            eprintln!("{bug:?}: seed {found:?}, {seen:?}");
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}
