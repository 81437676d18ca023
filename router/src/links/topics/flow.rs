//! Which way a sender's events go. Down, it sends what both lists name, and takes an edge's word for nothing of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sled_data::{Linked, Offset, OriginId, PartitionId};

use super::super::sender::{Ended, Sender, Session};
use super::super::waiting::carried;
use super::super::wire::Answer;
use super::lists::lists;
use crate::event_log::{Act, EventLog, PartitionLog};

/// Bytes of frames to one edge that are sent and not yet said to be stored: a headquarters has a thousand links.
pub const UNDER_WAY_BYTES_MAX: usize = 512 << 10;

/// Which way.
pub enum Flow {
    /// From an edge to its upstream.
    Up,
    /// From upstream to a site that feeds it.
    Down(Arc<Given>),
}

/// What goes down to a site.
#[derive(Debug, Clone)]
pub struct Given {
    /// What the edge lists.
    pub wanted: Vec<String>,
    /// What is allowed here.
    pub allowed: Vec<String>,
    /// The ids of the link by which the site feeds this one.
    pub links: Vec<u64>,
    /// The site, as it says.
    pub site: u64,
}

impl Given {
    /// Whether a topic goes.
    pub fn carries(&self, topic: &str) -> bool {
        lists(&self.wanted, topic) && lists(&self.allowed, topic)
    }

    /// Whether a partition of a topic goes, by how its origin has come here; `None`: it is this site's own.
    pub fn goes(&self, topic: &str, linked: Option<&Linked>) -> bool {
        !linked.is_some_and(|linked| self.has_been_there(linked)) && self.carries(topic)
    }

    /// Whether an origin has come from the site, or by it.
    fn has_been_there(&self, linked: &Linked) -> bool {
        self.links.contains(&linked.link) || linked.path.contains(&self.site)
    }

    /// The partitions that go and that have events.
    pub fn carried(&self, log: &EventLog) -> Vec<Arc<PartitionLog>> {
        let linked: BTreeMap<OriginId, Linked> = log.store().linked().into_iter().collect();
        let mut all = log.all_partitions();
        all.retain(|partition| {
            let linked = linked.get(&partition.id().origin);
            partition.visible_end() > 0 && self.goes(partition.topic(), linked)
        });
        all
    }
}

impl Session {
    /// The partitions that go and that have events. Reads the store.
    pub fn carried(&self) -> Vec<Arc<PartitionLog>> {
        match &self.flow {
            Flow::Up => carried(&self.log, &self.config),
            Flow::Down(given) => given.carried(&self.log),
        }
    }

    /// Origins that other nodes send, as long as they can. What goes down is asked for here alone.
    pub fn sent_by_others(&self) -> BTreeSet<OriginId> {
        match &self.flow {
            Flow::Up => self.log.sent_by_others(),
            Flow::Down(_) => BTreeSet::new(),
        }
    }

    /// Whether it goes down.
    pub fn is_down(&self) -> bool {
        matches!(self.flow, Flow::Down(_))
    }
}

impl Sender {
    /// An edge answers what is about its partitions, and nothing else.
    pub(in crate::links) fn check_answer(&self, answer: &Answer) -> Result<(), Ended> {
        // Nothing goes ahead down: what an edge says to lie there would end a life here.
        let is_of_upstream = matches!(
            answer,
            Answer::Asked(..) | Answer::Known(_) | Answer::Due(_) | Answer::Renewed(..) | Answer::Ahead(_)
        );
        if self.session.is_down() && is_of_upstream {
            return Err(Ended::Wrong("what upstream alone says".to_owned()));
        }
        Ok(())
    }

    /// The edge has more of the life that lives here, or something else: told, and left alone.
    pub(in crate::links) fn is_otherwise_below(&self, id: PartitionId, end: Offset) {
        let name = &self.session.name;
        let text = format!(
            "{id} ends at {end} at site {name}, and is not that here: was this node's store restored or copied? Nothing of it goes down until the \
             store begins a new life"
        );
        if !self.session.page.lock().refuse(&text) {
            return;
        }
        tracing::error!(link = name, "{text}");
        let act = Act { who: "node", act: "link.down", what: name, outcome: "differs", detail: text.into() };
        if let Err(error) = self.session.log.audit(act) {
            tracing::warn!(%error, "it is not in the audit");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_been_at_a_site_does_not_go_down_to_it() {
        let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let given =
            Given { wanted: texts(&["recipes", "*/plans"]), allowed: texts(&["*", "a/*"]), links: vec![5, 6], site: 9 };
        // topic, whether it goes
        for (topic, goes) in [("recipes", true), ("other", false), ("a/plans", true), ("b/plans", false)] {
            assert_eq!(given.carries(topic), goes, "{topic}");
        }
        let linked = |link, path: &[u64]| Linked { link, hlc: 0, path: path.to_vec() };
        // how it has come, whether it has been there
        let cases = [
            (linked(5, &[1]), true),
            (linked(6, &[1]), true),
            (linked(7, &[1]), false),
            (linked(7, &[1, 9, 3]), true),
            (linked(7, &[9]), true),
        ];
        for (linked, expected) in cases {
            assert_eq!(given.has_been_there(&linked), expected, "{linked:?}");
        }
    }
}
