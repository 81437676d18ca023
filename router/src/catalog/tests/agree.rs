//! Several nodes agree: changes from anywhere, a lost leader, a minority, restarts, ways that lose what is said.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::site::{Site, fast, leader, set_state, until, until_same};
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_proposed_anywhere_is_seen_everywhere() {
    let (_site, nodes) = Site::of(fast(), 3).await;
    for (at, node) in nodes.iter().enumerate() {
        let device = format!("d{at}");
        node.change(add(&device)).await.unwrap();
        assert!(node.catalog.is_enrolled(&device), "true here on return");
        let refused = node.change(add(&device)).await.unwrap_err();
        assert_eq!(refused, Refusal::Exists(device), "and judged by what it came to");
    }
    until("all see all", || nodes.iter().all(|node| node.devices() == ["d0", "d1", "d2"])).await;
    until_same(&nodes.iter().collect::<Vec<_>>()).await;
    for (at, node) in nodes.iter().enumerate() {
        let told: Vec<_> = node.acts("device.add").iter().map(|event| event["device"].to_string()).collect();
        assert_eq!(told, [format!("\"d{at}\"")], "where it was proposed it is told of, and nowhere else");
        let outcomes = || {
            let acts = events(&node.log, event_log::AUDIT_TOPIC).into_iter();
            acts.filter(|act| act["act"] == "device.add").map(|act| act["outcome"].clone()).collect::<Vec<_>>()
        };
        until("both acts are in the audit", || outcomes() == ["done", "conflict"]).await;
    }
    let status = nodes[leader(&nodes).await].catalog.consensus_status();
    assert_eq!((status.voters.len(), status.learners.len(), status.followers.len()), (3, 0, 2));
    assert!(status.followers.iter().all(|other| other.lag == Some(0) && other.is_heard), "{status:?}");
    assert!(status.missing.is_empty() && status.stopped.is_none() && status.last_applied == status.last_log);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_one_leads_within_five_seconds() {
    // The times of a real site.
    let (site, mut nodes) = Site::of(Timing::default(), 3).await;
    let lost = nodes.remove(leader(&nodes).await);
    let started = Instant::now();
    let backend = site.stop(lost).await;
    until("another one leads", || nodes.iter().any(|node| node.catalog.is_leader())).await;
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    nodes[0].change(add("a")).await.unwrap();
    nodes[1].change(add("b")).await.unwrap();
    // The first one comes back and has what it missed.
    nodes.push(site.start_on(1, backend));
    until("it has all", || nodes[2].devices() == ["a", "b"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_minority_refuses_in_bounded_time_and_goes_on_reading() {
    let (site, mut nodes) = Site::of(fast(), 3).await;
    nodes[0].change(add("a")).await.unwrap();
    until("all see it", || nodes.iter().all(|node| node.devices() == ["a"])).await;
    let alone = nodes.remove(leader(&nodes).await);
    site.ways.cut(&[&alone], &nodes.iter().collect::<Vec<_>>());
    // What was begun before the silence was noticed has no known end.
    let started = Instant::now();
    let first = alone.change(add("lost")).await.unwrap_err();
    assert!(["unknown-outcome", "no-majority"].contains(&first.code()), "{first}");
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    let refused = alone.change(add("never")).await.unwrap_err();
    assert_eq!((refused.code(), refused.class()), ("no-majority", Class::Unavailable));
    let mut missing: Vec<String> = nodes.iter().map(|node| format!("n{}", node.id.0)).collect();
    missing.sort();
    assert_eq!(refused, Refusal::NoMajority { missing });
    // What follows from who is heard is not kept for later.
    let started = Instant::now();
    let refused = alone.catalog.propose_now(add("now"), "test").await.unwrap_err();
    assert!(refused.code() == "no-majority" && started.elapsed() < fast().propose_wait / 2, "{:?}", started.elapsed());
    assert!(alone.catalog.is_enrolled("a"), "reading goes on");
    // The others go on meanwhile.
    leader(&nodes).await;
    nodes[0].change(add("b")).await.unwrap();
    assert_eq!(alone.devices(), ["a"]);
    site.ways.heal();
    until("it has what it missed", || alone.devices().contains(&"b".to_owned())).await;
    assert!(!alone.devices().contains(&"never".to_owned()), "what was refused never comes");
    alone.change(add("c")).await.unwrap();
    until_same(&[&alone, &nodes[0], &nodes[1]]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_two_three_five_and_three_nodes_under_changes() {
    let site = Site::new(fast());
    let mut nodes = vec![site.start(1)];
    let mut made = 0;
    for id in 2..=5 {
        nodes.push(site.start(id));
        nodes[0].change(site::member(id)).await.unwrap();
        for node in &nodes[..nodes.len() - 1] {
            node.change(add(&format!("d{made:03}"))).await.unwrap();
            made += 1;
        }
        site.until_voters(&nodes, [1, 3, 3, 5][id as usize - 2]).await;
    }
    for id in [2, 3] {
        let at = nodes.iter().position(|node| node.id.0 == id).unwrap();
        let gone = nodes.remove(at);
        let changing = async {
            for _ in 0..5 {
                nodes[0].change(add(&format!("d{made:03}"))).await.unwrap();
                made += 1;
            }
        };
        let removing = nodes[1].take_out(gone.id);
        let (removed, ()) = tokio::join!(removing, changing);
        removed.unwrap();
        site.until_voters(&nodes, 3).await;
        site.stop(gone).await;
    }
    until("all have all", || nodes.iter().all(|node| node.devices().len() == made)).await;
    until_same(&nodes.iter().collect::<Vec<_>>()).await;
    let refused = nodes[0].change(site::member(2)).await.unwrap_err();
    assert_eq!(refused.code(), "member-removed", "its id is never used again");
    assert!(nodes[2].catalog.is_removed(NodeId(3)));
    // Who led goes like any other.
    let at = leader(&nodes).await;
    let gone = nodes.remove(at);
    nodes[0].take_out(gone.id).await.unwrap();
    site.until_voters(&nodes, 1).await;
    leader(&nodes).await;
    // It knows that it is out, and makes no group of its own of what it has.
    until("it knows", || gone.catalog.is_removed(gone.id)).await;
    let voted = gone.voters();
    assert_eq!(gone.catalog.promote_lost("cli").await, Err(SurviveError::Removed));
    assert_eq!(gone.voters(), voted, "a refusal changes nothing");
    nodes[1].change(add("last")).await.unwrap();
    until_same(&nodes.iter().collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_set_is_there_after_a_restart_of_each() {
    let (site, mut nodes) = Site::of(fast(), 3).await;
    for n in 0..6 {
        nodes[n % 3].change(add(&format!("d{n}"))).await.unwrap();
    }
    until_same(&nodes.iter().collect::<Vec<_>>()).await;
    for id in 1..=3 {
        let at = nodes.iter().position(|node| node.id.0 == id).unwrap();
        let node = nodes.remove(at);
        let before = node.stored();
        let backend = site.stop(node).await;
        // A power cut takes nothing: all was synced.
        backend.power_cut(0);
        let node = site.start_on(id, backend);
        assert_eq!(node.stored(), before);
        assert_eq!(node.devices().len(), 6, "before it has heard of anybody");
        nodes.push(node);
        leader(&nodes).await;
    }
    let backends =
        [site.stop(nodes.remove(0)).await, site.stop(nodes.remove(0)).await, site.stop(nodes.remove(0)).await];
    for (id, backend) in (1..).zip(backends) {
        nodes.push(site.start_on(id, backend));
    }
    leader(&nodes).await;
    nodes[1].change(add("after")).await.unwrap();
    until_same(&nodes.iter().collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_said_twice_or_lost_counts_once() {
    let (site, nodes) = Site::of(Timing { propose_wait: Duration::from_secs(10), ..fast() }, 3).await;
    site.ways.lost_percent.store(15, Ordering::Relaxed);
    site.ways.delay_ms.store(3, Ordering::Relaxed);
    let (mut made, mut unknown) = (Vec::new(), 0);
    for n in 0..30 {
        match nodes[n % 3].change(add(&format!("d{n:02}"))).await {
            Ok(_) => made.push(format!("d{n:02}")),
            Err(Refusal::UnknownOutcome | Refusal::NoMajority { .. }) => unknown += 1,
            Err(refusal) => panic!("{n}: {refusal}"),
        }
    }
    site.ways.lost_percent.store(0, Ordering::Relaxed);
    until_same(&nodes.iter().collect::<Vec<_>>()).await;
    let there = nodes[0].devices();
    assert!(made.iter().all(|device| there.contains(device)) && there.len() <= made.len() + unknown);
    assert!(made.len() >= 15, "only {} of 30", made.len());
    let mut told: Vec<String> =
        nodes.iter().flat_map(|node| node.acts("device.add")).map(|e| e["device"].to_string()).collect();
    told.sort();
    let expected: Vec<String> = there.iter().map(|device| format!("\"{device}\"")).collect();
    assert_eq!(told, expected, "each is told of once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_be_in_a_log_is_not_told_as_refused() {
    let (site, nodes) = Site::of(fast(), 3).await;
    let leads = leader(&nodes).await;
    let (leading, asking, third) = (&nodes[leads], &nodes[(leads + 1) % 3], &nodes[(leads + 2) % 3]);
    // What it asks is heard, and no answer comes back; its store takes nothing any more meanwhile.
    site.ways.cut_from(leading, asking);
    let gate = site.ways.hold(asking);
    let catalog = Arc::clone(&asking.catalog);
    let asked = tokio::spawn(async move { catalog.propose(add("perhaps"), "test").await });
    gate.came.notified().await;
    asking.backend.set_faults(sled_data::Faults { fail_after_writes: Some(0), ..Default::default() });
    let act = event_log::Act { who: "test", act: "a", what: "b", outcome: "done", detail: serde_json::Value::Null };
    let ticket = asking.log.audit(act).unwrap();
    asking.log.durable(ticket).await.unwrap_err();
    site.ways.release(&gate);
    let told = asked.await.unwrap().unwrap_err();
    until("it is made all the same", || third.catalog.is_enrolled("perhaps")).await;
    assert_eq!(told, Refusal::UnknownOutcome);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_in_the_log_of_a_leader_that_falls_is_not_told_as_refused() {
    let site = Site::new(Timing { propose_wait: Duration::from_millis(500), ..fast() });
    let node = site.start(1);
    node.change(add("a")).await.unwrap();
    let before = site.stop(node).await;
    let (mut is_made, mut told_lost) = (false, 0);
    // After each write in turn the disk fails: before the entry is in the log, between it and the state, and after both.
    for writes in 0.. {
        let node = site.start_on(1, Arc::new(before.image()));
        until("it leads", || node.catalog.is_leader()).await;
        node.backend.set_faults(sled_data::Faults { fail_after_writes: Some(writes), ..Default::default() });
        let told = node.change(add("perhaps")).await.err();
        let backend = site.stop(node).await;
        backend.set_faults(sled_data::Faults::default());
        backend.power_cut(0);
        let node = site.start_on(1, backend);
        node.change(add("after")).await.unwrap();
        let is_there = node.catalog.is_enrolled("perhaps");
        site.stop(node).await;
        match told {
            None => {
                assert!(is_there);
                break;
            }
            Some(Refusal::UnknownOutcome) => told_lost += 1,
            Some(told) => assert!(!is_there, "after {writes} writes it was told as refused: {told}"),
        }
        is_made |= is_there;
    }
    assert!(is_made && told_lost > 0, "it was never made by a leader that fell");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn how_long_a_token_is_good_counts_by_the_leaders_clock() {
    let (_site, nodes) = Site::of(fast(), 3).await;
    let life_ms = i64::try_from(crate::security::JOIN_TOKEN_LIFETIME.as_millis()).unwrap();
    for (at, node) in (0..).zip(&nodes) {
        for (kind, ahead_ms) in (0..).zip([-86_400_000, 86_400_000]) {
            // As nodes ask whose clocks are a day behind, or ahead.
            let hash = TokenHash([at * 2 + kind; 32]);
            let before_ms = node.log.clock().wall_ms();
            node.change(Change::IssueToken { hash, expires_at_ms: before_ms + ahead_ms + life_ms }).await.unwrap();
            let issued = node.catalog.token(&hash).unwrap().expires_at_ms;
            let after_ms = node.log.clock().wall_ms();
            assert!((before_ms - 1_000 + life_ms..=after_ms + 1_000 + life_ms).contains(&issued), "{issued}");
            // And one for a gateway of another site.
            let expires_at_ms = before_ms + ahead_ms + LINK_TOKEN_LIFE_MS;
            let invited =
                node.change(Change::InviteLink { name: "plant".to_owned(), hash, expires_at_ms }).await.unwrap();
            let Some(Write::LinkToken(_, Some(token))) = invited.writes.last() else { panic!("{invited:?}") };
            let last_ms = node.log.clock().wall_ms() + 1_000 + LINK_TOKEN_LIFE_MS;
            assert!((before_ms - 1_000 + LINK_TOKEN_LIFE_MS..=last_ms).contains(&token.expires_at_ms), "{token:?}");
        }
    }
    until_same(&nodes.iter().collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_is_used_once_although_two_nodes_use_it_at_once() {
    let (_site, nodes) = Site::of(fast(), 3).await;
    for round in 0..5 {
        let hash = TokenHash([round; 32]);
        let expires_at_ms = nodes[0].log.clock().wall_ms() + 60_000;
        nodes[0].change(Change::IssueToken { hash, expires_at_ms }).await.unwrap();
        let using = |at: usize| nodes[at].change(Change::UseToken { hash, by: NodeId(90 + at as u64) });
        let (one, other, third) = tokio::join!(using(0), using(1), using(2));
        let used: Vec<_> = [one, other, third].into_iter().filter_map(Result::err).collect();
        assert_eq!(used.iter().map(Refusal::code).collect::<Vec<_>>(), ["token-used"; 2]);
        until_same(&nodes.iter().collect::<Vec<_>>()).await;
        let by = nodes[1].catalog.token(&hash).unwrap().used_by.unwrap();
        assert!(used[0].to_string().contains(&by.to_string()));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_node_votes_no_more_and_an_active_one_takes_its_place() {
    let (site, mut nodes) = Site::of(fast(), 4).await;
    let at = nodes.iter().position(|node| node.id.0 == 2).unwrap();
    let lost = nodes.remove(at);
    site.stop(lost).await;
    nodes[0].change(set_state(2, MemberState::Lost)).await.unwrap();
    until("the fourth votes", || nodes.iter().all(|n| n.voters() == [1, 3, 4].map(NodeId))).await;
    nodes[2].change(add("a")).await.unwrap();
    let told = nodes.iter().flat_map(|node| node.acts("node.vote")).filter(|event| event["what"] == "0000000000000004");
    assert_eq!(told.count(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_could_not_be_made_is_made_later() {
    let site = Site::new(fast());
    let node = site.start(1);
    let config = TopicConfig { partitions: 1, ..TopicConfig::default() };
    node.log.ensure_topic("line", Some(config.clone())).unwrap();
    let settings = TopicSettings::from(&config);
    node.change(Change::CreateTopic { id: 77, name: "line".into(), settings, ack: Ack::Local }).await.unwrap();
    let reads = node.backend.reads();
    let keeping = tokio::spawn(Arc::clone(&node.catalog).keep_topics());
    until("it was tried", || node.backend.reads() > reads).await;
    // Nothing is agreed on any more that would have it tried again.
    node.log.delete_topic("line").unwrap();
    let is_made = || node.log.topic("line").is_some_and(|topic| topic.id() == sled_data::TopicId(77));
    until("it is made", is_made).await;
    keeping.abort();
}
