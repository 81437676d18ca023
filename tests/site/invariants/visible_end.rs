//! Invariant 3: no reader sees past the visible end, and what was seen stays.

use super::Checked;
use crate::site::history::{Fact, History};
use crate::site::life::Life;

pub fn check(history: &History) -> Checked {
    for (at, fact) in &history.facts {
        if let Fact::Shown { node, place, support } = fact
            && support.durable.len() + support.lied.len() < support.asked
        {
            return Err(format!("{at}: {node} showed {place:?}, {support:?}\n{}", history.story()));
        }
        let Fact::Seen { node, partition, from, events } = fact else { continue };
        if !history.lives_of(partition.origin).any(|life| holds(life, fact)) {
            return Err(format!(
                "{at}: {node} saw {events:?} in {partition} from {from}, and they went\n{}",
                history.story()
            ));
        }
    }
    Ok(())
}

fn holds(life: &Life, fact: &Fact) -> bool {
    let Fact::Seen { partition, from, events, .. } = fact else { return true };
    let mut left = events.as_slice();
    let mut next = *from;
    for piece in life.commits.iter().flat_map(|commit| &commit.pieces).filter(|piece| piece.partition == *partition) {
        let Some(first) = left.first() else { return true };
        let Some(skip) = next.checked_sub(piece.base).and_then(|skip| usize::try_from(skip).ok()) else { return false };
        let Some(here) = piece.events.get(skip..) else { continue };
        let count = here.len().min(left.len());
        if count > 0 && (here[0] != *first || here[..count] != left[..count]) {
            return false;
        }
        left = &left[count..];
        next += count as u64;
    }
    left.is_empty()
}
