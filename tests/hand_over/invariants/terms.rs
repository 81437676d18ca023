//! A command is under one term with one node; each hand-over has a higher term than the one before; and nobody takes a command that is not on its
//! way to it, durably, or left by a node that it takes over.

use std::collections::{BTreeMap, BTreeSet};

use devices::command::{CommandId, OriginHex, Step};

use super::Checked;
use crate::hand_over::history::{Fact, History};
use crate::hand_over::log::{node_of, origin};

pub fn check(history: &History) -> Checked {
    let mut holders: BTreeMap<(CommandId, u64), usize> = BTreeMap::new();
    let mut highest: BTreeMap<(usize, CommandId), u64> = BTreeMap::new();
    let mut moving: BTreeSet<(usize, CommandId, usize, u64)> = BTreeSet::new();
    let mut taken_over: BTreeSet<(usize, usize)> = BTreeSet::new();
    for (at, fact) in &history.facts {
        let (node, event) = match fact {
            Fact::TakenOver { lost, by, .. } => {
                taken_over.insert((*lost, *by));
                continue;
            }
            Fact::Step { node, event, .. } => (*node, event),
            _ => continue,
        };
        let id = event.id;
        let wrong = |what: String| Err(format!("{at}: {node}: {id} {what}\n{}", history.story(id)));
        match &event.step {
            Step::Queued(queued) => {
                let Some(taken) = &queued.taken else { continue };
                let from = node_of(sled_data::OriginId(taken.from.0));
                let is_given = moving.contains(&(from, id, node, taken.term));
                if !is_given && !taken_over.contains(&(from, node)) {
                    return wrong(format!("is taken under {} from {from}, who has not handed it over", taken.term));
                }
                if let Some(other) = holders.insert((id, taken.term), node).filter(|other| *other != node) {
                    return wrong(format!("is taken under {}, as it was by {other}", taken.term));
                }
            }
            Step::Moving { to: OriginHex(to), term } => {
                if highest.insert((node, id), *term).is_some_and(|before| before >= *term) {
                    return wrong(format!("is handed over under {term}, as it was before"));
                }
                moving.insert((node, id, node_of(sled_data::OriginId(*to)), *term));
            }
            _ => {}
        }
    }
    debug_assert_eq!(node_of(origin(1)), 1);
    Ok(())
}
