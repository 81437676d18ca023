//! All that is set, in memory. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use super::device::Device;
use super::level::LEVEL_MIN;
use super::link::{AgreedLink, LinkToken};
use super::member::Member;
use super::plugin::AgreedPlugin;
use super::route::AgreedRoute;
use super::site::Site;
use super::token::{Token, TokenHash};
use super::topic::TopicRecord;
use super::work::{Assignment, TakeOver};
use super::write::Write;
use crate::transport::NodeId;

/// All devices of the catalog by name.
#[derive(Debug, Clone, Default)]
pub(super) struct Devices {
    by_name: BTreeMap<Arc<str>, Arc<Device>>,
    enrolled: usize,
    bytes: usize,
}

impl Devices {
    fn set(&mut self, name: &Arc<str>, device: Option<&Arc<Device>>) {
        let before = match device {
            Some(device) => {
                self.enrolled += usize::from(device.enrolled);
                self.bytes += device.bytes(name);
                self.by_name.insert(Arc::clone(name), Arc::clone(device))
            }
            None => self.by_name.remove(name),
        };
        if let Some(before) = before {
            self.enrolled -= usize::from(before.enrolled);
            self.bytes -= before.bytes(name);
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<Arc<Device>> {
        self.by_name.get(name).cloned()
    }

    pub(super) fn len(&self) -> usize {
        self.by_name.len()
    }

    /// How many are enrolled.
    pub(super) fn enrolled(&self) -> usize {
        self.enrolled
    }

    /// What they take in memory, roughly, in bytes.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// At most `max` devices by name, those after `after`.
    pub(super) fn page(&self, after: Option<&str>, max: usize) -> Vec<(Arc<str>, Arc<Device>)> {
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        let page = self.by_name.range::<str, _>((from, Bound::Unbounded)).take(max);
        page.map(|(name, device)| (Arc::clone(name), Arc::clone(device))).collect()
    }
}

/// All that is set.
#[derive(Debug, Clone, Default)]
pub(super) struct State {
    devices: Devices,
    members: BTreeMap<NodeId, Arc<Member>>,
    removed: BTreeSet<NodeId>,
    tokens: BTreeMap<TokenHash, Token>,
    topics: BTreeMap<Arc<str>, Arc<TopicRecord>>,
    assignments: BTreeMap<(Arc<str>, u32), Arc<Assignment>>,
    take_overs: BTreeMap<u64, Arc<TakeOver>>,
    plugins: BTreeMap<Arc<str>, Arc<AgreedPlugin>>,
    routes: BTreeMap<Arc<str>, Arc<AgreedRoute>>,
    links: BTreeMap<Arc<str>, Arc<AgreedLink>>,
    link_tokens: BTreeMap<TokenHash, LinkToken>,
    site: Option<Arc<Site>>,
    level: Option<u16>,
}

impl State {
    /// Takes over one entry.
    pub(super) fn apply(&mut self, write: &Write) {
        match write {
            Write::Device(name, device) => self.devices.set(name, device.as_ref()),
            Write::Member(node, Some(member)) => drop(self.members.insert(*node, Arc::clone(member))),
            Write::Member(node, None) => drop(self.members.remove(node)),
            Write::Removed(node) => drop(self.removed.insert(*node)),
            Write::Token(hash, Some(token)) => drop(self.tokens.insert(*hash, *token)),
            Write::Token(hash, None) => drop(self.tokens.remove(hash)),
            Write::Topic(name, record) => drop(self.topics.insert(Arc::clone(name), Arc::clone(record))),
            Write::Assignment(plugin, partition, Some(assignment)) => {
                self.assignments.insert((Arc::clone(plugin), *partition), Arc::clone(assignment));
            }
            Write::Assignment(plugin, partition, None) => {
                self.assignments.remove(&(Arc::clone(plugin), *partition));
            }
            Write::TakeOver(origin, Some(take_over)) => {
                self.take_overs.insert(*origin, Arc::clone(take_over));
            }
            Write::TakeOver(origin, None) => drop(self.take_overs.remove(origin)),
            Write::Site(site) => self.site = Some(Arc::clone(site)),
            Write::Plugin(name, Some(plugin)) => drop(self.plugins.insert(Arc::clone(name), Arc::clone(plugin))),
            Write::Plugin(name, None) => drop(self.plugins.remove(name)),
            Write::Route(name, Some(route)) => drop(self.routes.insert(Arc::clone(name), Arc::clone(route))),
            Write::Route(name, None) => drop(self.routes.remove(name)),
            Write::Link(name, link) => drop(self.links.insert(Arc::clone(name), Arc::clone(link))),
            Write::LinkToken(hash, Some(token)) => drop(self.link_tokens.insert(*hash, token.clone())),
            Write::LinkToken(hash, None) => drop(self.link_tokens.remove(hash)),
            Write::Level(level) => self.level = Some(*level),
        }
    }

    /// All that is set, entry by entry.
    pub(super) fn all(&self) -> impl Iterator<Item = Write> + Send {
        let devices = self.devices.by_name.iter();
        let devices = devices.map(|(name, device)| Write::Device(Arc::clone(name), Some(Arc::clone(device))));
        let members = self.members.iter().map(|(node, member)| Write::Member(*node, Some(Arc::clone(member))));
        let removed = self.removed.iter().map(|node| Write::Removed(*node));
        let tokens = self.tokens.iter().map(|(hash, token)| Write::Token(*hash, Some(*token)));
        let topics = self.topics.iter().map(|(name, record)| Write::Topic(Arc::clone(name), Arc::clone(record)));
        let assignments = self.assignments.iter();
        let assignments =
            assignments.map(|((plugin, at), set)| Write::Assignment(Arc::clone(plugin), *at, Some(Arc::clone(set))));
        let take_overs =
            self.take_overs.iter().map(|(origin, take_over)| Write::TakeOver(*origin, Some(Arc::clone(take_over))));
        let plugins = self.plugins.iter();
        let plugins = plugins.map(|(name, plugin)| Write::Plugin(Arc::clone(name), Some(Arc::clone(plugin))));
        let routes = self.routes.iter();
        let routes = routes.map(|(name, route)| Write::Route(Arc::clone(name), Some(Arc::clone(route))));
        let links = self.links.iter().map(|(name, link)| Write::Link(Arc::clone(name), Arc::clone(link)));
        let link_tokens = self.link_tokens.iter().map(|(hash, token)| Write::LinkToken(*hash, Some(token.clone())));
        let site = self.site.iter().map(|site| Write::Site(Arc::clone(site)));
        let level = self.level.iter().map(|level| Write::Level(*level));
        devices
            .chain(members)
            .chain(removed)
            .chain(tokens)
            .chain(topics)
            .chain(assignments)
            .chain(take_overs)
            .chain(plugins)
            .chain(routes)
            .chain(links)
            .chain(link_tokens)
            .chain(site)
            .chain(level)
    }

    pub(super) fn devices(&self) -> &Devices {
        &self.devices
    }

    pub(super) fn member(&self, node: NodeId) -> Option<&Arc<Member>> {
        self.members.get(&node)
    }

    pub(super) fn members(&self) -> impl Iterator<Item = &Arc<Member>> {
        self.members.values()
    }

    /// Whether the node was removed, once and for all.
    pub(super) fn is_removed(&self, node: NodeId) -> bool {
        self.removed.contains(&node)
    }

    pub(super) fn removed_count(&self) -> usize {
        self.removed.len()
    }

    pub(super) fn token(&self, hash: &TokenHash) -> Option<&Token> {
        self.tokens.get(hash)
    }

    pub(super) fn tokens(&self) -> impl Iterator<Item = (&TokenHash, &Token)> {
        self.tokens.iter()
    }

    pub(super) fn topic(&self, name: &str) -> Option<&Arc<TopicRecord>> {
        self.topics.get(name)
    }

    pub(super) fn topics(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<TopicRecord>)> {
        self.topics.iter()
    }

    pub(super) fn assignment(&self, plugin: &str, partition: u32) -> Option<&Arc<Assignment>> {
        self.assignments.get(&(Arc::from(plugin), partition))
    }

    pub(super) fn assignments(&self) -> impl Iterator<Item = (&(Arc<str>, u32), &Arc<Assignment>)> {
        self.assignments.iter()
    }

    pub(super) fn take_over(&self, origin: u64) -> Option<&Arc<TakeOver>> {
        self.take_overs.get(&origin)
    }

    pub(super) fn take_overs(&self) -> impl Iterator<Item = (u64, &Arc<TakeOver>)> {
        self.take_overs.iter().map(|(origin, take_over)| (*origin, take_over))
    }

    pub(super) fn plugin(&self, name: &str) -> Option<&Arc<AgreedPlugin>> {
        self.plugins.get(name)
    }

    pub(super) fn plugins(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<AgreedPlugin>)> {
        self.plugins.iter()
    }

    pub(super) fn route(&self, name: &str) -> Option<&Arc<AgreedRoute>> {
        self.routes.get(name)
    }

    pub(super) fn routes(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<AgreedRoute>)> {
        self.routes.iter()
    }

    pub(super) fn link(&self, name: &str) -> Option<&Arc<AgreedLink>> {
        self.links.get(name)
    }

    pub(super) fn links(&self) -> impl Iterator<Item = (&Arc<str>, &Arc<AgreedLink>)> {
        self.links.iter()
    }

    pub(super) fn link_token(&self, hash: &TokenHash) -> Option<&LinkToken> {
        self.link_tokens.get(hash)
    }

    pub(super) fn link_tokens(&self) -> impl Iterator<Item = (&TokenHash, &LinkToken)> {
        self.link_tokens.iter()
    }

    /// The level at which the site works.
    pub(super) fn level(&self) -> u16 {
        self.level.unwrap_or(LEVEL_MIN)
    }

    pub(super) fn site(&self) -> Option<&Arc<Site>> {
        self.site.as_ref()
    }
}
