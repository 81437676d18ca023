//! Upstream's side of links: takes the connections of sites that feed this one, and stores what they bring. `let_in` lets invited sites in,
//! `views` is what people see.

mod let_in;
mod views;

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use sled_data::OriginId;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::book::{Page, Shared, State};
use super::budget::Budgets;
use super::came::Came;
use super::certificates::Certificates;
use super::connected::Connected;
use super::detail::Asks;
use super::down_desk::Desk;
use super::forget::forget_of_others;
use super::greet::{Judges, stream_of};
use super::guests::Guests;
use super::newest::Newest;
use super::plugins::{GivePlugins, PluginDown};
use super::receiver::Receiver;
use super::records::Records;
use super::topics::Downlink;
use super::within::Within;
use crate::catalog::Refusal as Refused;
use crate::event_log::{Comes, EventLog};
use crate::security::JoinTokenHash;
use crate::transport::{LinkPeer, NodeId, SiteConnection, SiteIdentity, SiteProtocol};
use let_in::{LET_IN_MAX, crowded};

/// Connections of links at once.
const CONNECTIONS_MAX: usize = if cfg!(test) { 16 } else { 1_024 };
/// Streams of one connection.
const STREAMS_MAX: usize = 8;
/// How long it may take until the first greeting of a connection is accepted; longer than one stream's.
const FIRST_HELLO_WAIT: Duration = Duration::from_secs(20);
/// How long last words may take.
pub(super) const LAST_WORDS_WAIT: Duration = Duration::from_secs(5);
/// How often what other nodes' commits have brought here of their links is forgotten; what grows meanwhile is bounded by the partitions of their links.
const FORGET_OTHERS_EVERY: Duration = Duration::from_secs(3_600);
/// Origins of removed links that are looked at in one call, to forget what is empty: each look goes through all partitions.
const FORGET_LOOKS_MAX: usize = 64;

/// Why a connection is closed: numbers that both sides know, never used again for something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Close {
    /// All was said.
    Done = 0,
    /// There is no place right now.
    Busy = 1,
    /// What was sent cannot be read.
    Garbage = 2,
    /// The link is not known, was removed, or cannot be spoken with: people must do something.
    Refused = 3,
    /// Another connection of the same gateway has come.
    Replaced = 4,
    /// The edge is to begin anew.
    Again = 5,
}

/// Upstream's side.
pub struct Upstream {
    pub(super) log: Arc<EventLog>,
    identity: Arc<SiteIdentity>,
    pub(super) records: Arc<Records>,
    pages: Mutex<BTreeMap<u64, Shared>>,
    connected: Arc<Connected>,
    guests: Arc<Guests>,
    let_in: Semaphore,
    places: Semaphore,
    budgets: Budgets,
    desk: Arc<Desk>,
    downlinks: OnceLock<Arc<Vec<Downlink>>>,
    plugins: OnceLock<Arc<dyn GivePlugins>>,
    within: Arc<Within>,
    asks: Asks,
    certificates: Certificates,
    newest: Arc<Newest>,
    came: Arc<Came>,
    /// The origin of a removed link that was looked at last.
    forgot_up_to: Mutex<Option<OriginId>>,
    /// When what is kept of other nodes' links was forgotten last; `None`: not since the start.
    forgot_others_at: Mutex<Option<Duration>>,
}

/// A link's gateways that are connected, each with what it is called.
type Gateways = Vec<(String, SiteConnection)>;

impl Upstream {
    /// Takes links into the site of this identity, whose certificates are good for so many seconds; 0: for ever.
    pub fn new(
        log: Arc<EventLog>,
        identity: Arc<SiteIdentity>,
        records: Arc<Records>,
        certificate_s: u64,
    ) -> Arc<Self> {
        let within = Within::new(Arc::clone(&log), Arc::clone(&records), identity.site());
        let newest = Arc::new(Newest::open(Arc::clone(&log)));
        let came = Arc::new(Came::open(Arc::clone(&log), Arc::clone(&records)));
        let certificates = Certificates::new(Arc::clone(log.clock()), Arc::clone(&identity), certificate_s);
        Arc::new(Self {
            log,
            identity,
            records,
            within,
            pages: Mutex::default(),
            connected: Arc::default(),
            guests: Arc::default(),
            let_in: Semaphore::new(LET_IN_MAX),
            places: Semaphore::new(CONNECTIONS_MAX),
            budgets: Budgets::default(),
            desk: Arc::default(),
            downlinks: OnceLock::new(),
            plugins: OnceLock::new(),
            asks: Asks::default(),
            certificates,
            newest,
            came,
            forgot_up_to: Mutex::default(),
            forgot_others_at: Mutex::default(),
        })
    }

    /// What it does with the site's other nodes.
    pub fn within(&self) -> &Arc<Within> {
        &self.within
    }

    /// Takes no links any more, and sends those away that are here: other nodes of the site take them.
    pub fn close(&self) {
        self.connected.close();
    }

    /// Takes links again.
    pub fn reopen(&self) {
        self.connected.reopen();
    }

    /// Who asks gateways for what is to come down.
    pub fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    /// Says what may go down; before the first connection.
    pub fn set_downlinks(&self, downlinks: Vec<Downlink>) {
        let _ = self.downlinks.set(Arc::new(downlinks));
    }

    /// Says who keeps what sites are to have of plugins; before the first connection.
    pub fn set_plugins(&self, plugins: Arc<dyn GivePlugins>) {
        let _ = self.plugins.set(plugins);
    }

    /// What a site is to have of plugins. Reads the store.
    pub fn plugins_of(&self, site: &str) -> Vec<PluginDown> {
        let record = self.records.all().into_iter().find(|record| record.name == site);
        let nodes = record.map(|record| record.nodes).unwrap_or_default();
        self.plugins.get().map(|plugins| plugins.of_site(site, &nodes)).unwrap_or_default()
    }

    /// Whether a site of this name feeds this one.
    pub fn has_site(&self, name: &str) -> bool {
        self.records.all().iter().any(|record| record.name == name && !record.is_revoked)
    }

    /// Whether the link of a site was removed, and the site was not invited again.
    pub fn is_removed(&self, name: &str) -> bool {
        self.records.all().iter().any(|record| record.name == name && record.is_revoked)
    }

    /// The gateways of a site that feeds this one, connected to whichever node or to none.
    pub fn gateways_of(&self, name: &str) -> Vec<NodeId> {
        let all = self.records.all().into_iter().filter(|record| record.name == name);
        all.flat_map(|record| record.nodes).map(|(node, _)| node).collect()
    }

    /// Makes an invitation known, by the hash of its secret; until when it serves.
    ///
    /// # Errors
    /// As those of [`Records::invite`].
    pub async fn invite(&self, name: &str, hash: JoinTokenHash, who: &str) -> Result<i64, Refused> {
        self.records.invite(name, hash, who).await
    }

    /// Removes a link. Its connections end, at every node of the site.
    ///
    /// # Errors
    /// As those of [`Records::revoke`].
    pub async fn remove(&self, name: &str, who: &str) -> Result<(), Refused> {
        self.records.revoke(name, who).await
    }

    /// Brings what an earlier program kept of links into the catalog; ends when it is there.
    pub async fn import(&self) {
        self.records.import().await;
    }

    /// Forgets origins of removed links of which nothing is kept any more, one a call; whether there was one. It looks at
    /// [`FORGET_LOOKS_MAX`] of them a call, and at the next ones with the next. Blocks on the disk.
    ///
    /// # Errors
    /// The store's.
    pub fn forget_one(&self) -> Result<bool, sled_data::StoreFailed> {
        self.came.close_ahead()?;
        self.forget_others_links();
        let mut linked = self.log.store().linked();
        // Of one that nobody knows it is not certain that it was removed.
        let mut removed: BTreeMap<u64, bool> = BTreeMap::new();
        let is_revoked = |link: u64| self.records.of(link).is_some_and(|record| record.is_revoked);
        linked.retain(|(_, from)| *removed.entry(from.link).or_insert_with(|| is_revoked(from.link)));
        let after = *self.forgot_up_to.lock();
        let turn = linked.partition_point(|(origin, _)| after.is_some_and(|after| *origin <= after));
        linked.rotate_left(turn);
        for (origin, _) in linked.into_iter().take(FORGET_LOOKS_MAX) {
            *self.forgot_up_to.lock() = Some(origin);
            if self.log.forget_linked(origin)? {
                tracing::info!(%origin, "an origin of a removed link is forgotten: nothing of it is kept any more");
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Forgets what is kept here of the links of the site's other nodes, when its time has come.
    fn forget_others_links(&self) {
        let now = self.log.clock().monotonic();
        let mut last = self.forgot_others_at.lock();
        if last.is_some_and(|last| now.saturating_sub(last) < FORGET_OTHERS_EVERY) {
            return;
        }
        *last = Some(now);
        if let Err(error) = forget_of_others(self.log.store()) {
            tracing::warn!(%error, "cursors of other nodes' links stay here; it is tried again in an hour");
        }
    }

    pub(super) fn page(&self, link: u64) -> Shared {
        let fresh = || Arc::new(Mutex::new(Page { state: State::Cut, ..Page::default() }));
        Arc::clone(self.pages.lock().entry(link).or_insert_with(fresh))
    }

    /// The page of the link that certificates of this id are of.
    fn page_of(&self, id: u64) -> Shared {
        let first = self.records.of(id).and_then(|record| record.ids.first().copied());
        self.page(first.unwrap_or(id))
    }

    /// Serves one connection to its end. Its protocol is that of a link, or of one who accepts an invitation.
    pub async fn serve(&self, connection: SiteConnection) {
        match (connection.protocol(), connection.link()) {
            (SiteProtocol::LinkJoin, _) => {
                let Some((place, yields)) = self.guests.take(connection.address().ip()) else {
                    return crowded(&connection);
                };
                tokio::select! {
                    () = self.let_in(&connection, &place) => {}
                    Ok(()) = yields => crowded(&connection),
                }
            }
            (_, Some(peer)) => {
                let Ok(_place) = self.places.try_acquire() else {
                    return connection
                        .close(Close::Busy as u32, "there are as many connections of links as there may be");
                };
                self.carry(peer, &connection).await;
            }
            (_, None) => connection.close(Close::Garbage as u32, "no certificate of a link was shown"),
        }
    }

    /// Serves the streams of a link's connection until it ends.
    async fn carry(&self, peer: LinkPeer, connection: &SiteConnection) {
        let shown = self.certificates.shown(peer, connection.certificate_until_s());
        let mut changed = self.records.watch();
        // One that may not stand takes nobody's place.
        if let Err(refusal) = self.records.may_stay(peer).and_then(|_| shown.judge()) {
            tracing::warn!(node = %peer.node, address = %connection.address(), why = %refusal, "a link is refused");
            return connection.close(Close::Refused as u32, &refusal.text);
        }
        let entry = self.connected.entry(peer, connection);
        let end = |close: Close, text: String| {
            connection.close(close as u32, &text);
            text
        };
        let first_hello = async {
            if timeout(FIRST_HELLO_WAIT, entry.greeted()).await.is_ok() {
                std::future::pending::<()>().await;
            }
        };
        let mut first_hello = std::pin::pin!(first_hello);
        let mut streams = JoinSet::new();
        let ended = loop {
            tokio::select! {
                stream = connection.accept(), if streams.len() < STREAMS_MAX => {
                    let Ok((out, from)) = stream else { break String::new() };
                    let judges = Judges {
                        records: Arc::clone(&self.records),
                        connected: Arc::clone(&self.connected),
                        shown: Arc::clone(&shown),
                        newest: Arc::clone(&self.newest),
                        came: Arc::clone(&self.came),
                        entry: Arc::clone(&entry),
                        connection: connection.clone(),
                        desk: Arc::clone(&self.desk),
                        downlinks: self.downlinks.get().cloned().unwrap_or_default(),
                        plugins: self.plugins.get().cloned(),
                    };
                    streams.spawn(stream_of(self.receiver(peer), peer, judges, out, from));
                }
                Ok(()) = changed.changed() => {
                    if let Err(refusal) = self.records.may_stay(peer) {
                        break end(Close::Refused, refusal.text);
                    }
                }
                () = &mut first_hello => break end(Close::Garbage, "no greeting came in time".to_owned()),
                Some(ended) = streams.join_next(), if !streams.is_empty() => match ended {
                    Ok(Some((close, text))) => break end(close, text),
                    Ok(None) => {}
                    Err(_) => break "the node is stopping".to_owned(),
                },
            }
        };
        // A greeting that is under way would put the connection among those that stand, for good.
        streams.shutdown().await;
        if let Some(left) = entry.leave() {
            let why = if ended.is_empty() { "the connection ended".to_owned() } else { ended };
            tracing::info!(node = %peer.node, address = %connection.address(), why, "a link is cut");
            let page = self.page_of(peer.link);
            // Other gateways of the site may feed it still.
            match left.has_others {
                true => page.lock().keep_connected(|node| left.nodes.contains(&node)),
                false => page.lock().set(State::Cut, why),
            }
        }
    }

    /// The link by which a site feeds this one, its page, and its gateways' names and connections; `None` where there is no such link.
    pub(super) fn gateways(&self, name: &str) -> Option<(u64, Shared, Gateways)> {
        let record = self.records.all().into_iter().find(|record| record.name == name && !record.is_revoked)?;
        let link = record.ids.first().copied().unwrap_or_default();
        let named = |connection: SiteConnection| {
            let node = connection.link().map(|peer| peer.node);
            let known = record.nodes.iter().find(|(id, _)| Some(*id) == node);
            (known.map(|(_, name)| name.clone()).unwrap_or_default(), connection)
        };
        Some((link, self.page(link), self.connected.of(&record.ids).into_iter().map(named).collect()))
    }

    pub(super) fn asks(&self) -> &Asks {
        &self.asks
    }

    fn receiver(&self, peer: LinkPeer) -> Receiver {
        Receiver {
            log: Arc::clone(&self.log),
            link: peer.link,
            node: peer.node,
            name: String::new(),
            site: self.identity.site(),
            page: self.page_of(peer.link),
            budget: self.budgets.of(peer.link),
            within: Some(Arc::clone(&self.within)),
            listed: None,
            knows_ahead: super::knows_ahead::KnowsAhead::Nothing,
            drops: Arc::default(),
            comes: Comes::ByLink,
        }
    }
}
