//! An upstream that brings down what cannot be, and an edge that asks for what it may not have: refused with a reason, and nothing of it is stored.

use std::time::Duration;

use sled_data::{Linked, LinkedPart, OriginId, PartitionId, TopicConfig, TopicId, TopicInfo};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use super::forged::{BOUNDS, Forger, plant_and_hq};
use super::lab::{self, LONG, Site, until};
use super::topics_down::{brings, coming, gives};
use crate::event_log::rubbish::sound;
use crate::links::begin::Stand;
use crate::links::book::State;
use crate::links::folder;
use crate::links::later::LiesAhead;
use crate::links::topics::{BRINGS_TOPICS, Wish, decode_gives, decode_wants, encode_gives, encode_wants};
use crate::links::upstream::Close;
use crate::links::wire::{Answer, FRAME_BYTES_MAX, Parts, Refused, Said};
use crate::transport::{Ended, FrameReceiver, FrameSender, SiteConnection, Way, dial_link, site_endpoint};

type Streams = (FrameSender, FrameReceiver);

async fn frame(from: &mut FrameReceiver) -> Option<Vec<u8>> {
    tokio::time::timeout(LONG, from.receive_frame(FRAME_BYTES_MAX)).await.unwrap().ok().flatten()
}

/// An upstream at a headquarters' address that lets an edge in; the streams by which it takes topics, as they are opened.
fn hostile(hq: &Site) -> (mpsc::Receiver<Streams>, JoinHandle<()>) {
    let (opened, streams) = mpsc::channel(8);
    let endpoint = site_endpoint(hq.address(), hq.identity(), lab::BOUNDS).unwrap();
    let serve = |connection: SiteConnection, opened: mpsc::Sender<Streams>| async move {
        let mut kept = Vec::new();
        while let Ok((mut out, mut from)) = connection.accept().await {
            let Some(first) = frame(&mut from).await else { continue };
            out.send_frame(&Answer::Welcome(2, 0).encode()).await.unwrap();
            if Wish::decode(&first).is_ok() {
                assert_eq!(decode_wants(&frame(&mut from).await.unwrap()).unwrap(), ["recipes"]);
                out.send_frame(&encode_gives(&["*".to_owned()])).await.unwrap();
                opened.send((out, from)).await.unwrap();
                continue;
            }
            let brings = crate::links::down::encode_words(&[BRINGS_TOPICS.to_owned()]);
            out.send_frame(&Answer::Asked(0, brings).encode()).await.unwrap();
            kept.push((out, from));
        }
    };
    let task = tokio::spawn(async move {
        while let Some(attempt) = endpoint.accept().await {
            if let Ok(connection) = attempt.shake_hands().await {
                tokio::spawn(serve(connection, opened.clone()));
            }
        }
    });
    (streams, task)
}

fn topic(id: u64, name: &str) -> TopicInfo {
    let config = TopicConfig { partitions: 2, ..TopicConfig::default() };
    TopicInfo { id: TopicId(id), name: name.to_owned(), config }
}

fn parts(origin: u64, topic: u64, base: u64, hlc: u64, events: &[&str]) -> Said {
    let id = PartitionId { origin: OriginId(origin), topic: TopicId(topic), index: 0 };
    let parts = vec![LinkedPart::Batch(sound(id, base, hlc, events).into())];
    Said::Parts(Parts { number: 1, origin: id.origin, parts })
}

/// A plant that lists `recipes`, and has topics and origins of its own, of a site that feeds it, and of what came down when more was listed.
async fn plant() -> (Site, Site) {
    let (plant, mut hq) = (Site::new(1).await, Site::new(2).await);
    plant.feed(&hq, "plant", vec![brings(&["topics:recipes"])]).await;
    let stands = || plant.edge().views()[0].state == State::Connected;
    until("the link stands", stands).await;
    hq.cut().await;
    until("the address is free", || std::net::UdpSocket::bind(hq.address()).is_ok()).await;
    plant.log.store().take_linked(OriginId(50), &Linked { link: 5, hlc: 0, path: vec![9] }, &[]).unwrap();
    plant.log.store().set_follow_node(OriginId(60), 1).unwrap();
    plant.log.adopt_linked_topic(topic(6, "feeder/recipes")).unwrap();
    plant.log.adopt_linked_topic(topic(7, "up/secret")).unwrap();
    plant.append(&["own"], "o").await;
    (plant, hq)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_brings_down_what_is_listed_and_nothing_else() {
    let (plant, hq) = plant().await;
    let (mut streams, serving) = hostile(&hq);
    let next = async |streams: &mut mpsc::Receiver<Streams>| {
        tokio::time::timeout(LONG, streams.recv()).await.expect("a stream is opened").unwrap()
    };
    let (mut out, mut from) = next(&mut streams).await;
    let offer = |origin, path: &[u64]| Said::Offer(OriginId(origin), path.to_vec());
    let own = plant.log.topic("own").unwrap().id().0;
    // What is said, the code with which it is refused
    let cases = [
        (offer(plant.log.store().origin().0, &[2]), "ours"),
        (offer(60, &[2]), "ours"),
        (offer(50, &[2]), "other-link"),
        (offer(90, &[1, 2]), "loop"),
        (offer(90, &[2; 17]), "loop"),
        (offer(90, &[]), "loop"),
        (offer(90, &[2, 9]), "path"),
        (Said::Topic(topic(4, "other")), "not-listed"),
        (Said::Topic(topic(4, "plant/recipes")), "not-listed"),
        (Said::Topic(topic(4, "_audit")), "not-listed"),
        (Said::Topic(topic(7, "recipes")), "not-listed"),
        (Said::Topic(topic(6, "recipes")), "other-link"),
        (Said::Topic(topic(own, "recipes")), "ours-topic"),
    ];
    for (said, code) in &cases {
        out.send_frame(&said.encode()).await.unwrap();
        match Answer::decode(&frame(&mut from).await.unwrap()).unwrap() {
            Answer::Refused(refused) => assert_eq!(refused.code, *code, "{said:?} {}", refused.text),
            answer => panic!("{said:?}: {answer:?}"),
        }
    }
    // What it may bring.
    let begin = [offer(90, &[9, 2]), Said::Topic(topic(8, "recipes"))];
    for said in begin.iter().chain(&[parts(90, 8, 0, 70, &["a", "b"])]) {
        out.send_frame(&said.encode()).await.unwrap();
    }
    assert_eq!(Answer::decode(&frame(&mut from).await.unwrap()).unwrap(), Answer::Stored(1));
    // What ends the stream, and what is shown.
    let wrong = [
        (parts(90, 8, 1, 71, &["x"]), "other events"),
        (parts(91, 8, 0, 71, &["x"]), "was not taken"),
        (parts(90, 7, 0, 71, &["x"]), "was not taken"),
        (parts(90, own, 0, 71, &["x"]), "was not taken"),
        (Said::Answered(1, vec![]), "nobody asked"),
        (Said::Ended(vec![]), "nobody asked"),
        (Said::Whose(5, "feeder".to_owned()), "whose"),
    ];
    for (said, words) in wrong {
        for said in begin.iter().chain([&said]) {
            out.send_frame(&said.encode()).await.unwrap();
        }
        until(words, || coming(&plant).refusals.iter().any(|text| text.contains(words))).await;
        // A new stream comes, of the same connection.
        (out, _) = next(&mut streams).await;
    }
    assert_eq!(plant.values("up/recipes"), ["a", "b"]);
    assert_eq!((plant.values("own"), plant.edge().views()[0].state), (vec!["o".to_owned()], State::Connected));
    assert_eq!((plant.values("up/secret"), plant.values("feeder/recipes")), (vec![], vec![]));
    assert!(plant.edge().views()[0].connections <= 3, "what is wrong with a stream cuts no link");
    let audited = plant.values(crate::event_log::AUDIT_TOPIC);
    let of = |words: &str| audited.iter().any(|act| act.contains("link.down") && act.contains(words));
    assert!(of("not listed") && of("other events") && of("link:up"), "{audited:?}");
    assert_eq!(plant.log.store().linked().len(), 2);
    serving.abort();
}

/// A stream of an edge that was let in, that wants these.
async fn wanting(forger: &Forger, patterns: &[&str]) -> (Streams, Vec<String>) {
    let (mut out, mut from) = forger.connection.open().await.unwrap();
    out.send_frame(&Wish { site: 1, rate_bytes_max: 0, dictionary: 0 }.encode()).await.unwrap();
    assert!(matches!(Answer::decode(&frame(&mut from).await.unwrap()), Ok(Answer::Welcome(2, 0))));
    let patterns: Vec<String> = patterns.iter().map(|pattern| (*pattern).to_owned()).collect();
    out.send_frame(&encode_wants(&patterns)).await.unwrap();
    let gives = decode_gives(&frame(&mut from).await.unwrap()).unwrap();
    ((out, from), gives)
}

async fn closed(connection: &SiteConnection) -> (u32, String) {
    match tokio::time::timeout(LONG, connection.ended()).await.unwrap() {
        Ended::Closed { code, text } => (code, text),
        ended => panic!("{ended:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_is_given_what_is_allowed_whatever_it_wants_and_its_word_ends_no_life() {
    let (plant, hq, _) = plant_and_hq().await;
    gives(&hq, &[("plant", &["recipes"]), ("other", &["*", "*/*"])]);
    for topic in ["recipes", "private", "_audit"] {
        hq.append_to(topic, 0, "x").await;
    }
    hq.log.adopt_linked_topic(topic(6, "other/telemetry")).unwrap();
    let linked = Linked { link: 5, hlc: 0, path: vec![9] };
    let of_other = PartitionId { origin: OriginId(50), topic: TopicId(6), index: 0 };
    let batch = LinkedPart::Batch(sound(of_other, 0, 70, &["secret"]).into());
    hq.log.take_linked(OriginId(50), linked, vec![batch]).await.unwrap();
    let forger = Forger::connect(&plant, &hq).await;
    let ((mut out, mut from), gives) = wanting(&forger, &["*", "_*", "*/*"]).await;
    assert_eq!(gives, ["recipes"]);
    let mut said = Vec::new();
    while said.len() < 3 {
        said.push(Said::decode(&frame(&mut from).await.unwrap()).unwrap());
    }
    let own = hq.log.store().origin();
    let recipes = hq.log.topic("recipes").unwrap();
    let id = recipes.partition(0).unwrap().id();
    assert_eq!(said[0], Said::Offer(own, vec![2]));
    assert!(matches!(&said[1], Said::Topic(info) if info.id == recipes.id() && info.name == "recipes"));
    assert_eq!(said[2], Said::Where(vec![id]));
    // It asks for what it was not offered, and says that it has more.
    let stand = |end, hlc| Stand { end, hlc, digest: 1, is_gapless: true };
    let claims = vec![(of_other, stand(0, 0)), (id, stand(9, 9))];
    out.send_frame(&Answer::Stands(claims).encode()).await.unwrap();
    let told = || hq.upstream().views()[0].topics.iter().any(|topics| !topics.refusals.is_empty());
    until("it is told", told).await;
    let quiet = tokio::time::timeout(Duration::from_millis(300), from.receive_frame(FRAME_BYTES_MAX)).await;
    assert!(quiet.is_err(), "nothing is sent: {quiet:?}");
    // It says so again on a new stream: it is known, and written down once.
    let ((mut again, mut from), _) = wanting(&forger, &["*"]).await;
    while !matches!(Said::decode(&frame(&mut from).await.unwrap()).unwrap(), Said::Where(_)) {}
    again.send_frame(&Answer::Stands(vec![(id, stand(9, 9))]).encode()).await.unwrap();
    again.send_frame(&Answer::Refused(Refused::new(own.0, 0, "no", "not now".to_owned())).encode()).await.unwrap();
    let refusals =
        || hq.upstream().views()[0].topics.iter().flat_map(|topics| topics.refusals.clone()).collect::<Vec<_>>();
    until("all was heard", || refusals().iter().any(|text| text == "not now")).await;
    let differs = |all: &[String]| all.iter().filter(|text| text.contains("ends at 9")).count();
    hq.append_to("recipes", 0, "the life goes on").await;
    assert_eq!((differs(&refusals()), differs(&hq.values(crate::event_log::AUDIT_TOPIC))), (1, 1));

    // What ends its connection: what it says, the words
    let ahead = LiesAhead { from: 1, end: 9, first: 1, hlc: 1 };
    let cases = [
        (Answer::Ahead(vec![(id, ahead)]).encode(), "upstream alone"),
        (Answer::Stored(9).encode(), "not sent"),
        (Answer::Asked(1, vec![]).encode(), "upstream alone"),
        (Answer::Known(vec![]).encode(), "upstream alone"),
        (Answer::Due(1).encode(), "upstream alone"),
        (Answer::AllAhead(vec![]).encode(), "upstream alone"),
        (vec![99, 1], "kind is not known"),
    ];
    for (frame, words) in cases {
        let forger = Forger::connect(&plant, &hq).await;
        let ((mut out, _from), _) = wanting(&forger, &["recipes"]).await;
        out.send_frame(&frame).await.unwrap();
        let (code, text) = closed(&forger.connection).await;
        assert!(code == Close::Garbage as u32 && text.contains(words), "{words}: {text}");
    }
    assert!(!hq.log.was_outlived(own).unwrap(), "an edge's word ends no life");
    let first = [
        (vec![15, 9, 1, 0, 1], "version"),
        (Wish { site: 1, rate_bytes_max: 0, dictionary: 0 }.encode()[..3].to_vec(), "body"),
    ];
    for (wish, words) in first {
        let forger = Forger::connect(&plant, &hq).await;
        let (mut out, _from) = forger.connection.open().await.unwrap();
        out.send_frame(&wish).await.unwrap();
        let (code, text) = closed(&forger.connection).await;
        assert!(code == Close::Garbage as u32 && text.contains(words), "{words}: {text}");
    }
    // Before it was let in.
    let (identity, _) = folder::read(&folder::folder(&plant.data(), "up")).unwrap();
    let connection = dial_link(hq.address(), &identity, BOUNDS, None, Way::Quic).await.unwrap();
    let (mut out, _from) = connection.open().await.unwrap();
    out.send_frame(&Wish { site: 1, rate_bytes_max: 0, dictionary: 0 }.encode()).await.unwrap();
    let (code, text) = closed(&connection).await;
    assert!(code == Close::Garbage as u32 && text.contains("before the greeting"), "{text}");
}
