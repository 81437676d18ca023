//! Commands hear whenever links have changed: what waits for a site whose link is removed is over.

use std::sync::Arc;

use super::LinkNode;
use crate::commands::Commands;

impl LinkNode {
    /// Says so to the room of commands, once at the start, and whenever the links that are agreed on are others. Goes on for as long as the node runs.
    pub async fn tell_commands(self: Arc<Self>, commands: Arc<Commands>) {
        let (mut changed, mut told) = (self.catalog.watch(), None);
        loop {
            changed.borrow_and_update();
            let links = Some(self.catalog.links());
            if links != told {
                commands.links_changed();
                told = links;
            }
            if changed.changed().await.is_err() {
                return;
            }
        }
    }
}
