//! In good weather each link brings over all that its edge has.

use super::Checked;
use crate::chain::history::History;

pub fn check(history: &History) -> Checked {
    for (from, to) in &history.links {
        let (edge, upstream) = (&history.sites[*from], &history.sites[*to]);
        for (partition, here) in &edge.partitions {
            let passed = here.path.as_ref().is_some_and(|path| path.contains(&upstream.id));
            if passed || upstream.origins.contains(&partition.origin) || history.doubtful.contains(&partition.origin) {
                continue;
            }
            let there = upstream.partitions.get(partition).cloned().unwrap_or_default();
            let differ = here.holes.is_empty() && there.holes.is_empty() && here.digest != there.digest;
            if there.end < here.end || there.end == here.end && differ {
                return Err(format!(
                    "{partition} ends at {} at site {from} and at {} at site {to}",
                    here.end, there.end
                ));
            }
        }
    }
    Ok(())
}
