//! Which rooms the API speaks for. Each group of calls gets the rooms that it needs, and no more.

use std::sync::Arc;

use axum::{Router, middleware};
use tokio::sync::Semaphore;

use super::metrics::Metrics;
use super::status::Identity;
use super::{
    Config, Readiness, commands, detail, devices, events, guard, health, jobs, links, metrics, plugins, routes, site,
    status, store, tail, topics, twins,
};
use crate::commands::Commands;
use crate::directory::Directory;
use crate::event_log::{EventLog, FULL_ADVICE};
use crate::ingest::Ingest;
use crate::plugin_host::{PluginHost, Wants};
use crate::sessions::Sessions;
use crate::twins::Twins;

/// The rooms, as the node hands them over when it starts.
pub struct Rooms {
    /// Name and addresses.
    pub identity: Identity,
    /// Where the node is in its life.
    pub readiness: Arc<Readiness>,
    /// The spine.
    pub log: Arc<EventLog>,
    /// The way in.
    pub ingest: Arc<Ingest>,
    /// Who is connected.
    pub sessions: Arc<Sessions>,
    /// All devices.
    pub directory: Arc<Directory>,
    /// What the QUIC door counts; all zero where it does not listen.
    pub quic: Arc<crate::quic::Stats>,
    /// The reader that runs plugins.
    pub plugins: Arc<PluginHost>,
    /// What sites that feed this one are to have of plugins.
    pub wants: Arc<Wants>,
    /// The reader that takes commands to devices.
    pub commands: Arc<Commands>,
    /// The reader of device twins.
    pub twins: Arc<Twins>,
    /// The site.
    pub site: site::Site,
    /// Links between sites.
    pub links: links::Links,
}

impl Rooms {
    /// The calls that are open to everyone: health, readiness, metrics.
    pub fn open_routes(&self) -> Router {
        let log = Arc::clone(&self.log);
        self.readiness.add_check("store", move || {
            let failed = log.store().failure().map(|failure| failure.to_string());
            failed.or_else(|| log.why_full().map(|why| format!("full: {why}; {FULL_ADVICE}")))
        });
        let mut figures = Metrics::default();
        figures.add_log(Arc::clone(&self.log));
        figures.add_ingest(Arc::clone(&self.ingest));
        figures.add_sessions(Arc::clone(&self.sessions));
        figures.add_devices(Arc::clone(&self.directory));
        figures.add_quic(Arc::clone(&self.quic));
        figures.add_plugins(Arc::clone(&self.plugins));
        figures.add_commands(Arc::clone(&self.commands));
        figures.add_twins(Arc::clone(&self.twins));
        figures.add_site(Arc::clone(&self.site));
        figures.add_links(Arc::clone(&self.links));
        health::routes(Arc::clone(&self.readiness)).merge(metrics::routes(figures))
    }

    /// The calls under `/v1`, which ask for the token.
    pub fn guarded_routes(&self, config: &Config) -> Router {
        let log = || Arc::clone(&self.log);
        let tails = Arc::new(Semaphore::new(config.tails_max));
        let looked = status::Looked {
            identity: self.identity.clone(),
            log: log(),
            sessions: Arc::clone(&self.sessions),
            readiness: Arc::clone(&self.readiness),
            commands: Arc::clone(&self.commands),
            plugins: Arc::clone(&self.plugins),
            twins: Arc::clone(&self.twins),
            catalog: Arc::clone(self.directory.catalog()),
        };
        Router::new()
            .merge(topics::routes(log(), Arc::clone(self.directory.catalog())))
            .merge(events::routes(log()))
            .merge(routes::routes(Arc::clone(&self.ingest), Arc::clone(self.directory.catalog())))
            .merge(tail::routes(log(), Arc::clone(&self.readiness), Arc::clone(&tails)))
            .merge(detail::routes(Arc::clone(&self.links), Arc::clone(&self.readiness), tails))
            .merge(devices::routes(Arc::clone(&self.directory)))
            .merge(status::routes(looked))
            .merge(plugins::routes(Arc::clone(&self.plugins), Arc::clone(self.directory.catalog())))
            .merge(plugins::routes_of_sites(Arc::clone(&self.wants), Arc::clone(&self.links)))
            .merge(commands::routes(Arc::clone(&self.commands)))
            .merge(twins::routes(Arc::clone(&self.twins)))
            .merge(jobs::routes(Arc::clone(&self.commands)))
            .merge(store::routes(log()))
            .merge(site::routes(Arc::clone(&self.site)))
            .merge(links::routes(Arc::clone(&self.links)))
            .layer(middleware::from_fn_with_state(Arc::clone(&self.readiness), guard::still_takes))
    }
}

#[cfg(test)]
mod tests;
