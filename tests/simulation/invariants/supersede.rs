//! A set-point is never done after one that took its place, on a device with one connection.

use std::collections::BTreeMap;

use super::Checked;
use crate::simulation::history::History;

pub fn check(history: &History) -> Checked {
    let submissions = history.submissions();
    let mut keys = BTreeMap::new();
    for (place, (id, device, queued, _)) in (0..).zip(&submissions) {
        if let Some(key) = &queued.supersede {
            keys.insert(*id, (place, (*device, key.as_str())));
        }
    }
    let mut newest: BTreeMap<(&str, &str), usize> = BTreeMap::new();
    for (_, id, device) in history.executions() {
        let Some((place, key)) = keys.get(&id).filter(|_| history.devices[device].is_single) else { continue };
        let done = newest.entry(*key).or_insert(*place);
        if *done > *place {
            let other = submissions[*done].0;
            return Err(format!(
                "{id} was done after its successor {other}\n{}\n{}",
                history.story(id),
                history.story(other)
            ));
        }
        *done = *place;
    }
    Ok(())
}
