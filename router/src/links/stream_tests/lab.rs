//! A site of one node on a memory store, that feeds others and is fed.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use sled_data::{MemoryBackend, Options, Store};
use tokio::task::JoinHandle;

use crate::catalog::{self, Catalog};
use crate::clock::Clock;
use crate::event_log::{AUDIT_TOPIC, Config, EventLog, NO_HEADERS, NewEvent};
use crate::links::plugins::TakePlugins;
use crate::links::records::Records;
use crate::links::{Edge, GiveDown, LinkConfig, Pending, Setup, Upstream};
use crate::security::{JoinToken, LinkToken};
pub use crate::transport::pair::BOUNDS;
use crate::transport::{NodeId, SiteEndpoint, SiteIdentity, site_endpoint};

pub const LONG: Duration = Duration::from_secs(40);

pub struct Site {
    pub log: Arc<EventLog>,
    backend: MemoryBackend,
    number: u64,
    folder: Arc<tempfile::TempDir>,
    identity: Arc<SiteIdentity>,
    upstream: Arc<Upstream>,
    pub catalog: Arc<Catalog>,
    address: SocketAddr,
    listening: Option<(SiteEndpoint, JoinHandle<()>)>,
    edge: OnceLock<Arc<Edge>>,
}

/// Gives no commands.
struct NoCommands;

impl GiveDown for NoCommands {
    fn gateway_came(&self, _: &str, _: NodeId) {}

    fn ended(&self, _: NodeId, _: Vec<u8>) -> Pending<'_, Option<Vec<u8>>> {
        Box::pin(async { None })
    }
}

pub async fn until(what: &str, done: impl Fn() -> bool) {
    let wait = async {
        while !done() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(LONG, wait).await.unwrap_or_else(|_| panic!("{what}: it takes too long"));
}

fn listen(identity: &Arc<SiteIdentity>, upstream: &Arc<Upstream>, at: SocketAddr) -> (SiteEndpoint, JoinHandle<()>) {
    let endpoint = site_endpoint(at, Arc::clone(identity), BOUNDS).unwrap();
    let (taking, upstream) = (endpoint.clone(), Arc::clone(upstream));
    let task = tokio::spawn(async move {
        while let Some(attempt) = taking.accept().await {
            let upstream = Arc::clone(&upstream);
            tokio::spawn(async move {
                if let Ok(connection) = attempt.shake_hands().await {
                    upstream.serve(connection).await;
                }
            });
        }
    });
    (endpoint, task)
}

impl Site {
    pub async fn new(number: u64) -> Site {
        Site::node(number, number).await
    }

    /// A node of a site that has others.
    pub async fn node(number: u64, site: u64) -> Site {
        let place = tempfile::tempdir().unwrap();
        let identity = SiteIdentity::init(&place.path().join("site"), site, NodeId(number), "n1").unwrap();
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        Site::open(number, MemoryBackend::new(), folder, Arc::new(identity), any).await
    }

    /// A copy of all that is stored now.
    pub fn image(&self) -> MemoryBackend {
        self.backend.image()
    }

    /// What the store lies on.
    pub fn backend(&self) -> &MemoryBackend {
        &self.backend
    }

    /// The site as it is when its store is brought back from an image. This one must have been cut, and feed nobody.
    pub async fn restored(&self, image: MemoryBackend) -> Site {
        let is_free = || std::net::UdpSocket::bind(self.address).is_ok();
        until("the address is free", is_free).await;
        Site::open(self.number, image, Arc::clone(&self.folder), Arc::clone(&self.identity), self.address).await
    }

    /// The same, and the life in the image has ended.
    pub async fn reborn(&self, image: MemoryBackend) -> Site {
        let (store, _) = Store::on(Arc::new(image.clone()), Options::default()).unwrap();
        store.end_life("others have more").unwrap();
        drop(store);
        self.restored(image).await
    }

    async fn open(
        number: u64,
        backend: MemoryBackend,
        folder: Arc<tempfile::TempDir>,
        identity: Arc<SiteIdentity>,
        at: SocketAddr,
    ) -> Site {
        let options = Options { seed: Some(number), ..Options::default() };
        let (store, recovered) = Store::on(Arc::new(backend.clone()), options).unwrap();
        let clock = Arc::new(Clock::starting_after(recovered.last_hlc));
        let log = EventLog::open(Arc::new(store), clock, Config::default()).unwrap();
        log.set_site(number);
        log.ensure_topic(AUDIT_TOPIC, None).unwrap();
        let catalog = Catalog::open(Arc::clone(&log), catalog::Config::default()).unwrap();
        let records = Arc::new(Records::open(Arc::clone(&log), Arc::clone(&catalog)).unwrap());
        let upstream = Upstream::new(Arc::clone(&log), Arc::clone(&identity), records, 0);
        upstream.desk().set_giver(Arc::new(NoCommands));
        let listening = listen(&identity, &upstream, at);
        let address = listening.0.address().unwrap();
        let listening = Some(listening);
        Site { log, backend, number, folder, identity, upstream, catalog, address, listening, edge: OnceLock::new() }
    }

    pub fn edge(&self) -> &Arc<Edge> {
        self.edge.get().unwrap()
    }

    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn identity(&self) -> Arc<SiteIdentity> {
        Arc::clone(&self.identity)
    }

    pub fn data(&self) -> PathBuf {
        self.folder.path().to_owned()
    }

    pub fn open_edge(&self, links: Vec<LinkConfig>) {
        self.open_edge_of(links, None);
    }

    /// The same, where something deploys plugins.
    pub fn open_edge_that_takes(&self, links: Vec<LinkConfig>, take: Arc<dyn TakePlugins>) {
        self.open_edge_of(links, Some(take));
    }

    fn open_edge_of(&self, links: Vec<LinkConfig>, take: Option<Arc<dyn TakePlugins>>) {
        let (log, site) = (Arc::clone(&self.log), self.number);
        let edge = Edge::new(Setup { log, data: self.data(), site, name: "gw".to_owned(), links });
        edge.set_below(Arc::clone(&self.upstream));
        if let Some(take) = take {
            edge.set_take_plugins(take);
        }
        edge.start().unwrap();
        assert!(self.edge.set(edge).is_ok());
    }

    pub async fn invite(&self, name: &str) -> LinkToken {
        let addresses = vec![self.address.to_string()];
        let mut secret = [0; 32];
        getrandom::fill(&mut secret).unwrap();
        let ca = self.identity.ca_fingerprint().to_bytes();
        let token = LinkToken(JoinToken { site: self.number, addresses, ca, secret });
        self.upstream.invite(name, token.0.hash(), "test").await.unwrap();
        token
    }

    pub async fn accept(&self, to: &Site, name: &str) {
        assert_eq!(self.edge().accept(&to.invite(name).await, "up").await.unwrap(), name);
    }

    /// This site feeds another one, which calls it `name`.
    pub async fn feed(&self, to: &Site, name: &str, links: Vec<LinkConfig>) {
        self.open_edge(links);
        self.accept(to, name).await;
    }

    pub async fn feed_as(&mut self, to: &Site, name: &str, links: Vec<LinkConfig>) {
        self.feed(to, name, links).await;
    }

    /// Follows all of another node's commits, as in a site.
    pub async fn follow(&self, other: &Site) {
        let origin = other.log.store().origin();
        for topic in other.log.topics().iter().filter(|topic| !topic.is_internal()) {
            self.log.adopt_topic(topic.info().clone()).unwrap();
        }
        let next = self.log.store().last_commit_of(origin).next();
        let commits = other.log.store().commits_to_ship(origin, next, usize::MAX).unwrap();
        self.log.follow(commits).await.unwrap();
    }

    /// Starts the links anew, as a start of the node does. They must have been ended.
    pub fn feed_again(&mut self, links: Vec<LinkConfig>) {
        drop(self.edge.take());
        self.open_edge(links);
    }

    /// Ends the links.
    pub async fn stop_edge(&self) {
        self.edge().stop().await;
    }

    /// Ends all connections, and takes no more.
    pub async fn cut(&mut self) {
        if let Some((endpoint, task)) = self.listening.take() {
            endpoint.close(1, "cut", Duration::from_millis(200)).await;
            task.abort();
            let _ = task.await;
        }
    }

    /// Takes connections again, at the same address, as soon as the last one has let go of it.
    pub async fn listen_again(&mut self) {
        assert!(self.listening.is_none());
        let is_free = || std::net::UdpSocket::bind(self.address).is_ok();
        until("the address is free", is_free).await;
        self.listening = Some(listen(&self.identity, &self.upstream, self.address));
    }

    /// One commit with an event in each of these topics.
    pub async fn append(&self, topics: &[&str], value: &str) {
        self.commit(topics, None, value).await;
    }

    pub async fn append_to(&self, topic: &str, partition: u32, value: &str) {
        self.commit(&[topic], Some(partition), value).await;
    }

    async fn commit(&self, topics: &[&str], partition: Option<u32>, value: &str) {
        let event = NewEvent {
            timestamp_ms: 1_000,
            key: Some(value.as_bytes()),
            value: Some(value.as_bytes()),
            headers: &NO_HEADERS,
            extra: &NO_HEADERS,
            fanned_out: false,
        };
        let topics: Vec<_> = topics.iter().map(|name| self.log.ensure_topic(name, None).unwrap()).collect();
        let ticket = {
            let mut open = self.log.lock();
            for topic in &topics {
                match partition {
                    Some(index) => open.append(topic, index, &event).unwrap(),
                    None => open.append_keyed(topic, &event).unwrap(),
                }
            }
            open.put_state("last", b"value", Some(value.as_bytes()));
            open.ticket()
        };
        self.log.durable(ticket).await.unwrap();
    }

    /// All values of a topic, sorted.
    pub fn values(&self, topic: &str) -> Vec<String> {
        let topic = self.log.topic(topic).unwrap();
        let mut found = Vec::new();
        for partition in self.log.partitions_of(&topic) {
            let mut next = self.log.start_offset(partition.id());
            while next < partition.visible_end() {
                for batch in self.log.read(partition.id(), next, 1 << 20).unwrap() {
                    let text = |value: Option<&[u8]>| String::from_utf8(value.unwrap().to_vec()).unwrap();
                    found.extend(batch.events_from(next).map(|(_, record)| text(record.value)));
                    next = batch.next_offset();
                }
            }
        }
        found.sort();
        found
    }

    pub fn linked_topics(&self) -> Vec<String> {
        let topics = self.log.topics();
        topics.iter().filter(|topic| topic.is_linked()).map(|topic| topic.name().to_owned()).collect()
    }

    /// Waits until all of another site's topics are here, and compares them: ends, digests, values.
    pub async fn until_fed_by(&self, other: &Site, topics: &[(&str, &str)]) {
        for (there, here) in topics {
            let theirs = other.log.topic(there).unwrap();
            let ids: Vec<_> = other.log.partitions_of(&theirs).iter().map(|partition| partition.id()).collect();
            let level = || {
                let end = |log: &EventLog, id| (log.visible_end(id), log.store().digest(id));
                ids.iter().all(|id| end(&self.log, *id) == end(&other.log, *id))
            };
            until(&format!("{here} is level"), level).await;
            assert_eq!(self.values(here), other.values(there), "{here}");
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if let Some((_, task)) = self.listening.take() {
            task.abort();
        }
        self.log.close();
    }
}
