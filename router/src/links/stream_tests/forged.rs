//! An edge that says what cannot be: it is cut off with a reason, and nothing of it is stored.

use std::time::{Duration, Instant};

use sled_data::{LinkedPart, OriginId, StoredBatch, TopicId};
use tokio::time::timeout;

use super::lab::{LONG, Site};
use super::link;
use crate::event_log::rubbish::{rubbish, sound};
use crate::links::folder;
use crate::links::pack::{DICTIONARY, Packer};
use crate::links::upstream::Close;
use crate::links::wire::{Answer, FRAME_BYTES_MAX, Hello, Parts, Said};
use crate::transport::{Bounds, Ended, FrameReceiver, FrameSender, SiteConnection, Way, dial_link};

pub(super) const BOUNDS: Bounds = Bounds {
    two_way_streams_max: 0,
    one_way_streams_max: 0,
    stream_bytes_max: 1 << 20,
    unread_bytes_max: 1 << 20,
    unsent_bytes_max: 1 << 20,
    datagram_bytes_max: 0,
    idle_max: Duration::from_secs(10),
    ping_after: None,
};

/// A connection by a site's certificate, and one stream of it that was greeted.
pub(super) struct Forger {
    pub(super) connection: SiteConnection,
    pub(super) out: FrameSender,
    from: FrameReceiver,
    /// The newest dictionary that upstream says it knows.
    dictionary: u8,
}

impl Forger {
    pub(super) async fn connect(plant: &Site, to: &Site) -> Forger {
        Forger::connect_with(plant, to, hello()).await
    }

    pub(super) async fn connect_with(plant: &Site, to: &Site, hello: Hello) -> Forger {
        let (identity, _) = folder::read(&folder::folder(&plant.data(), "up")).unwrap();
        let connection = dial_link(to.address(), &identity, BOUNDS, None, Way::Quic).await.unwrap();
        let (out, from) = connection.open().await.unwrap();
        let mut forger = Forger { connection, out, from, dictionary: 0 };
        forger.say(&Said::Hello(hello)).await;
        let Answer::Welcome(_, dictionary) = forger.hear().await else { panic!("no welcome") };
        forger.dictionary = dictionary;
        forger
    }

    pub(super) async fn say(&mut self, said: &Said) {
        self.send(&said.encode()).await;
    }

    async fn send(&mut self, frame: &[u8]) {
        self.out.send_frame(frame).await.unwrap();
    }

    pub(super) async fn hear(&mut self) -> Answer {
        let frame = tokio::time::timeout(LONG, self.from.receive_frame(FRAME_BYTES_MAX)).await.unwrap();
        Answer::decode(&frame.unwrap().unwrap()).unwrap()
    }

    /// Offers an origin and the topic, and hears where its partition ends.
    pub(super) async fn offer(&mut self, plant: &Site, origin: OriginId) {
        self.say(&Said::Offer(origin, vec![1])).await;
        self.say(&Said::Topic(plant.log.topic("telemetry").unwrap().info().clone())).await;
    }

    pub(super) async fn closed(self) -> (u32, String) {
        match tokio::time::timeout(LONG, self.connection.ended()).await.unwrap() {
            Ended::Closed { code, text } => (code, text),
            ended => panic!("{ended:?}"),
        }
    }
}

/// A plant whose link is paused, with three batches of one partition.
pub(super) async fn plant_and_hq() -> (Site, Site, Vec<StoredBatch>) {
    let (plant, hq) = (Site::new(1).await, Site::new(2).await);
    plant.feed(&hq, "plant", vec![link(&["*"], &[])]).await;
    plant.stop_edge().await;
    for n in 0..3 {
        plant.append_to("telemetry", 0, &format!("{n}")).await;
    }
    let partition = plant.log.topic("telemetry").unwrap().partition(0).unwrap().id();
    let batches = plant.log.store().read(partition, 0, usize::MAX).unwrap();
    assert_eq!(batches.len(), 3);
    (plant, hq, batches)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_forged_reordered_or_damaged_is_cut_off() {
    let (plant, hq, batches) = plant_and_hq().await;
    let origin = plant.log.store().origin();
    let parts = |number, origin, batches: &[StoredBatch]| {
        Said::Parts(Parts { number, origin, parts: batches.iter().cloned().map(LinkedPart::Batch).collect() }).encode()
    };
    let damaged = {
        let mut frame = parts(1, origin, &batches[..1]);
        let last = frame.len() - 1;
        frame[last] ^= 1;
        frame
    };
    let cut = parts(1, origin, &batches)[..200].to_vec();
    // What is sent, the code with which it is closed, what the words hold
    let cases = [
        ("another origin's batch", parts(1, OriginId(99), &batches[..1]), Close::Garbage, "does not belong"),
        ("an origin that was not offered", parts(1, OriginId(98), &batches[..1]), Close::Garbage, "was not taken"),
        ("a batch too far on", parts(1, origin, &batches[1..]), Close::Again, "ends at 0"),
        ("out of order", parts(1, origin, &[batches[0].clone(), batches[2].clone()]), Close::Again, "ends at 1"),
        ("a flipped byte", damaged, Close::Garbage, "damaged"),
        ("cut short", cut, Close::Garbage, "ends early"),
        ("no frame", vec![77, 1, 2], Close::Garbage, "kind is not known"),
        ("a second greeting", Said::Hello(hello()).encode(), Close::Garbage, "second greeting"),
    ];
    for (case, frame, code, words) in cases {
        let mut forger = Forger::connect(&plant, &hq).await;
        forger.offer(&plant, origin).await;
        forger.offer(&plant, OriginId(99)).await;
        forger.send(&frame).await;
        let (closed, text) = forger.closed().await;
        assert_eq!(closed, code as u32, "{case}: {text}");
        assert!(text.contains(words), "{case}: {text}");
        assert_eq!(hq.values("plant/telemetry"), Vec::<String>::new(), "{case}: nothing of it is stored");
    }
    let id = batches[0].envelope().partition;
    let rubbish = rubbish(sound(id, 0, 9, &["a", "b"]));
    let mut forger = Forger::connect(&plant, &hq).await;
    forger.offer(&plant, origin).await;
    forger.send(&parts(1, origin, &[rubbish])).await;
    let (closed, text) = forger.closed().await;
    assert_eq!(closed, Close::Garbage as u32, "{text}");
    assert!(text.contains("cannot be read"), "checksums that fit say little: {text}");
    // The same batches as they should come.
    let mut honest = Forger::connect(&plant, &hq).await;
    honest.offer(&plant, origin).await;
    honest.send(&parts(7, origin, &batches)).await;
    assert_eq!(honest.hear().await, Answer::Stored(7));
    assert_eq!(hq.values("plant/telemetry"), ["0", "1", "2"]);
    // The upstream site's own origin, and one that is taken from it.
    honest.say(&Said::Offer(hq.log.store().origin(), vec![1])).await;
    assert!(matches!(honest.hear().await, Answer::Refused(refused) if refused.code == "ours"));
    honest.say(&Said::Offer(OriginId(5), vec![1, 2])).await;
    assert!(matches!(honest.hear().await, Answer::Refused(refused) if refused.code == "loop"));
    honest.say(&Said::Where(vec![sled_data::PartitionId { origin, topic: TopicId(4), index: 0 }])).await;
    assert_eq!(honest.hear().await, Answer::Stands(vec![]), "nothing is said of what was not offered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_writes_to_no_topic_of_another_one() {
    let (plant, hq, _) = plant_and_hq().await;
    let mine = Site::new(3).await;
    mine.feed(&hq, "mine", vec![link(&["*"], &[])]).await;
    mine.append(&["secret"], "mine").await;
    hq.until_fed_by(&mine, &[("secret", "mine/secret")]).await;
    let topic = mine.log.topic("secret").unwrap();
    let mut forger = Forger::connect(&plant, &hq).await;
    forger.say(&Said::Offer(OriginId(77), vec![1])).await;
    forger.say(&Said::Topic(topic.info().clone())).await;
    assert!(matches!(forger.hear().await, Answer::Refused(refused) if refused.code == "other-link"));
    let id = sled_data::PartitionId { origin: OriginId(77), topic: topic.id(), index: 0 };
    let parts = vec![LinkedPart::Batch(sound(id, 0, 9, &["forged"]).into())];
    forger.say(&Said::Parts(Parts { number: 1, origin: OriginId(77), parts })).await;
    let (closed, text) = forger.closed().await;
    assert_eq!(closed, Close::Garbage as u32, "{text}");
    assert_eq!(hq.values("mine/secret"), ["mine"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_packed_and_not_the_same_there_comes_as_it_is_stored() {
    let (plant, hq, batches) = plant_and_hq().await;
    let origin = plant.log.store().origin();
    let parts = Parts { number: 1, origin, parts: batches.into_iter().map(LinkedPart::Batch).collect() };
    let mut forger = Forger::connect(&plant, &hq).await;
    assert_eq!(forger.dictionary, DICTIONARY);
    forger.offer(&plant, origin).await;
    let packed = Packer::new(None).unwrap().pack(&parts, b"what another compressor would give").unwrap();
    forger.send(&packed).await;
    let (code, text) = forger.closed().await;
    assert_eq!(code, Close::Again as u32, "{text}");
    assert!(text.contains("as they are stored"), "{text}");
    assert_eq!(hq.values("plant/telemetry"), Vec::<String>::new(), "nothing of it is stored");
    let mut plain = Forger::connect(&plant, &hq).await;
    assert_eq!(plain.dictionary, 0);
    plain.offer(&plant, origin).await;
    plain.say(&Said::Parts(parts)).await;
    assert_eq!(plain.hear().await, Answer::Stored(1));
    assert_eq!(hq.values("plant/telemetry"), ["0", "1", "2"]);
}

pub(super) fn hello() -> Hello {
    Hello { protocol: 1, program: "0".to_owned(), site: 1, name: "f".to_owned(), priority: 1, is_first: true }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_of_another_site_opens_nothing() {
    let (plant, _hq, _) = plant_and_hq().await;
    let other = Site::new(3).await;
    let (identity, _) = folder::read(&folder::folder(&plant.data(), "up")).unwrap();
    // It looks for the site that gave it its certificate.
    let error = dial_link(other.address(), &identity, BOUNDS, None, Way::Quic).await.unwrap_err().to_string();
    assert!(error.contains("another site"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_takes_long_with_a_large_frame_yields_to_who_waits() {
    let hq = Site::new(9).await;
    let mut plants = Vec::new();
    for number in 1..=5 {
        let plant = Site::new(number).await;
        plant.feed(&hq, &format!("plant-{number}"), vec![link(&["*"], &[])]).await;
        plant.stop_edge().await;
        plants.push(plant);
    }
    let last = plants.pop().unwrap();
    let mut slow = Vec::new();
    for plant in &plants {
        let mut forger = Forger::connect(plant, &hq).await;
        // All that they say is how long it will be. They have all the room of large frames.
        forger.out.send_head(&(FRAME_BYTES_MAX as u32).to_le_bytes()).await.unwrap();
        slow.push(forger);
    }
    let begun = Instant::now();
    loop {
        let mut last = Forger::connect(&last, &hq).await;
        // Its turn comes, and what it says can be read: it is nothing.
        last.send(&vec![0xee; 1 << 20]).await;
        assert_eq!(last.closed().await.0, Close::Garbage as u32);
        // It may have come before the others had their room.
        for slow in &slow {
            let ended = timeout(Duration::from_millis(200), slow.connection.ended()).await;
            if matches!(ended, Ok(Ended::Closed { code, .. }) if code == Close::Again as u32) {
                return;
            }
        }
        assert!(begun.elapsed() < LONG, "one of them at least yields");
    }
}
