//! What an edge makes of what it hears that lies ahead upstream, answer by answer.

use std::sync::Arc;
use std::time::Duration;

use sled_data::{Offset, PartitionId};

use super::forged::{Forger, plant_and_hq};
use super::lab::Site;
use super::newest_first::{miss, partition, session};
use crate::links::begin::Stand;
use crate::links::book::Page;
use crate::links::class::Priority;
use crate::links::edge::later;
use crate::links::later::LiesAhead;
use crate::links::meter::Brought;
use crate::links::sender::Sender;
use crate::links::wire::Answer;

/// A stream of a link that upstream answers as it is told to.
struct Heard {
    site: Site,
    id: PartitionId,
    sender: Sender,
    forger: Forger,
}

impl Heard {
    fn clock(&self, end: Offset) -> u64 {
        self.site.log.store().hlc_before(self.id, end).unwrap()
    }

    /// A part that is the same as what is here.
    fn same(&self, from: Offset, end: Offset) -> LiesAhead {
        LiesAhead { from, end, first: self.clock(from + 1), hlc: self.clock(end) }
    }

    /// Asks, and hears where the partition ends and what lies ahead of that.
    async fn ask(&mut self, end: Offset, parts: Vec<LiesAhead>) {
        self.sender.discover(&mut self.forger.out).await.unwrap();
        self.sender.hear(Answer::AllAhead(vec![(self.id, parts)])).await.unwrap();
        let stand = Stand { end, hlc: self.clock(end), digest: 0, is_gapless: false };
        self.sender.hear(Answer::Stands(vec![(self.id, stand)])).await.unwrap();
    }

    /// Sends all that there is, which upstream stores; up to where it goes.
    async fn send(&mut self) -> Option<Offset> {
        let mut end = None;
        loop {
            let round = self.sender.lanes.lock().next_round(self.site.log.store(), 1 << 20, &|| 0).unwrap();
            let Some(round) = round else { return end };
            end = round.ends.get(&self.id).copied();
            let number = {
                let mut open = self.sender.open.lock();
                open.sent(Brought::default(), round.ends);
                open.number
            };
            self.sender.hear(Answer::Stored(number)).await.unwrap();
        }
    }
}

async fn heard(site: Site, hq: &Site, priority: Priority) -> Heard {
    let forger = Forger::connect(&site, hq).await;
    let sender = Sender::new(&session(&site, &forger), priority, true, 0);
    let id = partition(&site);
    Heard { site, id, sender, forger }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_lies_before_the_first_part_of_another_log_does_not_count_before_it_is_sent() {
    let (mut plant, hq, batches) = plant_and_hq().await;
    miss(&plant, &mut 6).await;
    plant.cut().await;
    let mut heard = heard(plant.reborn(plant.image()).await, &hq, Priority::Normal).await;
    heard.id = batches[0].envelope().partition;
    let other = LiesAhead { first: 5, hlc: 6, ..heard.same(10, 12) };
    let last = heard.same(20, 22);
    heard.ask(3, vec![other, last]).await;
    // The gaps behind that part go first.
    assert_eq!(heard.send().await, Some(20));
    let page = heard.sender.session.page.lock();
    assert_eq!(page.stored.get(&heard.id), Some(&3), "{:?}", page.ahead);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_that_grows_while_it_is_filled_is_filled_to_its_end() {
    let (plant, hq, _) = plant_and_hq().await;
    miss(&plant, &mut 7).await;
    let mut low = heard(plant, &hq, Priority::Low).await;
    let session = Arc::clone(&low.sender.session);
    session.fills.lock().insert(low.id, 10);
    // Both streams ask where it ends, and `low` is answered first.
    let part = low.same(10, 12);
    low.ask(3, vec![part]).await;
    let normal = Sender::new(&session, Priority::Normal, false, 0);
    let mut normal = Heard { sender: normal, site: low.site, id: low.id, forger: low.forger };
    normal.ask(3, vec![part]).await;
    let to = session.fills.lock()[&normal.id];
    assert!(to > 20, "what was missed again is skipped too: {to}");
    let mut low = Heard { sender: low.sender, ..normal };
    assert_eq!(low.send().await, Some(10));
    assert_eq!(session.page.lock().stored[&low.id], 12);
    let last = LiesAhead { from: to, end: to, first: 0, hlc: 0 };
    low.ask(12, vec![last]).await;
    assert_eq!(low.send().await, Some(to));
    assert!(!session.fills.lock().contains_key(&low.id));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_another_node_sends_ahead_is_not_left() {
    let (first, hq, _) = plant_and_hq().await;
    miss(&first, &mut 8).await;
    let second = Site::new(3).await;
    second.feed(&hq, "plant", vec![super::link(&["*"], &[])]).await;
    second.stop_edge().await;
    second.follow(&first).await;
    let forger = Forger::connect(&second, &hq).await;
    let sender = Sender::new(&session(&second, &forger), Priority::Normal, true, 0);
    let mut heard = Heard { id: partition(&first), site: second, sender, forger };
    // how far what is live has come at each look, and whether the other node has left it
    for (end, is_left) in [(22, false), (24, false), (26, false), (26, true)] {
        heard.sender.open.lock().asked.clear();
        let part = heard.same(20, end);
        heard.ask(3, vec![part]).await;
        assert_eq!(heard.sender.session.page.lock().left.contains(&heard.id), is_left, "{end}");
        // Longer than it may stand still.
        tokio::time::sleep(Duration::from_millis(450)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_later_is_counted_whole() {
    let (plant, _hq, batches) = plant_and_hq().await;
    let mut page = Page::default();
    // More holes than are shown.
    page.ahead.insert(batches[0].envelope().partition, (1..=1_500).map(|n| (10 * n, 10 * n + 4)).collect());
    let (shown, events) = later(&plant.log, &page);
    assert_eq!((shown.len(), events), (1_000, 10 + 1_499 * 6));
}
