//! Nodes whose stores are older than they were: restored from a backup, and those who knew them.

use super::site::{Site, fast, leader, member, until_same};
use super::*;
use crate::catalog::consensus::leavings;

/// Whether a node is of no group, or of this one and has nothing of its leader yet; and whether it waits.
fn waits_in(node: &super::site::Node, group: Option<u64>) -> bool {
    let stands = (leavings::group(&node.log), leavings::count(&node.log, b"applied"));
    stands == (group, 0) && node.catalog.leader().is_none_or(|leader| leader != node.id)
}

/// Node 2 says that it leads group 77, and sends nothing that was agreed on.
async fn hears_node_2(node: &super::site::Node) {
    // Its group, no entries: of term 9, won by node 2.
    let says = [1, 77, 0, 9, 2, 1, 0, 0, 0];
    let down = vec![1, 7, 5];
    let mut answer = down.clone();
    while answer == down {
        answer = node.catalog.answer(NodeId(2), &says).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(answer, [1, 0], "it is stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restored_founder_founds_no_second_group() {
    let (site, mut nodes) = Site::of(fast(), 3).await;
    nodes[0].change(add("before")).await.unwrap();
    let group = leavings::group(&nodes[0].log);
    let backup = Arc::new(nodes[0].backend.image());
    let founder = nodes.remove(0);
    site.stop(founder).await;
    leader(&nodes).await;
    nodes[0].change(add("meanwhile")).await.unwrap();
    // It hears of nobody, however often it is started.
    let away = Site::new(fast());
    let restored = away.start_restored(1, backup);
    assert!(waits_in(&restored, None));
    let mut backup = away.stop(restored).await;
    for round in 0..2 {
        let again = away.start_on(1, backup);
        assert!(waits_in(&again, None), "{round}");
        assert_eq!(again.change(add("alone")).await.unwrap_err().code(), "no-majority");
        assert_eq!(again.devices(), ["before"], "what was set can be read");
        backup = away.stop(again).await;
    }
    // One that has heard a leader, and nothing of what was agreed on yet.
    let told = away.start_on(1, Arc::new(backup.image()));
    hears_node_2(&told).await;
    let told = away.stop(told).await;
    let told = away.start_on(1, told);
    assert!(waits_in(&told, Some(77)));
    assert!(told.catalog.members().len() == 3 && !told.catalog.is_leader());
    away.stop(told).await;
    // It is let in again by those who go on.
    let back = site.start_on(1, backup);
    until_same(&[&back, &nodes[0], &nodes[1]]).await;
    assert_eq!((leavings::group(&back.log), back.devices()), (group, vec!["before".into(), "meanwhile".into()]));
    let backup = site.stop(back).await;
    let back = site.start_on(1, backup);
    back.change(add("after")).await.unwrap();
    until_same(&[&back, &nodes[0], &nodes[1]]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_joins_a_restored_node_that_goes_on_alone_gets_all_that_it_has() {
    for has_heard in [false, true] {
        let (site, nodes) = Site::of(fast(), 2).await;
        nodes[0].change(add("before")).await.unwrap();
        let backup = Arc::new(nodes[0].backend.image());
        for node in nodes {
            site.stop(node).await;
        }
        let away = Site::new(fast());
        let restored = away.start_restored(1, backup);
        if has_heard {
            hears_node_2(&restored).await;
        }
        while let Err(refused) = restored.catalog.promote_lost("cli").await {
            assert!(has_heard && refused == SurviveError::NotLost, "{refused}");
            tokio::time::sleep(away.timing.beat / 10).await;
        }
        let stands = |node: &super::site::Node| {
            let members = node.catalog.members();
            members.iter().map(|member| (member.node.0, member.voter, member.state)).collect::<Vec<_>>()
        };
        assert_eq!(stands(&restored), [(1, true, MemberState::Active), (2, false, MemberState::Lost)]);
        let new = away.start(3);
        restored.change(member(3)).await.unwrap();
        until_same(&[&restored, &new]).await;
        new.change(add("after")).await.unwrap();
        assert_eq!(new.devices(), ["after", "before"], "{has_heard}");
        // All of it is there after a restart.
        let backend = away.stop(restored).await;
        let restored = away.start_on(1, backend);
        restored.change(add("again")).await.unwrap();
        until_same(&[&restored, &new]).await;
        assert_eq!(new.devices().len(), 3, "{has_heard}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_names_others_and_knows_of_no_group_founds_none() {
    let (site, mut nodes) = Site::of(fast(), 2).await;
    let founder = nodes.remove(0);
    founder.catalog.close().await;
    leavings::forget_raft(&founder.log);
    let backend = site.stop(founder).await;
    let away = Site::new(fast());
    let founder = away.start_on(1, backend);
    assert!(waits_in(&founder, None) && founder.catalog.members().len() == 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_whose_log_went_back_is_served_by_the_leader_that_knew_it() {
    for is_restored in [true, false] {
        let (site, mut nodes) = Site::of(fast(), 3).await;
        let leads = leader(&nodes).await;
        let at = (leads + 1) % 3;
        nodes[leads].change(add("before")).await.unwrap();
        until_same(&nodes.iter().collect::<Vec<_>>()).await;
        let (leading, id) = (nodes[leads].id, nodes[at].id.0);
        let earlier = Arc::new(nodes[at].backend.image());
        for n in 0..20 {
            nodes[leads].change(add(&format!("d{n:02}"))).await.unwrap();
        }
        until_same(&nodes.iter().collect::<Vec<_>>()).await;
        let follower = nodes.remove(at);
        site.stop(follower).await;
        let back = match is_restored {
            true => site.start_restored(id, earlier),
            false => site.start_on(id, earlier),
        };
        nodes.push(back);
        until_same(&nodes.iter().collect::<Vec<_>>()).await;
        assert_eq!(nodes[2].devices().len(), 21, "{is_restored}");
        nodes[2].change(add("after")).await.unwrap();
        until_same(&nodes.iter().collect::<Vec<_>>()).await;
        assert!(nodes.iter().all(|node| node.catalog.leader() == Some(leading)), "it was the same leader all the time");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_log_went_back_agrees_on_nothing_before_it_was_elected() {
    let (site, mut nodes) = Site::of(fast(), 3).await;
    let leads = leader(&nodes).await;
    nodes[leads].change(add("before")).await.unwrap();
    until_same(&nodes.iter().collect::<Vec<_>>()).await;
    let earlier = Arc::new(nodes[leads].backend.image());
    for n in 0..5 {
        nodes[leads].change(add(&format!("d{n}"))).await.unwrap();
    }
    until_same(&nodes.iter().collect::<Vec<_>>()).await;
    // All are switched off; the disk of the one that led is an older image when they are switched on, and nobody has told it yet.
    let mut stores = Vec::new();
    for node in nodes.drain(..) {
        stores.push((node.id.0, site.stop(node).await));
    }
    stores[leads].1 = earlier;
    nodes.extend(stores.into_iter().map(|(id, store)| site.start_on(id, store)));
    let told = nodes[leads].change(add("e")).await;
    until_same(&nodes.iter().collect::<Vec<_>>()).await;
    let agreed = ["before", "d0", "d1", "d2", "d3", "d4", "e"];
    let count = agreed.len() - usize::from(told.is_err());
    assert_eq!(nodes[leads].devices(), agreed[..count], "{told:?}");
}
