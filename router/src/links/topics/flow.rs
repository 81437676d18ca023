//! Which way a sender's events go. Down, it sends what both lists name, and takes an edge's word for nothing of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sled_data::{Linked, Offset, OriginId, PartitionId};

use super::super::sender::{Ended, Sender, Session, blocking};
use super::super::waiting::carried;
use super::super::wire::Answer;
use super::lists::lists;
use crate::event_log::{Act, EventLog, PartitionLog};

/// Bytes of frames to one edge that are sent and not yet said to be stored: a headquarters has a thousand links.
pub const UNDER_WAY_BYTES_MAX: usize = 512 << 10;

/// How often a stream looks through all partitions at least, and at most while partitions come.
const LOOK_AT_LEAST_EVERY: Duration = Duration::from_secs(30);
const LOOK_AT_MOST_EVERY: Duration = if cfg!(test) { Duration::ZERO } else { Duration::from_secs(2) };

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
    /// The partitions that go, as they were found last.
    pub found: Found,
}

/// A look through all partitions: the number that rises when some come or go, when it was, and what was found.
type Look = (u64, Duration, Vec<Arc<PartitionLog>>);

/// Partitions that were found to go, and when: of a thousand links none looks through all of them again and again.
#[derive(Default)]
pub struct Found(Mutex<Option<Look>>);

impl fmt::Debug for Found {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Found").finish_non_exhaustive()
    }
}

impl Clone for Found {
    fn clone(&self) -> Self {
        Self(Mutex::new(self.0.lock().clone()))
    }
}

impl Found {
    /// What was found, unless it is to be looked again: something may have come or gone since, by the number that rises then, or it was long ago.
    fn get(&self, turns: u64, now: Duration) -> Option<Vec<Arc<PartitionLog>>> {
        let found = self.0.lock();
        let (of, at, all) = found.as_ref()?;
        let good_for = if *of == turns { LOOK_AT_LEAST_EVERY } else { LOOK_AT_MOST_EVERY };
        (now.saturating_sub(*at) < good_for).then(|| all.clone())
    }
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

    /// The partitions that go and that have events, as far as it is known without a look through all.
    fn known(&self, log: &EventLog) -> Option<Vec<Arc<PartitionLog>>> {
        self.found.get(log.partition_turns(), log.clock().monotonic())
    }

    /// The partitions that go and that have events.
    pub fn carried(&self, log: &EventLog) -> Vec<Arc<PartitionLog>> {
        self.known(log).unwrap_or_else(|| {
            // In this order: what comes meanwhile is found the next time.
            let (turns, now) = (log.partition_turns(), log.clock().monotonic());
            let all = self.look(log);
            *self.found.0.lock() = Some((turns, now, all.clone()));
            all
        })
    }

    fn look(&self, log: &EventLog) -> Vec<Arc<PartitionLog>> {
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

    /// The same, for a task.
    ///
    /// # Errors
    /// The node is stopping.
    pub async fn carried_now(self: &Arc<Self>) -> Result<Vec<Arc<PartitionLog>>, Ended> {
        let known = match &self.flow {
            Flow::Up => None,
            Flow::Down(given) => given.known(&self.log),
        };
        match known {
            Some(known) => Ok(known),
            None => {
                let session = Arc::clone(self);
                blocking(move || Ok(session.carried())).await
            }
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
    /// An edge answers what is about its partitions, and nothing else. Nothing that comes down lies ahead there: it asks for no open hole.
    pub(in crate::links) fn check_answer(&self, answer: &Answer) -> Result<(), Ended> {
        let is_of_upstream = match answer {
            Answer::Ahead(_)
            | Answer::AllAhead(_)
            | Answer::Asked(..)
            | Answer::Known(_)
            | Answer::Due(_)
            | Answer::Renewed(..) => true,
            Answer::Welcome(..) | Answer::Stands(_) | Answer::Stored(_) | Answer::Refused(_) => false,
        };
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
        let (wanted, allowed) = (texts(&["recipes", "*/plans"]), texts(&["*", "a/*"]));
        let given = Given { wanted, allowed, links: vec![5, 6], site: 9, found: Found::default() };
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

    #[test]
    fn all_partitions_are_looked_through_when_some_have_come_and_seldom_else() {
        let found = Found::default();
        let s = Duration::from_secs;
        assert!(found.get(1, s(100)).is_none(), "nothing was found yet");
        *found.0.lock() = Some((1, s(100), Vec::new()));
        for (turns, now, is_known) in [(1, 100, true), (1, 129, true), (1, 130, false), (2, 103, false)] {
            assert_eq!(found.get(turns, s(now)).is_some(), is_known, "{turns} {now}");
        }
    }
}
