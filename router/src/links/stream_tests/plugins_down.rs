//! Plugins that come down a link: one at a time, fetched whole, answered; and what neither end may say.

use std::sync::Arc;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::watch;

use super::forged::{Forger, plant_and_hq};
use super::lab::{LONG, Site, until};
use super::topics_down::brings;
use crate::links::plugins::{
    FromEdge, FromUpstream, GivePlugins, Outcome, PART_BYTES_MAX, PluginDown, TakePlugins, Tally, Wanted,
    WantedComponent,
};
use crate::links::upstream::Close;
use crate::links::{ByLink, Pending};
use crate::transport::{Ended, NodeId};

/// Wants these, has this component, and notes what is answered.
struct Giver {
    changed: watch::Sender<u64>,
    wanted: Mutex<Vec<Wanted>>,
    component: Vec<u8>,
    answers: Mutex<Vec<(String, Outcome)>>,
}

impl Giver {
    fn new(wanted: Vec<Wanted>, component: Vec<u8>) -> Arc<Self> {
        let (changed, wanted) = (watch::Sender::new(0), Mutex::new(wanted));
        Arc::new(Self { changed, wanted, component, answers: Mutex::default() })
    }
}

impl GivePlugins for Giver {
    fn watch(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    fn wanted<'a>(&'a self, site: &'a str, _: NodeId) -> Pending<'a, Option<Vec<Wanted>>> {
        assert_eq!(site, "plant");
        Box::pin(async { Some(self.wanted.lock().clone()) })
    }

    fn part(&self, _: [u8; 32], offset: u64) -> Pending<'_, Option<Vec<u8>>> {
        let rest = self.component.get(offset as usize..).map(|rest| rest[..rest.len().min(PART_BYTES_MAX)].to_vec());
        Box::pin(async { rest })
    }

    fn answered<'a>(&'a self, _: &'a str, _: NodeId, wanted: &'a Wanted, outcome: Outcome) -> Pending<'a, bool> {
        Box::pin(async move {
            if !matches!(outcome, Outcome::Later { .. }) {
                self.wanted.lock().retain(|other| other.number != wanted.number);
            }
            self.answers.lock().push((wanted.name.clone(), outcome));
            true
        })
    }

    fn of_site(&self, _: &str, _: &[(NodeId, String)]) -> Vec<PluginDown> {
        Vec::new()
    }
}

/// Deploys what it is given, and refuses what is called so.
#[derive(Default)]
struct Taker(Mutex<Vec<(String, Vec<u8>)>>);

impl TakePlugins for Taker {
    fn judge<'a>(&'a self, by: &'a ByLink, wanted: &'a Wanted) -> Pending<'a, Option<Outcome>> {
        assert_eq!(by.name, "up");
        Box::pin(async move {
            match (wanted.name.as_str(), &wanted.component) {
                ("refused", _) => Some(Outcome::refused("local", "it is here")),
                (_, None) => Some(Outcome::Removed),
                _ => None,
            }
        })
    }

    fn deploy<'a>(&'a self, _: &'a ByLink, wanted: &'a Wanted, wasm: Vec<u8>) -> Pending<'a, Outcome> {
        self.0.lock().push((wanted.name.clone(), wasm));
        Box::pin(async { Outcome::Deployed })
    }

    fn of_link(&self, _: u64) -> Vec<PluginDown> {
        Vec::new()
    }
}

fn wanted(name: &str, number: u64, component: &[u8]) -> Wanted {
    let sha256 = Sha256::digest(component).into();
    let component = WantedComponent { manifest: "m".to_owned(), sha256, bytes: component.len() as u64 };
    Wanted { name: name.to_owned(), number, component: Some(component) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_wanted_is_fetched_whole_and_answered_once_whatever_is_cut() {
    let component: Vec<u8> = (0..3 * PART_BYTES_MAX + 7).map(|n| (n % 251) as u8).collect();
    let gone = Wanted { component: None, ..wanted("gone", 2, &[1]) };
    let other = wanted("other", 4, &vec![0; component.len()]);
    let all = vec![wanted("one", 1, &component), gone, wanted("refused", 3, &component), other];
    let giver = Giver::new(all, component.clone());
    let (plant, mut hq) = (Site::new(1).await, Site::new(2).await);
    hq.upstream().set_plugins(Arc::clone(&giver) as _);
    let taker = Arc::new(Taker::default());
    plant.open_edge_that_takes(vec![brings(&["plugins"])], Arc::clone(&taker) as _);
    plant.accept(&hq, "plant").await;
    until("all are answered", || giver.answers.lock().len() >= 4).await;
    let answers = giver.answers.lock().clone();
    let named = |name: &str| answers.iter().find(|(of, _)| of == name).map(|(_, outcome)| outcome.clone()).unwrap();
    assert_eq!((named("one"), named("gone")), (Outcome::Deployed, Outcome::Removed));
    assert!(matches!(named("refused"), Outcome::Refused { code, .. } if code == "local"));
    // What has another digest than was said.
    assert!(matches!(named("other"), Outcome::Refused { code, .. } if code == "digest"), "{answers:?}");
    assert_eq!(*taker.0.lock(), [("one".to_owned(), component.clone())]);
    // Counted alike at both ends; what has another digest went over as well.
    let bytes = 2 * component.len() as u64;
    let expected = Tally { deployed: 1, removed: 1, refused: 2, later: 0, bytes };
    let tallies = || [plant.edge().views().remove(0).tally, hq.upstream().views().remove(0).tally];
    until("all is counted", || tallies() == [expected; 2]).await;
    // One more, when the link was cut.
    hq.cut().await;
    giver.wanted.lock().push(wanted("two", 5, &component));
    giver.changed.send_modify(|changes| *changes += 1);
    hq.listen_again().await;
    until("it is answered", || giver.answers.lock().len() == 5).await;
    assert_eq!(taker.0.lock().len(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_that_says_what_cannot_be_is_cut_off() {
    let (plant, hq, _) = plant_and_hq().await;
    let giver = Giver::new(vec![wanted("one", 7, b"component")], b"component".to_vec());
    hq.upstream().set_plugins(Arc::clone(&giver) as _);
    let wish = FromEdge::Wish(1, 0).encode();
    // What is said, one frame after the other, and the words with which it is closed
    let cases: [(Vec<Vec<u8>>, &str); 6] = [
        (vec![FromEdge::Need(1, 0).encode()], "not asked for so"),
        (vec![FromEdge::Wish(9, 0).encode()], "version"),
        (vec![wish.clone(), FromEdge::Need(8, 0).encode()], "was not said"),
        (vec![wish.clone(), FromEdge::Done(8, Outcome::Deployed).encode()], "was not said"),
        (vec![wish.clone(), wish.clone()], "was not said"),
        (vec![wish.clone(), vec![13, 9]], "body"),
    ];
    for (frames, words) in cases {
        let forger = Forger::connect(&plant, &hq).await;
        let (mut out, _from) = forger.connection.open().await.unwrap();
        for frame in frames {
            out.send_frame(&frame).await.unwrap();
        }
        match tokio::time::timeout(LONG, forger.connection.ended()).await.unwrap() {
            Ended::Closed { code, text } => assert!(code == Close::Garbage as u32 && text.contains(words), "{text}"),
            ended => panic!("{words}: {ended:?}"),
        }
    }
    assert!(giver.answers.lock().is_empty());
    // What lies beyond its end is not there.
    let forger = Forger::connect(&plant, &hq).await;
    let (mut out, mut from) = forger.connection.open().await.unwrap();
    out.send_frame(&wish).await.unwrap();
    let mut hear = async || {
        let frame = tokio::time::timeout(LONG, from.receive_frame(1 << 20)).await.unwrap().unwrap().unwrap();
        FromUpstream::decode(&frame).unwrap()
    };
    assert_eq!(hear().await, FromUpstream::Wanted(wanted("one", 7, b"component")));
    out.send_frame(&FromEdge::Need(7, 1 << 40).encode()).await.unwrap();
    assert_eq!(hear().await, FromUpstream::Part(1 << 40, vec![]));
}
