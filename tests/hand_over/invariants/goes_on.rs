//! What a lost node has left is taken up soon by who was decided to do it, where that one goes on and the lost one does not come back.

use super::Checked;
use crate::hand_over::history::{Fact, History};

/// The longest time that it may take, in milliseconds.
const TAKEN_UP_MS: u64 = 3_000;

pub fn check(history: &History) -> Checked {
    for (place, (at, fact)) in history.facts.iter().enumerate() {
        let Fact::TakenOver { lost, by, term } = fact else { continue };
        let mut is_over = false;
        for (later, fact) in &history.facts[place..] {
            let is_done =
                matches!(fact, Fact::TakenUp { lost: l, by: b, term: t } if (l, b) == (lost, by) && t >= term);
            let is_excused = match fact {
                Fact::Up { node } => node == lost,
                Fact::Down { node } => node == by,
                Fact::Weather { node, what } => node == by && what.starts_with("its disk is"),
                Fact::Heard { node } => node == lost,
                _ => false,
            };
            if is_done || is_excused {
                is_over = true;
                break;
            }
            if *later > at + TAKEN_UP_MS {
                break;
            }
        }
        if !is_over && history.time > at + TAKEN_UP_MS {
            return Err(format!("{at}: {by} does not take up what {lost} has left under {term}"));
        }
    }
    Ok(())
}
