//! Nodes that are cut off, from all others or from the leader alone: they know that they do not know, and disturb nobody when they are back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::site::{Node, Site, fast, leader, until, until_same};
use super::*;

/// For how long a node is cut off.
const CUT_BEATS: u32 = 40;

/// Tells each node whom it hears by other ways, as its site's connections do.
fn tell_heard(site: &Site, nodes: &[Node]) -> JoinHandle<()> {
    let (ways, beat) = (Arc::clone(&site.ways), site.timing.beat);
    let nodes: Vec<_> = nodes.iter().map(|node| (node.id, Arc::clone(&node.catalog))).collect();
    tokio::spawn(async move {
        let mut heard: BTreeMap<(NodeId, NodeId), std::time::Instant> = BTreeMap::new();
        loop {
            for (me, catalog) in &nodes {
                let others = nodes.iter().map(|(other, _)| *other).filter(|other| other != me);
                for other in others.filter(|other| ways.is_open(*me, *other)) {
                    heard.insert((*me, other), std::time::Instant::now());
                }
                let mine = heard.iter().filter(|((of, _), _)| of == me);
                catalog.hear(&mine.map(|((_, other), at)| (*other, at.elapsed())).collect());
            }
            tokio::time::sleep(beat / 4).await;
        }
    })
}

fn term(node: &Node) -> u64 {
    node.catalog.consensus_status().term
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_cut_off_gathers_no_votes_and_deposes_nobody() {
    let (site, mut nodes) = Site::of(fast(), 3).await;
    let telling = tell_heard(&site, &nodes);
    let leads = leader(&nodes).await;
    let away = nodes.remove((leads + 1) % 3);
    until("it is in touch", || away.catalog.is_in_touch()).await;
    let before = term(&away);
    site.ways.cut(&[&away], &nodes.iter().collect::<Vec<_>>());
    until("it knows", || !away.catalog.is_in_touch()).await;
    tokio::time::sleep(site.timing.beat * CUT_BEATS).await;
    assert_eq!(term(&away), before, "it stands for no election");
    nodes[0].change(add("meanwhile")).await.unwrap();
    let leading = nodes[0].catalog.leader();
    site.ways.heal();
    until("it is in touch again", || away.catalog.is_in_touch()).await;
    assert_eq!(away.devices(), ["meanwhile"], "with what was agreed on meanwhile");
    until_same(&[&away, &nodes[0], &nodes[1]]).await;
    assert_eq!((term(&nodes[0]), nodes[0].catalog.leader()), (before, leading), "nobody was deposed");
    // Who leads is followed by another one as before.
    nodes.push(away);
    let lost = nodes.remove(leader(&nodes).await);
    site.stop(lost).await;
    until("another one leads", || nodes.iter().any(|node| node.catalog.is_leader())).await;
    nodes[0].change(add("after")).await.unwrap();
    until("both are in touch", || nodes.iter().all(|node| node.catalog.is_in_touch())).await;
    telling.abort();
}

/// One of three is cut off from the leader alone; how often it stands meanwhile, and whether the same one leads in the end.
async fn cut_off_from_the_leader(are_older: bool) -> (u64, bool) {
    // A word of the leader that is a little late on a busy machine is no silence.
    let timing = Timing { beat: Duration::from_millis(300), ..fast() };
    let (site, nodes) = Site::of(timing, 3).await;
    site.ways.are_older.store(are_older, Ordering::Relaxed);
    let telling = tell_heard(&site, &nodes);
    let leads = leader(&nodes).await;
    let (leading, away, third) = (&nodes[leads], &nodes[(leads + 1) % 3], &nodes[(leads + 2) % 3]);
    let before = term(away);
    site.ways.cut(&[leading], &[away]);
    until("it knows", || !away.catalog.is_in_touch()).await;
    tokio::time::sleep(site.timing.beat * CUT_BEATS).await;
    assert!(leading.catalog.is_in_touch() && third.catalog.is_in_touch() && !away.catalog.is_in_touch());
    let stood = term(away) - before;
    third.change(add("meanwhile")).await.unwrap();
    assert!(away.devices().is_empty());
    site.ways.heal();
    until("it is in touch again", || away.catalog.is_in_touch()).await;
    assert_eq!(away.devices(), ["meanwhile"]);
    let is_the_same = leading.catalog.is_leader() && term(leading) == before;
    telling.abort();
    (stood, is_the_same)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_cut_off_from_the_leader_alone_does_not_stand_as_others_hear_one() {
    assert_eq!(cut_off_from_the_leader(false).await, (0, true));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_the_others_cannot_be_asked_it_stands_seldom() {
    let (stood, _) = cut_off_from_the_leader(true).await;
    assert!(stood <= 8, "it has stood {stood} times");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_that_are_switched_on_without_the_one_that_led_elect_another() {
    for are_older in [false, true] {
        let (site, mut nodes) = Site::of(fast(), 3).await;
        let lost = nodes.remove(leader(&nodes).await);
        site.stop(lost).await;
        let mut stores = Vec::new();
        for node in nodes.drain(..) {
            stores.push((node.id.0, site.stop(node).await));
        }
        site.ways.are_older.store(are_older, Ordering::Relaxed);
        nodes.extend(stores.into_iter().map(|(id, backend)| site.start_on(id, backend)));
        let telling = tell_heard(&site, &nodes);
        leader(&nodes).await;
        nodes[0].change(add("after")).await.unwrap();
        telling.abort();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_nobody_follows_is_not_in_touch() {
    let (site, mut nodes) = Site::of(fast(), 3).await;
    let telling = tell_heard(&site, &nodes);
    let alone = nodes.remove(leader(&nodes).await);
    until("it is in touch", || alone.catalog.is_in_touch()).await;
    site.ways.cut(&[&alone], &nodes.iter().collect::<Vec<_>>());
    until("it knows", || !alone.catalog.is_in_touch()).await;
    assert!(alone.catalog.is_leader(), "by its own word");
    leader(&nodes).await;
    until("they are in touch", || nodes.iter().all(|node| node.catalog.is_in_touch())).await;
    nodes[0].change(add("meanwhile")).await.unwrap();
    site.ways.heal();
    until("it is in touch again", || alone.catalog.is_in_touch()).await;
    assert_eq!(alone.devices(), ["meanwhile"]);
    telling.abort();
}

#[tokio::test]
async fn a_node_alone_is_in_touch_with_itself() {
    let site = Site::new(fast());
    let (alone, joining) = (site.start(1), site.start(2));
    assert!(alone.catalog.is_in_touch(), "from the first moment");
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(alone.catalog.is_in_touch() && !joining.catalog.is_in_touch());
    let backend = site.stop(alone).await;
    assert!(site.start_on(1, backend).catalog.is_in_touch());
}
