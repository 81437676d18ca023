//! Who keeps a cursor sees each event once, in order, and all that is there: none that came behind what it had passed.

use super::Checked;
use crate::chain::history::History;

pub fn check(history: &History) -> Checked {
    for ((site, partition), read) in &history.read {
        let in_order = read.seen.windows(2).all(|pair| pair[0].0 < pair[1].0);
        if !in_order {
            return Err(format!("site {site}: {partition} was not read in order, or twice: {:?}", read.seen));
        }
        let Some(held) = history.sites[*site].partitions.get(partition) else { continue };
        if read.next < held.end {
            return Err(format!("site {site}: a reader of {partition} stands at {} of {}", read.next, held.end));
        }
        let missed = held.events.iter().find(|(at, event)| *at >= read.from && !read.seen.contains(&(*at, *event)));
        if let Some((at, event)) = missed {
            return Err(format!(
                "site {site}: a reader of {partition} has passed {at}, which is event {event}, and not seen it"
            ));
        }
    }
    Ok(())
}
