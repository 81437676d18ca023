//! What a lost node has left is taken up soon by who was decided to do it, where that one goes on and the lost one does not come back.

use super::Checked;
use crate::hand_over::history::{Fact, History};

/// The longest time that it may take, in milliseconds.
const TAKEN_UP_MS: u64 = 3_000;
/// Facts of a story, before and after.
const STORY_FACTS: usize = 60;
/// What is told of a disk begins so.
const DISK: &str = "its disk is";

pub fn check(history: &History) -> Checked {
    for (place, (at, fact)) in history.facts.iter().enumerate() {
        let Fact::TakenOver { lost, by, term } = fact else { continue };
        let mut is_over = has_bad_disk(&history.facts[..place], *by);
        for (later, fact) in &history.facts[place..] {
            let is_done =
                matches!(fact, Fact::TakenUp { lost: l, by: b, term: t } if (l, b) == (lost, by) && t >= term);
            let is_excused = match fact {
                Fact::Up { node } => node == lost,
                Fact::Down { node } => node == by,
                Fact::Weather { node, what } => node == by && is_bad(what),
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
            let (from, to) = (place.saturating_sub(STORY_FACTS), (place + STORY_FACTS).min(history.facts.len()));
            let story: Vec<_> = history.facts[from..to].iter().map(|(at, fact)| format!("  {at} {fact:?}")).collect();
            let story = story.join("\n");
            return Err(format!("{at}: {by} does not take up what {lost} has left under {term}\n{story}"));
        }
    }
    Ok(())
}

/// Whether a node's disk was full or slow at last.
fn has_bad_disk(facts: &[(u64, Fact)], of: usize) -> bool {
    let last = facts.iter().rev().find_map(|(_, fact)| match fact {
        Fact::Weather { node, what } if *node == of && what.starts_with(DISK) => Some(is_bad(what)),
        _ => None,
    });
    last.unwrap_or(false)
}

fn is_bad(what: &str) -> bool {
    what.starts_with(DISK) && what != "its disk is well"
}
