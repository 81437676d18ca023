//! What does not fit comes over and over, of an edge whose program judges less than this one: it is settled, and all else goes on.

use sled_data::{Faults, Hole, HoleWhy, LinkedPart, Offset, PartitionId};

use super::forged::{Forger, hello, plant_and_hq};
use super::lab::{Site, until};
use crate::event_log::rubbish::sound;
use crate::links::PROTOCOL_AHEAD;
use crate::links::upstream::Close;
use crate::links::wire::{ANOTHER_LOG, Answer, Hello, Parts, Refused, Said};

/// One that knows one part ahead, and judges none of it.
async fn connect(plant: &Site, hq: &Site) -> Forger {
    let mut forger = greet(plant, hq).await;
    forger.offer(plant, plant.log.store().origin()).await;
    forger
}

/// The same before it has offered anything.
async fn greet(plant: &Site, hq: &Site) -> Forger {
    Forger::connect_with(plant, hq, Hello { protocol: PROTOCOL_AHEAD, is_first: false, ..hello() }).await
}

fn batch(id: PartitionId, base: Offset, hlc: u64, values: &[&str]) -> LinkedPart {
    LinkedPart::Batch(sound(id, base, hlc, values).into())
}

fn parts(id: PartitionId, parts: &[LinkedPart]) -> Said {
    Said::Parts(Parts { number: 1, origin: id.origin, parts: parts.to_vec() })
}

/// Asks where partitions end; what was refused, and the ends.
async fn ask(forger: &mut Forger, ids: &[PartitionId]) -> (Vec<Refused>, Vec<(PartitionId, Offset)>) {
    forger.say(&Said::Where(ids.to_vec())).await;
    let mut refused = Vec::new();
    loop {
        match forger.hear().await {
            Answer::Refused(one) => refused.push(one),
            Answer::Ahead(_) => {}
            Answer::Stands(stands) => return (refused, stands.iter().map(|(id, stand)| (*id, stand.end)).collect()),
            other => panic!("{other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_to_a_part_ahead_of_another_log_is_refused_a_few_times() {
    let (plant, hq, batches) = plant_and_hq().await;
    let id = batches[0].envelope().partition;
    let beside = PartitionId { index: 1, ..id };
    let mut forger = connect(&plant, &hq).await;
    let later = LinkedPart::Hole(id, Hole { from: 2, to: 8, why: HoleWhy::Later, at_ms: 0 });
    forger.say(&parts(id, &[batch(id, 0, 10, &["0", "1"]), later, batch(id, 8, 20, &["8"])])).await;
    assert_eq!(forger.hear().await, Answer::Stored(1));
    // The store was set back, and went on apart: what was missed is newer than what lies behind it.
    let apart = [
        batch(id, 2, 11, &["2", "3"]),
        batch(beside, 0, 29, &["beside"]),
        batch(id, 4, 30, &["4", "5", "6", "7"]),
        batch(id, 8, 31, &["other"]),
    ];
    for n in 0..3 {
        let mut forger = connect(&plant, &hq).await;
        assert_eq!(ask(&mut forger, &[id]).await, (vec![], vec![(id, 2)]), "{n}");
        forger.say(&parts(id, &apart)).await;
        let (code, text) = forger.closed().await;
        assert_eq!(code, Close::Again as u32, "{n}: {text}");
    }
    // What fits was taken, and the rest is a gap.
    let mut forger = connect(&plant, &hq).await;
    let (refused, ends) = ask(&mut forger, &[id, beside]).await;
    assert_eq!(ends, [(id, 9), (beside, 1)]);
    let kept = hq.log.store().read_back(id, Offset::MAX, usize::MAX).unwrap();
    assert_eq!(kept.iter().map(|batch| batch.base_offset()).collect::<Vec<_>>(), [8, 2, 0]);
    let [Refused { origin: 0, topic: 0, code, text }] = refused.as_slice() else { panic!("{refused:?}") };
    assert!(code == ANOTHER_LOG && text.contains("upgrade"), "{text}");
    let view = hq.upstream().views().remove(0);
    let gaps: Vec<_> = view.gaps.iter().map(|gap| (gap.partition, gap.from, gap.to, gap.why)).collect();
    assert_eq!((gaps, view.later_events), (vec![(id, 4, 8, "damage")], 0));
    assert!(view.refusals.contains(text), "{:?}", view.refusals);
    // All goes on.
    forger.say(&parts(id, &[batch(id, 9, 32, &["9"]), batch(beside, 1, 33, &["more"])])).await;
    assert_eq!(forger.hear().await, Answer::Stored(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_never_fits_is_left_out_and_the_rest_of_its_topic_comes() {
    let (plant, hq, batches) = plant_and_hq().await;
    let id = batches[0].envelope().partition;
    let beside = PartitionId { index: 1, ..id };
    for n in 0..3 {
        let mut forger = connect(&plant, &hq).await;
        assert_eq!(ask(&mut forger, &[id]).await, (vec![], vec![(id, 0)]), "{n}");
        forger.say(&parts(id, &[batch(id, 4, 30, &["4"])])).await;
        assert_eq!(forger.closed().await.0, Close::Again as u32, "{n}");
    }
    let mut forger = connect(&plant, &hq).await;
    let (refused, ends) = ask(&mut forger, &[id, beside]).await;
    assert_eq!(ends, [(beside, 0)]);
    let [Refused { origin: 0, topic, code, text }] = refused.as_slice() else { panic!("{refused:?}") };
    assert_eq!(
        (*topic, code.as_str()),
        (id.topic.0, ANOTHER_LOG),
        "an older edge asks for the topic again after a minute"
    );
    assert!(hq.upstream().views().remove(0).refusals.contains(text), "{text}");
    forger.say(&parts(id, &[batch(beside, 0, 9, &["beside"])])).await;
    assert_eq!(forger.hear().await, Answer::Stored(1));
    // It comes by another way.
    forger.say(&parts(id, &[batch(id, 0, 9, &["0"])])).await;
    assert_eq!(forger.hear().await, Answer::Stored(1));
    assert_eq!(ask(&mut forger, &[id]).await, (vec![], vec![(id, 1)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_waits_for_room_as_its_events_do() {
    let (plant, hq, batches) = plant_and_hq().await;
    let id = batches[0].envelope().partition;
    let mut forger = greet(&plant, &hq).await;
    hq.backend().set_faults(Faults { free_bytes: Some(0), ..Faults::default() });
    let looks = hq.backend().looks();
    forger.offer(&plant, id.origin).await;
    until("it is seen that there is no room", || hq.backend().looks() > looks).await;
    assert_eq!(hq.linked_topics(), Vec::<String>::new());
    hq.backend().set_faults(Faults::default());
    // One that was refused would be so for as long as the connection stands.
    assert_eq!(ask(&mut forger, &[id]).await, (vec![], vec![(id, 0)]));
    assert_eq!(hq.linked_topics(), ["plant/telemetry"]);
}
