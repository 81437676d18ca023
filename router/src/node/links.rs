//! The node's links: what feeds it, what it feeds, and what people ask of either.

mod changed;
mod removed;

use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use super::addresses::addresses_of;
use super::down::{Below as CommandsBelow, Giving, Taking};
use super::link_json::{json, plugin};
use super::place::Place;
use super::plugins::above::Above;
use super::plugins::below::Below;
use super::plugins::spread::{Others, Spread};
use super::summaries::{Summaries, Told};
use crate::admin::ApiError;
use crate::admin::links::{InviteJson, LinkControl, LinkJson, PluginDownJson};
use crate::admin::site::Pending;
use crate::catalog::{self, Catalog, LinkRefusal};
use crate::commands::Commands;
use crate::config::Config;
use crate::event_log::EventLog;
use crate::links::detail::{Ask, AskError, Detail};
use crate::links::{
    AcceptError, Edge, FolderError, Nodes, PauseError, RecordError, Records, Setup, Upstream, Within, is_link_name,
};
use crate::plugin_host::{PluginHost, Wants};
use crate::replication::join::draw_token;
use crate::replication::peers::Guests;
use crate::security::LinkToken;
use crate::transport::{SiteConnection, SiteIdentity};

/// Who the audit says did it, where a person did.
const WHO: &str = "api";

/// How often it is looked whether summaries are made.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// Takes what comes to the site's port for links.
struct Taken(Arc<Upstream>);

impl Guests for Taken {
    fn receive(&self, connection: SiteConnection) -> crate::replication::Pending<'_, ()> {
        Box::pin(self.0.serve(connection))
    }
}

/// The node's links.
pub struct LinkNode {
    place: Place,
    catalog: Arc<Catalog>,
    edge: Arc<Edge>,
    upstream: Option<(Arc<Upstream>, Arc<SiteIdentity>)>,
    summaries: Summaries,
    /// Bytes that a link may keep here; `None`: no bound.
    link_bytes_max: Option<u64>,
    /// What sites that feed this one are to have of plugins, here and at the site's other nodes.
    spread: OnceLock<Arc<Spread>>,
}

impl LinkNode {
    /// Reads what is kept of links; none runs yet. Without an identity in a site the node can feed others, and not be fed.
    ///
    /// # Errors
    /// When the store cannot say who feeds this site.
    pub fn open(
        log: &Arc<EventLog>,
        catalog: &Arc<Catalog>,
        (identity, way): (Option<Arc<SiteIdentity>>, Arc<dyn Nodes>),
        place: Place,
        config: &Config,
    ) -> Result<Arc<Self>, RecordError> {
        // As the site's list has it: two gateways may have one name in their files, that of the default.
        let members = catalog.members();
        let own = members.iter().find(|member| member.node == place.node && !member.name.is_empty());
        let setup = Setup {
            log: Arc::clone(log),
            data: config.node.data.clone(),
            site: place.site,
            name: own.map_or_else(|| config.node.name.clone(), |member| member.name.clone()),
            links: config.link.clone(),
        };
        let quorum = config.site.linked_quorum.clone();
        let upstream = match identity {
            Some(identity) => {
                let records = Arc::new(Records::open(Arc::clone(log), Arc::clone(catalog))?);
                let upstream =
                    Upstream::new(Arc::clone(log), Arc::clone(&identity), records, config.site.link_certificate_s);
                upstream.within().set_nodes(way, quorum);
                upstream.set_downlinks(config.downlink.clone());
                Some((upstream, identity))
            }
            None => None,
        };
        let summaries = Summaries::new(Arc::clone(log));
        let link_bytes_max = Some(config.site.link_bytes_max).filter(|bytes| *bytes > 0);
        let (catalog, edge) = (Arc::clone(catalog), Edge::new(setup));
        let spread = OnceLock::new();
        Ok(Arc::new(Self { place, catalog, edge, upstream, summaries, link_bytes_max, spread }))
    }

    /// What makes summaries for links.
    pub fn set_plugins(&self, plugins: Arc<PluginHost>) {
        self.summaries.set_plugins(plugins);
    }

    /// Says what keeps links from bringing their summaries, now and whenever it changes. Goes on for as long as the node runs.
    pub async fn watch_summaries(self: Arc<Self>) {
        let mut told = Told::default();
        loop {
            let node = Arc::clone(&self);
            if let Ok(all) = tokio::task::spawn_blocking(move || node.summaries.of(&node.edge)).await {
                told.tell(all);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Who takes the connections of links on the site's port.
    pub fn guests(&self) -> Option<Arc<dyn Guests>> {
        let (upstream, _) = self.upstream.as_ref()?;
        Some(Arc::new(Taken(Arc::clone(upstream))))
    }

    /// Lets commands come down links, from here and to here; before links start.
    pub fn bring_down(&self, commands: &Arc<Commands>) {
        self.edge.set_take(Arc::new(Taking(Arc::downgrade(commands))));
        if let Some((upstream, _)) = &self.upstream {
            self.edge.set_below(Arc::clone(upstream));
            upstream.desk().set_giver(Arc::new(Giving(Arc::downgrade(commands))));
            commands.set_down(Arc::new(CommandsBelow(Arc::clone(upstream))));
        }
    }

    /// Lets plugins come down links, from here and to here; before links start.
    pub fn bring_plugins(&self, plugins: &Arc<PluginHost>, wants: &Arc<Wants>, others: Arc<dyn Others>) {
        let above = Above::new(Arc::clone(plugins), Arc::clone(&self.catalog));
        self.edge.set_take_plugins(Arc::new(above));
        if let Some((upstream, _)) = &self.upstream {
            upstream.set_plugins(Arc::new(Below(Arc::clone(wants), Arc::downgrade(upstream))));
            self.spread.get_or_init(|| Spread::new(Arc::clone(wants), others));
        }
    }

    /// What says to the site's other nodes what sites are to have of plugins; `None` where none can have any.
    pub(super) fn spread(&self) -> Option<Arc<Spread>> {
        self.spread.get().map(Arc::clone)
    }

    /// Hears it from them. Goes on for as long as the node runs.
    pub async fn spread_wants(self: Arc<Self>) {
        if let Some(spread) = self.spread() {
            spread.run().await;
        }
    }

    /// What it does with the site's other nodes for links.
    pub fn within(&self) -> Option<Arc<Within>> {
        self.upstream.as_ref().map(|(upstream, _)| Arc::clone(upstream.within()))
    }

    /// Takes no links any more, or takes them again: the node leaves its site, or stays.
    pub(super) fn close(&self, is_closed: bool) {
        match &self.upstream {
            Some((upstream, _)) if is_closed => upstream.close(),
            Some((upstream, _)) => upstream.reopen(),
            None => {}
        }
    }

    /// The edge's side.
    pub fn edge(&self) -> &Arc<Edge> {
        &self.edge
    }

    fn upstream(&self) -> Result<&(Arc<Upstream>, Arc<SiteIdentity>), ApiError> {
        self.upstream.as_ref().ok_or_else(|| {
            ApiError::conflict("this node has no certificate of a site, so no link can come in")
                .hint("stop it, run `edgeway node init`, and start it with --site-listen")
        })
    }

    async fn make_invitation(&self, site: &str) -> Result<InviteJson, ApiError> {
        let (upstream, identity) = self.upstream()?;
        if self.edge.brings_topics(site) {
            let what = format!("a link of this node is called {site}, and brings topics down by that name");
            return Err(ApiError::conflict(what).hint("call the site otherwise"));
        }
        let addresses = addresses_of(&self.catalog.members(), self.place.node);
        if addresses.is_empty() {
            return Err(ApiError::conflict("no address of a node of this site is known")
                .hint("start it with --site-listen, and --site-address where that is not one address"));
        }
        let token = draw_token(self.place.site, identity.ca_fingerprint(), addresses);
        let token = LinkToken(token.map_err(|error| ApiError::internal(error.to_string()))?);
        let expires_at_ms = upstream.invite(site, token.0.hash(), WHO).await?;
        Ok(InviteJson { site: site.to_owned(), token: token.to_string(), expires_at_ms })
    }

    async fn take_invitation(&self, token: &str, name: &str) -> Result<String, ApiError> {
        if !is_link_name(name) {
            return Err(catalog::Refusal::Link(LinkRefusal::Name(name.to_owned())).into());
        }
        let token: LinkToken =
            token.parse().map_err(|error: crate::security::JoinTokenError| ApiError::bad_request(error.to_string()))?;
        Ok(self.edge.accept(&token, name).await?)
    }

    async fn take_out(&self, name: &str) -> Result<(), ApiError> {
        if self.edge.remove(name).await? {
            return Ok(());
        }
        if self.edge.is_named(name) && !self.feeds(name) {
            return Err(PauseError::NotAccepted(name.to_owned()).into());
        }
        let unknown = || unknown(name);
        let (upstream, _) = self.upstream.as_ref().ok_or_else(unknown)?;
        upstream.remove(name, WHO).await?;
        // Before it can be invited again.
        self.forget_plugins_of(name).await;
        Ok(())
    }

    /// Brings what an earlier program kept of links into the catalog; ends when it is there.
    pub async fn import(self: Arc<Self>) {
        if let Some((upstream, _)) = &self.upstream {
            upstream.import().await;
        }
    }

    /// One pass over what links keep here beyond so many bytes each; whether there is more to do at once. Blocks on the disk.
    pub fn keep_share(&self, bytes_max: u64) -> bool {
        let Some((upstream, _)) = &self.upstream else { return false };
        match upstream.keep_share(bytes_max) {
            Ok(pass) => pass.more,
            Err(error) => {
                tracing::warn!(%error, "what links keep beyond their share could not be trimmed; it is tried again with the next pass");
                false
            }
        }
    }

    /// Forgets an origin of a removed link of which nothing is kept any more; whether there was one. Blocks on the disk.
    pub fn forget_one(&self) -> bool {
        let Some((upstream, _)) = &self.upstream else { return false };
        upstream.forget_one().unwrap_or_else(|error| {
            tracing::warn!(%error, "an origin of a removed link is not forgotten");
            false
        })
    }
}

fn unknown(name: &str) -> ApiError {
    ApiError::not_found(format!("there is no link {name}")).hint("`edgeway link list` names them")
}

impl LinkControl for LinkNode {
    fn feeds(&self, site: &str) -> bool {
        self.upstream.as_ref().is_some_and(|(upstream, _)| upstream.has_site(site))
    }

    fn plugins(&self, site: &str) -> Vec<PluginDownJson> {
        let of_site = self.upstream.as_ref().map(|(upstream, _)| upstream.plugins_of(site));
        of_site.unwrap_or_default().into_iter().map(plugin).collect()
    }

    fn hear_others<'a>(&'a self) -> Pending<'a, ()> {
        Box::pin(async move {
            if let Some(spread) = self.spread() {
                spread.hear_others().await;
            }
            Ok(())
        })
    }

    fn tell_others<'a>(&'a self) -> Pending<'a, ()> {
        Box::pin(async move {
            if let Some(spread) = self.spread() {
                spread.tell_others().await;
            }
            Ok(())
        })
    }

    fn views(&self) -> Vec<LinkJson> {
        let down = self.upstream.as_ref().map(|(upstream, _)| upstream.views()).unwrap_or_default();
        let mut summaries = self.summaries.of(&self.edge);
        let up = self.edge.views().into_iter().map(|view| {
            let of_link = summaries.remove(&view.name).unwrap_or_default();
            json(view, of_link)
        });
        let bounded = |view| LinkJson { kept_bytes_max: self.link_bytes_max, ..json(view, Vec::new()) };
        up.chain(down.into_iter().map(bounded)).collect()
    }

    fn invite<'a>(&'a self, site: &'a str) -> Pending<'a, InviteJson> {
        Box::pin(self.make_invitation(site))
    }

    fn accept<'a>(&'a self, token: &'a str, name: &'a str) -> Pending<'a, String> {
        Box::pin(self.take_invitation(token, name))
    }

    fn pause(&self, name: &str, paused: bool) -> Result<(), ApiError> {
        match self.edge.pause(name, paused) {
            Err(PauseError::Unknown(_)) => {}
            done => return Ok(done?),
        }
        let is_fed =
            self.upstream.as_ref().is_some_and(|(upstream, _)| upstream.views().iter().any(|view| view.name == name));
        if is_fed {
            let what = format!("{name} feeds this site: a link is paused where it begins");
            return Err(ApiError::conflict(what).hint("pause it there, or remove it here"));
        }
        Err(unknown(name))
    }

    fn detail<'a>(&'a self, site: &'a str, ask: Ask) -> Pending<'a, Detail> {
        Box::pin(async move {
            let unknown = || AskError::Unknown(site.to_owned());
            let (upstream, _) = self.upstream.as_ref().ok_or_else(unknown)?;
            Ok(upstream.ask(site, ask).await?)
        })
    }

    fn remove<'a>(&'a self, name: &'a str) -> Pending<'a, ()> {
        Box::pin(self.take_out(name))
    }
}

impl From<FolderError> for ApiError {
    fn from(error: FolderError) -> Self {
        Self::internal(error.to_string())
    }
}

impl From<PauseError> for ApiError {
    fn from(error: PauseError) -> Self {
        let text = error.to_string();
        match error {
            PauseError::Unknown(name) => unknown(&name),
            PauseError::NotAccepted(name) => Self::conflict(text).hint(format!(
                "`edgeway link accept TOKEN --name {name}`, or take its [[link]] out of the configuration"
            )),
            PauseError::Broken { .. } => Self::conflict(text),
            PauseError::Folder(error) => error.into(),
        }
    }
}

impl From<AcceptError> for ApiError {
    fn from(error: AcceptError) -> Self {
        let text = error.to_string();
        match error {
            AcceptError::Unreached(_) | AcceptError::Kept(_) => Self::unavailable(text),
            AcceptError::Refused(_) | AcceptError::OwnSite => Self::conflict(text),
            AcceptError::Folder(crate::transport::SiteError::There(folder)) => {
                let name =
                    folder.file_name().map(Path::new).map_or_else(String::new, |name| name.display().to_string());
                Self::conflict(format!("there is a link {name} already"))
                    .hint("remove it with `edgeway link remove`, or name another with --name")
            }
            AcceptError::Folder(_) => Self::internal(text),
        }
    }
}
