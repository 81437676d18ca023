//! Random work on three nodes: one writes, one follows it, and a third follows either, with power cuts on all of them, damage on the way,
//! and copies in the midst; everything against a plain model. `FOLLOW_SEED` repeats one run.
#![allow(clippy::unwrap_used)]

#[path = "../harness/mod.rs"]
mod harness;
mod node;
mod source;

use std::sync::Arc;

use node::Node;
use sled_data::{MemoryBackend, Options, Store};
use source::Source;

/// A small generator of numbers.
pub struct Dice(u64);

impl Dice {
    /// A number below `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        harness::next(&mut self.0) % n
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// A place that keeps a store: how it is opened, and how its power is cut.
pub struct Place {
    open: Box<dyn Fn() -> Store>,
    cut: Box<dyn Fn(u64)>,
}

impl Place {
    fn memory(options: Options) -> Place {
        let memory = MemoryBackend::new();
        let cut = memory.clone();
        let open = move || Store::on(Arc::new(memory.clone()), options.clone()).unwrap().0;
        let cut = move |share| cut.power_cut(cut.unsynced_writes() * share as usize / 255);
        Place { open: Box::new(open), cut: Box::new(cut) }
    }

    fn sled(options: Options) -> Place {
        let folder = tempfile::tempdir().unwrap();
        let open = move || Store::open(folder.path(), options.clone()).unwrap().0;
        Place { open: Box::new(open), cut: Box::new(|_| {}) }
    }

    /// Opens it.
    pub fn open(&self) -> Store {
        (self.open)()
    }

    /// Ends the process and the power: this share, in 255ths, of the unsynced writes stays.
    pub fn cut(&self, share: u64) {
        (self.cut)(share);
    }
}

fn options(seed: u64, commit_records_max: usize) -> Options {
    Options { seed: Some(seed), commit_records_max, ..Options::default() }
}

fn run(seed: u64, steps: u64, place: fn(Options) -> Place) {
    println!("FOLLOW_SEED={seed}");
    let mut dice = Dice(seed);
    let mut source = Source::new(place(options(seed, 25)));
    let mut nodes = [Node::new(place(options(seed + 1, 15))), Node::new(place(options(seed + 2, 100)))];
    for _ in 0..steps {
        match dice.below(10) {
            0..4 => source.step(&mut dice, &nodes),
            4..7 => nodes[0].step(&mut dice, &source, &[source.store()]),
            _ => {
                let (first, third) = nodes.split_at_mut(1);
                third[0].step(&mut dice, &source, &[source.store(), first[0].store()]);
            }
        }
    }
    source.store().sync().unwrap();
    nodes[0].catch_up(&mut dice, &source, &[source.store()]);
    let (first, third) = nodes.split_at_mut(1);
    third[0].catch_up(&mut dice, &source, &[source.store(), first[0].store()]);
    for node in &nodes {
        node.check_equal(&source);
    }
}

/// The seeds of a run: one if it is named.
fn seeds(first: u64, number: u64) -> Vec<u64> {
    match std::env::var("FOLLOW_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => vec![seed],
        None => (first..first + number).collect(),
    }
}

#[test]
fn who_follows_on_memory_has_what_was_written() {
    for seed in seeds(1, 150) {
        run(seed, 400, Place::memory);
    }
}

#[test]
fn who_follows_on_sled_has_what_was_written() {
    for seed in seeds(1_000, 4) {
        run(seed, 250, Place::sled);
    }
}
