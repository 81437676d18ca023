//! What an edge is told of what lies ahead, by what it knows of that, and whether that is there still.

use std::collections::BTreeMap;

use parking_lot::Mutex;
use sled_data::{PartitionId, Store};

use super::later::LiesAhead;
use super::wire::Answer;
use super::{PROTOCOL_AHEAD, PROTOCOL_ALL_AHEAD};

/// What the other side knows of what lies ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnowsAhead {
    /// Nothing: an open hole it would take for a gap.
    Nothing,
    /// One part of a partition. Of several it is told the last: what is live goes on behind that, and what it sends again of the others is here.
    One,
    /// All parts.
    All,
}

impl KnowsAhead {
    /// What an edge knows by the protocol that it speaks.
    pub(super) fn of(protocol: u8) -> Self {
        match protocol {
            PROTOCOL_ALL_AHEAD.. => Self::All,
            PROTOCOL_AHEAD.. => Self::One,
            _ => Self::Nothing,
        }
    }

    /// What it is told before where partitions end.
    pub(super) fn tells(self, aheads: Vec<(PartitionId, Vec<LiesAhead>)>) -> Option<Answer> {
        match self {
            Self::Nothing => None,
            Self::One => {
                let last = |(id, parts): (PartitionId, Vec<LiesAhead>)| Some((id, *parts.last()?));
                Some(Answer::Ahead(aheads.into_iter().filter_map(last).collect()))
            }
            Self::All => Some(Answer::AllAhead(aheads)),
        }
    }
}

/// How often parts ahead had been dropped of the partitions that a connection asks for, or what was to come before them given up, when it asked for them
/// first. Its edge counts what lies ahead as stored when all before it is, and sends all before it: where that has changed since, it is to begin anew before
/// it is told that anything more is stored.
#[derive(Debug, Default)]
pub struct Drops(Mutex<BTreeMap<PartitionId, u64>>);

impl Drops {
    /// Notes how it is, before what lies ahead is told.
    pub(super) fn note(&self, store: &Store, id: PartitionId) {
        self.0.lock().entry(id).or_insert_with(|| store.dropped_ahead(id));
    }

    /// One of these partitions of which parts were dropped, or holes given up, since it was noted.
    pub(super) fn changed<'a>(
        &self,
        store: &Store,
        mut ids: impl Iterator<Item = &'a PartitionId>,
    ) -> Option<PartitionId> {
        let noted = self.0.lock();
        ids.find(|id| noted.get(*id).is_some_and(|known| *known != store.dropped_ahead(**id))).copied()
    }
}

#[cfg(test)]
mod tests {
    use sled_data::{Hole, HoleWhy, LinkedPart};

    use super::*;

    #[test]
    fn an_older_edge_is_told_the_last_part_or_none() {
        let id = |topic| PartitionId { origin: sled_data::OriginId(1), topic: sled_data::TopicId(topic), index: 0 };
        let part = |from| LiesAhead { from, end: from + 2, first: 5, hlc: 6 };
        let aheads = vec![(id(1), vec![part(4)]), (id(2), vec![part(4), part(9), part(20)])];
        let cases = [
            (1, None),
            (2, None),
            (3, Some(Answer::Ahead(vec![(id(1), part(4)), (id(2), part(20))]))),
            (4, Some(Answer::AllAhead(aheads.clone()))),
            (5, Some(Answer::AllAhead(aheads.clone()))),
        ];
        for (protocol, expected) in cases {
            assert_eq!(KnowsAhead::of(protocol).tells(aheads.clone()), expected, "{protocol}");
        }
    }

    #[test]
    fn a_connection_sees_what_was_dropped_since_it_asked_first() {
        let options = sled_data::Options { seed: Some(1), ..sled_data::Options::default() };
        let (store, _) = Store::on(std::sync::Arc::new(sled_data::MemoryBackend::new()), options).unwrap();
        let id = |topic| PartitionId { origin: sled_data::OriginId(50), topic: sled_data::TopicId(topic), index: 0 };
        let linked = sled_data::Linked { link: 5, hlc: 0, path: vec![1] };
        let hole = |from, to, why| LinkedPart::Hole(id(1), Hole { from, to, why, at_ms: 0 });
        let drop_one = || {
            let end = store.end_offset(id(1));
            store.take_linked(id(1).origin, &linked, &[hole(end, end + 9, HoleWhy::Later)]).unwrap();
            store.take_linked_in_order(id(1).origin, &linked, &[hole(end, end + 9, HoleWhy::Retention)], 0).unwrap();
        };
        drop_one();
        let drops = Drops::default();
        [id(1), id(2)].iter().for_each(|id| drops.note(&store, *id));
        let changed = || drops.changed(&store, [id(2), id(1), id(3)].iter());
        assert_eq!(changed(), None);
        drop_one();
        assert_eq!(changed(), Some(id(1)));
        // Another stream of the connection asks.
        drops.note(&store, id(1));
        assert_eq!(changed(), Some(id(1)));
        // What was to come before a part is given up, by itself, and as there are too many holes.
        let open_hole = |behind: Vec<LinkedPart>| {
            let end = store.end_offset(id(1));
            let parts: Vec<_> = [hole(end, end + 9, HoleWhy::Later)].into_iter().chain(behind).collect();
            store.take_linked(id(1).origin, &linked, &parts).unwrap();
        };
        let why = |at| if at % 2 == 0 { HoleWhy::Retention } else { HoleWhy::Damage };
        let many = || {
            let from = store.end_offset(id(1)) + 9;
            (from..from + sled_data::HOLES_MAX as u64 + 2).map(|at| hole(at, at + 1, why(at))).collect()
        };
        let ways: [(&str, &dyn Fn()); 2] = [
            ("by itself", &|| {
                open_hole(Vec::new());
                assert!(store.close_ahead(id(1), HoleWhy::Retention, 0).unwrap());
            }),
            ("too many holes", &|| open_hole(many())),
        ];
        for (case, give_up) in ways {
            let drops = Drops::default();
            drops.note(&store, id(1));
            give_up();
            assert_eq!(store.ahead(id(1)), None, "{case}");
            assert_eq!(drops.changed(&store, [id(1)].iter()), Some(id(1)), "{case}");
        }
    }
}
