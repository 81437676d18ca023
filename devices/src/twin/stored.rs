//! A twin as a node stores it, and how the twins of several nodes become one: pure.
//!
//! Of each half the newest (clock, origin) counts, all of it. A deletion ends what is older. What nodes know of a twin is
//! put together by maxima alone, so that the order in which it arrives, and how often, makes no difference.

use serde::{Deserialize, Serialize};

use super::record::{Half, Side, Twin};
use crate::stamp::Stamp;

/// The version byte before a stored twin with its marks.
const VERSION: u8 = 2;

/// When a half was changed, and what its version counts from.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HalfMark {
    /// When and where it was changed last.
    pub stamp: Stamp,
    /// The deletion after which its versions began with 1.
    pub epoch: Stamp,
    /// The highest version since then that any node gave it, so that versions only rise: a device takes a lower one
    /// for the past.
    pub version: u64,
}

/// What says which of several nodes' twins of a device counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks {
    /// Of the desired half.
    pub desired: HalfMark,
    /// Of the reported half.
    pub reported: HalfMark,
    /// When the twin was deleted last; the default: never.
    pub deleted: Stamp,
}

impl Marks {
    /// A half's.
    pub fn half(&self, half: Half) -> &HalfMark {
        match half {
            Half::Desired => &self.desired,
            Half::Reported => &self.reported,
        }
    }

    /// The newest of all.
    pub fn newest(&self) -> Stamp {
        self.desired.stamp.max(self.reported.stamp).max(self.deleted)
    }

    fn ends(&self, half: &HalfMark) -> bool {
        self.deleted > Stamp::default() && half.stamp <= self.deleted
    }
}

/// A twin with its marks; one that was deleted has empty halves of version 0.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StoredTwin {
    /// The twin.
    pub twin: Twin,
    /// What says which node's counts.
    pub marks: Marks,
}

/// Version 2 of a stored twin. Frozen.
#[derive(Serialize, Deserialize)]
struct RecordV2 {
    desired: Side,
    reported: Side,
    marks: Marks,
}

impl StoredTwin {
    /// Whether there is a twin: it was not deleted since it was changed.
    pub fn is_there(&self) -> bool {
        self.twin.desired.version > 0 || self.twin.reported.version > 0
    }

    /// After one half was changed by the node that decides, to what `twin` says, at `moment`. It is newer than what it replaces, and no newer for
    /// what is known of the other half: of a change of long ago another node may have a later one.
    #[must_use]
    pub fn changed(&self, twin: Twin, half: Half, moment: Stamp) -> Self {
        let mut marks = self.marks;
        let stamp = moment.after(marks.half(half).stamp.max(marks.deleted));
        let version = twin.half(half).version;
        let mark = match half {
            Half::Desired => &mut marks.desired,
            Half::Reported => &mut marks.reported,
        };
        // Its first version begins a count: that of the twin since its last deletion.
        let epoch = if version == 1 { self.marks.deleted } else { mark.epoch };
        *mark = HalfMark { stamp, epoch, version };
        Self { twin, marks }
    }

    /// After the node that decides has deleted it, at `moment`.
    #[must_use]
    pub fn deleted(&self, moment: Stamp) -> Self {
        let mut marks = self.marks;
        marks.deleted = moment.after(marks.newest());
        Self { twin: Twin::default(), marks }
    }

    /// What comes of what two nodes know.
    #[must_use]
    pub fn merge(&self, other: &Self) -> Self {
        let [desired, reported] = [Half::Desired, Half::Reported].map(|half| merge_half(half, self, other));
        let deleted = self.marks.deleted.max(other.marks.deleted);
        let marks = Marks { desired: desired.1, reported: reported.1, deleted };
        let live = |(side, mark): (&Side, HalfMark)| match marks.ends(&mark) {
            true => Side::default(),
            false => Side { version: mark.version, ..side.clone() },
        };
        Self { twin: Twin { desired: live(desired), reported: live(reported) }, marks }
    }

    /// As it is stored: a version byte, then postcard.
    pub fn encode(&self) -> Vec<u8> {
        let Self { twin: Twin { desired, reported }, marks } = self.clone();
        postcard::to_extend(&RecordV2 { desired, reported, marks }, vec![VERSION]).unwrap_or_default()
    }

    /// Reads a stored twin, of version 1 as older than all; `None` where its version or bytes are not known.
    pub fn decode(value: &[u8]) -> Option<Self> {
        match value.split_first()? {
            (&VERSION, body) => {
                let RecordV2 { desired, reported, marks } = postcard::from_bytes(body).ok()?;
                Some(Self { twin: Twin { desired, reported }, marks })
            }
            _ => {
                let twin = Twin::decode(value)?;
                let mut marks = Marks::default();
                (marks.desired.version, marks.reported.version) = (twin.desired.version, twin.reported.version);
                Some(Self { twin, marks })
            }
        }
    }
}

fn merge_half<'a>(half: Half, one: &'a StoredTwin, other: &'a StoredTwin) -> (&'a Side, HalfMark) {
    let place = |stored: &'a StoredTwin| (stored.marks.half(half), stored.twin.half(half));
    let (a, b) = (place(one), place(other));
    // What comes after the stamp decides only between twins of the first version, which have none.
    let order = |(mark, side): &(&HalfMark, &'a Side)| (mark.stamp, side.version, &side.json, side.at_ms, &side.by);
    let newest = if order(&a) >= order(&b) { a } else { b };
    let (epoch, version) = (a.0.epoch, a.0.version).max((b.0.epoch, b.0.version));
    (newest.1, HalfMark { stamp: newest.0.stamp, epoch, version })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::change::Act;
    use super::super::document::Document;
    use super::*;

    fn moment(clock: u64, origin: u64) -> Stamp {
        Stamp { clock, origin }
    }

    fn set(stored: &StoredTwin, half: Half, json: &str, at: Stamp) -> StoredTwin {
        let patch = Document::parse(json.as_bytes()).unwrap();
        let (twin, version) = stored.twin.after(&Act::Patched { half, version: 0, patch }, None, 1, "x").unwrap();
        version.map_or_else(|| stored.clone(), |_| stored.changed(twin, half, at))
    }

    #[test]
    fn a_stored_twin_has_these_bytes() {
        let stored = set(&StoredTwin::default(), Half::Desired, r#"{"a":1}"#, moment(5, 9)).deleted(moment(6, 9));
        let stored = set(&stored, Half::Reported, "{}", moment(7, 8));
        let golden =
            b"\x02\x00\x00\x00\x02{}\x01\x01\x01x\x02{}\x05\x09\x00\x00\x01\x07\x08\x06\x09\x01\x06\x09".to_vec();
        assert_eq!(stored.encode(), golden);
        assert_eq!(StoredTwin::decode(&golden), Some(stored.clone()));
        let version_1 = stored.twin.encode();
        let older = StoredTwin::decode(&version_1).unwrap();
        assert_eq!((&older.twin, older.marks.newest()), (&stored.twin, Stamp::default()));
        assert_eq!(StoredTwin::decode(&[3]), None);
    }

    #[test]
    fn the_newest_half_counts_and_versions_only_rise() {
        let base = set(&StoredTwin::default(), Half::Desired, r#"{"a":1}"#, moment(1, 1));
        let a = set(&set(&base, Half::Desired, r#"{"a":2}"#, moment(2, 1)), Half::Desired, r#"{"a":3}"#, moment(3, 1));
        let b = set(&base, Half::Desired, r#"{"b":1}"#, moment(4, 2));
        let b = set(&b, Half::Reported, r#"{"r":1}"#, moment(5, 2));
        let merged = a.merge(&b);
        assert_eq!((merged.twin.desired.json.as_str(), merged.twin.desired.version), (r#"{"a":1,"b":1}"#, 3));
        assert_eq!(merged.twin.reported, b.twin.reported);
        assert_eq!(merged, b.merge(&a));
    }

    #[test]
    fn a_deletion_ends_what_is_older_and_not_what_is_newer() {
        let base = set(&StoredTwin::default(), Half::Desired, r#"{"a":1}"#, moment(1, 1));
        let deleted = base.deleted(moment(5, 1));
        let older = set(&base, Half::Desired, r#"{"a":2}"#, moment(4, 2));
        assert!(!deleted.merge(&older).is_there());
        let newer = set(&base, Half::Reported, r#"{"r":2}"#, moment(6, 2));
        let merged = newer.merge(&deleted);
        assert_eq!((merged.twin.desired.version, merged.twin.reported.version), (0, 1));
        // It begins with version 1 again, also for who has seen higher ones.
        let anew = set(&deleted, Half::Desired, r#"{"n":1}"#, moment(7, 1));
        assert_eq!(anew.twin.desired.version, 1);
        assert_eq!(anew.merge(&older).twin.desired.version, 1);
    }

    /// What one node does, knowing what it has heard so far.
    #[derive(Clone, Debug)]
    enum Step {
        Set(Half, u8),
        Delete,
        Hear(prop::sample::Index),
    }

    fn step() -> impl Strategy<Value = Step> {
        let half = prop_oneof![Just(Half::Desired), Just(Half::Reported)];
        prop_oneof![
            4 => (half, 0u8..4).prop_map(|(half, value)| Step::Set(half, value)),
            1 => Just(Step::Delete),
            3 => any::<prop::sample::Index>().prop_map(Step::Hear),
        ]
    }

    proptest! {
        /// Nodes change a twin apart, hearing of each other now and then: all records in any order give the same twin.
        #[test]
        fn any_order_of_arrival_gives_the_same_twin(
            steps in prop::collection::vec((0usize..3, 0u64..30, step()), 1..25),
            order in prop::collection::vec(any::<prop::sample::Index>(), 0..30),
        ) {
            let mut nodes = vec![StoredTwin::default(); 3];
            let mut records: Vec<StoredTwin> = Vec::new();
            for (node, clock, step) in steps {
                let at = moment(clock + 1, node as u64 + 1);
                let known = nodes[node].clone();
                nodes[node] = match step {
                    Step::Set(half, value) => set(&known, half, &format!("{{\"k{}\":{value}}}", value % 2), at),
                    Step::Delete => known.deleted(at),
                    Step::Hear(which) if !records.is_empty() => known.merge(which.get(&records)),
                    Step::Hear(_) => continue,
                };
                records.push(nodes[node].clone());
            }
            prop_assume!(!records.is_empty());
            let all = |records: &mut dyn Iterator<Item = &StoredTwin>| {
                records.fold(StoredTwin::default(), |twin, record| twin.merge(record))
            };
            let expected = all(&mut records.iter());
            prop_assert_eq!(&all(&mut records.iter().rev()), &expected);
            let some = order.iter().map(|at| at.get(&records));
            prop_assert_eq!(&all(&mut some.chain(&records)), &expected);
            prop_assert_eq!(&expected.merge(&expected), &expected);
            let halves = records.len() / 2;
            let (first, second) = (all(&mut records[..halves].iter()), all(&mut records[halves..].iter()));
            prop_assert_eq!(&second.merge(&first), &expected);
        }
    }
}
