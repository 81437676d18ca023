//! A command is never written to a connection after its time, as far as the node can know: by true time where its wall
//! clock was not set since, else by the time since it was read first, or since the node came up.

use std::collections::BTreeMap;

use super::Checked;
use crate::simulation::history::{Fact, History};

pub fn check(history: &History) -> Checked {
    let within: BTreeMap<_, _> =
        history.submissions().into_iter().map(|(id, _, queued, at)| (id, queued.deliver_by_ms - at)).collect();
    let (mut submitted, mut read) = (BTreeMap::new(), BTreeMap::new());
    let (mut up_since, mut set_at) = (0, 0);
    for (at, fact) in &history.facts {
        match fact {
            Fact::Submitted(id) => {
                submitted.entry(*id).or_insert(*at);
            }
            Fact::Read(id) => {
                read.entry(*id).or_insert(*at);
            }
            Fact::NodeUp => up_since = *at,
            Fact::WallStep => set_at = *at,
            Fact::Written { id, .. } => {
                let (Some(since), Some(within)) = (submitted.get(id), within.get(id)) else { continue };
                // What was forgotten before the table was built anew is read as if it were new.
                if set_at >= *since && history.forgets {
                    continue;
                }
                let from =
                    if set_at >= *since { read.get(id).copied().unwrap_or(*since).max(up_since) } else { *since };
                if at.saturating_sub(from) > *within {
                    return Err(format!(
                        "{id} was written {} ms after its time\n{}",
                        at - from - within,
                        history.story(*id)
                    ));
                }
            }
            _ => {}
        }
    }
    Ok(())
}
