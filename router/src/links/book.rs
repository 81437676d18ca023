//! What is known of each link: for people, and for what goes on after a cut.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sled_data::{Offset, PartitionId};

use super::class::Priority;
use super::lanes::Newest;
use super::meter::{Brought, Meter, PerSecond};
use super::plugins::{PluginDown, Tally};
use super::refused::RefusedParts;
use super::topics::{Going, TopicsDown};
use super::wire::Behind;
use crate::transport::{NodeId, SiteConnection, Traffic, Way};

/// Refusals that are remembered of one link.
const REFUSALS_MAX: usize = 64;

/// Partitions with an open hole that are shown of one link.
pub(super) const LATER_SHOWN_MAX: usize = 1_000;

/// Which end of a link this node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// The edge: it feeds another site.
    Up,
    /// Upstream: another site feeds it.
    Down,
}

/// How a link is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum State {
    /// It is being tried.
    #[default]
    Connecting,
    /// It stands.
    Connected,
    /// It is cut, and tried again.
    Cut,
    /// The other side does not want it: people must do something.
    Refused,
    /// People have paused it.
    Paused,
    /// It was removed upstream.
    Revoked,
    /// It does not start: people must do something.
    Broken,
    /// The configuration names it, and no invitation was accepted by its name.
    NotAccepted,
}

impl State {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Cut => "cut",
            Self::Refused => "refused",
            Self::Paused => "paused",
            Self::Revoked => "revoked",
            Self::Broken => "broken",
            Self::NotAccepted => "not-accepted",
        }
    }
}

/// How far the upstream is behind.
pub type Lag = Behind;

/// How far it is behind in each priority, the most urgent first.
pub type Lags = [Lag; Priority::ALL.len()];

/// Events that never came upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gap {
    /// The topic's name here.
    pub topic: String,
    /// The partition.
    pub partition: PartitionId,
    /// The first of them.
    pub from: Offset,
    /// The first one after them.
    pub to: Offset,
    /// `retention`, `damage` or `deadline`.
    pub why: &'static str,
    /// When that was heard, Unix milliseconds.
    pub at_ms: i64,
}

/// Events that come behind what is newer of their partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Later {
    /// The topic's name here.
    pub topic: String,
    /// The partition.
    pub partition: PartitionId,
    /// The first of them.
    pub from: Offset,
    /// The first one after them.
    pub to: Offset,
}

/// What was brought over of one priority, and what waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClassView {
    /// What was stored upstream, since the start.
    pub brought: Brought,
    /// How far upstream is behind.
    pub lag: Lag,
}

/// A link as people see it.
#[derive(Debug, Clone, PartialEq)]
pub struct LinkView {
    /// What it is called here.
    pub name: String,
    /// Which end this is.
    pub direction: Direction,
    /// How it is.
    pub state: State,
    /// Why it is not connected; empty where there is no reason.
    pub reason: String,
    /// The other side's address, where it is known.
    pub address: String,
    /// By what the last connection went; `None`: there was none since the start.
    pub way: Option<Way>,
    /// Until when the edge's certificate is good, seconds since 1970; `None`: for ever, or it is not known.
    pub certificate_until_s: Option<u64>,
    /// When the other side was heard last, Unix milliseconds; `None`: not since the start.
    pub last_contact_ms: Option<i64>,
    /// How far upstream is behind.
    pub lag: Lag,
    /// Events stored upstream, since the start.
    pub events: u64,
    /// Bytes of batches stored upstream, since the start.
    pub bytes: u64,
    /// Events that came again and were here already, since the start. Upstream alone.
    pub again: u64,
    /// The same by priority, with what their frames took; the most urgent first. At the edge alone.
    pub classes: [ClassView; Priority::ALL.len()],
    /// How fast it is; of the last ten seconds. At the edge alone.
    pub rate: PerSecond,
    /// What the connection has sent and received, and its round trip; `None` while there is none.
    pub traffic: Option<Traffic>,
    /// Connections made, since the start.
    pub connections: u64,
    /// What the other side, or this one, does not take: the reason each.
    pub refusals: Vec<String>,
    /// Bytes of batches that are kept here of what it brought. Upstream alone.
    pub kept_bytes: u64,
    /// Bytes of batches that went as they were more than its share of the disk, since the start. Upstream alone.
    pub shed_bytes: u64,
    /// Events that never came.
    pub gaps: Vec<Gap>,
    /// Events that come behind what is newer, so many ranges as are shown.
    pub later: Vec<Later>,
    /// How many these are in all ranges.
    pub later_events: u64,
    /// What may come down, as the edge lists it.
    pub down: Vec<String>,
    /// The topics that come down; upstream of each gateway.
    pub topics: Vec<TopicsDown>,
    /// The plugins that come down.
    pub plugins: Vec<PluginDown>,
    /// What has come of plugins, since the start.
    pub tally: Tally,
}

impl LinkView {
    /// All that was brought over, since the start. At the edge alone.
    pub fn brought(&self) -> Brought {
        self.classes.iter().fold(Brought::default(), |sum, class| sum.plus(class.brought))
    }

    /// Seconds until nothing waits, at the rate of late; `None` where nothing moves.
    pub fn drain_s(&self) -> Option<f64> {
        match self.lag.bytes {
            0 => Some(0.0),
            waiting => (self.rate.bytes > 0.0).then(|| waiting as f64 / self.rate.bytes),
        }
    }
}

/// What is known of one link.
#[derive(Debug, Default)]
pub struct Page {
    /// How it is.
    pub state: State,
    /// Why it is not connected.
    pub reason: String,
    /// The other side's address.
    pub address: String,
    /// By what the last connection went.
    pub way: Option<Way>,
    /// Until when the edge's certificate is good.
    pub certificate_until_s: Option<u64>,
    /// When the other side was heard last.
    pub last_contact_ms: Option<i64>,
    /// Packets that had come by the connections that stand when that was looked at last.
    pub received: u64,
    /// How far upstream is behind.
    pub lag: Lag,
    /// Events stored upstream.
    pub events: u64,
    /// Bytes of batches stored upstream.
    pub bytes: u64,
    /// The same by priority, and what waits.
    pub classes: [ClassView; Priority::ALL.len()],
    /// How fast it was of late.
    pub meter: Meter,
    /// The connection, while it stands.
    pub connection: Option<SiteConnection>,
    /// What it packs is not the same here again: it is to send as it stores.
    pub takes_plain: bool,
    /// Bytes that are sent and not said to be stored.
    pub under_way: u64,
    /// Connections made.
    pub connections: u64,
    /// What is not taken.
    pub refusals: Vec<String>,
    /// What may come down, as the edge lists it.
    pub down: Vec<String>,
    /// Up to where each partition is stored upstream, as the edge has heard.
    pub stored: BTreeMap<PartitionId, Offset>,
    /// At the edge: the parts that are stored upstream ahead of that, in order, each from and to before: what lies between is to come.
    pub ahead: BTreeMap<PartitionId, Vec<(Offset, Offset)>>,
    /// Partitions of the site's other nodes that this one sends, as they are left.
    pub left: BTreeSet<PartitionId>,
    /// The newest clocks of what other nodes write.
    pub newest: Arc<Mutex<Newest>>,
    /// Upstream: events that came again, and were here already.
    pub again: u64,
    /// Upstream: how far it is behind each gateway, as that said last.
    pub behind: BTreeMap<NodeId, Lag>,
    /// Upstream: what goes down to each gateway.
    pub going: BTreeMap<NodeId, Going>,
    /// Upstream: bytes that went as they were more than the link's share of the disk.
    pub shed_bytes: u64,
    /// What has come of plugins that go down.
    pub plugins: Tally,
    /// Upstream: what does not fit what is here.
    pub refused: RefusedParts,
}

/// One link's page, which its tasks share.
pub type Shared = Arc<Mutex<Page>>;

impl Page {
    /// Says how it is.
    pub fn set(&mut self, state: State, reason: impl Into<String>) {
        (self.state, self.reason) = (state, reason.into());
    }

    /// Notes how many packets have come by the connections that stand: where there are others than before, the other side was heard. It is so
    /// once in a keep-alive at least, also where nothing goes.
    pub fn came(&mut self, received: u64, now_ms: i64) {
        if self.state == State::Connected && received != self.received {
            (self.received, self.last_contact_ms) = (received, Some(now_ms));
        }
    }

    /// Remembers that something is not taken; false where that was known.
    pub fn refuse(&mut self, text: &str) -> bool {
        if self.refusals.iter().any(|known| known == text) || self.refusals.len() == REFUSALS_MAX {
            return false;
        }
        self.refusals.push(text.to_owned());
        true
    }

    /// Notes how far upstream is behind.
    pub fn wait(&mut self, lags: Lags) {
        self.lag = Lag::default();
        for (class, lag) in self.classes.iter_mut().zip(lags) {
            class.lag = lag;
            self.lag = self.lag.plus(lag);
        }
    }

    /// Upstream: notes how far it is behind a gateway. What all have waits together, for as long as the oldest.
    pub fn hear(&mut self, gateway: NodeId, behind: Lag) {
        self.behind.insert(gateway, behind);
        self.lag = self.behind.values().fold(Lag::default(), |sum, lag| sum.plus(*lag));
    }

    /// Upstream: forgets what gateways have said that are not connected, where others are: what they had to send is theirs now, or they say it
    /// again.
    pub fn keep_connected(&mut self, is_connected: impl Fn(NodeId) -> bool) {
        self.behind.retain(|gateway, _| is_connected(*gateway));
        self.lag = self.behind.values().fold(Lag::default(), |sum, lag| sum.plus(*lag));
    }

    /// All that was brought over.
    pub fn brought(&self) -> Brought {
        self.classes.iter().fold(Brought::default(), |sum, class| sum.plus(class.brought))
    }

    /// Notes up to where a partition is stored upstream, by the stream of its own priority: what is ahead of an open hole is not counted yet.
    pub fn stored_up_to(&mut self, id: PartitionId, end: Offset) {
        match self.ahead.get_mut(&id).and_then(|parts| parts.last_mut()) {
            Some((_, last_end)) => *last_end = end.max(*last_end),
            None => drop(self.stored.insert(id, end)),
        }
    }

    /// Notes up to where the open holes are filled.
    pub fn filled_up_to(&mut self, id: PartitionId, mut end: Offset) {
        let parts = self.ahead.entry(id).or_default();
        parts.retain(|(from, part_end)| {
            let is_reached = *from <= end;
            if is_reached {
                end = end.max(*part_end);
            }
            !is_reached
        });
        if parts.is_empty() {
            self.ahead.remove(&id);
        }
        self.stored.insert(id, end);
    }

    /// Notes that more is stored upstream.
    pub fn stored(&mut self, priority: Priority, more: Brought, now: Duration) {
        self.meter.note(now, self.brought());
        let class = &mut self.classes[priority.place()];
        class.brought = class.brought.plus(more);
        self.under_way = self.under_way.saturating_sub(more.sent_bytes);
        self.events += more.events;
        self.bytes += more.bytes;
    }

    /// For people.
    pub fn view(
        &self,
        name: &str,
        direction: Direction,
        (gaps, (later, later_events)): (Vec<Gap>, (Vec<Later>, u64)),
        now: Duration,
    ) -> LinkView {
        LinkView {
            name: name.to_owned(),
            direction,
            state: self.state,
            reason: self.reason.clone(),
            address: self.address.clone(),
            way: self.way,
            certificate_until_s: self.certificate_until_s,
            last_contact_ms: self.last_contact_ms,
            lag: self.lag,
            events: self.events,
            bytes: self.bytes,
            again: self.again,
            classes: self.classes,
            rate: self.meter.per_second(now, self.brought()),
            traffic: self.connection.as_ref().map(SiteConnection::traffic),
            connections: self.connections,
            refusals: self.refusals.clone(),
            kept_bytes: 0,
            shed_bytes: self.shed_bytes,
            gaps,
            later,
            later_events,
            down: self.down.clone(),
            topics: Vec::new(),
            plugins: Vec::new(),
            tally: self.plugins,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_stands_was_heard_when_something_came() {
        let mut page = Page { last_contact_ms: Some(5), ..Page::default() };
        page.came(3, 10);
        assert_eq!(page.last_contact_ms, Some(5), "what came by a connection that has ended says nothing");
        page.set(State::Connected, "");
        for (received, now_ms, heard_ms) in [(3, 20, 20), (3, 30, 20), (4, 40, 40), (1, 50, 50)] {
            page.came(received, now_ms);
            assert_eq!(page.last_contact_ms, Some(heard_ms), "{received} at {now_ms}");
        }
    }

    #[test]
    fn what_gateways_have_waits_together() {
        let lag = |events, bytes, ms| Lag { events, bytes, ms };
        let mut page = Page::default();
        page.hear(NodeId(1), lag(5, 500, 9_000));
        page.hear(NodeId(2), lag(7, 70, 1_000));
        assert_eq!(page.lag, lag(12, 570, 9_000));
        page.hear(NodeId(1), lag(0, 0, 0));
        assert_eq!(page.lag, lag(7, 70, 1_000), "one that is level says nothing of the other");
        page.keep_connected(|gateway| gateway == NodeId(1));
        assert_eq!(page.lag, lag(0, 0, 0));
    }

    #[test]
    fn what_is_ahead_counts_as_stored_when_all_before_it_is() {
        let id = PartitionId { origin: sled_data::OriginId(1), topic: sled_data::TopicId(2), index: 0 };
        let mut page = Page::default();
        page.stored_up_to(id, 4);
        page.ahead.insert(id, vec![(10, 12), (14, 14)]);
        page.stored_up_to(id, 15);
        page.filled_up_to(id, 8);
        let now = |page: &Page| (page.stored[&id], page.ahead.get(&id).cloned(), page.ahead.len());
        assert_eq!(now(&page), (8, Some(vec![(10, 12), (14, 15)]), 1));
        page.filled_up_to(id, 10);
        assert_eq!(now(&page), (12, Some(vec![(14, 15)]), 1));
        page.stored_up_to(id, 16);
        page.filled_up_to(id, 14);
        assert_eq!(now(&page), (16, None, 0));
        page.filled_up_to(id, 17);
        assert_eq!(now(&page), (17, None, 0));
        page.stored_up_to(id, 18);
        assert_eq!(page.stored.get(&id), Some(&18));
    }
}
