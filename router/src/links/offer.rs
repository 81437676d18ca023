//! What one stream of a link says that there is: origins and topics, before it asks where their partitions end upstream.

use std::collections::BTreeSet;
use std::sync::Arc;

use sled_data::{OriginId, PartitionId};
use tokio::time::Instant;

use super::sender::{Ask, Ended, Sender};
use super::wire::{PARTITIONS_MAX, Said};
use crate::event_log::PartitionLog;
use crate::transport::FrameSender;

impl Sender {
    /// Offers what is new, and lets go of what was deleted.
    pub(super) async fn discover(&self, out: &mut FrameSender) -> Result<(), Ended> {
        let session = &self.session;
        let mut all = session.carried_now().await?;
        let here: BTreeSet<PartitionId> = all.iter().map(|partition| partition.id()).collect();
        {
            let mut page = session.page.lock();
            page.stored.retain(|id, _| here.contains(id));
            page.ahead.retain(|id, _| here.contains(id));
        }
        session.fills.lock().retain(|id, _| here.contains(id));
        let now_ms = session.log.clock().wall_ms();
        all.retain(|partition| {
            let topic = partition.topic();
            let is_mine = session.config.priority(topic) == self.priority || self.fills(partition.id());
            is_mine && session.config.may_go(topic, now_ms)
        });
        let here: BTreeSet<PartitionId> = all.iter().map(|partition| partition.id()).collect();
        self.lanes.lock().keep(|id| here.contains(&id));
        let now = Instant::now();
        self.open.lock().asked.retain(|id, ask| here.contains(id) && ask.until.is_none_or(|until| until > now));
        self.leave_to_others();
        let new: Vec<_> = {
            let (open, left) = (self.open.lock(), session.left.lock());
            let is_new = |partition: &Arc<PartitionLog>| {
                let (id, end) = (partition.id(), partition.visible_end());
                !open.asked.contains_key(&id) && !left.is_level(id, end)
            };
            all.into_iter().filter(is_new).collect()
        };
        for some in new.chunks(PARTITIONS_MAX) {
            for said in self.introduce(some) {
                self.say(out, &said).await?;
            }
        }
        Ok(())
    }

    /// What is said of partitions that were not asked for.
    fn introduce(&self, partitions: &[Arc<PartitionLog>]) -> Vec<Said> {
        let mut said = Vec::new();
        let mut open = self.open.lock();
        for partition in partitions {
            let id = partition.id();
            if open.offered.insert(id.origin) {
                said.push(Said::Offer(id.origin, self.path(id.origin)));
            }
            if open.topics.insert(id.topic.0)
                && let Some(topic) = self.session.log.topic_by_id(id.topic)
            {
                let mut info = topic.info().clone();
                info.name = self.session.config.upstream_name(&info.name);
                said.push(Said::Topic(info));
            }
            open.asked.insert(id, Ask::default());
        }
        said.push(Said::Where(partitions.iter().map(|partition| partition.id()).collect()));
        said
    }

    /// What another node of the site writes, and this one has sent to its end, is left to that node again.
    fn leave_to_others(&self) {
        let others = self.session.sent_by_others();
        let mut open = self.open.lock();
        let sent: Vec<PartitionId> = open.asked.keys().filter(|id| others.contains(&id.origin)).copied().collect();
        let mut lanes = self.lanes.lock();
        for id in sent {
            let is_stored = !open.is_on_its_way(id);
            if let Some(end) = lanes.given_all(id).filter(|_| is_stored) {
                lanes.remove(id);
                self.session.left.lock().level(id, end);
                self.session.page.lock().left.remove(&id);
                open.asked.remove(&id);
            }
        }
    }

    /// The sites that an origin has passed when it comes from here.
    fn path(&self, origin: OriginId) -> Vec<u64> {
        let linked = self.session.log.store().linked_origin(origin);
        let mut path = linked.map(|linked| linked.path).unwrap_or_default();
        path.push(self.session.site);
        path
    }
}
