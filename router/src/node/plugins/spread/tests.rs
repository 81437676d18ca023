//! Nodes that say to each other what sites are to have, over a way that may be cut and may lie.

use parking_lot::Mutex;
use sled_data::{MemoryBackend, Options, Store};
use std::sync::atomic::{AtomicUsize, Ordering};

use super::super::components;
use super::*;
use crate::clock::Clock;
use crate::event_log::{AUDIT_TOPIC, Config, EventLog};
use crate::plugin_host::PluginHost;
use crate::replication::{ASK_PLUGIN, ASK_WANTS};

/// What another node does when it is asked.
#[derive(Clone)]
enum Other {
    Is(Arc<Spread>, Arc<PluginHost>),
    /// The same, with the last byte of each answer changed.
    Lies(Arc<Spread>, Arc<PluginHost>),
    /// Of an earlier release.
    Older,
    /// Does not answer.
    Silent,
}

#[derive(Default)]
struct Way {
    nodes: Mutex<BTreeMap<NodeId, Other>>,
    asks: AtomicUsize,
}

impl Way {
    fn answer(&self, node: NodeId, kind: u8, body: Vec<u8>) -> Pending<'_, Result<Vec<u8>, String>> {
        self.asks.fetch_add(1, Ordering::Relaxed);
        let other = self.nodes.lock()[&node].clone();
        Box::pin(async move {
            let (spread, host, is_true) = match other {
                Other::Is(spread, host) => (spread, host, true),
                Other::Lies(spread, host) => (spread, host, false),
                Other::Older => return Err("it does not know the question".to_owned()),
                Other::Silent => std::future::pending().await,
            };
            let mut said = match kind {
                // The one who asks is the first that it knows.
                ASK_WANTS => spread.answer(NodeId(1), body).await.unwrap(),
                _ => components::answer(host, Some(Arc::clone(spread.wants())), body).await,
            };
            if !is_true {
                *said.last_mut().unwrap() ^= 1;
            }
            Ok(said)
        })
    }
}

impl Components for Way {
    fn nodes(&self) -> Vec<NodeId> {
        self.nodes.lock().keys().copied().collect()
    }

    fn ask(&self, node: NodeId, body: Vec<u8>) -> Pending<'_, Result<Vec<u8>, String>> {
        self.answer(node, ASK_PLUGIN, body)
    }
}

impl Others for Way {
    fn ask_wants(&self, node: NodeId, body: Vec<u8>) -> Pending<'_, Result<Vec<u8>, String>> {
        self.answer(node, ASK_WANTS, body)
    }
}

struct Node {
    wants: Arc<Wants>,
    host: Arc<PluginHost>,
    way: Arc<Way>,
    spread: Arc<Spread>,
    _folder: tempfile::TempDir,
}

impl Node {
    fn new(seed: u64) -> Self {
        let options = Options { seed: Some(seed), ..Options::default() };
        let (store, recovered) = Store::on(Arc::new(MemoryBackend::new()), options).unwrap();
        let clock = Arc::new(Clock::starting_after(recovered.last_hlc));
        let log = EventLog::open(Arc::new(store), clock, Config::default()).unwrap();
        log.ensure_topic(AUDIT_TOPIC, None).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let host = Arc::new(PluginHost::start(Arc::clone(&log), &folder.path().join("plugins")).unwrap());
        let wants = Arc::new(Wants::open(log, &folder.path().join("below")).unwrap());
        let way = Arc::<Way>::default();
        let spread = Spread::new(Arc::clone(&wants), Arc::clone(&way) as _);
        Self { wants, host, way, spread, _folder: folder }
    }

    fn is(&self) -> Other {
        Other::Is(Arc::clone(&self.spread), Arc::clone(&self.host))
    }

    fn hears(&self, others: Vec<Other>) {
        *self.way.nodes.lock() = (1..).map(NodeId).zip(others).collect();
    }

    fn give(&self, name: &str, text: &str) {
        let wasm = [b"\0asm\x0d\0\x01\0", text.as_bytes()].concat();
        self.wants.give("plant", &wasm, &format!("name = '{name}'\ntopics = ['in']\n"), "cli").unwrap();
    }

    /// Names and numbers of what is handed over.
    fn ready(&self) -> Vec<(String, u64)> {
        self.wants.wanted("plant", 1).unwrap().into_iter().map(|(name, want)| (name, want.number)).collect()
    }
}

#[tokio::test]
async fn what_was_said_at_one_node_is_handed_over_by_another_and_costs_little_then() {
    let (a, b) = (Node::new(1), Node::new(2));
    b.hears(vec![a.is()]);
    // More than goes at once, and a component that takes several asks is another test's.
    for n in 0..ENTRIES_AT_ONCE_MAX - 1 {
        a.give(&format!("p{n:02}"), "x");
    }
    b.spread.hear_all().await;
    assert_eq!((b.ready().len(), b.way.asks.load(Ordering::Relaxed)), (0, 2), "its component is not here");
    let mut failures = Failures::default();
    assert!(b.spread.fetch_all(&mut failures).await);
    assert_eq!(b.ready(), a.ready());
    let asks = b.way.asks.load(Ordering::Relaxed);
    b.spread.hear_all().await;
    assert!(b.spread.fetch_all(&mut failures).await);
    assert_eq!(b.way.asks.load(Ordering::Relaxed), asks + 1, "nothing is new");
    // What is changed here is said last, as what is there was heard before.
    a.give("p00", "y");
    b.spread.hear_others().await;
    b.wants.take_back("plant", "p00", true, "cli").unwrap();
    a.hears(vec![b.is()]);
    b.spread.tell_others().await;
    let last = a.ready().pop().unwrap();
    assert_eq!(last, ("p00".to_owned(), ENTRIES_AT_ONCE_MAX as u64 + 1));
    assert_eq!(a.wants.wanted("plant", 1).unwrap().pop().unwrap().1.bytes, 0);
    // It was started again: what it says has another number.
    assert_ne!(Node::new(3).wants.revision(), Node::new(3).wants.revision());
}

#[tokio::test]
async fn a_node_that_lies_or_is_silent_keeps_nobody_from_the_others() {
    let (a, b) = (Node::new(1), Node::new(2));
    a.give("p", "component");
    let lies = || Other::Lies(Arc::clone(&a.spread), Arc::clone(&a.host));
    b.hears(vec![lies(), Other::Older]);
    b.spread.hear_all().await;
    assert!(b.wants.of_site("plant").unwrap().iter().all(|(name, _)| name == "p"));
    b.hears(vec![lies(), Other::Older, a.is()]);
    b.spread.hear_all().await;
    let mut failures = Failures::default();
    assert!(b.spread.fetch_all(&mut failures).await, "the damaged one is left, and the right one taken");
    assert_eq!(b.ready().len(), 1);
    // Who lacks it is tried again when somebody comes.
    let c = Node::new(3);
    c.hears(vec![a.is()]);
    c.spread.hear_all().await;
    c.hears(vec![Other::Older]);
    assert!(!c.spread.fetch_all(&mut failures).await);
    let asks = c.way.asks.load(Ordering::Relaxed);
    assert!(!c.spread.fetch_all(&mut failures).await);
    assert_eq!(c.way.asks.load(Ordering::Relaxed), asks, "not at once");
    c.hears(vec![Other::Older, b.is()]);
    assert!(c.spread.fetch_all(&mut failures).await);
    assert_eq!(c.ready(), a.ready());
    // One that does not answer is waited for only so long.
    c.hears(vec![Other::Silent, b.is()]);
    b.give("q", "component");
    c.spread.hear_others().await;
    assert_eq!(c.wants.of_site("plant").unwrap().len(), 2);
}

#[tokio::test]
async fn what_a_node_alone_knew_is_not_for_whoever_has_the_sites_name_next() {
    let (a, b) = (Node::new(1), Node::new(2));
    let have = |gateways: &'static [u64]| move |_: &str| gateways.to_vec();
    // Given before anybody has accepted the invitation; then the site has one gateway, and a second one.
    a.give("p", "x");
    for gateways in [&[][..], &[], &[7], &[7, 8], &[8]] {
        a.wants.forget_strangers(&have(gateways)).unwrap();
        assert_eq!(a.ready(), [("p".to_owned(), 1)], "{gateways:?}");
    }
    // A version that is given anew is for those of now as well.
    a.give("p", "y");
    a.wants.forget_strangers(&have(&[8])).unwrap();
    assert_eq!(a.ready(), [("p".to_owned(), 2)]);
    // This node was cut off when the link was removed, and another site was invited by that name.
    a.wants.forget_strangers(&have(&[9])).unwrap();
    assert!(a.ready().is_empty() && a.wants.of_site("plant").unwrap().is_empty());
    b.hears(vec![a.is()]);
    b.spread.hear_all().await;
    b.wants.forget_strangers(&have(&[9])).unwrap();
    assert!(b.wants.of_site("plant").unwrap().is_empty());
    // What is given then is for that one.
    a.give("p", "z");
    for _ in 0..2 {
        a.wants.forget_strangers(&have(&[9])).unwrap();
    }
    assert_eq!(a.ready(), [("p".to_owned(), 4)]);
}
