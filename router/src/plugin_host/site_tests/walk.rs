//! A random walk of losses, returns, restarts and carried commits; at its end every event was counted once.

use super::lab::Lab;

/// Walks of each scope.
const WALKS: u64 = 30;
/// Of lives that end, in a site of this size.
const WENT_WRONG: [u64; 10] = [211, 231, 253, 263, 342, 348, 428, 532, 611, 853];
const STEPS: usize = 120;
const NODES: usize = 3;

/// Numbers that look random, the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.0 >> 33) as usize) % n
    }
}

fn step(lab: &mut Lab, dice: &mut Dice, told: &mut Vec<String>, kills: bool) {
    let (node, other, what) = (dice.below(NODES), dice.below(NODES), dice.below(if kills { 21 } else { 20 }));
    let here = (0..NODES).filter(|node| lab.is_here(*node)).count();
    match what {
        0 => {
            told.push("an event asks for state".to_owned());
            lab.publish_get(dice.below(1_000));
        }
        1..5 => {
            told.push(format!("{node} gets events"));
            let count = 1 + dice.below(3);
            lab.publish_new(node, count);
        }
        5..9 => {
            told.push(format!("{node} works"));
            lab.round(node);
        }
        9..15 if node != other && lab.is_here(node) && lab.is_here(other) => {
            let (of, count) = (dice.below(NODES), 1 + dice.below(4));
            told.push(format!("{count} commits of {of} from {node} to {other}"));
            let lives = &lab.lives[of];
            let life = if kills { lives[dice.below(lives.len())] } else { lives[0] };
            lab.carry(life, node, other, count);
        }
        20 => {
            told.push(format!("{node} is killed"));
            lab.is_killed(node);
        }
        15 => {
            told.push(format!("{node} starts anew"));
            lab.restart(node);
        }
        19 if lab.is_here(node) => {
            let commits = dice.below(3);
            told.push(format!("{node} dies taking up, after {commits} commits"));
            lab.crash_while_taking_up(node, commits);
        }
        16 | 17 if here > 1 && node != other && lab.is_here(node) && lab.is_here(other) => {
            told.push(format!("{node} is lost, {other} takes over"));
            lab.lose(node, other);
        }
        18 | 19 if !lab.is_here(node) => {
            told.push(format!("{node} is back"));
            lab.comes_back(node);
        }
        _ => {
            told.push(format!("{node} reads"));
            if lab.is_here(node) {
                lab.poll(node);
            }
        }
    }
}

fn walk(seed: u64, scope: &'static str, kills: bool) {
    println!("seed {seed}, {scope}, kills: {kills}");
    let mut lab = Lab::new(NODES, scope);
    let mut dice = Dice(seed);
    let mut told = Vec::new();
    if scope == "site" {
        (0..2).for_each(|index| lab.assign(index, index as usize));
    }
    for _ in 0..STEPS {
        step(&mut lab, &mut dice, &mut told, kills);
        if scope == "site" && dice.below(10) == 0 {
            let (index, node) = (dice.below(2) as u32, dice.below(NODES));
            if lab.is_here(node) {
                told.push(format!("share {index} goes to {node}"));
                lab.assign(index, node);
            }
        }
    }
    for node in 0..NODES {
        if !lab.is_here(node) {
            lab.comes_back(node);
        }
    }
    lab.settle();
    lab.settle();
    for node in 0..NODES {
        let wrong = [lab.miscounted(node), lab.miscounted_anew(node)];
        if let Some((value, _)) = wrong.iter().flatten().next() {
            let story: Vec<Vec<String>> = (0..NODES).map(|node| lab.story(node, value)).collect();
            panic!("seed {seed}, {scope}: {told:#?}\nnode {node}, as it came and anew: {wrong:?}\n{story:#?}");
        }
    }
    lab.assert_exact();
}

/// The first walks and those that once went wrong; or from the one on that `CHARGES_SEED` names, that one alone or as many as `CHARGES_WALKS` says.
fn seeds() -> Vec<u64> {
    let told = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    let walks = told("CHARGES_WALKS");
    match told("CHARGES_SEED") {
        Some(seed) => (seed..seed + walks.unwrap_or(1)).collect(),
        None => (1..=walks.unwrap_or(WALKS)).chain(WENT_WRONG).collect(),
    }
}

#[test]
fn every_event_counts_once_whatever_happens_to_origins() {
    seeds().into_iter().for_each(|seed| walk(seed, "origin", false));
}

#[test]
fn every_event_counts_once_whatever_happens_to_lives() {
    seeds().into_iter().for_each(|seed| walk(seed, "origin", true));
}

#[test]
fn every_event_counts_once_whatever_happens_to_shares() {
    seeds().into_iter().for_each(|seed| walk(seed, "site", false));
}
