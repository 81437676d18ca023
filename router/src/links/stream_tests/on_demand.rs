//! A site is asked for a range of a topic: what comes is what its log has, and what does not is said.

use std::collections::BTreeMap;
use std::time::Duration;

use sled_data::{LinkedPart, PartitionId};

use super::lab::{LONG, Site, until};
use super::link;
use crate::links::config::{Compress, LinkConfig, Origins};
use crate::links::detail::{Ask, AskError, CutShort, Detail, End, From};

fn ask(topic: &str) -> Ask {
    let (topic, after) = (topic.to_owned(), Default::default());
    Ask { topic, from: From::Start, to_ms: None, partition: None, events_max: u64::MAX, after, dictionary: 0 }
}

/// A plant of which only alarms go by themselves; another site is given all but `private` when it asks.
async fn asked(config: LinkConfig) -> (Site, Site) {
    let (plant, hq) = (Site::new(1).await, Site::new(2).await);
    let detail = Some(vec!["telemetry".to_owned(), "empty".to_owned()]);
    plant.feed(&hq, "plant", vec![LinkConfig { detail, ..config }]).await;
    until("the link stands", || plant.edge().views()[0].connections == 1).await;
    (plant, hq)
}

/// Where each partition is with what has come, and all values, sorted.
#[derive(Default)]
struct Came {
    values: Vec<String>,
    holes: Vec<(u64, u64)>,
    next: BTreeMap<PartitionId, u64>,
}

impl Came {
    fn take(&mut self, parts: Vec<LinkedPart>, from: u64) {
        for part in parts {
            let next = self.next.entry(part.partition()).or_insert(from);
            match part {
                LinkedPart::Hole(_, hole) => {
                    self.holes.push((hole.from, hole.to));
                    *next = hole.to;
                }
                LinkedPart::Batch(batch) => {
                    let records = batch.decompress().unwrap();
                    for record in records.iter().filter(|record| records.offset_of(record) >= *next) {
                        self.values.push(String::from_utf8(record.value.unwrap().to_vec()).unwrap());
                    }
                    *next = batch.next_offset();
                }
            }
        }
        self.values.sort();
    }
}

/// All that comes.
async fn all(detail: &mut Detail) -> Result<Came, CutShort> {
    let mut came = Came::default();
    while let Some(parts) = detail.next().await? {
        came.take(parts, 0);
        detail.taken().await;
    }
    Ok(came)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_is_what_the_log_has_and_nothing_is_kept() {
    for compress in [Compress::Off, Compress::On] {
        let (plant, hq) = asked(LinkConfig { compress, ..link(&["alarms"], &[]) }).await;
        // Another gateway of the plant, which this one follows.
        let other = Site::new(3).await;
        for topic in ["telemetry", "empty"] {
            other.log.adopt_topic(plant.log.ensure_topic(topic, None).unwrap().info().clone()).unwrap();
        }
        let big = "x".repeat(100_000);
        for n in 0..200 {
            plant.append(&["telemetry"], &format!("{n} {}", if n % 50 == 0 { &big } else { "" })).await;
            if n % 4 == 0 {
                other.append(&["telemetry"], &format!("other {n}")).await;
            }
        }
        plant.follow(&other).await;
        let mut detail = hq.upstream().ask("plant", ask("telemetry")).await.unwrap();
        let came = tokio::time::timeout(LONG, all(&mut detail)).await.unwrap().unwrap();
        assert_eq!(came.values, plant.values("telemetry"), "{compress:?}");
        assert_eq!((came.values.len(), came.holes.len()), (250, 0), "of both gateways");
        // So many and no more than the batch that holds the last.
        let few = Ask { events_max: 3, partition: Some(1), ..ask("telemetry") };
        let mut detail = hq.upstream().ask("plant", few).await.unwrap();
        let came = all(&mut detail).await.unwrap();
        assert!(came.next.keys().all(|id| id.index == 1) && came.values.len() >= 3, "{}", came.values.len());
        assert!(hq.linked_topics().iter().all(|topic| topic != "plant/telemetry"));
        assert_eq!(hq.log.store().linked().len(), 0, "nothing is kept");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_given_or_not_there_is_said() {
    let (plant, mut hq) = asked(link(&["alarms"], &[])).await;
    plant.append(&["telemetry", "private", "_inner"], "1").await;
    let cases = [
        ("private", None, End::NotGiven),
        ("alarms", None, End::NotGiven),
        ("_inner", None, End::NotGiven),
        ("empty", None, End::NoTopic),
        ("telemetry", Some(99), End::NoTopic),
    ];
    for (topic, partition, expected) in cases {
        let refused = hq.upstream().ask("plant", Ask { partition, ..ask(topic) }).await.err();
        assert!(matches!(&refused, Some(AskError::Site { end, .. }) if *end == expected), "{topic}: {refused:?}");
    }
    let unknown = hq.upstream().ask("other", ask("telemetry")).await.err();
    assert_eq!(unknown, Some(AskError::Unknown("other".to_owned())));
    hq.cut().await;
    let is_cut = async || hq.upstream().ask("plant", ask("telemetry")).await.err();
    until("upstream knows", || hq.upstream().views()[0].state != super::State::Connected).await;
    assert_eq!(is_cut().await, Some(AskError::Cut("plant".to_owned())));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_retention_took_is_told() {
    let (plant, hq) = asked(link(&["alarms"], &[])).await;
    for n in 0..10 {
        plant.append_to("telemetry", 0, &format!("{n}")).await;
    }
    let id = plant.log.topic("telemetry").unwrap().partition(0).unwrap().id();
    plant.log.store().trim(id, 4, 100).unwrap();
    // From when on, where the range begins, and whether something may be missing.
    for (from, begins, is_cut) in [
        (From::Start, 4, false),
        (From::Offset(0), 0, false),
        (From::TimeMs(0), 4, true),
        (From::TimeMs(9_999), 10, false),
    ] {
        let mut detail =
            hq.upstream().ask("plant", Ask { partition: Some(0), from, ..ask("telemetry") }).await.unwrap();
        let span = detail.spans()[0];
        assert_eq!((span.from, span.to, span.oldest_ms.is_some()), (begins, 10, is_cut), "{from:?}");
        let came = all(&mut detail).await.unwrap();
        assert_eq!(came.values.len(), if begins == 10 { 0 } else { 6 }, "{from:?}");
        assert_eq!(came.holes, if begins == 0 { vec![(0, 4)] } else { vec![] }, "a gap is told: {from:?}");
    }
    // What goes while it is being read is told too: nothing but the first batches was read ahead.
    // So that it does not become small, and much more than the window is there to come.
    let noise: String =
        (0..60_000_u32).map(|n| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 24) as u8 % 26)).collect();
    for n in 0..100_u32 {
        let number = n.wrapping_mul(2_654_435_761);
        plant.append_to("telemetry", 1, &format!("{number}{noise}{number}")).await;
    }
    let ask = Ask { partition: Some(1), ..ask("telemetry") };
    let mut detail = hq.upstream().ask("plant", ask).await.unwrap();
    let mut came = Came::default();
    came.take(detail.next().await.unwrap().unwrap(), 0);
    plant.log.delete_topic("telemetry").unwrap();
    detail.taken().await;
    while let Some(parts) = detail.next().await.unwrap() {
        came.take(parts, 0);
        detail.taken().await;
    }
    let missing: u64 = came.holes.iter().map(|(from, to)| to - from).sum();
    assert_eq!(came.values.len() as u64 + missing, 100, "{:?}", came.holes);
    assert!(missing > 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_who_reads_slowly_slows_nobody_else_and_a_cut_says_from_where_to_go_on() {
    let (plant, mut hq) = asked(link(&["alarms"], &[])).await;
    let noise: String =
        (0..60_000_u32).map(|n| char::from(b'a' + (n.wrapping_mul(2_654_435_761) >> 24) as u8 % 26)).collect();
    for n in 0..60 {
        plant.append_to("telemetry", n % 2, &format!("{n} {}", &noise[n as usize..])).await;
    }
    let mut slow = hq.upstream().ask("plant", ask("telemetry")).await.unwrap();
    let mut came = Came::default();
    for _ in 0..3 {
        came.take(slow.next().await.unwrap().unwrap(), 0);
        slow.taken().await;
    }
    // More than the window is there to come; the edge waits. Places are for four at once.
    let mut others = Vec::new();
    for _ in 0..3 {
        others.push(hq.upstream().ask("plant", ask("telemetry")).await.unwrap());
    }
    assert_eq!(hq.upstream().ask("plant", ask("telemetry")).await.err(), Some(AskError::Busy));
    plant.append(&["alarms"], "hot").await;
    hq.until_fed_by(&plant, &[("alarms", "plant/alarms")]).await;
    others.pop();
    let again = hq.upstream().ask("plant", ask("telemetry")).await;
    assert!(again.is_ok(), "a place is free again");
    drop((others, again));
    // What was given and not said to be taken is given again.
    let again = slow.next().await.unwrap().unwrap();
    assert!(!again.is_empty());
    hq.cut().await;
    let ended = tokio::time::timeout(LONG, async {
        loop {
            match slow.next().await {
                Ok(Some(_)) => {}
                ended => return ended.map(|_| ()),
            }
        }
    });
    assert!(ended.await.unwrap().is_err());
    let after = slow.position();
    drop(slow);
    hq.listen_again().await;
    until("the link stands again", || plant.edge().views()[0].connections > 1).await;
    let again = async {
        loop {
            match hq.upstream().ask("plant", Ask { after: after.clone(), ..ask("telemetry") }).await {
                Ok(detail) => return detail,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        }
    };
    let mut rest = tokio::time::timeout(LONG, again).await.unwrap();
    while let Some(parts) = rest.next().await.unwrap() {
        came.take(parts, 0);
        rest.taken().await;
    }
    assert_eq!(came.values, plant.values("telemetry"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_gateway_that_has_most_is_asked_and_any_other_where_it_is_gone() {
    let (first, second, hq) = (Site::new(1).await, Site::new(3).await, Site::new(2).await);
    let config = || vec![LinkConfig { detail: Some(vec!["telemetry".to_owned()]), ..link(&["alarms"], &[]) }];
    first.append(&["telemetry"], "1").await;
    second.follow(&first).await;
    first.append(&["telemetry"], "2").await;
    first.feed(&hq, "plant", config()).await;
    second.feed(&hq, "plant", config()).await;
    let stands = |site: &Site| site.edge().views()[0].connections == 1;
    until("both links stand", || stands(&first) && stands(&second)).await;
    // The second one is behind.
    for _ in 0..6 {
        let mut detail = hq.upstream().ask("plant", ask("telemetry")).await.unwrap();
        assert_eq!(all(&mut detail).await.unwrap().values, ["1", "2"]);
    }
    first.stop_edge().await;
    let of_second = async || {
        let mut detail = hq.upstream().ask("plant", ask("telemetry")).await.ok()?;
        all(&mut detail).await.ok().map(|came| came.values)
    };
    let asked = tokio::time::timeout(LONG, async {
        while of_second().await != Some(vec!["1".to_owned()]) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    asked.await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_each_gateway_has_its_own_alone_all_of_them_send() {
    let (first, second, hq) = (Site::new(1).await, Site::new(3).await, Site::new(2).await);
    let config = || LinkConfig { detail: Some(vec!["telemetry".to_owned()]), ..link(&["alarms"], &[]) };
    let own = || vec![LinkConfig { origins: Origins::Own, ..config() }];
    second.log.adopt_topic(first.log.ensure_topic("telemetry", None).unwrap().info().clone()).unwrap();
    for n in 0..40 {
        first.append(&["telemetry"], &format!("first {n}")).await;
        if n % 3 == 0 {
            second.append(&["telemetry"], &format!("second {n}")).await;
        }
    }
    first.feed(&hq, "plant", own()).await;
    second.feed(&hq, "plant", own()).await;
    let stands = |site: &Site| site.edge().views()[0].connections == 1;
    until("both links stand", || stands(&first) && stands(&second)).await;
    let mut expected = [first.values("telemetry"), second.values("telemetry")].concat();
    expected.sort();
    let mut detail = hq.upstream().ask("plant", ask("telemetry")).await.unwrap();
    assert_eq!(tokio::time::timeout(LONG, all(&mut detail)).await.unwrap().unwrap().values, expected);
    assert_eq!(detail.missing(), []);
    // Each is behind with the other's: what it has of those is not sent twice.
    first.follow(&second).await;
    second.follow(&first).await;
    first.append(&["telemetry"], "first, later").await;
    second.append(&["telemetry"], "second, later").await;
    expected.extend(["first, later".to_owned(), "second, later".to_owned()]);
    expected.sort();
    for edge in [&first, &second] {
        edge.stop_edge().await;
    }
    let (mut first, mut second) = (first, second);
    first.feed_again(vec![config()]);
    second.feed_again(vec![config()]);
    until("both links stand again", || stands(&first) && stands(&second)).await;
    let mut detail = hq.upstream().ask("plant", ask("telemetry")).await.unwrap();
    let came = tokio::time::timeout(LONG, all(&mut detail)).await.unwrap().unwrap();
    assert_eq!((came.values.len(), &came.values), (expected.len(), &expected));
}
