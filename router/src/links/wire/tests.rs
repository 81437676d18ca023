//! What is said on a link, byte for byte.

use sled_data::{Hole, HoleWhy, LinkedPart};

use super::*;

fn id() -> PartitionId {
    partition((300, 2, 3))
}

#[test]
fn what_the_edge_says_has_these_bytes() {
    let hello = Hello { protocol: 1, program: "0.1".into(), site: 300, name: "n".into(), priority: 2, is_first: true };
    let config = TopicConfig { partitions: 4, ..TopicConfig::default() };
    let topic = TopicInfo { id: TopicId(1), name: "t".into(), config };
    let hole = Hole { from: 4, to: 300, why: HoleWhy::Damage, at_ms: 0 };
    let parts = Parts { number: 7, origin: OriginId(300), parts: vec![LinkedPart::Hole(id(), hole)] };
    let head = [5, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0, 1, 0x2c];
    let cases = [
        (Said::Hello(hello), vec![1, 1, 3, b'0', b'.', b'1', 0xac, 2, 1, b'n', 2, 1]),
        (Said::Offer(OriginId(300), vec![1, 2]), vec![2, 0xac, 2, 2, 1, 2]),
        (Said::Topic(topic), vec![3, 1, 1, b't', 4, 1]),
        (Said::Where(vec![id()]), vec![4, 1, 0xac, 2, 2, 3]),
        (Said::Parts(parts), [&head[..], &[1, 0, 0, 0, 6, 2, 3, 4, 0xac, 2, 1]].concat()),
        (Said::Behind(Behind { events: 1, bytes: 2, ms: 300 }), vec![6, 1, 2, 0xac, 2]),
        (Said::Answered(300, vec![7]), vec![8, 0xac, 2, 1, 7]),
        (Said::Ended(vec![7, 8]), vec![9, 2, 7, 8]),
        (Said::Renew(vec![4, 5]), vec![30, 2, 4, 5]),
    ];
    for (said, bytes) in cases {
        assert_eq!(said.encode(), bytes);
        assert_eq!(Said::decode(&bytes), Ok(said));
        assert!(Said::decode(&[&bytes[..], &[0]].concat()).is_err(), "a byte too many");
        for end in 0..bytes.len() {
            // A frame of parts may end after any of them.
            assert!(end == head.len() || Said::decode(&bytes[..end]).is_err(), "{bytes:?} cut at {end}");
        }
    }
    for wrong in [&[][..], &[10], &[16, 1], &[3, 1, 1, b't', 4, 9]] {
        assert!(Said::decode(wrong).is_err(), "{wrong:?}");
    }
    assert!(Said::decode(&Said::Offer(OriginId(1), vec![1; 18]).encode()).is_err());
}

#[test]
fn what_upstream_says_has_these_bytes() {
    let stand = Stand { end: 5, hlc: 6, digest: 300, is_gapless: true };
    let cases = [
        (Answer::Welcome(300, 1), vec![16, 0xac, 2, 1]),
        (Answer::Stands(vec![(id(), stand)]), vec![17, 1, 0xac, 2, 2, 3, 5, 6, 0xac, 2, 1]),
        (
            Answer::Ahead(vec![(id(), LiesAhead { from: 9, end: 300, first: 5, hlc: 6 })]),
            vec![22, 1, 0xac, 2, 2, 3, 9, 0xac, 2, 5, 6],
        ),
        (
            Answer::AllAhead(vec![(
                id(),
                vec![
                    LiesAhead { from: 9, end: 9, first: 5, hlc: 6 },
                    LiesAhead { from: 10, end: 300, first: 7, hlc: 8 },
                ],
            )]),
            vec![23, 1, 0xac, 2, 2, 3, 2, 9, 9, 5, 6, 10, 0xac, 2, 7, 8],
        ),
        (Answer::Stored(300), vec![18, 0xac, 2]),
        (Answer::Refused(Refused::new(1, 2, "loop", "no")), vec![19, 1, 2, 4, b'l', b'o', b'o', b'p', 2, b'n', b'o']),
        (Answer::Asked(300, vec![7]), vec![20, 0xac, 2, 1, 7]),
        (Answer::Known(vec![7, 8]), vec![21, 2, 7, 8]),
        (Answer::Due(300), vec![40, 0xac, 2]),
        (Answer::Renewed("C".into(), 300), vec![41, 1, b'C', 0xac, 2]),
    ];
    for (said, bytes) in cases {
        assert_eq!(said.encode(), bytes);
        assert_eq!(Answer::decode(&bytes), Ok(said));
        assert!(Answer::decode(&[&bytes[..], &[0]].concat()).is_err(), "a byte too many");
    }
    assert!(Answer::decode(&[22, 1, 0xac, 2, 2, 3, 9, 8, 5, 6]).is_err(), "it ends before it begins");
    let long = Answer::Refused(Refused::new(1, 2, "loop", "é".repeat(TEXT_BYTES_MAX)));
    assert_eq!(Answer::decode(&long.encode()), Ok(long));
}
