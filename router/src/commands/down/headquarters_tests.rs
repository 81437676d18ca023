//! A headquarters of three nodes and a plant, in process: wherever the link leads, and whichever node is lost, a command goes on.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use devices::command::{CommandId, Repeat, State, Status};
use sled_data::CommitNumber;

use super::super::forward::ForwardError;
use super::super::site_tests::{A, B, C, Site, ended, queued_at};
use super::super::tests::{LONG, Node, backend, next_offer};
use super::super::{CallOffError, CancelError, Commands, Config, Lost};
use super::tests::{ALL, GATEWAY, LINK, above};
use super::wire::{EndedV1, decode, encode};
use super::*;
use crate::sessions;

/// The plant's link.
struct Link {
    plant: Arc<Commands>,
    /// The node that it leads to.
    at: Mutex<Option<usize>>,
    loses_answers: AtomicBool,
    /// The id that the plant's gateway has now.
    called: Mutex<OriginId>,
    /// All gateways that the plant has.
    gateways: Mutex<Vec<OriginId>>,
    /// A node whose catalog is behind, and the gateways that it lists.
    behind: Mutex<Option<(usize, Vec<OriginId>)>>,
}

/// One node's view of it.
struct Way(Arc<Link>, usize);

impl DownWay for Way {
    fn has_site(&self, site: &str) -> bool {
        site == "plant"
    }

    fn is_removed(&self, _: &str) -> bool {
        false
    }

    fn gateway(&self, site: &str) -> Option<OriginId> {
        (self.has_site(site) && *self.0.at.lock() == Some(self.1)).then(|| *self.0.called.lock())
    }

    fn gateways(&self) -> Vec<(String, OriginId)> {
        self.gateway("plant").map(|gateway| ("plant".to_owned(), gateway)).into_iter().collect()
    }

    fn gateways_of(&self, _: &str) -> Vec<OriginId> {
        let behind = self.0.behind.lock().clone().filter(|(place, _)| *place == self.1);
        behind.map_or_else(|| self.0.gateways.lock().clone(), |(_, gateways)| gateways)
    }

    fn ask(&self, gateway: OriginId, request: Vec<u8>) -> Answering<'_> {
        Box::pin(async move {
            if self.gateway("plant") != Some(gateway) {
                return Err(ForwardError::Unreachable("it is not here".into()));
            }
            let answer = self.0.plant.take_from_above(above(ALL), request).await;
            match self.0.loses_answers.load(Ordering::Relaxed) {
                true => Err(ForwardError::Unanswered("lost".into())),
                false => Ok(answer),
            }
        })
    }
}

struct World {
    hq: Site,
    plant: Node,
    link: Arc<Link>,
}

impl World {
    /// A command that is given at b, is with the plant's gateway, and is done by its device: nobody above has heard so yet.
    async fn done_by(&self, pump: &sessions::Entry) -> CommandId {
        let id = queued_at(&self.hq[B], "plant/pump", never).await;
        let moved = || (self.hq[B].steps(id) == ["queued", "moving", "moved"]).then_some(());
        self.hq.until("it is with the gateway", moved).await;
        next_offer(pump).await.acked();
        self.plant.answer(pump, "pump", id, Status::Succeeded);
        id
    }

    async fn new(gateways: &[OriginId]) -> Self {
        let plant = Node::open_in(None, 90, &backend(), Config::default()).run();
        let link = Arc::new(Link {
            plant: Arc::clone(&plant.room),
            at: Mutex::new(None),
            loses_answers: AtomicBool::new(false),
            called: Mutex::new(GATEWAY),
            gateways: Mutex::new(gateways.to_vec()),
            behind: Mutex::default(),
        });
        let world = Self { hq: Site::of_three().await, plant, link };
        [A, B, C].into_iter().for_each(|place| world.wire(place));
        world
    }

    fn wire(&self, place: usize) {
        self.hq[place].room.set_down(Arc::new(Way(Arc::clone(&self.link), place)));
    }

    /// The link leads to this node from now on.
    fn lead_to(&self, place: Option<usize>) {
        *self.link.at.lock() = place;
        let called = *self.link.called.lock();
        place.into_iter().for_each(|place| self.hq[place].room.gateway_came("plant", called));
    }

    /// The plant tells what has ended, at the node that the link leads to.
    async fn tell(&self) {
        let at = *self.link.at.lock();
        let (Some(at), Some((told, _))) = (at, self.plant.room.ended_from_above(LINK, 0).await) else { return };
        let called = *self.link.called.lock();
        if let Some(known) = self.hq[at].room.ended_below(called, &told).await {
            self.plant.room.known_above(LINK, &known);
        }
    }

    /// Waits until these nodes show a command as ended; how it has.
    async fn end_at(&self, id: CommandId, places: &[usize]) -> State {
        let begin = std::time::Instant::now();
        loop {
            self.hq.ship().await;
            self.tell().await;
            let states: Vec<Option<State>> = places.iter().map(|place| ended(&self.hq[*place], id)).collect();
            if let [Some(first), ..] = states[..]
                && states.iter().all(Option::is_some)
            {
                assert!(states.iter().all(|state| *state == Some(first)), "{states:?}");
                return first;
            }
            let steps = || [A, B, C].map(|place| self.hq.nodes[place].as_ref().map(|node| node.steps(id)));
            assert!(begin.elapsed() < LONG, "{id} has not ended: {states:?} {:?} {:?}", steps(), self.plant.steps(id));
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }

    /// The device gets these, once each, and does them.
    async fn is_done(&self, pump: &sessions::Entry, ids: &[CommandId], places: &[usize]) {
        for _ in ids {
            let offer = self.hq.until("a command comes", || pump.mailbox.take_offer()).await;
            let id = CommandId::from_bytes(offer.terms.as_ref().unwrap().id);
            assert!(ids.contains(&id), "{id} comes");
            offer.acked();
            self.plant.answer(pump, "pump", id, Status::Succeeded);
        }
        for id in ids {
            assert_eq!(self.end_at(*id, places).await, State::Succeeded, "{id}");
            let sent = self.plant.steps(*id).iter().filter(|step| *step == "sent").count();
            assert_eq!(sent, 1, "{id}: {:?}", self.plant.steps(*id));
        }
    }

    /// A node is lost, and another one is decided to take up what it has left.
    async fn lose(&mut self, place: usize, by: usize) {
        self.hq.ship().await;
        let origin = self.hq[place].log.origin();
        self.hq.stop(place).await;
        let lost = Lost { origin, term: 1, from_commit: CommitNumber(0), ahead_ms: 0 };
        self.hq[by].room.take_up_from(vec![lost]);
    }

    async fn is_back(&mut self, place: usize) {
        self.hq.start(place);
        self.wire(place);
        self.hq.ship().await;
        self.hq[place].room.go_on();
    }

    async fn end(self) {
        self.hq.end().await;
        self.plant.end().await;
    }
}

fn never(new: &mut super::super::NewCommand) {
    (new.repeat, new.deliver_within_ms) = (Repeat::Never, Some(600_000));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_at_any_node_goes_to_the_gateway_wherever_that_comes() {
    let world = World::new(&[GATEWAY]).await;
    let pump = world.plant.connect("pump").await;
    for at in [C, A] {
        let mut ids = Vec::new();
        for place in [A, B, C] {
            ids.push(queued_at(&world.hq[place], "plant/pump", never).await);
        }
        world.lead_to(Some(at));
        world.is_done(&pump, &ids, &[A, B, C]).await;
        for (place, id) in [A, B, C].into_iter().zip(ids) {
            // It may have been tried where the gateway was before.
            let steps: Vec<String> = world.hq[place].steps(id);
            let asked: Vec<&str> = steps.iter().map(String::as_str).filter(|step| *step != "stays").collect();
            assert_eq!((asked.first(), asked.last()), (Some(&"queued"), Some(&"succeeded")), "who asks first ends it");
        }
        world.lead_to(None);
    }
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_without_an_answer_is_asked_again_through_the_node_that_the_link_leads_to() {
    let world = World::new(&[GATEWAY]).await;
    let pump = world.plant.connect("pump").await;
    world.link.loses_answers.store(true, Ordering::Relaxed);
    world.lead_to(Some(A));
    let id = queued_at(&world.hq[A], "plant/pump", never).await;
    world.hq.until("the plant has it", || world.plant.room.get(id)).await;
    assert_eq!(world.hq[A].steps(id), ["queued", "moving"]);
    world.lead_to(Some(B));
    world.link.loses_answers.store(false, Ordering::Relaxed);
    world.hq.until("it is known", || (world.hq[A].steps(id) == ["queued", "moving", "moved"]).then_some(())).await;
    assert!(world.hq[B].steps(id).is_empty());
    world.is_done(&pump, &[id], &[A, B, C]).await;
    // That node is not heard: who has not been asked for expires, and nobody ever has it.
    world.hq.net.gone.lock().insert(world.hq[B].log.origin());
    let gone = queued_at(&world.hq[A], "plant/pump", |new| new.deliver_within_ms = Some(200)).await;
    let waits = queued_at(&world.hq[A], "plant/pump", never).await;
    assert_eq!(world.end_at(gone, &[A]).await, State::Expired);
    world.hq.net.gone.lock().clear();
    world.is_done(&pump, &[waits], &[A, B, C]).await;
    assert!(world.plant.room.get(gone).is_none());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lost_node_had_asked_a_gateway_for_ends_as_that_says() {
    let other = OriginId(GATEWAY.0 + 1);
    let (one, two) = (vec![GATEWAY], vec![GATEWAY, other]);
    let moved: &[&str] = &["queued", "moving", "moved"];
    // How far it was, whether it may be repeated, the plant's gateways, and whether it is done.
    let cases: [(&[&str], Repeat, &[OriginId], bool); 7] = [
        (moved, Repeat::Never, &two, true),
        (moved, Repeat::Safe, &one, true),
        (&moved[..2], Repeat::Never, &two, true),
        (&moved[..2], Repeat::Safe, &two, true),
        // It may have been asked for since, and there is one that can have it.
        (&moved[..1], Repeat::Never, &one, true),
        (&moved[..1], Repeat::Safe, &two, true),
        // There is more than one: nobody can say.
        (&moved[..1], Repeat::Never, &two, false),
    ];
    for (steps, repeat, gateways, is_done) in cases {
        let text = format!("{steps:?} {repeat:?} {gateways:?}");
        let mut world = World::new(gateways).await;
        let pump = world.plant.connect("pump").await;
        world.link.loses_answers.store(steps.len() < 3, Ordering::Relaxed);
        world.lead_to((steps.len() > 1).then_some(A));
        let id = queued_at(&world.hq[A], "plant/pump", |new| {
            never(new);
            new.repeat = repeat;
        });
        let id = id.await;
        world.hq.until(&text, || (world.hq[A].steps(id) == steps).then_some(())).await;
        if steps.len() > 1 {
            world.hq.until(&text, || world.plant.room.get(id)).await;
        }
        world.lead_to(None);
        world.link.loses_answers.store(false, Ordering::Relaxed);
        world.lose(A, C).await;
        world.lead_to(Some(B));
        if is_done {
            world.is_done(&pump, &[id], &[B, C]).await;
        } else {
            assert_eq!(world.end_at(id, &[B, C]).await, State::Unknown, "{text}");
            assert!(world.plant.room.get(id).is_none(), "{text}");
        }
        // It is back, and says nothing else.
        let before = world.hq[C].room.get(id).unwrap();
        world.is_back(A).await;
        assert_eq!(world.end_at(id, &[A, B, C]).await, before.state, "{text}");
        world.hq.until("nothing is open", || (world.hq[A].room.pending() == 0).then_some(())).await;
        assert_eq!(world.plant.steps(id).iter().filter(|step| *step == "sent").count(), usize::from(is_done), "{text}");
        world.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_only_the_lost_node_knew_is_told_again() {
    let mut world = World::new(&[GATEWAY]).await;
    let pump = world.plant.connect("pump").await;
    world.lead_to(Some(A));
    let id = queued_at(&world.hq[A], "plant/pump", never).await;
    let moved = |world: &World| (world.hq[A].steps(id) == ["queued", "moving", "moved"]).then_some(());
    world.hq.until("it is with the gateway", || moved(&world)).await;
    world.hq.ship().await;
    next_offer(&pump).await.acked();
    world.plant.answer(&pump, "pump", id, Status::Failed);
    while ended(&world.hq[A], id).is_none() {
        world.tell().await;
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
    }
    assert!(!world.plant.room.has_ended_from_above(LINK), "upstream has said that it knows");
    world.lead_to(None);
    let origin = world.hq[A].log.origin();
    world.hq.stop(A).await;
    world.hq[C].room.take_up_from(vec![Lost { origin, term: 1, from_commit: CommitNumber(0), ahead_ms: 0 }]);
    world.lead_to(Some(B));
    assert_eq!(world.end_at(id, &[B, C]).await, State::Failed);
    world.is_back(A).await;
    assert_eq!(world.end_at(id, &[A, B, C]).await, State::Failed);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_off_outlives_its_node_and_may_be_asked_of_any() {
    let mut world = World::new(&[GATEWAY]).await;
    let away = world.plant.connect("away").await;
    world.plant.sessions.disconnect(&away, None, Vec::new());
    world.lead_to(Some(A));
    // It is with a; b and c call it off there, and the link leads to c by then.
    let id = queued_at(&world.hq[A], "plant/away", never).await;
    world.hq.until("the plant has it", || world.plant.room.get(id)).await;
    world.hq.until("a knows", || (world.hq[A].steps(id).len() == 3).then_some(())).await;
    world.lead_to(Some(C));
    let told = world.hq[B].room.cancel(id, "cli").await;
    assert!(matches!(told, Ok(State::Cancelled) | Err(CallOffError::Command(CancelError::Asked))), "{told:?}");
    assert_eq!(world.end_at(id, &[A, B, C]).await, State::Cancelled);
    // The link is cut, and the node that has asked is lost.
    world.lead_to(Some(A));
    let id = queued_at(&world.hq[A], "plant/away", never).await;
    world.hq.until("a knows", || (world.hq[A].steps(id).len() == 3).then_some(())).await;
    world.lead_to(None);
    let told = world.hq[A].room.cancel(id, "cli").await;
    assert!(matches!(told, Err(CallOffError::Command(CancelError::Asked))), "{told:?}");
    world.lose(A, C).await;
    world.lead_to(Some(B));
    assert_eq!(world.end_at(id, &[B, C]).await, State::Cancelled);
    world.is_back(A).await;
    assert_eq!(world.end_at(id, &[A, B, C]).await, State::Cancelled);
    assert!(world.plant.steps(id).iter().all(|step| step != "sent"));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_is_not_known_before_the_node_that_has_given_its_command_knows_the_gateway() {
    let again = OriginId(GATEWAY.0 + 1);
    let world = World::new(&[again]).await;
    let pump = world.plant.connect("pump").await;
    *world.link.behind.lock() = Some((B, vec![GATEWAY]));
    world.lead_to(Some(B));
    let id = world.done_by(&pump).await;
    world.hq.until("it has ended", || world.plant.room.has_ended_from_above(LINK).then_some(())).await;
    // The link was removed, the plant invited again; the gateway is at a by now, under another id.
    world.lead_to(None);
    let (told, _) = world.plant.room.ended_from_above(LINK, 0).await.unwrap();
    let tell = async || {
        let known = world.hq[A].room.ended_below(again, &told).await.unwrap();
        decode::<Vec<[u8; 16]>>(&known).unwrap()
    };
    assert!(tell().await.is_empty(), "b does not know that it is the plant's");
    assert_eq!(ended(&world.hq[B], id), None);
    *world.link.behind.lock() = None;
    assert_eq!(tell().await, [*id.as_bytes()]);
    assert_eq!(ended(&world.hq[B], id), Some(State::Succeeded));
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_behind_hands_nothing_to_a_gateway_that_it_does_not_know() {
    let world = World::new(&[GATEWAY]).await;
    let pump = world.plant.connect("pump").await;
    // It has not heard yet that the link was removed and another gateway invited.
    *world.link.behind.lock() = Some((C, vec![OriginId(GATEWAY.0 + 1)]));
    let before = queued_at(&world.hq[C], "plant/pump", never).await;
    world.lead_to(Some(A));
    let listed = BTreeSet::from([GATEWAY]);
    let is_found = || world.hq[C].room.down.elsewhere.gateway("plant", &listed);
    world.hq.until("it hears of the gateway", is_found).await;
    // One that is given where the link leads to goes on.
    let id = queued_at(&world.hq[A], "plant/pump", never).await;
    world.is_done(&pump, &[id], &[A, B]).await;
    assert_eq!(world.hq[C].steps(before), ["queued"]);
    *world.link.behind.lock() = None;
    world.hq[C].room.links_changed();
    assert_eq!(world.end_at(before, &[C]).await, State::Refused);
    let after = queued_at(&world.hq[C], "plant/pump", never).await;
    world.is_done(&pump, &[after], &[A, B, C]).await;
    assert!(world.plant.room.get(before).is_none());
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_end_that_a_node_holds_open_has_no_other_told_again() {
    let again = OriginId(GATEWAY.0 + 1);
    let world = World::new(&[GATEWAY, again]).await;
    let pump = world.plant.connect("pump").await;
    let mut ids = Vec::new();
    // The plant's gateway takes a new token in between.
    for called in [GATEWAY, again] {
        *world.link.called.lock() = called;
        world.lead_to(Some(B));
        let id = world.done_by(&pump).await;
        world.hq.until("it has ended", || world.plant.room.get(id).filter(|info| info.state.is_outcome())).await;
        world.lead_to(None);
        ids.push(id);
    }
    // The node that gave both has not heard yet that the second one is the plant's; a third command nobody knows any more.
    *world.link.behind.lock() = Some((B, vec![GATEWAY]));
    let (told, _) = world.plant.room.ended_from_above(LINK, 0).await.unwrap();
    let mut told: Vec<EndedV1> = decode(&told).unwrap();
    let nobodys = CommandId::v7(7, [7; 10]);
    told.push(EndedV1::new(nobodys, State::Expired, None, None));
    let tell = async || {
        let known = world.hq[A].room.ended_below(again, &encode(&told)).await.unwrap();
        decode::<Vec<[u8; 16]>>(&known).unwrap().into_iter().collect::<BTreeSet<_>>()
    };
    let of = |all: &[CommandId]| all.iter().map(|id| *id.as_bytes()).collect::<BTreeSet<_>>();
    assert_eq!(tell().await, of(&[ids[1], nobodys]), "the one that is held open alone is told again");
    assert_eq!([ids[0], ids[1]].map(|id| ended(&world.hq[B], id)), [None, Some(State::Succeeded)]);
    *world.link.behind.lock() = None;
    assert_eq!(tell().await, of(&[ids[0], ids[1], nobodys]));
    world.end().await;
}

/// The link was removed, and another gateway invited by the plant's name, before anybody takes up what a lost node had not handed over for all that is
/// known here.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lost_node_had_for_a_site_goes_to_nobody_who_gets_its_name_next() {
    let again = OriginId(GATEWAY.0 + 1);
    for (gateways, repeat) in [
        (vec![GATEWAY], Repeat::Safe),
        (vec![GATEWAY], Repeat::Never),
        (vec![GATEWAY, OriginId(GATEWAY.0 + 9)], Repeat::Safe),
    ] {
        let mut world = World::new(&gateways).await;
        let pump = world.plant.connect("pump").await;
        world.lead_to(Some(A));
        let edit = |new: &mut super::super::NewCommand| {
            never(new);
            new.repeat = repeat;
        };
        let moved = queued_at(&world.hq[A], "plant/pump", edit).await;
        let is_moved = || (world.hq[A].steps(moved) == ["queued", "moving", "moved"]).then_some(());
        world.hq.until("it is with the gateway", is_moved).await;
        world.lead_to(None);
        let waits = queued_at(&world.hq[A], "plant/pump", edit).await;
        let origin = world.hq[A].log.origin();
        let is_noted =
            || world.hq[A].room.gateways_had(origin, "plant").filter(|_| !world.hq[A].steps(waits).is_empty());
        world.hq.until("the plant's gateways are noted", is_noted).await;
        world.hq.ship().await;
        world.hq.stop(A).await;
        *world.link.gateways.lock() = vec![again];
        *world.link.called.lock() = again;
        world.hq[C].room.take_up_from(vec![Lost { origin, term: 1, from_commit: CommitNumber(0), ahead_ms: 0 }]);
        world.lead_to(Some(B));
        assert_eq!(world.end_at(waits, &[B, C]).await, State::Unknown, "{gateways:?} {repeat:?}");
        let why = world.hq[C].room.get(waits).unwrap().why.unwrap();
        assert!(why.text.contains("no gateway of plant"), "{why:?}");
        assert!(world.plant.room.get(waits).is_none(), "the next one never has it");
        // What was handed over is in doubt, until one speaks for the site that knows it.
        assert!(ended(&world.hq[C], moved).is_none(), "{:?}", world.hq[C].steps(moved));
        next_offer(&pump).await.acked();
        world.plant.answer(&pump, "pump", moved, Status::Succeeded);
        assert_eq!(world.end_at(moved, &[B, C]).await, State::Succeeded, "{gateways:?} {repeat:?}");
        world.end().await;
    }
}
