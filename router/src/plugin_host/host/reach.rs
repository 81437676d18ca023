//! What a plugin reads on this node: where it begins when it is deployed, and how far behind it is.

use std::sync::Arc;

use sled_data::{Offset, PartitionId};

use super::PluginHost;
use crate::event_log::Topic;
use crate::plugin_host::DeployError;
use crate::plugin_host::duties::Duties;
use crate::plugin_host::manifest::{From, Manifest};
use crate::plugin_host::registry::{PLUGINS_TREE, RecordV2};
use crate::plugin_host::round::reader_name;

impl PluginHost {
    /// Stores the record, and where the plugin begins in partitions it has not
    /// read yet.
    pub(super) fn register(&self, manifest: &Manifest, record: &RecordV2, new: bool) -> Result<(), DeployError> {
        let reader = reader_name(&manifest.name);
        let mut begins: Vec<(PartitionId, Offset)> = Vec::new();
        for topic in manifest.topics.iter().filter_map(|name| self.log.topic(name)) {
            // Of others' partitions, cursors come with the charge.
            for id in self.partitions(manifest, &topic, &Duties::alone_after(self.log.ended_lives().to_vec())) {
                if new || self.log.cursor(&reader, id)?.is_none() {
                    begins.push((
                        id,
                        match manifest.from {
                            From::Start => self.log.start_offset(id),
                            From::End => self.log.visible_end(id),
                        },
                    ));
                }
            }
        }
        self.commit(|open| {
            open.put_state(PLUGINS_TREE, manifest.name.as_bytes(), Some(&record.encode()));
            for (id, next) in &begins {
                open.move_cursor(&reader, *id, *next);
            }
        })?;
        Ok(())
    }

    /// Stored events before the visible end that the plugin's cursors have not
    /// passed.
    pub(super) fn lag_events(&self, manifest: &Manifest) -> u64 {
        let reader = reader_name(&manifest.name);
        let duties = Arc::clone(&self.work.duties.read());
        let lag = |id: PartitionId| {
            // A store that cannot be read tells so elsewhere.
            let cursor = self.log.cursor(&reader, id).ok().flatten().unwrap_or(0);
            self.log.visible_end(id).saturating_sub(cursor.max(self.log.start_offset(id)))
        };
        let topics = manifest.topics.iter().filter_map(|name| self.log.topic(name));
        topics.flat_map(|topic| self.partitions(manifest, &topic, &duties)).map(lag).sum()
    }

    /// The partitions of a topic that a plugin reads with these duties.
    fn partitions(&self, manifest: &Manifest, topic: &Topic, duties: &Duties) -> Vec<PartitionId> {
        let own = self.log.store().origin();
        let ids = self.log.partitions_of(topic).into_iter().map(|partition| partition.id());
        ids.filter(|id| duties.covers(manifest.scope, &manifest.name, own, *id)).collect()
    }
}
