//! Commands over a link, both rooms in process: whatever is lost in between, each ends in one outcome, equal at both ends.

#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use devices::command::{CommandId, Repeat, State, Status};
use sled_data::MemoryBackend;

use super::super::forward::ForwardError;
use super::super::tests::{LONG, Node, backend, command, next_offer, until};
use super::super::{Commands, Config, NewCommand, SubmitError};
use super::wire::{CalledOffV2, EndedV1, VERSION_CALL_OFF, decode, decode_as, encode, encode_as};
use super::*;
use crate::catalog::{self, Catalog};
use crate::directory::Directory;

pub(super) const LINK: u64 = 40;
pub(super) const GATEWAY: OriginId = OriginId(41);
pub(super) const ALL: Listed = Listed { commands: true, urgent: true };

pub(super) fn above(listed: Listed) -> Above {
    Above { name: "hq".to_owned(), link: LINK, listed }
}

/// The link between the two.
#[derive(Default)]
pub(super) struct Line {
    edge: Mutex<Option<Arc<Commands>>>,
    is_cut: AtomicBool,
    pub(super) is_removed: AtomicBool,
    pub(super) loses_answers: AtomicBool,
    pub(super) loses_questions: AtomicBool,
    /// Questions that were lost.
    pub(super) lost: AtomicUsize,
    /// The edge's program knows of no call-off.
    pub(super) is_old: AtomicBool,
    /// The edge calls nothing off now, and says so.
    pub(super) is_later: AtomicBool,
    /// All gateways that the plant has, where it is not the one.
    pub(super) gateways: Mutex<Option<Vec<OriginId>>>,
    pub(super) asked: AtomicUsize,
}

impl DownWay for Line {
    fn has_site(&self, site: &str) -> bool {
        site == "plant" && !self.is_removed(site)
    }

    fn is_removed(&self, site: &str) -> bool {
        site == "plant" && self.is_removed.load(Ordering::Relaxed)
    }

    fn gateway(&self, site: &str) -> Option<OriginId> {
        let newest = self.gateways_of(site).last().copied();
        newest.filter(|_| self.has_site(site) && !self.is_cut.load(Ordering::Relaxed))
    }

    fn gateways(&self) -> Vec<(String, OriginId)> {
        self.gateway("plant").map(|gateway| ("plant".to_owned(), gateway)).into_iter().collect()
    }

    fn gateways_of(&self, _: &str) -> Vec<OriginId> {
        self.gateways.lock().clone().unwrap_or_else(|| vec![GATEWAY])
    }

    fn ask(&self, gateway: OriginId, request: Vec<u8>) -> Answering<'_> {
        assert_eq!(Some(&gateway), self.gateways_of("plant").last());
        Box::pin(async move {
            let edge = self.edge.lock().clone().filter(|_| !self.is_cut.load(Ordering::Relaxed));
            let Some(edge) = edge else { return Err(ForwardError::Unreachable("cut".into())) };
            if self.loses_questions.load(Ordering::Relaxed) {
                self.lost.fetch_add(1, Ordering::Relaxed);
                return Err(ForwardError::Unanswered("lost".into()));
            }
            if self.is_old.load(Ordering::Relaxed) && request[0] != 1 {
                return Ok(vec![1, 0]);
            }
            if self.is_later.load(Ordering::Relaxed) && request[0] == VERSION_CALL_OFF {
                let asked: Vec<([u8; 16], String)> = decode_as(VERSION_CALL_OFF, &request).unwrap();
                return Ok(encode_as(VERSION_CALL_OFF, &vec![CalledOffV2::Later; asked.len()]));
            }
            let answer = edge.take_from_above(above(ALL), request).await;
            self.asked.fetch_add(1, Ordering::Relaxed);
            match self.loses_answers.load(Ordering::Relaxed) {
                true => Err(ForwardError::Unanswered("lost".into())),
                false => Ok(answer),
            }
        })
    }
}

/// A headquarters and a plant.
pub(super) struct Pair {
    hq: Option<Node>,
    plant: Option<Node>,
    pub(super) disks: [Arc<MemoryBackend>; 2],
    pub(super) line: Arc<Line>,
}

impl Pair {
    pub(super) fn new() -> Self {
        let mut pair = Self { hq: None, plant: None, disks: [backend(), backend()], line: Arc::default() };
        pair.start_hq();
        pair.start_plant();
        pair
    }

    fn start_hq(&mut self) {
        let node = Node::open_in(None, 7, &self.disks[0], Config::default());
        node.room.set_down(Arc::clone(&self.line) as _);
        self.hq = Some(node.run());
    }

    fn start_plant(&mut self) {
        let node = Node::open_in(None, 8, &self.disks[1], Config::default()).run();
        *self.line.edge.lock() = Some(Arc::clone(&node.room));
        self.plant = Some(node);
        self.hq().room.gateway_came("plant", GATEWAY);
    }

    pub(super) async fn restart_hq(&mut self) {
        self.hq.take().unwrap().end().await;
        self.start_hq();
    }

    pub(super) async fn restart_plant(&mut self) {
        self.line.is_cut.store(true, Ordering::Relaxed);
        *self.line.edge.lock() = None;
        self.plant.take().unwrap().end().await;
        self.line.is_cut.store(false, Ordering::Relaxed);
        self.start_plant();
    }

    pub(super) fn hq(&self) -> &Node {
        self.hq.as_ref().unwrap()
    }

    pub(super) fn plant(&self) -> &Node {
        self.plant.as_ref().unwrap()
    }

    pub(super) fn cut(&self, is_cut: bool) {
        self.line.is_cut.store(is_cut, Ordering::Relaxed);
        if !is_cut {
            self.hq().room.gateway_came("plant", GATEWAY);
        }
    }

    pub(super) async fn give(&self, edit: impl FnOnce(&mut NewCommand)) -> CommandId {
        let mut new = command("plant/pump", "start");
        edit(&mut new);
        self.hq().room.submit(new).await.unwrap().id
    }

    /// Tells the headquarters what has ended; whether it was heard.
    pub(super) async fn tell(&self) -> bool {
        let Some((told, _)) = self.plant().room.ended_from_above(LINK, 0).await else { return false };
        let known = self.hq().room.ended_below(GATEWAY, &told).await.unwrap();
        self.plant().room.known_above(LINK, &known);
        true
    }

    /// Waits until the headquarters knows an end, and compares it with the plant's.
    pub(super) async fn end_of(&self, id: CommandId) -> State {
        let begin = std::time::Instant::now();
        loop {
            self.tell().await;
            if let Some(here) = self.hq().room.get(id).filter(|info| info.state.is_outcome()) {
                if let Some(there) = self.plant().room.get(id) {
                    assert_eq!(here.state, there.state);
                    let payload = |info: &crate::commands::CommandInfo| {
                        info.result.as_ref().map(|result| result.answer.payload.0.clone())
                    };
                    assert_eq!((payload(&here), here.why), (payload(&there), there.why));
                }
                return here.state;
            }
            assert!(begin.elapsed() < LONG, "{id} has not ended: {:?}", self.hq().steps(id));
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    pub(super) async fn end(self) {
        self.hq.unwrap().end().await;
        self.plant.unwrap().end().await;
    }
}

/// Waits until a command has made these steps: how far it is is known a moment before.
pub(super) async fn steps_are(node: &Node, id: CommandId, steps: &[&str]) {
    until(&format!("{steps:?}"), || (node.steps(id) == steps).then_some(())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_goes_down_and_its_end_comes_up() {
    let pair = Pair::new();
    let pump = pair.plant().connect("pump").await;
    let id = pair.give(|_| {}).await;
    let offer = next_offer(&pump).await;
    assert_eq!(&*offer.topic, format!("edgeway/command/pump/{id}/start"), "it keeps its id");
    offer.acked();
    assert_eq!(pair.plant().room.get(id).unwrap().issued_by, "link:hq/cli");
    pair.plant().answer(&pump, "pump", id, Status::Succeeded);
    assert_eq!(pair.end_of(id).await, State::Succeeded);
    steps_are(pair.hq(), id, &["queued", "moving", "moved", "succeeded"]).await;
    assert!(!pair.tell().await, "it is told once");
    // A job of the headquarters, a key, a mistyped site.
    let keyed = |new: &mut NewCommand| new.idempotency_key = Some("k".to_owned());
    assert_eq!(pair.give(keyed).await, pair.give(keyed).await);
    let wrong = pair.hq().room.submit(command("plnt/pump", "start")).await;
    assert!(matches!(wrong, Err(SubmitError::UnknownSite(_))), "{wrong:?}");
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_was_never_handed_over_expires_and_the_device_never_has_it() {
    let pair = Pair::new();
    let pump = pair.plant().connect("pump").await;
    pair.cut(true);
    let id = pair.give(|new| new.deliver_within_ms = Some(200)).await;
    let later = pair.give(|_| {}).await;
    assert_eq!(pair.end_of(id).await, State::Expired);
    steps_are(pair.hq(), id, &["queued", "expired"]).await;
    pair.cut(false);
    let offer = next_offer(&pump).await;
    assert_eq!(offer.terms.map(|terms| terms.id), Some(*later.as_bytes()));
    offer.acked();
    assert!(pair.plant().room.get(id).is_none());
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_answer_and_a_crash_of_either_end_make_no_second_command() {
    // What happens while the answer is lost.
    for what in ["nothing", "hq restarts", "plant restarts", "both restart", "it ends meanwhile"] {
        let mut pair = Pair::new();
        let pump = pair.plant().connect("pump").await;
        pair.line.loses_answers.store(true, Ordering::Relaxed);
        let id = pair.give(|new| (new.repeat, new.deliver_within_ms) = (Repeat::Never, Some(1_500))).await;
        next_offer(&pump).await.acked();
        until("it is delivered", || {
            let shown = pair.plant().room.get(id)?;
            (shown.state == State::Delivered).then_some(())
        })
        .await;
        assert!(pair.hq().room.cancel(id, "cli").await.is_err(), "it may be there");
        if what == "it ends meanwhile" {
            pair.plant().answer(&pump, "pump", id, Status::Failed);
            assert_eq!(pair.end_of(id).await, State::Failed, "{what}");
        }
        if ["hq restarts", "both restart"].contains(&what) {
            pair.restart_hq().await;
        }
        if ["plant restarts", "both restart"].contains(&what) {
            pair.restart_plant().await;
        }
        let asked = pair.line.asked.load(Ordering::Relaxed);
        pair.line.loses_answers.store(false, Ordering::Relaxed);
        if what != "it ends meanwhile" {
            until("it is asked again", || (pair.line.asked.load(Ordering::Relaxed) > asked).then_some(())).await;
            let pump =
                if what.contains("plant") || what.contains("both") { pair.plant().connect("pump").await } else { pump };
            pair.plant().answer(&pump, "pump", id, Status::Succeeded);
            assert_eq!(pair.end_of(id).await, State::Succeeded, "{what}");
        }
        let sent = pair.plant().steps(id).iter().filter(|step| *step == "sent").count();
        assert_eq!(sent, 1, "{what}: {:?}", pair.plant().steps(id));
        // The outcome is the same after a restart, and is told once.
        let before = pair.hq().room.wait(id, LONG).await.unwrap();
        let told = pair.hq().steps(id);
        pair.restart_hq().await;
        let after = pair.hq().room.get(id).unwrap();
        assert_eq!((after.state, after.result), (before.state, before.result), "{what}");
        assert_eq!(pair.hq().steps(id), told, "{what}");
        pair.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_ends_are_told_and_are_the_same_after_a_restart() {
    let mut pair = Pair::new();
    let pump = pair.plant().connect("pump").await;
    let away = pair.plant().connect("away").await;
    pair.plant().sessions.disconnect(&away, None, Vec::new());
    // device, how it ends there
    let cases = [
        ("plant/pump", State::Succeeded),
        ("plant/pump", State::Failed),
        ("plant/pump", State::Rejected),
        ("plant/pump", State::TimedOut),
        ("plant/away", State::Expired),
        ("plant/away", State::Cancelled),
        ("plant/away", State::Superseded),
        ("plant/stranger", State::Refused),
    ];
    // Not every device is known there.
    let log = Arc::clone(&pair.plant().log);
    let catalog = Catalog::open(Arc::clone(&log), catalog::Config::default()).unwrap();
    let directory = Directory::new(catalog, Arc::clone(&pair.plant().sessions), log);
    pair.plant().room.set_directory(directory);
    let mut ids = Vec::new();
    for (device, end) in cases {
        let status = Status::ALL.into_iter().find(|status| status.state() == end);
        let mut new = NewCommand { device: device.to_owned(), ..command("x", "start") };
        new.execution_timeout_ms = Some(if end == State::TimedOut { 1_000 } else { 60_000 });
        new.deliver_within_ms = Some(if end == State::Expired { 100 } else { 60_000 });
        new.supersede = (end == State::Superseded).then(|| "set".to_owned());
        let id = pair.hq().room.submit(new).await.unwrap().id;
        if device == "plant/pump" {
            next_offer(&pump).await.acked();
        }
        if let Some(status) = status {
            pair.plant().answer(&pump, "pump", id, status);
        }
        let is_there = || pair.plant().room.get(id).map(|_| ());
        match end {
            State::Cancelled => {
                until("it is there", is_there).await;
                assert_eq!(pair.plant().room.cancel(id, "cli").await.unwrap(), State::Cancelled);
            }
            State::Superseded => {
                until("it is there", is_there).await;
                let newer = NewCommand { supersede: Some("set".to_owned()), ..command("away", "start") };
                pair.plant().room.submit(newer).await.unwrap();
            }
            _ => {}
        }
        assert_eq!(pair.end_of(id).await, end, "{device}");
        ids.push(id);
    }
    let shown = |pair: &Pair| ids.iter().map(|id| pair.hq().room.get(*id).unwrap()).collect::<Vec<_>>();
    let before = shown(&pair);
    assert_eq!(before[7].why.as_ref().unwrap().by, "unknown-device");
    pair.restart_hq().await;
    for (after, before) in shown(&pair).into_iter().zip(before) {
        assert_eq!((after.state, after.why, after.result), (before.state, before.why, before.result));
    }
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_ends_no_command_but_those_that_it_was_given() {
    let pair = Pair::new();
    let pump = pair.plant().connect("pump").await;
    let id = pair.give(|_| {}).await;
    next_offer(&pump).await.acked();
    until("it is taken", || (pair.hq().steps(id) == ["queued", "moving", "moved"]).then_some(())).await;
    let own = pair.hq().room.submit(NewCommand { allow_unknown: true, ..command("fan", "own") }).await.unwrap().id;
    let forged = [id, own].map(|id| EndedV1::new(id, State::Succeeded, None, None));
    let known = pair.hq().room.ended_below(OriginId(77), &encode(&forged.to_vec())).await;
    assert_eq!(known.and_then(|known| decode(&known)), Some(vec![*own.as_bytes()]), "of the other it is not heard");
    let mine = EndedV1::new(own, State::Succeeded, None, None);
    pair.hq().room.ended_below(GATEWAY, &encode(&vec![mine])).await.unwrap();
    for id in [id, own] {
        assert!(!pair.hq().room.get(id).unwrap().state.is_outcome());
    }
    assert_eq!(pair.hq().room.ended_below(GATEWAY, &[7, 7]).await, None);
    pair.plant().answer(&pump, "pump", id, Status::Succeeded);
    assert_eq!(pair.end_of(id).await, State::Succeeded);
    pair.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_than_so_many_are_with_a_gateway() {
    const COUNT: usize = 1_050;
    let pair = Pair::new();
    let away = pair.plant().connect("pump").await;
    pair.plant().sessions.disconnect(&away, None, Vec::new());
    pair.cut(true);
    let mut ids = Vec::new();
    for n in 0..COUNT {
        let device = format!("plant/pump-{}", n % 7);
        ids.push(pair.give(|new| (new.device, new.deliver_within_ms) = (device, Some(600_000))).await);
    }
    pair.cut(false);
    let moved = || ids.iter().filter(|id| pair.hq().room.get(**id).unwrap().moved_to.is_some()).count();
    until("as many as may have gone", || (moved() == 1_000).then_some(())).await;
    until("they are there", || (pair.plant().room.pending() == 1_000).then_some(())).await;
    // Each that ends makes room for another.
    let gone: Vec<_> = ids.iter().filter(|id| pair.plant().room.get(**id).is_some()).take(20).copied().collect();
    for id in &gone {
        pair.plant().room.cancel(*id, "cli").await.unwrap();
        assert_eq!(pair.end_of(*id).await, State::Cancelled);
    }
    until("others have gone", || (pair.plant().room.pending() == 1_000).then_some(())).await;
    pair.end().await;
}

#[test]
fn targets_are_names_behind_sites() {
    let cases = [
        ("pump", true),
        ("plant/pump", true),
        ("plant/line-3/pump", true),
        ("/pump", false),
        ("plant/", false),
        ("plant//pump", false),
        ("plant/+", false),
        ("#/pump", false),
        ("", false),
    ];
    for (target, fits) in cases {
        assert_eq!(check_target(target).is_ok(), fits, "{target:?}");
    }
    assert!(check_target(&"a/".repeat(16)).is_err() && check_target(&format!("{}d", "a/".repeat(16))).is_ok());
    assert!(check_target(&format!("{}d", "a/".repeat(17))).is_err());
    assert_eq!((site_of("a/b/c"), site_of("a")), (Some("a"), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_that_was_set_back_has_what_it_lost_end_as_unknown_or_done_again() {
    // Whether the headquarters has heard that it was taken, whether it may be repeated, the outcome.
    for (is_sure, repeat, outcome) in [
        (true, Repeat::Never, State::Unknown),
        (true, Repeat::Safe, State::Unknown),
        (false, Repeat::Never, State::Unknown),
        (false, Repeat::Safe, State::Succeeded),
    ] {
        let mut pair = Pair::new();
        let pump = pair.plant().connect("pump").await;
        pair.line.loses_answers.store(!is_sure, Ordering::Relaxed);
        let id = pair.give(|new| new.repeat = repeat).await;
        next_offer(&pump).await.acked();
        let steps: &[&str] = if is_sure { &["queued", "moving", "moved"] } else { &["queued", "moving"] };
        until("it is handed over", || (pair.hq().steps(id) == steps).then_some(())).await;
        pair.disks[1] = backend();
        pair.line.is_cut.store(true, Ordering::Relaxed);
        pair.restart_plant().await;
        pair.line.loses_answers.store(false, Ordering::Relaxed);
        let pump = pair.plant().connect("pump").await;
        if outcome == State::Succeeded {
            next_offer(&pump).await.acked();
            pair.plant().answer(&pump, "pump", id, Status::Succeeded);
        }
        assert_eq!(pair.end_of(id).await, outcome, "{is_sure} {repeat:?}");
        let count = pair.plant().steps(id).len();
        assert_eq!(count > 0, outcome == State::Succeeded, "{is_sure} {repeat:?}");
        pair.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_far_a_command_is_comes_up_and_changes_nothing() {
    let pair = Pair::new();
    let pump = pair.plant().connect("pump").await;
    let id = pair.give(|_| {}).await;
    let offer = next_offer(&pump).await;
    let moved = &["queued", "moving", "moved"];
    steps_are(pair.hq(), id, moved).await;
    let told = async |gateway, anew| {
        let told = pair.plant().room.progress_from_above(LINK, anew).await?;
        assert_eq!(pair.hq().room.ended_below(gateway, &told).await, None);
        let at = pair.hq().room.get(id)?.at_site?;
        Some((at.state, at.attempts, at.device_connected))
    };
    assert_eq!(told(OriginId(77), true).await, None, "it was not given to that one");
    assert_eq!(told(GATEWAY, false).await, None, "nothing is new");
    assert_eq!(told(GATEWAY, true).await, Some((State::Sent, 1, true)), "the link has come anew");
    offer.acked();
    until("it is delivered", || {
        (pair.plant().room.get(id)?.state == State::Delivered && pair.plant().steps(id).len() == 3).then_some(())
    })
    .await;
    pair.plant().sessions.disconnect(&pump, None, Vec::new());
    assert_eq!(told(GATEWAY, false).await, Some((State::Delivered, 1, false)));
    steps_are(pair.hq(), id, moved).await;
    pair.plant().answer(&pump, "pump", id, Status::Succeeded);
    assert_eq!(pair.end_of(id).await, State::Succeeded);
    assert_eq!(told(GATEWAY, true).await, None);
    assert_eq!(pair.hq().room.get(id).unwrap().at_site, None);
    pair.end().await;
}
