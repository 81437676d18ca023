//! The node in its site: its connections, replication, and what people ask of it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sled_data::OriginId;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::addresses::addresses_of;
use super::admission::Door;
use super::closing::Doors;
use super::hearing::Hearing;
use super::links::LinkNode;
use super::listing;
use super::place::Place;
use super::site_view::view;
use super::wires::{Served, Way};
use crate::admin::ApiError;
use crate::admin::site::{LeftView, Pending, RemovedView, SiteControl, SiteView, TokenView};
use crate::catalog::{Catalog, Change, MemberState, SiteUpdate, SurviveError, TokenHash};
use crate::commands::Commands;
use crate::event_log::EventLog;
use crate::links;
use crate::plugin_host::PluginHost;
use crate::replication::join::{Desk, draw_token};
use crate::replication::peers::{Own, Peers, Setup, Spoken};
use crate::replication::{Book, Config, Lags, Listed, Member, Replication, Voters};
use crate::security::JOIN_TOKEN_LIFETIME;
use crate::sessions::Knows;
use crate::transport::{NodeId, SiteIdentity, site_endpoint};

/// The folder of the node's place in its site, within the data folder.
pub const SITE_FOLDER: &str = "site";
/// The file that says what people called the node when they founded the site, within its folder.
pub const NAME_FILE: &str = "name";
/// The file that names the address of the site's connections while the node runs.
pub(super) const SITE_ADDRESS_FILE: &str = "site.addr";
/// Who the audit says did it, where a person did.
pub(super) const WHO: &str = "api";

/// Why the node's connections to its site did not start.
#[derive(Debug, thiserror::Error)]
pub enum SiteStartError {
    /// The endpoint.
    #[error(
        "the site's connections cannot listen at {address}: {error}; choose another with --site-listen or [site] listen"
    )]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What went wrong.
        error: String,
    },
    /// The system gives no randomness.
    #[error("the system gives no randomness: {0}")]
    Random(#[from] getrandom::Error),
}

/// What the node was told when it came into its site.
pub struct Told {
    /// The site's nodes as they were when it joined.
    pub first: Vec<Member>,
    /// What people called it when they founded the site with it.
    pub name: Option<String>,
    /// Its data folder.
    pub data: PathBuf,
}

/// What people called the node when they founded the site with it.
pub fn given_name(data: &Path) -> Option<String> {
    let name = std::fs::read_to_string(data.join(SITE_FOLDER).join(NAME_FILE)).ok()?;
    Some(name.trim().to_owned()).filter(|name| !name.is_empty())
}

/// The node in its site.
pub struct SiteNode {
    pub(super) place: Place,
    pub(super) log: Arc<EventLog>,
    pub(super) catalog: Arc<Catalog>,
    pub(super) book: Arc<Book>,
    /// How far others are behind, as it was counted last.
    pub(super) lags: Lags,
    /// Replication, once the node is connected.
    pub(super) replication: std::sync::OnceLock<std::sync::Weak<Replication>>,
    /// Its certificate; without it the node is alone.
    pub(super) identity: Option<Arc<SiteIdentity>>,
    pub(super) way: Arc<Way>,
    /// What it speaks with the others.
    pub(super) spoken: Arc<Spoken>,
    pub(super) told: Told,
    /// Whether it was taken out of its site, as it knows.
    pub(super) is_out: std::sync::atomic::AtomicBool,
    /// Told true when the node has left its site and is to stop.
    pub(super) left: watch::Sender<bool>,
    /// What is closed when it leaves.
    pub(super) doors: std::sync::OnceLock<Doors>,
    /// For what goes on where the one who asked for it is gone.
    pub(super) me: std::sync::Weak<Self>,
    /// Held while the node hands over.
    pub(super) leaving: tokio::sync::Mutex<()>,
    /// Whether it is to be listed as one that leaves: by this process, and not by one before it.
    pub(super) is_leaving: std::sync::atomic::AtomicBool,
    /// Since when it hears a majority.
    pub(super) hearing: parking_lot::Mutex<Hearing>,
}

/// What runs for the site.
pub struct Running {
    pub(super) peers: Arc<Peers>,
    pub(super) replication: Arc<Replication>,
    tasks: Vec<JoinHandle<()>>,
    stop: watch::Sender<bool>,
}

impl SiteNode {
    /// Not yet connected.
    pub fn new(
        place: Place,
        log: Arc<EventLog>,
        catalog: Arc<Catalog>,
        identity: Option<Arc<SiteIdentity>>,
        (way, spoken): (Arc<Way>, Spoken),
        told: Told,
    ) -> Arc<Self> {
        let (book, left) = (Arc::default(), watch::Sender::new(false));
        spoken.raise(catalog.level());
        Arc::new_cyclic(|me| Self {
            me: me.clone(),
            place,
            log,
            catalog,
            book,
            lags: Lags::default(),
            replication: Default::default(),
            identity,
            way,
            spoken: Arc::new(spoken),
            told,
            is_out: Default::default(),
            left,
            doors: Default::default(),
            leaving: Default::default(),
            is_leaving: Default::default(),
            hearing: Default::default(),
        })
    }

    /// Becomes true when the node has left its site.
    pub fn left(&self) -> watch::Receiver<bool> {
        self.left.subscribe()
    }

    pub(super) fn peers(&self) -> Option<Arc<Peers>> {
        self.way.peers()
    }

    /// Connects the node to its site, where it has a certificate and shall listen.
    ///
    /// # Errors
    /// When it cannot listen.
    pub fn start(
        self: &Arc<Self>,
        config: &Config,
        name: &str,
        plugins: &Arc<PluginHost>,
        commands: &Arc<Commands>,
        links: &LinkNode,
    ) -> Result<Option<Running>, SiteStartError> {
        let (Some(identity), Some(address)) = (self.identity.clone(), config.listen) else {
            self.go_without();
            return Ok(None);
        };
        let refused = |error: String| SiteStartError::Listen { address, error };
        let endpoint = site_endpoint(address, Arc::clone(&identity), config.bounds());
        let endpoint = endpoint.map_err(|error| refused(error.to_string()))?;
        let bound = endpoint.address().map_err(|error| refused(error.to_string()))?;
        let served = Arc::new(Served {
            log: Arc::clone(&self.log),
            catalog: Arc::clone(&self.catalog),
            plugins: Arc::clone(plugins),
            commands: Arc::clone(commands),
            site: Arc::downgrade(self),
            spread: links.spread(),
            within: links.within(),
            replication: std::sync::OnceLock::new(),
        });
        let door =
            Door { log: Arc::clone(&self.log), catalog: Arc::clone(&self.catalog), identity: Arc::clone(&identity) };
        let (members, listed) = (watch::Sender::new(Arc::default()), watch::Sender::new(Listed::default()));
        let (known, listing) = (members.subscribe(), listed.subscribe());
        self.list_members(&members, &listed);
        let peers = Arc::new(Peers::start(Setup {
            own: Own::draw(&identity, self.log.store().origin().0)?,
            spoken: Arc::clone(&self.spoken),
            endpoint,
            members: known,
            serve: Arc::clone(&served) as _,
            desk: Some(Arc::new(Desk::new(name, Arc::clone(&self.spoken), Arc::new(door)))),
            guests: links.guests(),
            clock: Arc::clone(self.log.clock()),
            config: config.clone(),
        }));
        self.way.open(&peers, &self.catalog, self.place.node, &self.log);
        let replication = Replication::new(
            Arc::clone(&self.log),
            Arc::clone(&peers),
            Arc::clone(&self.book),
            config.clone(),
            listing,
        );
        served.replication.get_or_init(|| Arc::downgrade(&replication));
        self.replication.get_or_init(|| Arc::downgrade(&replication));
        let stop = watch::Sender::new(false);
        // 0.0.0.0 is no address by which others reach it.
        let address = config.address.clone().or_else(|| (!bound.ip().is_unspecified()).then(|| bound.to_string()));
        if address.is_none() {
            tracing::warn!(%bound, "give --site-address HOST:PORT, so that others know where this node is");
        }
        let within = links.within().map(|within| tokio::spawn(within.run()));
        let tasks = vec![
            tokio::spawn(Arc::clone(&replication).run(stop.subscribe())),
            tokio::spawn(Arc::clone(self).keep_listed(members, listed)),
            tokio::spawn(Arc::clone(self).say_where(address)),
            tokio::spawn(Arc::clone(self).keep_out()),
            tokio::spawn(Arc::clone(self).wait_while_copy(peers.watch())),
            tokio::spawn(Arc::clone(self).tell_lost(peers.watch())),
            tokio::spawn(Arc::clone(self).keep_work(
                Arc::clone(plugins),
                Arc::clone(commands),
                Arc::clone(&replication),
            )),
        ];
        let tasks = tasks.into_iter().chain(within).collect();
        tracing::info!(site = %format!("{:016x}", self.place.site), node = %self.place.node, %bound, "the site's connections are open");
        Ok(Some(Running { peers, replication, tasks, stop }))
    }

    /// The node has no connections: where its site has others, nothing has a quorum.
    fn go_without(&self) {
        if self.identity.is_none() || self.catalog.members().len() == 1 {
            self.log.set_replicas(&[], 0);
            self.log.set_quorum_in_reach(true);
        } else {
            tracing::warn!(
                "the node is of a site and does not listen for the others (--site-listen): it is cut off from them"
            );
            self.doors.get().into_iter().for_each(|doors| doors.sessions().tell_known(Knows::OfHeard));
        }
    }

    /// Hands the catalog's members on to connections and replication, as they change.
    async fn keep_listed(self: Arc<Self>, members: watch::Sender<Arc<Vec<Member>>>, listed: watch::Sender<Listed>) {
        let mut changed = self.catalog.watch_members();
        loop {
            self.list_members(&members, &listed);
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    fn list_members(&self, members: &watch::Sender<Arc<Vec<Member>>>, listed: &watch::Sender<Listed>) {
        let all = self.catalog.members();
        let member = |member: &crate::catalog::Member| Member {
            node: member.node,
            name: member.name.clone(),
            address: member.address.clone(),
        };
        let mut known: Vec<Member> = all.iter().map(member).collect();
        if known.is_empty() {
            known.clone_from(&self.told.first);
        }
        let voting: Vec<NodeId> = all.iter().filter(|member| member.voter).map(|member| member.node).collect();
        let nodes: Vec<NodeId> = all.iter().map(|member| member.node).collect();
        let writer = |member: &crate::catalog::Member| Some((OriginId(member.origin?), member.node));
        members.send_replace(Arc::new(known));
        let voters = match nodes.is_empty() {
            true => Voters::unknown(),
            false => Voters::of(self.place.node, &voting, &nodes),
        };
        listed.send_replace(Listed { voters, writers: all.iter().filter_map(writer).collect() });
    }

    /// Has the catalog say where this node is, and which life it lives, where it says something else; and that it does not leave, where it
    /// was stopped while it did, for as long as the node runs.
    async fn say_where(self: Arc<Self>, address: Option<String>) {
        let (name, origin) = (self.told.name.clone(), self.log.store().origin().0);
        let mut sayer =
            listing::Sayer::new(listing::Place { name, address, origin, version: env!("CARGO_PKG_VERSION") });
        let mut changed = self.catalog.watch_members();
        loop {
            let listed = self.catalog.members().iter().find(|member| member.node == self.place.node).cloned();
            if let Some(listed) = listed {
                let now = self.log.clock().monotonic();
                let place = sayer.place(now);
                let is_asked = place.is_some();
                if self.say_update(&listed, place).await && is_asked {
                    sayer.said(now);
                }
            }
            // Tried again when something changes, and every few seconds.
            let _ = tokio::time::timeout(std::time::Duration::from_secs(2), changed.changed()).await;
        }
    }

    /// Has the catalog say what is otherwise; whether nothing is from now on.
    async fn say_update(&self, listed: &crate::catalog::Member, place: Option<&listing::Place>) -> bool {
        // While it hands over, its state is said there.
        let turn = self.leaving.try_lock().ok().filter(|_| listed.state == MemberState::Leaving);
        let is_leaving = turn.is_none() || self.is_leaving.load(std::sync::atomic::Ordering::Acquire);
        let Some(update) = listing::update(listed, place, is_leaving) else { return true };
        let said = self.catalog.propose(Change::UpdateMember { node: self.place.node, update }, "node").await;
        if let Err(refusal) = &said {
            tracing::debug!(%refusal, "the site does not know yet where this node is");
        }
        said.is_ok()
    }

    async fn make_token(&self) -> Result<TokenView, ApiError> {
        let Some(identity) = &self.identity else {
            return Err(ApiError::conflict("this node has no certificate of a site")
                .hint("stop it, run `edgeway node init`, and start it with --site-listen"));
        };
        let members = self.catalog.members();
        let addresses = addresses_of(&members, self.place.node);
        if members.is_empty() {
            return Err(ApiError::unavailable("this node was not let into its site yet; try again in a moment"));
        }
        if addresses.is_empty() {
            return Err(ApiError::conflict("no address of a node of the site is known")
                .hint("start the node with --site-listen, and --site-address where that is not one address"));
        }
        let token = draw_token(self.place.site, identity.ca_fingerprint(), addresses);
        let token = token.map_err(|error| ApiError::internal(error.to_string()))?;
        let lifetime_ms = i64::try_from(JOIN_TOKEN_LIFETIME.as_millis()).unwrap_or(i64::MAX);
        let expires_at_ms = self.log.clock().wall_ms().saturating_add(lifetime_ms);
        let hash = TokenHash(token.hash().0);
        self.catalog.propose(Change::IssueToken { hash, expires_at_ms }, WHO).await?;
        // As the leader says, whose clock it counts by.
        let expires_at_ms = self.catalog.token(&hash).map_or(expires_at_ms, |token| token.expires_at_ms);
        Ok(TokenView { token: token.to_string(), expires_at_ms })
    }

    pub(super) fn find(&self, named: &str) -> Result<NodeId, ApiError> {
        let members = self.catalog.members();
        let found = members.iter().find(|member| member.name == named || member.node.to_string() == named);
        found.map(|member| member.node).ok_or_else(|| {
            ApiError::not_found(format!("there is no node {named} in the site")).hint("`edgeway node list` names them")
        })
    }

    async fn go_on_alone(&self) -> Result<(), ApiError> {
        self.check_not_out()?;
        let there: Vec<NodeId> = links::Nodes::connected(&*self.way);
        let members = self.catalog.members();
        let voters: Vec<NodeId> = members.iter().filter(|member| member.voter).map(|member| member.node).collect();
        if !self.catalog.has_group() && !there.is_empty() {
            let names = self.names(&there).join(", ");
            let what =
                format!("this node waits to be let into its site again, and {names}, who may know more, can be asked");
            return Err(ApiError::conflict(what).coded("others-there").hint(
                "see there with `edgeway node status` who leads; where nobody does, use `edgeway node promote --lost` there",
            ));
        }
        let mut heard = 0;
        for voter in &voters {
            // One that is connected and takes part in another group, or in none as its store was restored, votes no more.
            heard += usize::from(match *voter == self.place.node {
                true => self.catalog.has_group(),
                false => there.contains(voter) && !self.catalog.is_apart(*voter).await,
            });
        }
        // Where this node alone votes, it may be asked for again, as its answer was lost: the catalog knows.
        if heard * 2 > voters.len() && voters != [self.place.node] {
            let what = format!("{heard} of {} voters are heard: the majority is not lost", voters.len());
            return Err(ApiError::conflict(what)
                .coded("majority-there")
                .hint("take single lost nodes out with `edgeway node remove`"));
        }
        self.catalog.promote_lost(WHO).await.map_err(|error| {
            let text = error.to_string();
            match error {
                SurviveError::NotLost => ApiError::conflict(text).coded("majority-there"),
                SurviveError::NoSite => ApiError::conflict(text).coded("no-site"),
                SurviveError::Removed => ApiError::conflict(text).coded("member-removed"),
                _ => ApiError::unavailable(text),
            }
        })
    }
}

impl Running {
    /// Ends what runs; the connections last, so that the others know at once.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        self.peers.stop().await;
        for task in self.tasks {
            task.abort();
            // It ended, or was broken off: nothing holds the log any more.
            let _ = task.await;
        }
    }

    /// Names the address of the site's connections in a file.
    pub(super) fn address(&self) -> Option<SocketAddr> {
        self.peers.address()
    }
}

/// Reads the node's place in its site, where it has one, and whether it has just joined.
///
/// # Errors
/// When the folder cannot be used.
pub fn read_identity(data: &Path) -> Result<Option<Arc<SiteIdentity>>, crate::transport::SiteError> {
    Ok(SiteIdentity::read(&data.join(SITE_FOLDER))?.map(Arc::new))
}

impl SiteControl for SiteNode {
    fn view(&self) -> SiteView {
        view(self)
    }

    fn issue_token(&self) -> Pending<'_, TokenView> {
        Box::pin(self.make_token())
    }

    fn remove<'a>(&'a self, node: &'a str) -> Pending<'a, RemovedView> {
        Box::pin(self.take_out(node))
    }

    fn leave(&self) -> Pending<'_, LeftView> {
        Box::pin(self.leave_whole())
    }

    fn set(&self, update: SiteUpdate, who: &'static str) -> Pending<'_, ()> {
        Box::pin(async move { Ok(self.catalog.propose(Change::SetSite(update), who).await.map(drop)?) })
    }

    fn promote_lost(&self) -> Pending<'_, ()> {
        Box::pin(self.go_on_alone())
    }
}
