//! The gateways that are connected to this node, each by one connection: from the greeting that was accepted to the end.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::knows_ahead::Drops;
use super::upstream::Close;
use crate::transport::{LinkPeer, NodeId, SiteConnection};

/// What edges are told while the node leaves.
const LEAVES: &str = "the node leaves its site: another one takes the link";

/// Connections of one gateway at once that are not greeted yet: one that goes back to UDP dials while the last one is being greeted. Beyond, the oldest
/// is closed: no gateway takes the places of others by saying nothing.
const UNGREETED_MAX: usize = 2;

/// Who is connected.
#[derive(Default)]
pub(super) struct Connected {
    all: Mutex<BTreeMap<(u64, NodeId), SiteConnection>>,
    /// Those that are not greeted yet, the oldest first.
    ungreeted: Mutex<BTreeMap<(u64, NodeId), VecDeque<SiteConnection>>>,
    /// Nobody may be: the node leaves its site.
    is_closed: AtomicBool,
}

/// One connection, which is among them once it is greeted.
pub(super) struct Entry {
    all: Arc<Connected>,
    peer: LinkPeer,
    connection: SiteConnection,
    /// One of its streams was greeted first. Held while that is judged: the others wait for it.
    is_greeted: Mutex<bool>,
    is_in: watch::Sender<bool>,
    /// What was dropped of what its edge was told that lies ahead.
    pub(super) drops: Arc<Drops>,
}

/// Who else is connected when one has left.
pub(super) struct Left {
    /// Gateways, of all links.
    pub(super) nodes: Vec<NodeId>,
    /// Whether another gateway of the same link is.
    pub(super) has_others: bool,
}

impl Connected {
    /// Sends all away, and lets nobody in any more.
    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::SeqCst);
        for connection in self.all.lock().values() {
            connection.close(Close::Busy as u32, LEAVES);
        }
    }

    /// Lets gateways in again.
    pub(super) fn reopen(&self) {
        self.is_closed.store(false, Ordering::SeqCst);
    }

    /// The connections of all gateways of a link of these ids.
    pub(super) fn of(&self, links: &[u64]) -> Vec<SiteConnection> {
        let all = self.all.lock();
        all.iter().filter(|((link, _), _)| links.contains(link)).map(|(_, connection)| connection.clone()).collect()
    }

    /// All gateways.
    pub(super) fn nodes(&self) -> Vec<NodeId> {
        self.all.lock().keys().map(|(_, node)| *node).collect()
    }

    /// A connection that is not greeted yet. Where the gateway has [`UNGREETED_MAX`] of them already, its oldest is closed.
    pub(super) fn entry(self: &Arc<Self>, peer: LinkPeer, connection: &SiteConnection) -> Arc<Entry> {
        let oldest = {
            let mut ungreeted = self.ungreeted.lock();
            let own = ungreeted.entry((peer.link, peer.node)).or_default();
            own.push_back(connection.clone());
            if own.len() > UNGREETED_MAX { own.pop_front() } else { None }
        };
        if let Some(oldest) = oldest {
            oldest.close(Close::Busy as u32, "the same gateway has connected anew before it greeted");
        }
        let (all, is_in) = (Arc::clone(self), watch::Sender::new(false));
        Arc::new(Entry {
            all,
            peer,
            connection: connection.clone(),
            is_greeted: Mutex::new(false),
            is_in,
            drops: Arc::default(),
        })
    }
}

impl Entry {
    /// It is greeted: the gateway is connected by it, and by no other one any more. Whether it was not before. `judge` is done first: what
    /// only one that is greeted may do, as to be given a certificate, it may when that has ended.
    pub(super) fn enter(&self, judge: impl FnOnce()) -> bool {
        let mut is_greeted = self.is_greeted.lock();
        // Once: one that was replaced meanwhile does not come back with another of its streams.
        if std::mem::replace(&mut *is_greeted, true) {
            return false;
        }
        self.is_ungreeted_no_more();
        judge();
        let before = self.all.all.lock().insert((self.peer.link, self.peer.node), self.connection.clone());
        if let Some(before) = before {
            before.close(Close::Replaced as u32, "the same gateway has connected anew");
        }
        // Looked at when it is among them, so that none is missed.
        if self.all.is_closed.load(Ordering::SeqCst) {
            self.connection.close(Close::Busy as u32, LEAVES);
        }
        self.is_in.send_replace(true);
        true
    }

    /// It is greeted, or gone.
    fn is_ungreeted_no_more(&self) {
        let mut ungreeted = self.all.ungreeted.lock();
        let key = (self.peer.link, self.peer.node);
        let Some(own) = ungreeted.get_mut(&key) else { return };
        own.retain(|one| !one.is_same(&self.connection));
        if own.is_empty() {
            ungreeted.remove(&key);
        }
    }

    /// Whether it was greeted.
    pub(super) fn is_in(&self) -> bool {
        *self.is_in.borrow()
    }

    /// Ends when it is greeted.
    pub(super) async fn greeted(&self) {
        // It does not fail while it is held here.
        let _ = self.is_in.subscribe().wait_for(|is_in| *is_in).await;
    }

    /// It has ended; `None` where another one has come in its place, or it was never greeted.
    pub(super) fn leave(&self) -> Option<Left> {
        let mut all = self.all.all.lock();
        let key = (self.peer.link, self.peer.node);
        if !all.get(&key).is_some_and(|last| last.is_same(&self.connection)) {
            return None;
        }
        all.remove(&key);
        let nodes = all.keys().map(|(_, node)| *node).collect();
        Some(Left { nodes, has_others: all.keys().any(|(link, _)| *link == self.peer.link) })
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.is_ungreeted_no_more();
    }
}
