//! Commands that wait at one node of a site while their device is at another; and those that a lost node has left.

mod lab;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use devices::command::{Repeat, State, Status};
use sled_data::OriginId;

pub(super) use lab::{A, B, C, Site, ended, queued_at};

use super::tests::{LONG, next_offer, until};
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_waits_goes_to_the_node_that_its_device_comes_to() {
    let site = Site::of_three().await;
    let id = queued_at(&site[B], "pump", |new| new.supersede = Some("set".into())).await;
    let other = queued_at(&site[B], "fan", |_| {}).await;
    let device = site[A].connect("pump").await;
    site.until("it is moved", || (site[B].steps(id) == ["queued", "moving", "moved"]).then_some(())).await;
    next_offer(&device).await.acked();
    assert_eq!(site[B].steps(other), ["queued"]);
    site[A].answer(&device, "pump", id, Status::Succeeded);
    assert_eq!(site[A].room.wait(id, LONG).await.unwrap().state, State::Succeeded);
    // The one that has it says how it ended, alone; everybody hears of it.
    for place in [A, B, C] {
        assert_eq!(site.until("it has ended", || ended(&site[place], id)).await, State::Succeeded);
    }
    assert_eq!(site[B].steps(id), ["queued", "moving", "moved"]);
    assert_eq!(site[A].steps(id), ["queued", "sent", "delivered", "succeeded"]);
    site.until("only the other is open", || (site[B].room.pending() == 1).then_some(())).await;
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_without_an_answer_is_asked_about_until_there_is_one_even_over_a_restart() {
    let mut site = Site::of_three().await;
    site.net.loses_answers.store(true, Ordering::Relaxed);
    let id = queued_at(&site[B], "pump", |new| new.repeat = Repeat::Never).await;
    let device = site[A].connect("pump").await;
    site.until("it is on its way", || site[B].steps(id).starts_with(&["queued".into(), "moving".into()]).then_some(()))
        .await;
    next_offer(&device).await.acked();
    site.stop(B).await;
    // The device is at b before b knows what became of the command.
    site[A].sessions.disconnect(&device, None, Vec::new());
    site.start(B);
    let again = site[B].connect("pump").await;
    site[B].room.go_on();
    assert!(site[B].room.cancel(id, "cli").await.is_err(), "it may be with the other");
    site.net.loses_answers.store(false, Ordering::Relaxed);
    site.until("it is known", || (site[B].steps(id) == ["queued", "moving", "moved"]).then_some(())).await;
    // Its answer comes in here, and counts there.
    site[B].answer(&again, "pump", id, Status::Failed);
    for place in [A, B] {
        assert_eq!(site.until("it has ended", || ended(&site[place], id)).await, State::Failed);
    }
    assert_eq!(site[A].steps(id), ["queued", "sent", "delivered", "failed"]);
    assert_eq!(site[B].room.stats().sent.load(Ordering::Relaxed), 0);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_is_being_taken_is_with_nobody_else() {
    let site = Site::of_three().await;
    let id = queued_at(&site[B], "pump", |new| new.repeat = Repeat::Never).await;
    // An earlier question about it is still on its way into the log.
    assert!(site[A].room.desk.lock().taking.begin(id));
    let device = site[A].connect("pump").await;
    let asked = |count| move |site: &Site| (site.net.asked.load(Ordering::Relaxed) >= count).then_some(());
    site.until("it is asked for", || asked(1)(&site)).await;
    site[A].sessions.disconnect(&device, None, Vec::new());
    let device = site[C].connect("pump").await;
    site.until("it is asked for again", || asked(2)(&site)).await;
    assert_eq!(site[B].steps(id), ["queued", "moving"], "it may be there");
    assert_eq!(site[B].room.stats().sent.load(Ordering::Relaxed), 0);
    // That came to nothing, as its commit failed.
    site[A].room.desk.lock().taking.end(id);
    next_offer(&device).await.acked();
    site[C].answer(&device, "pump", id, Status::Succeeded);
    assert_eq!(site.until("it has ended", || ended(&site[B], id)).await, State::Succeeded);
    assert_eq!(site[C].steps(id), ["queued", "sent", "delivered", "succeeded"]);
    // A question that was given up comes late, and the device is there now.
    site[C].sessions.disconnect(&device, None, Vec::new());
    let _device = site[A].connect("pump").await;
    let late = site.net.first.lock().clone().unwrap();
    site[A].room.take_forwarded(&late).await;
    assert!(site[A].steps(id).is_empty(), "it had declined it");
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_commands_go_in_their_order_and_each_once() {
    const COUNT: usize = 600;
    let site = Site::of_three().await;
    let mut ids = Vec::new();
    for _ in 0..COUNT {
        ids.push(queued_at(&site[B], "pump", |_| {}).await);
    }
    let device = site[A].connect("pump").await;
    let mut got = Vec::new();
    site.until("all have come", || {
        while let Some(offer) = device.mailbox.take_offer() {
            got.push(CommandId::from_bytes(offer.terms.as_ref().unwrap().id));
            offer.acked();
        }
        (got.len() >= COUNT).then_some(())
    })
    .await;
    assert_eq!(got, ids);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_follows_its_device_there_and_back() {
    let site = Site::of_three().await;
    let id = queued_at(&site[B], "pump", |_| {}).await;
    // It comes, and takes no commands yet.
    let arrival = crate::sessions::Arrival {
        client_id: "pump".into(),
        protocol: "mqtt-5",
        remote: "test".into(),
        clean_start: true,
    };
    let device = site[A].sessions.connect(arrival).await.unwrap().entry;
    site.until("it is at a", || (site[B].steps(id) == ["queued", "moving", "moved"]).then_some(())).await;
    site[A].sessions.disconnect(&device, None, Vec::new());
    let device = site[B].connect("pump").await;
    let steps = ["queued", "moving", "moved", "queued", "sent"];
    site.until("it is back", || (site[B].steps(id) == steps).then_some(())).await;
    next_offer(&device).await.acked();
    site[B].answer(&device, "pump", id, Status::Succeeded);
    for place in [A, B, C] {
        assert_eq!(site.until("it has ended", || ended(&site[place], id)).await, State::Succeeded);
    }
    assert_eq!(site[A].steps(id), ["queued", "moving", "moved"]);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_lost_node_has_left_is_taken_up_and_not_sent_again_when_it_is_back() {
    // In the same life, and in a new one.
    comes_back(false).await;
    comes_back(true).await;
}

async fn comes_back(is_new_life: bool) {
    let mut site = Site::of_three().await;
    if is_new_life {
        site[B].may_lose();
    }
    let waits = queued_at(&site[B], "pump", |_| {}).await;
    let never = queued_at(&site[B], "pump", |new| new.repeat = Repeat::Never).await;
    let device = site[B].connect("fan").await;
    let sent = queued_at(&site[B], "fan", |_| {}).await;
    let _unconfirmed = next_offer(&device).await;
    let done = queued_at(&site[B], "fan", |_| {}).await;
    next_offer(&device).await.acked();
    site[B].answer(&device, "fan", done, Status::Succeeded);
    site.until("it is done, and c knows", || ended(&site[C], done)).await;
    site.ship().await;
    let origin = site[B].log.origin();
    site.stop(B).await;

    // Both devices come to a; c takes up what b has left.
    let (pump, fan) = (site[A].connect("pump").await, site[A].connect("fan").await);
    let lost = Lost { origin, term: 3, from_commit: site[C].log.store().synced_commit_of(origin), ahead_ms: 0 };
    site[C].room.take_up_from(vec![lost]);
    site.until("it goes to its device", || (site[C].steps(waits) == ["queued", "moving", "moved"]).then_some(())).await;
    next_offer(&pump).await.acked();
    next_offer(&fan).await.acked();
    site[A].answer(&pump, "pump", waits, Status::Succeeded);
    site[A].answer(&fan, "fan", sent, Status::Succeeded);
    for (id, outcome) in [(waits, State::Succeeded), (sent, State::Succeeded), (never, State::Unknown)] {
        for place in [A, C] {
            assert_eq!(site.until("it has ended", || ended(&site[place], id)).await, outcome);
        }
    }
    assert_eq!(site[C].steps(never), ["queued", "unknown"]);
    assert!(site[C].steps(done).is_empty());
    site[C].room.take_up_from(vec![lost]);

    // b is back, its devices too, before it knows.
    [("pump", &pump), ("fan", &fan)].iter().for_each(|(_, entry)| site[A].sessions.disconnect(entry, None, Vec::new()));
    site.start(B);
    assert_eq!(site[B].log.origin() != origin, is_new_life);
    site[B].connect("pump").await;
    site[B].connect("fan").await;
    site.until("it has heard", || site[B].room.held_until().is_some().then_some(())).await;
    site[B].room.go_on();
    for id in [waits, sent] {
        assert_eq!(site.until("it has ended", || ended(&site[B], id)).await, State::Succeeded);
    }
    site.until("nothing is open", || (site[B].room.pending() == 0).then_some(())).await;
    assert_eq!(site[B].room.stats().sent.load(Ordering::Relaxed), 0, "nothing is sent twice");
    assert_eq!(site[C].room.take_up(lost).unwrap(), 0, "once a term");
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_arrives_late_of_a_lost_node_is_taken_up_under_the_same_term() {
    let site = Site::of_three().await;
    let first = queued_at(&site[B], "pump", |_| {}).await;
    site.ship().await;
    // That of it has not arrived when it is decided.
    let second = queued_at(&site[B], "fan", |_| {}).await;
    let origin = site[B].log.origin();
    let lost = Lost { origin, term: 1, from_commit: site[C].log.store().synced_commit_of(origin), ahead_ms: 0 };
    // What c decides by counts on from when it began, and lies some milliseconds behind the clock of the wall.
    let queued_ms = site[B].room.now().wall;
    until("c's time is past that", || (site[C].room.now().steady >= queued_ms).then_some(())).await;
    assert_eq!(site[C].room.take_up(lost).unwrap(), 1);
    until("c has it", || (site[C].steps(first) == ["queued"]).then_some(())).await;
    assert_eq!(site[C].room.take_up(lost).unwrap(), 0, "nothing has come");
    let decided_ms = site[C].room.now().steady;
    until("time has passed", || (site[B].room.now().wall > decided_ms).then_some(())).await;
    let later = queued_at(&site[B], "fan", |_| {}).await;
    // Another node had it.
    site.ship().await;
    assert_eq!(site[C].room.take_up(lost).unwrap(), 1, "what was given after that is of a node that lives");
    until("c has it", || (site[C].steps(second) == ["queued"]).then_some(())).await;
    assert!(site[C].steps(later).is_empty());
    assert_eq!(site[C].room.take_up(lost).unwrap(), 0);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_came_in_at_the_lost_node_counts_where_its_command_was_taken_up() {
    let site = Site::of_three().await;
    let id = queued_at(&site[B], "pump", |_| {}).await;
    let origin = site[B].log.origin();
    site.ship().await;
    // b is cut off, and goes on.
    let lost = Lost { origin, term: 1, from_commit: site[C].log.store().synced_commit_of(origin), ahead_ms: 0 };
    site[C].room.take_up_from(vec![lost]);
    until("c has it", || (site[C].steps(id) == ["queued"]).then_some(())).await;
    let device = site[B].connect("pump").await;
    next_offer(&device).await.acked();
    site[B].answer(&device, "pump", id, Status::Rejected);
    until("it has ended there", || ended(&site[B], id)).await;
    for place in [A, B, C] {
        assert_eq!(site.until("it has ended", || ended(&site[place], id)).await, State::Rejected);
    }
    site.until("c has ended it too", || (site[C].room.pending() == 0).then_some(())).await;
    assert_eq!(site[C].steps(id), ["queued", "rejected"]);
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_outcomes_that_of_the_higher_term_is_shown_at_every_node() {
    let mut site = Site::of_three().await;
    // b hands a command over and does not hear what came of it, for longer than it can need; a has it, and its device did it.
    site.net.loses_questions.store(true, Ordering::Relaxed);
    let moved = queued_at(&site[B], "pump", |_| {}).await;
    let device = site[A].connect("pump").await;
    site.until("it is on its way", || (site[B].steps(moved) == ["queued", "moving"]).then_some(())).await;
    let asked = until("it is asked", || site.net.first.lock().clone()).await;
    site[A].room.take_forwarded(&asked).await;
    next_offer(&device).await.acked();
    let steady = site[B].room.now().steady + 24 * 3_600_000;
    // Nothing more of a reaches b by then.
    let ticked = |room: &Commands| room.table.lock().tick(Now { steady, ..room.now() });
    ticked(&site[B].room);
    until("b gives it up", || (ended(&site[B], moved)? == State::Unknown).then_some(())).await;
    site[A].answer(&device, "pump", moved, Status::Succeeded);
    for place in [A, B, C] {
        site.until("a's word counts", || (ended(&site[place], moved)? == State::Succeeded).then_some(())).await;
    }
    // b is cut off while a command of it is under way; c takes it up, and must not send it again.
    let device = site[B].connect("fan").await;
    let sent = queued_at(&site[B], "fan", |new| new.repeat = Repeat::Never).await;
    let offer = next_offer(&device).await;
    site.ship().await;
    let origin = site[B].log.origin();
    let b = site.nodes[B].take();
    let lost = Lost { origin, term: 1, from_commit: site[C].log.store().synced_commit_of(origin), ahead_ms: 0 };
    site[C].room.take_up_from(vec![lost]);
    site.until("c has ended it", || (ended(&site[C], sent)? == State::Unknown).then_some(())).await;
    site.nodes[B] = b;
    offer.acked();
    site[B].answer(&device, "fan", sent, Status::Succeeded);
    until("it has ended at b", || (site[B].steps(sent).last()? == "succeeded").then_some(())).await;
    for place in [A, B, C] {
        site.until("c's word counts", || (ended(&site[place], sent)? == State::Unknown).then_some(())).await;
    }
    site.end().await;
}

/// The way down to one gateway, which leads to this node or not.
#[derive(Default)]
struct OneGateway {
    is_here: AtomicBool,
    asked: AtomicUsize,
}

const GATEWAY: OriginId = OriginId(70);

impl DownWay for OneGateway {
    fn has_site(&self, site: &str) -> bool {
        site == "plant"
    }

    fn is_removed(&self, _: &str) -> bool {
        false
    }

    fn gateway(&self, site: &str) -> Option<OriginId> {
        (self.has_site(site) && self.is_here.load(Ordering::Relaxed)).then_some(GATEWAY)
    }

    fn gateways(&self) -> Vec<(String, OriginId)> {
        self.gateway("plant").map(|gateway| ("plant".to_owned(), gateway)).into_iter().collect()
    }

    fn gateways_of(&self, _: &str) -> Vec<OriginId> {
        vec![GATEWAY]
    }

    fn ask(&self, _: OriginId, _: Vec<u8>) -> Answering<'_> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        // One command was asked about, and is taken.
        Box::pin(async { Ok(vec![1, 1, 0]) })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gateway_is_told_that_an_end_is_known_when_the_node_that_gave_the_command_has_it() {
    let site = Site::of_three().await;
    let ways = [A, B, C].map(|place| {
        let way = Arc::new(OneGateway::default());
        site[place].room.set_down(Arc::clone(&way) as _);
        way
    });
    ways[A].is_here.store(true, Ordering::Relaxed);
    // It is given at a node that the gateway is not at, and goes to the one where it is.
    let id = queued_at(&site[B], "plant/pump", |_| {}).await;
    site.until("it is with the gateway", || (site[A].steps(id) == ["queued", "moving", "moved"]).then_some(())).await;
    assert_eq!((site[B].steps(id).len(), ways[A].asked.load(Ordering::Relaxed)), (0, 1));
    // The gateway comes to c, and says there how it ended, while a is not heard.
    let ended_there = down::ended_once(id, State::Succeeded);
    site.net.gone.lock().insert(site[A].log.origin());
    let known = site[C].room.ended_below(GATEWAY, &ended_there).await.unwrap();
    assert_eq!(known, [1, 0], "it is to say so again");
    assert_eq!(ended(&site[A], id), None);
    // Another gateway's word is nothing; a moment later it may be known to be of the site.
    site.net.gone.lock().clear();
    let of_other = site[C].room.ended_below(OriginId(71), &ended_there).await.unwrap();
    assert_eq!((of_other, ended(&site[A], id)), (vec![1, 0], None));
    let known = site[C].room.ended_below(GATEWAY, &ended_there).await.unwrap();
    assert_eq!(known, [&[1, 1][..], id.as_bytes()].concat());
    for place in [A, B, C] {
        site.until("all know it", || (ended(&site[place], id)? == State::Succeeded).then_some(())).await;
    }
    assert_eq!(site[A].steps(id), ["queued", "moving", "moved", "succeeded"]);
    site.end().await;
}
