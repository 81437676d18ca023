//! Commands that are submitted at one node for a device at another.
#![allow(clippy::unwrap_used)]

use std::sync::atomic::{AtomicBool, Ordering};

use devices::command::{State, Status};
use sled_data::{CommitNumber, Faults, OriginId};

use super::tests::{LONG, Node, backend, command, next_offer, until};
use super::*;
use crate::sessions::{Heard, Whereabouts};

/// The way to one other node; it can be cut on the way there or back.
#[derive(Default)]
struct Way {
    to: OnceLock<Arc<Commands>>,
    is_cut: AtomicBool,
    loses_answers: AtomicBool,
}

impl Forward for Way {
    fn submit(&self, _: OriginId, request: Vec<u8>) -> Answering<'_> {
        Box::pin(async move {
            if self.is_cut.load(Ordering::Relaxed) {
                return Err(ForwardError::Unreachable("cut".into()));
            }
            let answer = self.to.get().unwrap().take_forwarded(&request).await;
            match self.loses_answers.load(Ordering::Relaxed) {
                true => Err(ForwardError::Unanswered("lost".into())),
                false => Ok(answer),
            }
        })
    }
}

impl Heard for Way {
    fn is_heard(&self, _: OriginId) -> bool {
        !self.is_cut.load(Ordering::Relaxed)
    }
}

fn node(seed: u64) -> Node {
    Node::open_in(Some(1), seed, &backend(), Config::default())
}

/// Node a, which the device connects to, and node b, at which commands are submitted.
fn two() -> (Node, Node, Arc<Way>) {
    let (a, b, way) = (node(7), node(8), Arc::new(Way::default()));
    let _ = way.to.set(Arc::clone(&a.room));
    b.room.set_forward(Arc::clone(&way) as _);
    (a.run(), b.run(), way)
}

async fn ship(from: &Node, to: &Node) {
    let origin = from.log.origin();
    loop {
        let next = CommitNumber(to.log.store().followed_commit(origin).0 + 1);
        let commits = from.log.store().commits_to_ship(origin, next, 1 << 20).unwrap();
        if commits.is_empty() {
            return;
        }
        to.log.follow(commits).await.unwrap();
    }
}

async fn known_at(a: &Node, b: &Node, device: &str) {
    let is_known = || b.room.where_to(device, "n") == Whereabouts::At(a.log.origin());
    let begin = std::time::Instant::now();
    while !is_known() {
        assert!(begin.elapsed() < LONG);
        ship(a, b).await;
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_goes_to_the_node_that_its_device_is_at() {
    let (a, b, way) = two();
    assert_eq!(b.room.where_to("pump", "n"), Whereabouts::Nowhere);
    let device = a.connect("pump").await;
    known_at(&a, &b, "pump").await;
    let submitted = b.room.submit(command("pump", "start")).await.unwrap();
    assert!(submitted.is_new);
    assert_eq!(b.room.read(submitted.id).await.unwrap().state, State::Queued, "it is known here at once");
    next_offer(&device).await.acked();
    a.answer(&device, "pump", submitted.id, Status::Succeeded);
    let ended = a.room.wait(submitted.id, LONG).await.unwrap();
    assert_eq!(ended.state, State::Succeeded);
    // The issuer's word is the only one, and arrives here.
    assert!(b.steps(submitted.id).is_empty());
    let waits = tokio::spawn({
        let (room, id) = (Arc::clone(&b.room), submitted.id);
        async move { room.wait(id, LONG).await }
    });
    while !waits.is_finished() {
        ship(&a, &b).await;
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert_eq!(waits.await.unwrap().unwrap().state, State::Succeeded);
    // Where a is not heard, what is for its devices waits here.
    way.is_cut.store(true, Ordering::Relaxed);
    let waiting = b.room.submit(command("pump", "stop")).await.unwrap();
    assert_eq!(b.steps(waiting.id)[0], "queued");
    b.sessions.set_heard(Arc::clone(&way) as _);
    assert_eq!(b.room.where_to("pump", "n"), Whereabouts::Nowhere);
    a.end().await;
    b.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_may_have_been_taken_is_not_queued_a_second_time() {
    let (a, b, way) = two();
    let device = a.connect("pump").await;
    known_at(&a, &b, "pump").await;
    way.loses_answers.store(true, Ordering::Relaxed);
    let keyed = || NewCommand { idempotency_key: Some("k".into()), ..command("pump", "start") };
    let Err(SubmitError::Unanswered { id, .. }) = b.room.submit(keyed()).await else { panic!("it has no answer") };
    assert!(b.steps(id).is_empty() && b.room.pending() == 0);
    next_offer(&device).await.acked();
    // With its key it can be sent again: it is the same.
    way.loses_answers.store(false, Ordering::Relaxed);
    let again = b.room.submit(keyed()).await.unwrap();
    assert_eq!((again.id, again.is_new), (id, false));
    let other = NewCommand { payload: b"other".to_vec(), ..keyed() };
    assert!(
        matches!(b.room.submit(other).await, Err(SubmitError::Elsewhere { code, .. }) if code == "idempotency-conflict")
    );
    a.end().await;
    b.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_a_failing_store_was_given_is_not_told_as_refused() {
    let (store, asking) = (backend(), backend());
    let a = Node::open_in(Some(1), 7, &store, Config::default()).run();
    let b = Node::open_in(Some(1), 8, &asking, Config::default());
    let way = Arc::new(Way::default());
    let _ = way.to.set(Arc::clone(&a.room));
    b.room.set_forward(Arc::clone(&way) as _);
    let b = b.run();
    let _device = a.connect("pump").await;
    known_at(&a, &b, "pump").await;
    let newest = a.log.store().last_commit();
    until("all is synced", || (a.log.store().synced_commit() >= newest).then_some(())).await;
    // It is written, and whether it is durable is not known: at the next start it is found, and sent.
    store.set_faults(Faults { fail_after_syncs: Some(0), ..Faults::default() });
    let told = b.room.submit(command("pump", "start")).await.unwrap_err();
    let SubmitError::Unanswered { id, .. } = told else { panic!("{told}") };
    assert!(b.steps(id).is_empty() && b.room.pending() == 0, "it is not queued twice");
    a.log.close();
    let again = Node::open_in(Some(1), 7, &Arc::new(store.image()), Config::default());
    assert_eq!(again.steps(id), ["queued"]);
    again.log.close();
    // Who submits it at that node is told the same, and its id.
    asking.set_faults(Faults { fail_after_syncs: Some(0), ..Faults::default() });
    way.is_cut.store(true, Ordering::Relaxed);
    let told = b.room.submit(command("pump", "stop")).await.unwrap_err();
    assert!(matches!(told, SubmitError::Unknown { .. }) && told.code() == "unknown-outcome", "{told}");
    b.log.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_has_left_meanwhile_gets_its_command_where_it_was_submitted() {
    let (a, b, _way) = two();
    let device = a.connect("pump").await;
    known_at(&a, &b, "pump").await;
    a.sessions.disconnect(&device, None, Vec::new());
    // b does not know it yet, and a says so.
    let submitted = b.room.submit(command("pump", "start")).await.unwrap();
    until("b has queued it", || (b.steps(submitted.id).first()? == "queued").then_some(())).await;
    let device = b.connect("pump").await;
    next_offer(&device).await.acked();
    assert_eq!(b.room.where_to("pump", "n"), Whereabouts::Here);
    // What is no request is refused, not lost.
    assert_eq!(a.room.take_forwarded(b"").await[..2], [1, 2]);
    a.end().await;
    b.end().await;
}
