//! Nothing comes back to a site that it has been at.

use super::Checked;
use crate::chain::history::History;

pub fn check(history: &History) -> Checked {
    for ended in &history.sites {
        for (partition, held) in &ended.partitions {
            let Some(path) = &held.path else { continue };
            if path.contains(&ended.id) || ended.origins.contains(&partition.origin) {
                return Err(format!("{partition} came back to site {} by {path:?}", ended.id));
            }
            let mut once = path.clone();
            once.sort_unstable();
            once.dedup();
            if once.len() != path.len() {
                return Err(format!("{partition} has passed a site twice: {path:?}"));
            }
        }
    }
    Ok(())
}
