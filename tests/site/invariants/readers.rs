//! Invariant 4, in one node: a reader's count and its cursor are of one commit, so each event is counted once, or told
//! to be gone.

use super::Checked;
use crate::site::history::{Held, History};
use crate::site::life::Life;
use crate::site::world::{READER, Tally};

pub fn check(history: &History) -> Checked {
    for (at, held) in history.held().filter(|(_, held)| held.own.is_some()) {
        if let Some(what) = wrong(history, held) {
            return Err(format!("{at}: the reader of {}: {what}\n{}", held.node, history.story()));
        }
    }
    Ok(())
}

fn wrong(history: &History, held: &Held) -> Option<String> {
    let cursors =
        held.cursors.iter().filter(|((reader, id), _)| reader == READER && !history.deleted.contains(&id.topic));
    for ((_, id), next) in cursors {
        let Some(bytes) = held.state.get(&(READER.to_owned(), id.to_bytes().to_vec())) else {
            return Some(format!("it has a cursor in {id} and no count"));
        };
        let tally = Tally::decode(bytes);
        let gone: u64 = tally.gaps.iter().map(|(from, to)| to - from).sum();
        if tally.count + gone != *next {
            return Some(format!("its cursor in {id} is {next}, its count {tally:?}"));
        }
        // Where a source has let go all that a fork could be told by, it cannot be seen: there is a gap between the two.
        let may_be_two = history.doubtful.contains(&id.origin) && !tally.gaps.is_empty();
        if !may_be_two && !history.lives_of(id.origin).any(|life| sum(life, *id, *next, &tally) == tally.sum) {
            return Some(format!("it counted other events of {id} than were written up to {next}: {tally:?}"));
        }
    }
    None
}

/// The sum of the events' numbers before an offset, without those in gaps.
fn sum(life: &Life, id: sled_data::PartitionId, next: u64, tally: &Tally) -> u64 {
    let pieces = life.commits.iter().flat_map(|commit| &commit.pieces).filter(|piece| piece.partition == id);
    let events = pieces.flat_map(|piece| (piece.base..).zip(&piece.events));
    let counted = events
        .filter(|(offset, _)| *offset < next && !tally.gaps.iter().any(|(from, to)| (*from..*to).contains(offset)));
    counted.fold(0, |sum, (_, event)| sum.wrapping_add(*event))
}
