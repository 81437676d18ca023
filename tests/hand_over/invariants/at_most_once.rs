//! A command is not given to a device twice unless its policy allows it, whichever nodes had it: one that must not be repeated is written to one
//! connection at most, and a device that refuses repeats does each once.

use std::collections::BTreeMap;

use devices::command::{CommandId, Repeat};

use super::Checked;
use crate::hand_over::history::{Fact, History};

pub fn check(history: &History) -> Checked {
    let submissions = history.submissions();
    let is_never = |id: &CommandId| submissions.get(id).is_some_and(|queued| queued.repeat == Repeat::Never);
    let mut done = BTreeMap::new();
    for (id, device) in history.executions() {
        let count: &mut u32 = done.entry(id).or_default();
        *count += 1;
        if *count > 1 && (history.devices[device].is_strict || is_never(&id)) {
            return Err(format!("{id} was done twice\n{}", history.story(id)));
        }
    }
    let mut written = BTreeMap::new();
    for (_, fact) in &history.facts {
        let Fact::Written { id, .. } = fact else { continue };
        let count: &mut u32 = written.entry(*id).or_default();
        *count += 1;
        // To one that is known to refuse repeats it may be sent again.
        if *count > 1 && is_never(id) && !goes_to_strict(history, id) {
            return Err(format!("{id} was written twice\n{}", history.story(*id)));
        }
    }
    Ok(())
}

fn goes_to_strict(history: &History, id: &CommandId) -> bool {
    let device = history.facts.iter().find_map(|(_, fact)| match fact {
        Fact::Step { device, event, .. } if event.id == *id => device.strip_prefix("device-")?.parse::<usize>().ok(),
        _ => None,
    });
    device.is_some_and(|device| history.devices[device].is_strict)
}
