//! Two upstreams that bring plugins to one site: one that lets a component trickle keeps nothing of the other's away.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::lab::{Site, until};
use super::topics_down::brings;
use crate::links::config::LinkConfig;
use crate::links::plugins::{GivePlugins, Outcome, PART_BYTES_MAX, PluginDown, TakePlugins, Wanted, WantedComponent};
use crate::links::{ByLink, Pending};
use crate::transport::NodeId;

/// Wants one plugin, whose parts come after so long each, and notes what is answered.
struct Giver {
    changed: watch::Sender<u64>,
    wanted: Mutex<Vec<Wanted>>,
    after: Duration,
    /// How many were asked for.
    parts: AtomicUsize,
    answers: Mutex<Vec<Outcome>>,
    /// When each was given.
    answered_at: Mutex<Vec<Instant>>,
    /// How many more answers it does not keep.
    is_full: AtomicUsize,
}

impl Giver {
    fn new(bytes: usize, after: Duration) -> Arc<Self> {
        let sha256 = Sha256::digest(vec![0; bytes]).into();
        let component = WantedComponent { manifest: "m".to_owned(), sha256, bytes: bytes as u64 };
        let wanted = Mutex::new(vec![Wanted { name: "one".to_owned(), number: 1, component: Some(component) }]);
        let (changed, parts, answers) = (watch::Sender::new(0), AtomicUsize::new(0), Mutex::default());
        let (answered_at, is_full) = (Mutex::default(), AtomicUsize::new(0));
        Arc::new(Self { changed, wanted, after, parts, answers, answered_at, is_full })
    }
}

impl GivePlugins for Giver {
    fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn wanted<'a>(&'a self, _: &'a str, _: NodeId) -> Pending<'a, Option<Vec<Wanted>>> {
        Box::pin(async { Some(self.wanted.lock().clone()) })
    }

    fn part(&self, _: [u8; 32], offset: u64) -> Pending<'_, Option<Vec<u8>>> {
        self.parts.fetch_add(1, Ordering::Relaxed);
        Box::pin(async move {
            tokio::time::sleep(self.after).await;
            let bytes = self.wanted.lock().first()?.component.as_ref()?.bytes;
            Some(vec![0; PART_BYTES_MAX.min((bytes - offset) as usize)])
        })
    }

    fn answered<'a>(&'a self, _: &'a str, _: NodeId, _: &'a Wanted, outcome: Outcome) -> Pending<'a, bool> {
        Box::pin(async move {
            let is_later = matches!(outcome, Outcome::Later { .. });
            self.answered_at.lock().push(Instant::now());
            self.answers.lock().push(outcome);
            let less = |left: usize| left.checked_sub(1);
            if self.is_full.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less).is_ok() {
                return false;
            }
            if !is_later {
                self.wanted.lock().clear();
            }
            true
        })
    }

    fn of_site(&self, _: &str, _: &[(NodeId, String)]) -> Vec<PluginDown> {
        Vec::new()
    }
}

/// Deploys what it is given, and waits for a while whether it is given another one meanwhile.
#[derive(Default)]
struct Taker {
    now: AtomicUsize,
    most: AtomicUsize,
    waits: Duration,
}

impl TakePlugins for Taker {
    fn judge<'a>(&'a self, _: &'a ByLink, _: &'a Wanted) -> Pending<'a, Option<Outcome>> {
        Box::pin(async { None })
    }

    fn deploy<'a>(&'a self, _: &'a ByLink, _: &'a Wanted, _: Vec<u8>) -> Pending<'a, Outcome> {
        Box::pin(async move {
            let now = self.now.fetch_add(1, Ordering::Relaxed) + 1;
            self.most.fetch_max(now, Ordering::Relaxed);
            let begin = Instant::now();
            while begin.elapsed() < self.waits && self.most.load(Ordering::Relaxed) < 2 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            self.now.fetch_sub(1, Ordering::Relaxed);
            Outcome::Deployed
        })
    }

    fn of_link(&self, _: u64) -> Vec<PluginDown> {
        Vec::new()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_lets_a_component_trickle_keeps_none_of_another_link_away() {
    let (plant, slow, hq) = (Site::new(1).await, Site::new(2).await, Site::new(3).await);
    // It would take minutes.
    let trickles = Giver::new(64 << 20, Duration::from_millis(200));
    let gives = Giver::new(3 * PART_BYTES_MAX, Duration::ZERO);
    slow.upstream().set_plugins(Arc::clone(&trickles) as _);
    hq.upstream().set_plugins(Arc::clone(&gives) as _);
    let second = LinkConfig { name: "second".to_owned(), ..brings(&["plugins"]) };
    plant.open_edge_that_takes(vec![brings(&["plugins"]), second], Arc::new(Taker::default()));
    plant.accept(&slow, "plant").await;
    until("it has begun to come", || trickles.parts.load(Ordering::Relaxed) > 1).await;
    plant.edge().accept(&hq.invite("plant").await, "second").await.unwrap();
    until("the other one's is there", || gives.answers.lock().contains(&Outcome::Deployed)).await;
    let answers = trickles.answers.lock().clone();
    assert!(matches!(&answers[..], [Outcome::Later { .. }, ..]), "{answers:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_component_is_in_memory_for_one_link_at_a_time_until_it_is_deployed() {
    let (plant, one, other) = (Site::new(1).await, Site::new(2).await, Site::new(3).await);
    let givers = [&one, &other].map(|hq| {
        let giver = Giver::new(3 * PART_BYTES_MAX, Duration::ZERO);
        hq.upstream().set_plugins(Arc::clone(&giver) as _);
        giver
    });
    let taker = Arc::new(Taker { waits: Duration::from_secs(1), ..Taker::default() });
    let second = LinkConfig { name: "second".to_owned(), ..brings(&["plugins"]) };
    plant.open_edge_that_takes(vec![brings(&["plugins"]), second], Arc::clone(&taker) as _);
    plant.accept(&one, "plant").await;
    plant.edge().accept(&other.invite("plant").await, "second").await.unwrap();
    until("both are there", || givers.iter().all(|giver| giver.answers.lock().contains(&Outcome::Deployed))).await;
    assert_eq!(taker.most.load(Ordering::Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_could_not_be_kept_is_not_fetched_again_at_once() {
    let (plant, hq) = (Site::new(1).await, Site::new(2).await);
    let giver = Giver::new(3 * PART_BYTES_MAX, Duration::ZERO);
    giver.is_full.store(1, Ordering::Relaxed);
    hq.upstream().set_plugins(Arc::clone(&giver) as _);
    plant.open_edge_that_takes(vec![brings(&["plugins"])], Arc::new(Taker::default()));
    plant.accept(&hq, "plant").await;
    until("it is kept", || giver.answers.lock().len() > 1).await;
    let at = giver.answered_at.lock().clone();
    assert!(at[1] - at[0] >= Duration::from_millis(100), "{:?}", at[1] - at[0]);
    assert!(giver.wanted.lock().is_empty());
}
