//! Commands over the end of a life of the store: what is in its log alone goes on.

#![allow(clippy::unwrap_used)]

use devices::command::{Repeat, State, Status};

use super::site_tests::{A, B, C, Site, queued_at};
use super::tests::{LONG, Node, backend, command, next_offer, until};
use super::*;

/// A node that is killed at once: what has changed is in the log alone.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_life_goes_on_where_the_one_before_was() {
    let backend = backend();
    let node = Node::start(&backend, Config::default());
    node.may_lose();
    let never = NewCommand { repeat: Repeat::Never, ..command("pump", "never") };
    let never = node.room.submit(never).await.unwrap().id;
    // It has waited for long when its device comes.
    let is_stored = || node.log.state_get(COMMANDS_TREE, never.as_bytes()).unwrap().map(drop);
    until("it is stored", is_stored).await;
    let device = node.connect("pump").await;
    next_offer(&device).await.acked();
    let done = node.submit("pump", "done").await;
    let under_way = node.submit("pump", "sent").await;
    next_offer(&device).await.acked();
    let _under_way = next_offer(&device).await;
    until("they are delivered", || (node.room.get(done)?.state == State::Delivered).then_some(())).await;
    let (life, queued) = (node.log.origin(), node.submit("away", "queued").await);
    node.answer(&device, "pump", done, Status::Succeeded);
    node.end().await;

    // Twice, so that what is read again has two lives.
    let node = Node::start(&backend, Config::default());
    let second = node.submit("away", "second").await;
    assert_ne!(node.log.origin(), life);
    node.end().await;
    let node = Node::start(&backend, Config::default());
    assert_eq!(node.room.wait(done, LONG).await.unwrap().state, State::Succeeded, "its answer was read");
    let states = [never, queued, second].map(|id| node.room.get(id).map(|info| info.state));
    assert_eq!(states, [Some(State::Delivered), Some(State::Queued), Some(State::Queued)]);
    let (device, away) = (node.connect("pump").await, node.connect("away").await);
    let again = next_offer(&device).await;
    assert!(again.topic.contains(&under_way.to_string()), "what must not be repeated is not: {}", again.topic);
    again.acked();
    for id in [queued, second] {
        let offer = next_offer(&away).await;
        assert!(offer.topic.contains(&id.to_string()), "in their order: {}", offer.topic);
        offer.acked();
    }
    for (entry, name, id) in [(&device, "pump", never), (&device, "pump", under_way), (&away, "away", queued)] {
        node.answer(entry, name, id, Status::Succeeded);
        assert_eq!(node.room.wait(id, LONG).await.unwrap().state, State::Succeeded);
    }
    assert_eq!(node.steps(never), ["queued", "sent", "delivered", "succeeded"]);
    assert_eq!(node.steps(queued), ["queued", "sent", "delivered", "succeeded"]);
    assert_eq!(node.steps(under_way), ["queued", "sent", "returned", "sent", "delivered", "succeeded"]);
    node.end().await;
}

/// A node has a command of its life before, which nobody else has heard of, and is lost before it has stored it in the present one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_new_life_owes_is_taken_up_when_its_node_is_lost_too() {
    let mut site = Site::of_three().await;
    site[B].may_lose();
    site.ship().await;
    let before = site[B].log.origin();
    let id = queued_at(&site[B], "pump", |_| {}).await;
    site.stop(B).await;
    site.start(B);
    let life = site[B].log.origin();
    assert_ne!(life, before);
    for place in [A, C] {
        let log = &site[place].log;
        [before, life].iter().for_each(|life| log.store().set_follow_node(*life, 2).unwrap());
    }
    let one = queued_at(&site[B], "fan", |_| {}).await;
    site.ship().await;
    assert_eq!(site[B].room.pending(), 2);
    site.stop(B).await;
    let lost = Lost { origin: life, term: 1, from_commit: site[C].log.store().synced_commit_of(life), ahead_ms: 0 };
    assert_eq!(site[C].room.take_up(lost).unwrap(), 2);
    let device = site[C].connect("pump").await;
    next_offer(&device).await.acked();
    site[C].answer(&device, "pump", id, Status::Succeeded);
    assert_eq!(site[C].room.wait(id, LONG).await.unwrap().state, State::Succeeded);
    assert_eq!((site[C].steps(id).len(), site[C].steps(one)), (4, vec!["queued".to_owned()]));
    site.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_life_has_left_may_go_once_it_was_read() {
    let backend = backend();
    let mut node = Node::start(&backend, Config::default());
    node.may_lose();
    let device = node.connect("pump").await;
    let id = node.submit("pump", "open").await;
    next_offer(&device).await.acked();
    until("it is delivered", || (node.room.get(id)?.state == State::Delivered).then_some(())).await;
    // Its answer is stored, and not read in this life.
    node.stop_reading().await;
    node.answer(&device, "pump", id, Status::Succeeded);
    node.log.close();
    drop(node);
    let node = Node::start(&backend, Config::default());
    assert_eq!(node.room.wait(id, LONG).await.unwrap().state, State::Succeeded);
    for name in [ANSWERS_TOPIC, COMMANDS_TOPIC] {
        let topic = node.log.topic(name).unwrap();
        assert!(!node.log.ended_partitions(&topic).is_empty());
        node.log.set_retention(topic.id(), Some(0), None).unwrap();
        node.log.apply_retention(&sled_data::Wait::for_ever(&|_| u64::MAX));
        assert!(node.log.ended_partitions(&topic).is_empty(), "{name}");
        node.log.set_retention(topic.id(), Some(u64::MAX), None).unwrap();
    }
    let device = node.connect("pump").await;
    let id = node.submit("pump", "close").await;
    next_offer(&device).await.acked();
    node.answer(&device, "pump", id, Status::Succeeded);
    assert_eq!(node.room.wait(id, LONG).await.unwrap().state, State::Succeeded);
    assert_eq!(node.log.lock().failures(), 0, "no commit was refused");
    node.end().await;
}
