//! Sessions across the nodes of a site: what other nodes have seen of clients, and which session of one is the newest.
//!
//! Everything here goes by what has arrived so far. Other nodes' kept sessions stay in the store until their client comes.

use std::sync::{Arc, Weak};

use devices::command::command_filter;
use sled_data::{FollowedCommit, OriginId, ReadError as StoreError};

use super::choose::{Choice, choose};
use super::elsewhere::{Change, Claim, Place};
use super::kept::{KEPT_TREE, KeptRecord};
use super::mailbox::Order;
use super::presence::{DEVICES_TREE, Seen};
use super::registry::{Sessions, Slot};
use crate::event_log::{Committed, Observer};

/// Says which nodes are heard.
pub trait Heard: Send + Sync {
    /// Whether the node that writes a life is heard now.
    fn is_heard(&self, origin: OriginId) -> bool;

    /// By how much the clocks by which others time what they store are ahead of this node's [`crate::clock::Clock::steady_ms`], in milliseconds,
    /// each with a life that its node writes or has written: of those that have been heard.
    fn clocks(&self) -> Vec<(OriginId, i64)> {
        Vec::new()
    }
}

/// Where a client is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whereabouts {
    /// Connected here.
    Here,
    /// Connected at the node that writes this life, as far as is known.
    At(OriginId),
    /// Connected nowhere, or at a node that is not heard.
    Nowhere,
}

/// A session that goes on.
pub(super) enum Found {
    /// The one that is kept here.
    Own,
    /// One that another node keeps, which writes this life.
    Other(OriginId, KeptRecord),
    /// None.
    None,
}

/// What an arriving client's session is chosen by.
pub(super) struct Known {
    pub(super) found: Found,
    /// The newest moment at which a session of the client is known to have begun.
    pub(super) newest_begun: u64,
    /// Whether other nodes may keep sessions at all.
    pub(super) in_site: bool,
}

impl Sessions {
    /// Begins to look at what other nodes see of clients: all of it so far, then what follows. To be called once, before
    /// doors open.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn follow_others(self: &Arc<Self>) -> Result<(), StoreError> {
        self.log.observe(Arc::new(Watcher(Arc::downgrade(self))));
        self.look_at_lives();
        self.others().into_iter().try_for_each(|origin| self.read_origin(origin))
    }

    /// Says who knows which nodes are heard; without it all are taken for heard.
    pub fn set_heard(&self, heard: Arc<dyn Heard>) {
        let _ = self.heard.set(heard);
    }

    fn is_heard(&self, origin: OriginId) -> bool {
        self.heard.get().is_none_or(|heard| heard.is_heard(origin))
    }

    /// By how much the clocks by which other nodes time what they store are ahead of this node's [`crate::clock::Clock::steady_ms`], in
    /// milliseconds, by the lives that they write or have written.
    pub fn clocks(&self) -> Vec<(OriginId, i64)> {
        self.heard.get().map(|heard| heard.clocks()).unwrap_or_default()
    }

    /// The same of the node that writes one life. One that has not been heard since this one started had the time, as a process before this one had.
    pub(super) fn other_ahead_ms(&self, origin: OriginId) -> i64 {
        let heard = self.clocks().into_iter().find(|(of, _)| *of == origin);
        heard.map_or_else(|| self.log.clock().earlier_ahead_ms(), |(_, ahead_ms)| ahead_ms)
    }

    pub(super) fn read_origin(&self, origin: OriginId) -> Result<(), StoreError> {
        self.log.state_walk_of(origin, DEVICES_TREE, |key, value| self.take_seen(origin, key, Some(value)))
    }

    /// Takes what another node has recorded of a client; `None`: it has forgotten it.
    fn take_seen(&self, origin: OriginId, key: &[u8], value: Option<&[u8]>) {
        let Ok(client_id) = std::str::from_utf8(key) else { return };
        let place = match value.map(Seen::decode) {
            Some(Some(seen)) => Some(Place::of(origin, self.goes_on(origin), &seen)),
            Some(None) => {
                return tracing::warn!(client_id, %origin, "a device's record of an unknown version is left out");
            }
            None => None,
        };
        let change = self.elsewhere.write().take(origin, client_id, place);
        match change {
            Change::Newest(place) => self.newer_elsewhere(client_id, place),
            Change::Nothing => {}
            Change::Lost => {
                if let Some(place) = self.look_elsewhere(client_id) {
                    self.elsewhere.write().take(place.claim.origin, client_id, Some(place));
                }
            }
        }
    }

    /// The newest of other nodes' records of a client, from the store.
    fn look_elsewhere(&self, client_id: &str) -> Option<Place> {
        let others = self.others().into_iter();
        let places = others.filter_map(|origin| {
            let seen = self.presence.get_of(origin, client_id).ok().flatten()?;
            Some(Place::of(origin, self.goes_on(origin), &seen))
        });
        places.max_by_key(|place| place.claim)
    }

    /// Where a client was seen last at other nodes.
    pub(super) fn place_elsewhere(&self, client_id: &str) -> Option<Place> {
        let (place, is_full) = {
            let elsewhere = self.elsewhere.read();
            (elsewhere.get(client_id), elsewhere.is_full())
        };
        place.or_else(|| if is_full { self.look_elsewhere(client_id) } else { None })
    }

    /// Lets go of a session whose client has a newer one at another node.
    fn newer_elsewhere(&self, client_id: &str, place: Place) {
        if place.connected {
            // What waits here for it can go there.
            self.arrivals.push(&command_filter(client_id));
            self.changed();
        }
        let mut slots = self.slots.lock();
        match slots.get(client_id) {
            Some(Slot::Live(entry)) if place.claim > self.own_claim(entry.begun) => {
                self.stats.taken_elsewhere.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                entry.mailbox.order(Order::TakenOver { clean_start: place.anew });
            }
            Some(Slot::Kept { seat, record, .. }) if place.claim > self.own_claim(record.begun) => {
                self.give_up(client_id, seat);
                slots.remove(client_id);
            }
            _ => {}
        }
    }

    fn own_claim(&self, begun: u64) -> Claim {
        Claim { begun, goes_on: true, origin: self.log.origin() }
    }

    /// The session of a client at another node that is newer than the one that began here at `begun`.
    pub fn newer_than(&self, client_id: &str, begun: u64) -> Option<Place> {
        self.place_elsewhere(client_id).filter(|place| place.claim > self.own_claim(begun))
    }

    /// When the newest session of a client began that is known at any node, by the hybrid clock; 0: none is known.
    pub fn newest_begun(&self, client_id: &str) -> u64 {
        let here = self.presence.get(client_id).ok().flatten().map_or(0, |seen| seen.begun);
        self.place_elsewhere(client_id).map_or(here, |place| here.max(place.claim.begun))
    }

    /// What is known of an arriving client's sessions at all nodes; `own` is what is kept here. One entry of each other
    /// node's is read; none where there is no other, or where `clean_start` ends all of them.
    pub(super) fn known_of(&self, client_id: &str, own: Option<&KeptRecord>, clean_start: bool) -> Known {
        let own_begun = own.map_or(0, |record| record.begun);
        let others = self.others();
        let in_site = !others.is_empty();
        let place = if in_site { self.place_elsewhere(client_id) } else { None };
        let mut newest_begun = own_begun.max(place.map_or(0, |place| place.claim.begun));
        if clean_start {
            return Known { found: Found::None, newest_begun, in_site };
        }
        if !in_site {
            let found = if own.is_some() { Found::Own } else { Found::None };
            return Known { found, newest_begun, in_site };
        }
        let kept = others.iter().filter_map(|origin| Some((*origin, self.kept_of(*origin, client_id)?)));
        let mut kept: Vec<(OriginId, KeptRecord)> = kept.collect();
        let claim = |(origin, record): &(OriginId, KeptRecord)| Claim {
            begun: record.begun,
            goes_on: self.goes_on(*origin),
            origin: *origin,
        };
        let claims: Vec<Claim> = kept.iter().map(claim).collect();
        let seen_here = self.presence.get(client_id).ok().flatten().map(|seen| self.own_claim(seen.begun));
        let seen = seen_here.max(place.map(|place| place.claim));
        newest_begun = claims.iter().chain(&seen).map(|claim| claim.begun).fold(newest_begun, u64::max);
        let found = match choose(own.map(|record| self.own_claim(record.begun)), &claims, seen) {
            Choice::Own => Found::Own,
            Choice::Other(at) => {
                let (origin, record) = kept.swap_remove(at);
                Found::Other(origin, record)
            }
            Choice::None => Found::None,
        };
        Known { found, newest_begun, in_site }
    }

    fn kept_of(&self, origin: OriginId, client_id: &str) -> Option<KeptRecord> {
        let stored = self.log.store().state_get_of(origin, KEPT_TREE, client_id.as_bytes());
        let stored =
            stored.inspect_err(|error| tracing::warn!(client_id, %error, "a kept session cannot be read")).ok()?;
        let record = KeptRecord::decode(&stored?);
        if record.is_none() {
            tracing::warn!(client_id, %origin, "a kept session of an unknown version is left out");
        }
        record
    }

    /// Where a client is connected, by the newest that is known. Reads at most one entry of the store, or one of each
    /// node's where more clients are known than are listed.
    pub fn whereabouts(&self, client_id: &str) -> Whereabouts {
        if self.live_of(client_id).is_some() {
            return Whereabouts::Here;
        }
        let Some(place) = self.place_elsewhere(client_id).filter(|place| place.connected) else {
            return Whereabouts::Nowhere;
        };
        let seen_here = self.presence.get(client_id).ok().flatten();
        let is_newest = seen_here.is_none_or(|seen| place.claim > self.own_claim(seen.begun));
        match is_newest && self.is_heard(place.claim.origin) {
            true => Whereabouts::At(place.claim.origin),
            false => Whereabouts::Nowhere,
        }
    }

    /// What another node has recorded of a client, where that is newer than what was seen here; and whether the node is
    /// heard.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn seen_elsewhere(
        &self,
        client_id: &str,
        seen_here: Option<&Seen>,
    ) -> Result<Option<SeenElsewhere>, StoreError> {
        let here = seen_here.map(|seen| self.own_claim(seen.begun));
        let Some(place) = self.place_elsewhere(client_id).filter(|place| here.is_none_or(|here| place.claim > here))
        else {
            return Ok(None);
        };
        let origin = place.claim.origin;
        let seen = self.presence.get_of(origin, client_id)?;
        Ok(seen.map(|seen| SeenElsewhere { origin, node: self.node_of(origin), is_heard: self.is_heard(origin), seen }))
    }

    fn node_of(&self, origin: OriginId) -> Option<u64> {
        let followed = self.log.store().followed().into_iter().find(|(found, _)| *found == origin);
        followed.map(|(_, followed)| followed.node).filter(|node| *node != 0)
    }

    /// At most `max` clients that other nodes have seen by client id, those after `after`.
    pub fn elsewhere_page(&self, after: Option<&str>, max: usize) -> Vec<Arc<str>> {
        self.elsewhere.read().page(after, max).into_iter().map(|(client_id, _)| client_id).collect()
    }
}

/// What another node has seen of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenElsewhere {
    /// The node's life.
    pub origin: OriginId,
    /// The node, where it is known.
    pub node: Option<u64>,
    /// Whether the node is heard: else its clients are shown as they were seen last.
    pub is_heard: bool,
    /// What it has recorded.
    pub seen: Seen,
}

/// Looks on for the sessions, as long as there are any.
struct Watcher(Weak<Sessions>);

impl Observer for Watcher {
    fn committed(&self, _: &Arc<Committed>) {}

    fn is_listening(&self) -> bool {
        false
    }

    fn followed(&self, commits: &[FollowedCommit]) {
        let Some(sessions) = self.0.upgrade() else { return };
        for commit in commits.iter().filter(|commit| !sessions.log.is_ended(commit.origin)) {
            for write in commit.record.state.iter().filter(|write| write.tree == DEVICES_TREE) {
                sessions.take_seen(commit.origin, &write.key, write.value.as_deref());
            }
        }
    }

    fn copied(&self, origin: OriginId) {
        let Some(sessions) = self.0.upgrade().filter(|sessions| !sessions.log.is_ended(origin)) else { return };
        sessions.lives_changed();
        sessions.read_again(origin);
    }

    fn lives_changed(&self) {
        if let Some(sessions) = self.0.upgrade() {
            sessions.lives_changed();
        }
    }
}
