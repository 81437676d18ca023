//! The last survivor of a lost majority, and what is answered to those who should not ask.

use std::time::Duration;

use super::site::{Site, fast, leader, member, until, until_same};
use super::*;
use crate::catalog::consensus::leavings;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_survivor_goes_on_alone_by_force() {
    let (site, mut nodes) = Site::of(Timing { propose_wait: Duration::from_millis(800), ..fast() }, 3).await;
    nodes[0].change(add("a")).await.unwrap();
    until_same(&nodes.iter().collect::<Vec<_>>()).await;
    let survivor = nodes.remove((leader(&nodes).await + 1) % 3);
    let refused = survivor.catalog.promote_lost("cli").await.unwrap_err();
    assert_eq!(refused, SurviveError::NotLost, "there is a majority");
    site.ways.cut(&[&survivor], &nodes.iter().collect::<Vec<_>>());
    until("they are missed", || survivor.catalog.consensus_status().missing.len() == 2).await;
    assert_eq!(survivor.change(add("b")).await.unwrap_err().code(), "no-majority");
    survivor.catalog.promote_lost("cli").await.unwrap();
    survivor.change(add("b")).await.unwrap();
    assert_eq!((survivor.devices(), survivor.voters()), (vec!["a".into(), "b".into()], vec![survivor.id]));
    let members = survivor.catalog.members();
    let lost: Vec<_> = members.iter().filter(|m| m.state == MemberState::Lost).map(|m| m.node).collect();
    assert_eq!(lost, nodes.iter().map(|node| node.id).collect::<Vec<_>>());
    let acts = events(&survivor.log, event_log::AUDIT_TOPIC);
    assert_eq!(acts.iter().filter(|act| act["act"] == "node.promote").count(), 1);
    // The others come back, agree among themselves, and are not heard.
    leader(&nodes).await;
    nodes[0].change(add("theirs")).await.unwrap();
    site.ways.heal();
    tokio::time::sleep(site.timing.beat * 8).await;
    assert!(survivor.catalog.is_leader() && !survivor.catalog.is_enrolled("theirs"));
    // One of them is wiped and joins anew.
    for node in nodes {
        site.stop(node).await;
    }
    let new = site.start(9);
    survivor.change(member(9)).await.unwrap_or_else(|refusal| panic!("{refusal}"));
    until_same(&[&survivor, &new]).await;
    // All of it is there after a restart.
    let (id, backend) = (survivor.id.0, site.stop(survivor).await);
    let survivor = site.start_on(id, backend);
    until("it leads", || survivor.catalog.is_leader()).await;
    new.change(add("c")).await.unwrap();
    assert_eq!(new.devices(), ["a", "b", "c"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_cut_short_is_repeated_and_ends_as_the_first_time() {
    let timing = Timing { propose_wait: Duration::from_millis(300), ..fast() };
    let (site, mut nodes) = Site::of(Timing { propose_wait: Duration::from_secs(3), ..timing.clone() }, 3).await;
    nodes[0].change(add("a")).await.unwrap();
    until_same(&nodes.iter().collect::<Vec<_>>()).await;
    let survivor = nodes.remove(1);
    for node in nodes {
        site.stop(node).await;
    }
    let group = leavings::group(&survivor.log);
    let (id, before) = (survivor.id.0, site.stop(survivor).await);
    let (mut cuts, mut is_done) = (0, false);
    // After each write in turn the disk fails, until none is left to fail; then the node is started anew.
    while !is_done {
        let site = Site::new(timing.clone());
        let disk = Arc::new(before.image());
        let node = site.start_on(id, Arc::clone(&disk));
        until("they are missed", || node.catalog.consensus_status().missing.len() == 2).await;
        disk.set_faults(sled_data::Faults { fail_after_writes: Some(cuts), ..Default::default() });
        is_done = node.catalog.promote_lost("cli").await.is_ok();
        disk.set_faults(sled_data::Faults::default());
        site.stop(node).await;
        let log = open_log(&disk);
        let made = Some(leavings::group(&log)).filter(|made| *made != group);
        let node = site.start_with(id, disk, log);
        for repeat in 0..2 {
            let repeated = node.catalog.promote_lost("cli").await;
            let now = leavings::group(&node.log);
            assert_eq!(now, made.unwrap_or(now), "{cuts} writes, {repeat}: what was made is not made once more");
            assert_eq!(repeated, Ok(()), "{cuts} writes, {repeat}");
            let lost = node.catalog.members().iter().filter(|member| member.state == MemberState::Lost).count();
            assert_eq!((lost, node.voters()), (2, vec![node.id]), "{cuts} writes, {repeat}");
        }
        node.change(add("b")).await.unwrap();
        assert_eq!(node.devices(), ["a", "b"]);
        site.stop(node).await;
        cuts += 1;
    }
    assert!(cuts > 3, "it was cut short {cuts} times");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_nodes_the_second_one_goes_on_alone() {
    let (site, mut nodes) = Site::of(fast(), 2).await;
    nodes[1].change(add("a")).await.unwrap();
    let lost = nodes.remove(0);
    site.stop(lost).await;
    let survivor = nodes.remove(0);
    until("it is missed", || survivor.catalog.consensus_status().missing == [NodeId(1)]).await;
    survivor.catalog.promote_lost("cli").await.unwrap();
    survivor.change(add("b")).await.unwrap();
    survivor.take_out(NodeId(1)).await.unwrap();
    assert_eq!((survivor.devices(), survivor.voters()), (vec!["a".into(), "b".into()], vec![NodeId(2)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_waits_to_be_let_in_has_nothing_to_go_on_with() {
    let site = Site::new(fast());
    let new = site.start(2);
    assert_eq!(new.catalog.promote_lost("cli").await, Err(SurviveError::NoSite));
    assert_eq!((new.catalog.site(), new.catalog.leader(), new.catalog.members().len()), (None, None, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_should_not_ask_gets_an_answer_all_the_same() {
    let (site, mut nodes) = Site::of(fast(), 3).await;
    let no = |answer: Vec<u8>| (answer[..2] == [1, 7]).then(|| answer[2..].to_vec());
    let ask = async |body: Vec<u8>| no(nodes[0].catalog.answer(NodeId(2), &body).await);
    assert_eq!(ask(Vec::new()).await, Some(vec![0]), "unreadable");
    assert_eq!(ask(vec![1, 2, 3]).await, Some(vec![0]));
    assert_eq!(ask(vec![9; 40]).await, Some(vec![1, 1]), "a future version");
    assert_eq!(ask(vec![1; BODY_BYTES_MAX + 1]).await, Some(vec![2]), "too long");
    // The vote of another group, which says of itself that it is node 2's.
    let vote = |group: u8, node: u8| vec![1, group, 1, 99, node, 0, 0];
    assert_eq!(ask(vote(5, 2)).await, Some(vec![3]), "another group");
    assert_eq!(ask(vote(5, 3)).await, Some(vec![0]), "in another one's name");
    let before = nodes[0].catalog.consensus_status().term;
    // A removed node is told so, and disturbs nobody.
    let at = nodes.iter().position(|node| node.id.0 == 3).unwrap();
    let removed = nodes.remove(at);
    nodes[0].take_out(removed.id).await.unwrap();
    site.until_voters(&nodes, 1).await;
    until("it is forgotten", || !nodes.iter().any(|n| n.catalog.consensus_status().learners.contains(&removed.id)))
        .await;
    let refused = removed.change(add("x")).await.unwrap_err();
    assert!(["member-removed", "no-majority"].contains(&refused.code()), "{refused}");
    tokio::time::sleep(site.timing.beat * 8).await;
    let leads = leader(&nodes).await;
    assert!(nodes[leads].catalog.consensus_status().term <= before + 1);
    nodes[1].change(add("a")).await.unwrap();
}
