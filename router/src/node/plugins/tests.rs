//! Two nodes' plugins, one catalog, and a way between them that may lie.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use sled_data::{Backend, MemoryBackend, Options, Store};

use super::above::Above;
use super::*;
use crate::catalog::Config;
use crate::clock::Clock;
use crate::event_log::{self, AUDIT_TOPIC, NO_HEADERS, NewEvent};
use crate::links::ByLink;
use crate::links::plugins::{Outcome, TakePlugins, Wanted, WantedComponent};
use crate::plugin_host::RunState;
use crate::plugin_host::test_guest::{MANIFEST, hostile};
use crate::replication::Pending;

/// What a node that is asked does.
#[derive(Clone)]
enum Other {
    Has(Arc<PluginHost>),
    /// As [`Self::Has`], with one byte changed.
    Lies(Arc<PluginHost>),
    Silent,
}

#[derive(Default)]
struct Others {
    nodes: Mutex<Vec<Other>>,
    asks: AtomicUsize,
}

impl Components for Others {
    fn nodes(&self) -> Vec<NodeId> {
        (1..).map(NodeId).take(self.nodes.lock().len()).collect()
    }

    fn ask(&self, node: NodeId, body: Vec<u8>) -> Pending<'_, Result<Vec<u8>, String>> {
        self.asks.fetch_add(1, Ordering::Relaxed);
        let other = self.nodes.lock()[node.0 as usize - 1].clone();
        Box::pin(async move {
            match other {
                Other::Has(host) => Ok(components::answer(host, None, body).await),
                Other::Lies(host) => {
                    let mut answer = components::answer(host, None, body).await;
                    *answer.last_mut().unwrap() ^= 1;
                    Ok(answer)
                }
                Other::Silent => Err("it is silent".to_owned()),
            }
        })
    }
}

struct Node {
    log: Arc<EventLog>,
    host: Arc<PluginHost>,
    others: Arc<Others>,
    _folder: tempfile::TempDir,
}

impl Node {
    fn new(seed: u64) -> Self {
        let backend: Arc<dyn Backend> = Arc::new(MemoryBackend::new());
        let (store, recovered) = Store::on(backend, Options { seed: Some(seed), ..Options::default() }).unwrap();
        let clock = Arc::new(Clock::starting_after(recovered.last_hlc));
        let log = EventLog::open(Arc::new(store), clock, event_log::Config::default()).unwrap();
        for topic in [AUDIT_TOPIC, "in", "out"] {
            log.ensure_topic(topic, None).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let host = Arc::new(PluginHost::start(Arc::clone(&log), folder.path()).unwrap());
        Self { log, host, others: Arc::default(), _folder: folder }
    }

    fn keeper(&self, catalog: &Arc<Catalog>) -> PluginKeeper {
        let others = Arc::clone(&self.others) as _;
        PluginKeeper::new(Arc::clone(&self.log), Arc::clone(catalog), Arc::clone(&self.host), others)
    }

    /// Each plugin with its state, and what keeps it from what was agreed on.
    fn plugins(&self) -> Vec<(String, RunState, Option<String>)> {
        self.host.list().into_iter().map(|status| (status.name, status.state, status.problem)).collect()
    }

    async fn settled(&self) {
        let begin = Instant::now();
        while self.host.list().iter().any(|status| status.state != RunState::Running || status.lag_events > 0) {
            assert!(begin.elapsed() < Duration::from_secs(20), "{:?}", self.plugins());
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn publish(&self, value: &str) {
        let topic = self.log.topic("in").unwrap();
        let event = NewEvent {
            timestamp_ms: 1,
            key: Some(b"pump"),
            value: Some(value.as_bytes()),
            headers: &NO_HEADERS,
            extra: &NO_HEADERS,
            fanned_out: false,
        };
        let ticket = {
            let mut open = self.log.lock();
            open.append_keyed(&topic, &event).unwrap();
            open.ticket()
        };
        self.log.durable(ticket).await.unwrap();
    }

    fn count(&self, topic: &str) -> u64 {
        let topic = self.log.topic(topic).unwrap();
        topic.all_partitions().iter().map(|partition| partition.visible_end()).sum()
    }
}

/// Two nodes; the second one may ask the first one. The catalog is the first one's.
fn site() -> (Node, Node, Arc<Catalog>) {
    let (a, b) = (Node::new(1), Node::new(2));
    let catalog = Catalog::open(Arc::clone(&a.log), Config::default()).unwrap();
    b.others.nodes.lock().push(Other::Has(Arc::clone(&a.host)));
    (a, b, catalog)
}

/// Deploys at the first node, as its API does.
async fn deploy(a: &Node, catalog: &Arc<Catalog>, manifest: &str) {
    let (wasm, manifest) = (hostile(), Manifest::parse(manifest).unwrap());
    let record = a.host.check(&wasm, &manifest).unwrap();
    let new = NewPlugin {
        name: manifest.name,
        manifest: record.manifest,
        is_guard: false,
        sha256: record.sha256,
        bytes: wasm.len() as u64,
    };
    catalog.propose(Change::DeployPlugin(new), "cli").await.unwrap();
}

async fn remove(catalog: &Arc<Catalog>) {
    catalog.propose(Change::RemovePlugin { name: "hostile".into() }, "cli").await.unwrap();
}

#[tokio::test]
async fn what_is_deployed_at_one_node_runs_at_the_other_and_goes_from_both() {
    let (a, b, catalog) = site();
    let (mut keeper_a, mut keeper_b) = (a.keeper(&catalog), b.keeper(&catalog));
    deploy(&a, &catalog, MANIFEST).await;
    assert!(a.host.list().is_empty(), "only what was agreed on runs");
    b.publish("before").await;
    assert!(!keeper_a.pass().await && keeper_a.pass().await, "there was something to do, then nothing");
    assert!(!keeper_b.pass().await && keeper_b.pass().await);
    assert_eq!(b.others.asks.load(Ordering::Relaxed), 1, "it is fetched once");
    for node in [&a, &b] {
        node.publish("S1").await;
        node.settled().await;
        assert_eq!(node.count("out"), 1, "`from = end` counts where it was deployed, then");
    }
    let records = [&a, &b].map(|node| node.host.here("hostile").unwrap().record);
    assert_eq!(records[0], records[1]);
    assert_eq!((records[0].version, records[0].sha256.len()), (1, 32));

    // A new version goes on with its state; one that was removed in between begins anew.
    deploy(&a, &catalog, &MANIFEST.replace("call_ms = 50", "call_ms = 60")).await;
    keeper_b.pass().await;
    assert_eq!(b.others.asks.load(Ordering::Relaxed), 1, "the component was here");
    b.publish("G1").await;
    b.settled().await;
    assert_eq!(b.count("out"), 2, "`S1` is known");
    remove(&catalog).await;
    deploy(&a, &catalog, MANIFEST).await;
    keeper_b.pass().await;
    b.publish("G1").await;
    b.settled().await;
    assert_eq!(b.count("out"), 2, "`S1` is not known any more");
    assert_eq!(b.host.here("hostile").unwrap().record.version, 1);

    remove(&catalog).await;
    for keeper in [&mut keeper_a, &mut keeper_b] {
        keeper.pass().await;
    }
    assert!(a.host.list().is_empty() && b.host.list().is_empty());
}

#[tokio::test]
async fn a_component_comes_from_any_node_that_has_it_whole() {
    let (a, b, catalog) = site();
    let mut keeper = b.keeper(&catalog);
    b.others.nodes.lock().clear();
    deploy(&a, &catalog, MANIFEST).await;
    assert!(!keeper.pass().await);
    let waits = |node: &Node| match node.plugins().as_slice() {
        [(name, RunState::Starting, Some(problem))] if name == "hostile" => problem.clone(),
        other => panic!("{other:?}"),
    };
    assert!(waits(&b).contains("no other node is connected"), "{}", waits(&b));
    *b.others.nodes.lock() = vec![Other::Silent];
    keeper.pass().await;
    assert!(waits(&b).contains("it is silent"), "{}", waits(&b));
    keeper.pass().await;
    assert_eq!(b.others.asks.load(Ordering::Relaxed), 1, "not asked again at once");
    b.others.nodes.lock().push(Other::Lies(Arc::clone(&a.host)));
    keeper.pass().await;
    assert!(waits(&b).contains("damaged"), "{}", waits(&b));
    b.others.nodes.lock().push(Other::Has(Arc::clone(&b.host)));
    keeper.pass().await;
    assert!(waits(&b).contains("does not have it"), "{}", waits(&b));
    b.others.nodes.lock().push(Other::Has(Arc::clone(&a.host)));
    keeper.pass().await;
    b.settled().await;
    assert_eq!(b.plugins(), [("hostile".to_owned(), RunState::Running, None)]);
}

#[tokio::test]
async fn what_does_not_run_here_is_told_and_stops_no_other() {
    let (a, b, catalog) = site();
    let mut keeper = b.keeper(&catalog);
    let broken = b"\0asm\x0d\0\x01\0broken".to_vec();
    let sha256 = <sha2::Sha256 as sha2::Digest>::digest(&broken).into();
    assert!(a.host.keep_component(&broken, &sha256).unwrap());
    let manifest = toml::to_string(&Manifest::parse(&MANIFEST.replace("hostile", "broken")).unwrap()).unwrap();
    let bytes = broken.len() as u64;
    let new = NewPlugin { name: "broken".into(), manifest, is_guard: false, sha256, bytes };
    catalog.propose(Change::DeployPlugin(new), "cli").await.unwrap();
    deploy(&a, &catalog, MANIFEST).await;
    // What was agreed on is kept for others, although it does not run.
    a.keeper(&catalog).pass().await;
    keeper.pass().await;
    for node in [&a, &b] {
        let plugins = node.plugins();
        assert!(matches!(&plugins[0], (name, RunState::Broken(_), None) if name == "broken"), "{plugins:?}");
        assert!(matches!(&plugins[1], (name, _, None) if name == "hostile"), "{plugins:?}");
        assert!(node.host.has_component(&sha256));
    }
    catalog.propose(Change::RemovePlugin { name: "broken".into() }, "cli").await.unwrap();
    keeper.pass().await;
    b.settled().await;
    assert_eq!(b.plugins().len(), 1);
}

#[tokio::test]
async fn what_ran_before_sites_agreed_is_agreed_on_and_runs_on() {
    let (a, b, catalog) = site();
    let mut keeper = a.keeper(&catalog);
    a.host.deploy(&hostile(), Manifest::parse(MANIFEST).unwrap()).unwrap();
    a.publish("S1").await;
    a.settled().await;
    assert!(!keeper.pass().await, "it is agreed on");
    assert!(!keeper.pass().await, "and taken up");
    assert!(keeper.pass().await);
    assert_eq!(catalog.plugin("hostile").unwrap().version, 1);
    a.publish("G1").await;
    a.settled().await;
    // What was done is counted when it is stored, a moment later.
    let counted = async {
        while a.host.list()[0].appended < 2 {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), counted).await.unwrap();
    assert_eq!((a.count("out"), a.host.list()[0].appended), (2, 2), "state, cursor and counters go on");
    b.keeper(&catalog).pass().await;
    b.settled().await;
    assert_eq!(b.plugins().len(), 1);
}

fn wanted_by_hq(manifest: &str, wasm: &[u8]) -> (ByLink, Wanted) {
    let by = ByLink { name: "hq".into(), link: 7, down: vec!["plugins".into(), "commands".into()] };
    let sha256 = <sha2::Sha256 as sha2::Digest>::digest(wasm).into();
    let component = WantedComponent { manifest: manifest.to_owned(), sha256, bytes: wasm.len() as u64 };
    (by, Wanted { name: "hostile".into(), number: 1, component: Some(component) })
}

#[tokio::test]
async fn what_a_link_has_begun_ends_though_it_is_cut_and_before_what_is_said_next() {
    let a = Node::new(1);
    let catalog = Catalog::open(Arc::clone(&a.log), Config::default()).unwrap();
    let above = Above::new(Arc::clone(&a.host), Arc::clone(&catalog));
    let (by, wanted) = wanted_by_hq(MANIFEST, &hostile());
    assert_eq!(above.judge(&by, &wanted).await, None);
    tokio::select! {
        biased;
        outcome = above.deploy(&by, &wanted, hostile()) => panic!("it was not cut: {outcome:?}"),
        () = std::future::ready(()) => {}
    }
    let long = Duration::from_secs(60);
    let said = tokio::time::timeout(long, above.judge(&by, &wanted)).await.unwrap();
    assert_eq!(said, Some(Outcome::Deployed), "it was waited for");
    assert_eq!(above.of_link(7).len(), 1);
    // Gone, although it was about to come.
    let (_, newer) = wanted_by_hq(&MANIFEST.replace("call_ms = 50", "call_ms = 60"), &hostile());
    tokio::select! {
        biased;
        outcome = above.deploy(&by, &newer, hostile()) => panic!("it was not cut: {outcome:?}"),
        () = std::future::ready(()) => {}
    }
    let gone = Wanted { component: None, number: 2, ..wanted };
    assert_eq!(tokio::time::timeout(long, above.judge(&by, &gone)).await.unwrap(), Some(Outcome::Removed));
    assert!(catalog.plugin("hostile").is_none() && a.host.list().is_empty());
    // Where none is known here the site is asked all the same, and says that there is none.
    let asked = || {
        let batches = |partition: &Arc<crate::event_log::PartitionLog>| a.log.read(partition.id(), 0, 1 << 20).unwrap();
        let audit = a.log.topic(AUDIT_TOPIC).unwrap();
        let all: Vec<_> = audit.all_partitions().iter().flat_map(batches).collect();
        let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap()).into_owned();
        let of = |batch: &crate::event_log::Batch| {
            batch.events_from(0).map(|(_, record)| text(record.value)).collect::<Vec<_>>()
        };
        all.iter().flat_map(of).filter(|act| act.contains("plugin.remove") && act.contains("not_found")).count()
    };
    assert_eq!(asked(), 0);
    let said = tokio::time::timeout(long, above.judge(&by, &gone)).await.unwrap();
    assert_eq!(said, Some(Outcome::Removed));
    let until_asked = async {
        while asked() == 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(long, until_asked).await.unwrap();
}

#[tokio::test]
async fn a_gateway_says_deployed_only_when_it_runs_there() {
    let (a, b, catalog) = site();
    let aboves = [&a, &b].map(|node| Above::new(Arc::clone(&node.host), Arc::clone(&catalog)));
    let (by, wanted) = wanted_by_hq(MANIFEST, &hostile());
    assert_eq!(aboves[0].deploy(&by, &wanted, hostile()).await, Outcome::Deployed);
    // The other gateway of the site does not have it yet.
    let said = aboves[1].judge(&by, &wanted).await;
    assert!(matches!(&said, Some(Outcome::Later { .. })), "{said:?}");
    assert!(b.host.here("hostile").is_none());
    let component = wanted.component.clone().unwrap();
    assert!(b.host.keep_component(&hostile(), &component.sha256).unwrap());
    assert_eq!(aboves[1].judge(&by, &wanted).await, Some(Outcome::Deployed), "it is made to run");
    assert!(b.host.here("hostile").is_some());
}

#[tokio::test]
async fn what_people_deployed_while_a_link_compiles_stays_theirs() {
    let a = Node::new(1);
    let catalog = Catalog::open(Arc::clone(&a.log), Config::default()).unwrap();
    let above = Above::new(Arc::clone(&a.host), Arc::clone(&catalog));
    // The same component with a custom section.
    let other = [hostile(), b"\0\x02\x01x".to_vec()].concat();
    let (by, wanted) = wanted_by_hq(MANIFEST, &other);
    let component = wanted.component.unwrap();
    deploy(&a, &catalog, MANIFEST).await;
    let outcome = above.make(&by, &component, other).await;
    assert!(matches!(&outcome, Outcome::Refused { code, .. } if code == "local"), "{outcome:?}");
    let agreed = catalog.plugin("hostile").unwrap();
    assert_eq!((agreed.version, agreed.sha256 == component.sha256), (1, false));
    assert!(!a.host.has_component(&component.sha256), "it is not kept");
}
