//! The edge's side of links: those that it has, and what people ask of them.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use sled_data::{Offset, PartitionId};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::accept::{AcceptError, Applicant, accept};
use super::ahead_note;
use super::book::{Direction, LATER_SHOWN_MAX, Later, LinkView, Page, Shared, State};
use super::budget::Budgets;
use super::config::LinkConfig;
use super::dial::{Dialler, READER};
use super::down::TakeDown;
use super::folder::{self, FolderError, Place};
use super::forget::{forget, forget_gone, place};
use super::plugins::{Partial, TakePlugins};
use super::summary::LinkSummary;
use super::topics::{Brings, coming, link_of, of_words};
use super::upstream::Upstream;
use super::waiting::{carried, floor, measure};
use crate::event_log::EventLog;
use crate::security::LinkToken;

/// What links are made of.
pub struct Setup {
    /// The log that is read.
    pub log: Arc<EventLog>,
    /// The data folder.
    pub data: PathBuf,
    /// This site.
    pub site: u64,
    /// What people call this node.
    pub name: String,
    /// What the configuration says of links.
    pub links: Vec<LinkConfig>,
}

/// The edge's side.
pub struct Edge {
    setup: Setup,
    running: Mutex<BTreeMap<String, Running>>,
    /// One link is started or removed at a time.
    changing: tokio::sync::Mutex<()>,
    outlived: watch::Sender<bool>,
    take: OnceLock<Arc<dyn TakeDown>>,
    below: OnceLock<Arc<Upstream>>,
    budgets: Budgets,
    take_plugins: OnceLock<Arc<dyn TakePlugins>>,
    partial: Arc<Partial>,
}

struct Running {
    page: Shared,
    config: LinkConfig,
    /// The page of topics that come down, and the id that they have here.
    topics: Option<(Shared, u64)>,
    paused: watch::Sender<bool>,
    place: Arc<Place>,
    /// `None`: it does not start, and its page says why.
    task: Option<JoinHandle<()>>,
}

impl Running {
    async fn end(self) {
        if let Some(task) = self.task {
            task.abort();
            let _ = task.await;
        }
    }
}

/// Why a link was not paused, or does not go on.
#[derive(Debug, thiserror::Error)]
pub enum PauseError {
    /// There is none of that name.
    #[error("there is no link {0}")]
    Unknown(String),
    /// The configuration alone names it.
    #[error("link {0} is in the configuration, and no invitation was accepted by that name")]
    NotAccepted(String),
    /// It does not start; why, and what to do.
    #[error("link {name}: {why}")]
    Broken {
        /// What it is called here.
        name: String,
        /// In words.
        why: String,
    },
    /// It cannot be noted.
    #[error(transparent)]
    Folder(#[from] FolderError),
}

impl Edge {
    /// No link runs yet.
    pub fn new(setup: Setup) -> Arc<Self> {
        Arc::new(Self {
            setup,
            running: Mutex::default(),
            changing: tokio::sync::Mutex::default(),
            outlived: watch::Sender::new(false),
            take: OnceLock::new(),
            below: OnceLock::new(),
            budgets: Budgets::default(),
            take_plugins: OnceLock::new(),
            partial: Arc::default(),
        })
    }

    /// Says who takes commands that come down; before links start.
    pub fn set_take(&self, take: Arc<dyn TakeDown>) {
        let _ = self.take.set(take);
    }

    /// Says who has the sites that feed this one, and its other nodes; before links start.
    pub fn set_below(&self, below: Arc<Upstream>) {
        let _ = self.below.set(below);
    }

    /// Says who deploys plugins that come down; before links start.
    pub fn set_take_plugins(&self, take: Arc<dyn TakePlugins>) {
        let _ = self.take_plugins.set(take);
    }

    /// Whether a link of this name brings topics down.
    pub fn brings_topics(&self, name: &str) -> bool {
        self.running.lock().get(name).is_some_and(|link| !of_words(&link.config.down).is_empty())
    }

    /// Starts all links that were accepted.
    ///
    /// # Errors
    /// When the folder of links cannot be read. A link whose own folder cannot be used is shown as broken.
    pub fn start(&self) -> Result<(), FolderError> {
        if let Err(error) = folder::clear_removed(&self.setup.data) {
            tracing::warn!(%error, "what was kept of a removed link cannot be cleared; it is tried again at the next start");
        }
        forget_gone(&self.setup.log, &self.setup.data)?;
        for name in folder::folders(&self.setup.data)? {
            self.copy_notes(&name);
            self.start_one(&name);
        }
        for config in &self.setup.links {
            if !self.running.lock().contains_key(&config.name) {
                tracing::warn!(
                    link = config.name,
                    "the configuration names a link that was not accepted: `edgeway link accept`"
                );
            }
        }
        Ok(())
    }

    /// Becomes true when upstream has more of this node's own log than the node has.
    pub fn outlived(&self) -> watch::Receiver<bool> {
        self.outlived.subscribe()
    }

    /// Earlier programs note by the link's name here that an origin is another one at its other end, and look there: one of them may have run since, and
    /// may run again. So what is noted stays in both forms.
    fn copy_notes(&self, name: &str) {
        let Ok((identity, _)) = folder::read(&folder::folder(&self.setup.data, name)) else { return };
        if let Err(error) = self.setup.log.store().copy_apart(name, &place(link_of(&identity))) {
            tracing::error!(link = name, %error, "what is noted of the link cannot be brought up to date");
        }
    }

    /// What the configuration says of a link.
    fn config_of(&self, name: &str) -> LinkConfig {
        let config = self.setup.links.iter().find(|config| config.name == name).cloned();
        config.unwrap_or_else(|| LinkConfig { name: name.to_owned(), ..LinkConfig::default() })
    }

    /// Starts a link that was accepted. One that does not start is shown, and retention leaves for it what it leaves for one that is paused.
    fn start_one(&self, name: &str) {
        let place = Arc::new(Place::new(&self.setup.data, name));
        let link = self.begin(name, Arc::clone(&place)).unwrap_or_else(|error| self.broken(name, place, &error));
        self.running.lock().insert(name.to_owned(), link);
    }

    /// A link that does not start.
    fn broken(&self, name: &str, place: Arc<Place>, error: &FolderError) -> Running {
        let (log, config, page) = (&self.setup.log, self.config_of(name), Shared::default());
        let why = folder::why_broken(name, error);
        tracing::error!(link = name, why, "a link does not start");
        {
            let mut page = page.lock();
            page.set(State::Broken, why);
            page.stored = stored(log, name, &config);
            page.ahead = ahead_note::noted(log, name, page.stored.keys().copied());
            page.down.clone_from(&config.down);
        }
        let paused = watch::Sender::new(folder::is_paused(&folder::folder(&self.setup.data, name)));
        Running { page, config, topics: None, paused, place, task: None }
    }

    /// Begins to run a link.
    fn begin(&self, name: &str, place: Arc<Place>) -> Result<Running, FolderError> {
        let Setup { log, data, site, name: node, .. } = &self.setup;
        let folder = folder::folder(data, name);
        let (identity, facts) = folder::read(&folder)?;
        let mut config = self.config_of(name);
        let down = link_of(&identity);
        config.brings_down_as = Some(down);
        let budget = self.budgets.of(down);
        let brings = Brings {
            page: Shared::default(),
            budget,
            below: self.below.get().cloned(),
            take_plugins: self.take_plugins.get().cloned(),
            partial: Arc::clone(&self.partial),
        };
        let topics = (!of_words(&config.down).is_empty()).then(|| (Arc::clone(&brings.page), down));
        let addresses = if config.address.is_empty() { facts.addresses } else { vec![config.address.clone()] };
        let page = Shared::default();
        {
            let mut page = page.lock();
            page.stored = stored(log, name, &config);
            page.ahead = ahead_note::noted(log, name, page.stored.keys().copied());
            page.certificate_until_s = identity.until_s();
            page.down.clone_from(&config.down);
        }
        let noted_ahead = page.lock().ahead.clone();
        let paused = watch::Sender::new(folder::is_paused(&folder));
        let dialler = Dialler {
            log: Arc::clone(log),
            name: name.to_owned(),
            node: node.clone(),
            site: *site,
            config: config.clone(),
            identity: Mutex::new(Arc::new(identity)),
            place: Arc::clone(&place),
            addresses,
            page: Arc::clone(&page),
            take: self.take.get().cloned(),
            brings,
            stood_since: Mutex::default(),
            noted_ahead: Mutex::new(noted_ahead),
            outlived: self.outlived.clone(),
        };
        let task = Some(tokio::spawn(dialler.run(paused.subscribe())));
        Ok(Running { page, config, topics, paused, place, task })
    }

    /// Accepts an invitation and starts the link; what this site is called upstream.
    ///
    /// # Errors
    /// Why it was not accepted, in words.
    pub async fn accept(&self, token: &LinkToken, name: &str) -> Result<String, AcceptError> {
        let own = Applicant { name: &self.setup.name, site: self.setup.site };
        {
            let _one = self.changing.lock().await;
            // A removal may not have come to its end.
            if super::is_link_name(name) && !folder::folder(&self.setup.data, name).exists() {
                forget(&self.setup.log, name).await.map_err(|error| AcceptError::Kept(error.to_string()))?;
            }
        }
        let welcome = accept(token, &self.setup.data, name, own).await?;
        let _one = self.changing.lock().await;
        self.start_one(name);
        Ok(welcome.name)
    }

    /// Pauses a link or lets it go on. One that does not start is paused for when it does, and tried once more when it is to go on. It runs
    /// within the runtime.
    ///
    /// # Errors
    /// When there is none of that name, it does not start, or it cannot be noted.
    pub fn pause(&self, name: &str, paused: bool) -> Result<(), PauseError> {
        let mut running = self.running.lock();
        let Some(link) = running.get_mut(name) else {
            return Err(match self.is_named(name) {
                true => PauseError::NotAccepted(name.to_owned()),
                false => PauseError::Unknown(name.to_owned()),
            });
        };
        let noted = folder::set_paused(&folder::folder(&self.setup.data, name), paused);
        if paused || link.task.is_some() {
            noted?;
            link.paused.send_replace(paused);
            return Ok(());
        }
        self.copy_notes(name);
        match noted.and_then(|()| self.begin(name, Arc::clone(&link.place))) {
            Ok(begun) => *link = begun,
            Err(error) => {
                let why = folder::why_broken(name, &error);
                link.page.lock().set(State::Broken, why.clone());
                return Err(PauseError::Broken { name: name.to_owned(), why });
            }
        }
        Ok(())
    }

    /// Whether the configuration names a link.
    pub fn is_named(&self, name: &str) -> bool {
        self.setup.links.iter().any(|config| config.name == name)
    }

    /// Removes a link, one that does not start as well; false where there is none of that name. Durable on return.
    ///
    /// # Errors
    /// When its folder cannot be removed: it may be tried again.
    pub async fn remove(&self, name: &str) -> Result<bool, FolderError> {
        let _one = self.changing.lock().await;
        let place = self.running.lock().get(name).map(|link| Arc::clone(&link.place));
        let place = place.unwrap_or_else(|| Arc::new(Place::new(&self.setup.data, name)));
        let was_there = tokio::task::spawn_blocking(move || place.remove()).await;
        let was_there = was_there.map_err(|_| FolderError::Stopping)??;
        let link = self.running.lock().remove(name);
        let was_there = was_there || link.is_some();
        if let Some(link) = link {
            link.end().await;
        }
        if was_there && let Err(error) = forget(&self.setup.log, name).await {
            tracing::warn!(link = name, %error, "what was kept of a removed link is forgotten at the next start");
        }
        Ok(was_there)
    }

    /// The links, as people see them: those that run, those that do not start, and those that the configuration alone names. Reads the store.
    pub fn views(&self) -> Vec<LinkView> {
        let running = self.running.lock();
        let all: Vec<_> = running
            .iter()
            .map(|(name, link)| (name.clone(), Arc::clone(&link.page), link.config.clone(), link.topics.clone()))
            .collect();
        let named = self.setup.links.iter().map(|config| &config.name).filter(|name| !running.contains_key(*name));
        let named: Vec<_> = named.map(|name| not_accepted(name)).collect();
        drop(running);
        let view = |(name, page, config, topics): (String, Shared, LinkConfig, Option<(Shared, u64)>)| {
            let log = &self.setup.log;
            let (lag, _) = measure(log, carried(log, &config), &config, &page);
            let mut page = page.lock();
            page.wait(lag);
            let received = page.connection.as_ref().map(|connection| connection.traffic().received);
            page.came(received.unwrap_or_default(), log.clock().wall_ms());
            let later = later(log, &page);
            let mut view = page.view(&name, Direction::Up, (Vec::new(), later), log.clock().monotonic());
            drop(page);
            view.topics = topics.iter().map(|(page, down)| coming(log, page, *down)).collect();
            let of_link = |link| self.take_plugins.get().map(|take| take.of_link(link));
            view.plugins = config.brings_down_as.and_then(of_link).unwrap_or_default();
            view
        };
        all.into_iter().map(view).chain(named).collect()
    }

    /// What goes as a plugin makes it, by link.
    pub fn summaries(&self) -> BTreeMap<String, Vec<LinkSummary>> {
        let running = self.running.lock();
        running.iter().map(|(name, link)| (name.clone(), link.config.summary.clone())).collect()
    }

    /// Up to where retention may take each partition that a link has not brought upstream yet; one that is not named it may take as it
    /// will. What waits beyond the bound is not held. Reads the store.
    pub fn floors(&self) -> BTreeMap<PartitionId, Offset> {
        let links: Vec<_> = {
            let running = self.running.lock();
            running.values().map(|link| (Arc::clone(&link.page), link.config.clone())).collect()
        };
        let mut floors = BTreeMap::new();
        for (page, config) in links {
            let (stored, ahead) = {
                let page = page.lock();
                (page.stored.clone(), page.ahead.clone())
            };
            for partition in carried(&self.setup.log, &config) {
                let (id, reach) = (partition.id(), self.setup.log.store().reach(partition.id()));
                let stored = stored.get(&id).copied().unwrap_or(0);
                // What is upstream ahead of what is missed does not wait, though it is kept as long.
                let is_there = ahead.get(&id).into_iter().flatten().map(|(from, end)| end - from).sum();
                let end = partition.visible_end();
                if let Some(from) = floor(stored, &reach, (end, is_there), config.hold_bytes_max) {
                    let floor = floors.entry(id).or_insert(from);
                    *floor = from.min(*floor);
                }
            }
        }
        floors
    }

    /// Ends all links.
    pub async fn stop(&self) {
        let running = std::mem::take(&mut *self.running.lock());
        for link in running.into_values() {
            link.end().await;
        }
    }

    /// Where the data is.
    pub fn data(&self) -> &Path {
        &self.setup.data
    }
}

/// A link that the configuration alone names.
fn not_accepted(name: &str) -> LinkView {
    let mut page = Page::default();
    let why = "the configuration names it, and no invitation was accepted by that name";
    page.set(State::NotAccepted, format!("{why}: `edgeway link accept TOKEN --name {name}`"));
    page.view(name, Direction::Up, (Vec::new(), (Vec::new(), 0)), Duration::ZERO)
}

/// What goes behind what is newer: each open hole, as many as are shown, and how many events are in all.
pub(super) fn later(log: &EventLog, page: &Page) -> (Vec<Later>, u64) {
    let of = |(id, parts): (&PartitionId, &Vec<(Offset, Offset)>)| {
        let Ok(partition) = log.partition(*id) else { return Vec::new() };
        let stored = page.stored.get(id).copied().unwrap_or(0);
        let begins = std::iter::once(stored).chain(parts.iter().map(|(_, end)| *end));
        let hole = |(from, (to, _)): (Offset, &(Offset, Offset))| Later {
            topic: partition.topic().to_string(),
            partition: *id,
            from,
            to: *to,
        };
        begins.zip(parts).map(hole).collect()
    };
    let (mut shown, mut events) = (Vec::new(), 0);
    for hole in page.ahead.iter().flat_map(of) {
        events += hole.to.saturating_sub(hole.from);
        if shown.len() < LATER_SHOWN_MAX {
            shown.push(hole);
        }
    }
    (shown, events)
}

/// Up to where each partition was known to be stored upstream, when it was noted last.
fn stored(log: &EventLog, name: &str, config: &LinkConfig) -> BTreeMap<PartitionId, Offset> {
    let reader = format!("{READER}{name}");
    let cursor = |id: PartitionId| log.cursor(&reader, id).ok().flatten().map(|next| (id, next));
    carried(log, config).iter().filter_map(|partition| cursor(partition.id())).collect()
}
