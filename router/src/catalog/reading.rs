//! What is set, for who asks: nobody else is asked, and nothing is waited for.

use std::sync::Arc;

use tokio::sync::watch;

use super::device::Device;
use super::link::AgreedLink;
use super::member::Member;
use super::plugin::AgreedPlugin;
use super::route::AgreedRoute;
use super::site::Site;
use super::state::State;
use super::token::{Token, TokenHash};
use super::topic::{AgreedTopic, TopicRecord};
use super::work::{Assignment, TakeOver};
use super::{Catalog, KnownBy, Work};
use crate::event_log::EventLog;
use crate::transport::NodeId;

impl Catalog {
    /// The nodes of the site, and each change of them.
    pub fn watch_members(&self) -> watch::Receiver<Arc<Vec<Member>>> {
        self.book.members()
    }

    /// The nodes of the site.
    pub fn members(&self) -> Arc<Vec<Member>> {
        Arc::clone(&self.book.members().borrow())
    }

    /// Rises with each change that is true here.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.book.changed()
    }

    /// Whether a node was removed, so that it must not be spoken to any more.
    pub fn is_removed(&self, node: NodeId) -> bool {
        self.book.ask(|state| state.is_removed(node))
    }

    /// How many nodes were removed; their ids are never forgotten.
    pub fn removed(&self) -> usize {
        self.book.ask(State::removed_count)
    }

    /// How many names of topics are remembered, those of deleted ones among them.
    pub fn topic_names(&self) -> usize {
        self.book.ask(|state| state.topics().count())
    }

    /// What is set of the site; `None` until this node was let in.
    pub fn site(&self) -> Option<Arc<Site>> {
        self.book.ask(|state| state.site().cloned())
    }

    /// The topics that people created, by name.
    pub fn topics(&self) -> Vec<(Arc<str>, AgreedTopic)> {
        let topic = |(name, record): (&Arc<str>, &Arc<TopicRecord>)| Some((Arc::clone(name), record.topic.clone()?));
        self.book.ask(|state| state.topics().filter_map(topic).collect())
    }

    pub(crate) fn topic_records(&self) -> Vec<(Arc<str>, Arc<TopicRecord>)> {
        self.book.ask(|state| state.topics().map(|(name, record)| (Arc::clone(name), Arc::clone(record))).collect())
    }

    pub(super) fn log(&self) -> &Arc<EventLog> {
        &self.book.log
    }

    /// All that is known of a topic's name: the topic, and how often one of that name was deleted.
    pub fn topic(&self, name: &str) -> TopicRecord {
        self.book.ask(|state| state.topic(name).map(|record| TopicRecord::clone(record)).unwrap_or_default())
    }

    /// The plugins that are to run on the nodes of the site, by name.
    pub fn plugins(&self) -> Vec<(Arc<str>, Arc<AgreedPlugin>)> {
        let plugin = |(name, plugin): (&Arc<str>, &Arc<AgreedPlugin>)| (Arc::clone(name), Arc::clone(plugin));
        self.book.ask(|state| state.plugins().map(plugin).collect())
    }

    /// What is to run of a plugin.
    pub fn plugin(&self, name: &str) -> Option<Arc<AgreedPlugin>> {
        self.book.ask(|state| state.plugin(name).cloned())
    }

    /// The routing rules of the site, in the order in which they are asked.
    pub fn routes(&self) -> Vec<(Arc<str>, Arc<AgreedRoute>)> {
        let route = |(name, route): (&Arc<str>, &Arc<AgreedRoute>)| (Arc::clone(name), Arc::clone(route));
        let mut routes: Vec<_> = self.book.ask(|state| state.routes().map(route).collect());
        // They come by their names already.
        routes.sort_by_key(|(_, route)| route.order);
        routes
    }

    /// The sites that feed this one, by name, removed ones included.
    pub fn links(&self) -> Vec<(Arc<str>, Arc<AgreedLink>)> {
        let link = |(name, link): (&Arc<str>, &Arc<AgreedLink>)| (Arc::clone(name), Arc::clone(link));
        self.book.ask(|state| state.links().map(link).collect())
    }

    /// The link that certificates of this id are of, and its name.
    pub fn link_of(&self, id: u64) -> Option<(Arc<str>, Arc<AgreedLink>)> {
        self.book.ask(|state| {
            let mut links = state.links();
            let found = links.find(|(_, link)| link.ids.contains(&id));
            found.map(|(name, link)| (Arc::clone(name), Arc::clone(link)))
        })
    }

    /// The level at which the site works.
    pub fn level(&self) -> u16 {
        self.book.ask(State::level)
    }

    /// Which nodes run which plugins, by plugin and partition number.
    pub fn assignments(&self) -> Vec<(Work, Arc<Assignment>)> {
        self.book.ask(|state| state.assignments().map(|(work, set)| (work.clone(), Arc::clone(set))).collect())
    }

    /// Which node runs a plugin on a partition number.
    pub fn assignment(&self, plugin: &str, partition: u32) -> Option<Arc<Assignment>> {
        self.book.ask(|state| state.assignment(plugin, partition).cloned())
    }

    /// Who took over from which origins.
    pub fn take_overs(&self) -> Vec<(u64, Arc<TakeOver>)> {
        self.book.ask(|state| state.take_overs().map(|(origin, taken)| (origin, Arc::clone(taken))).collect())
    }

    /// What is known of a join token.
    pub fn token(&self, hash: &TokenHash) -> Option<Token> {
        self.book.ask(|state| state.token(hash).copied())
    }

    /// What makes a device known.
    pub fn known_by(&self) -> KnownBy {
        self.book.config.known_by
    }

    /// Whether a device may connect.
    pub fn lets_in(&self, device: &str) -> bool {
        self.known_by() == KnownBy::Contact || self.is_enrolled(device)
    }

    /// What is set of a device.
    pub fn get(&self, device: &str) -> Option<Arc<Device>> {
        self.book.ask(|state| state.devices().get(device))
    }

    /// Whether a device was added by people.
    pub fn is_enrolled(&self, device: &str) -> bool {
        self.get(device).is_some_and(|device| device.enrolled)
    }

    /// Whether people said of a device that it refuses a command whose id it has seen.
    pub fn refuses_repeats(&self, device: &str) -> bool {
        self.get(device).is_some_and(|device| device.refuses_repeats == Some(true))
    }

    /// At most `max` devices by name, those after `after`.
    pub fn page(&self, after: Option<&str>, max: usize) -> Vec<(Arc<str>, Arc<Device>)> {
        self.book.ask(|state| state.devices().page(after, max))
    }

    /// How many devices it has.
    pub fn len(&self) -> usize {
        self.book.ask(|state| state.devices().len())
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many of its devices are enrolled.
    pub fn enrolled(&self) -> usize {
        self.book.ask(|state| state.devices().enrolled())
    }
}
