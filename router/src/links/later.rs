//! Live before backlog: whether a partition goes on near its end upstream, and what comes behind it then (pure, but for what reads the store).

use std::collections::BTreeMap;

use sled_data::{Offset, PARTS_AHEAD_MAX, PartitionId, Store, StoredBatch};

use super::begin::{Begin, Mine, Stand, begin};
use super::waiting::{mine, waiting_bytes};

/// Stored bytes of a partition, or the age of the oldest of them, up to which what waits goes in order: it is through soon.
const WAITS_BYTES_MAX: u64 = if cfg!(test) { 16 << 10 } else { 1 << 20 };
const WAITS_MS_MAX: u64 = if cfg!(test) { 1_000 } else { 10_000 };
/// Stored bytes of the newest events of a partition that count as live: with them the last state of most keys comes at once.
pub(super) const NEWEST_BYTES_MAX: usize = if cfg!(test) { 1 << 10 } else { 16 << 10 };

/// A part that upstream has ahead of where a partition ends there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LiesAhead {
    /// Its first offset.
    pub from: Offset,
    /// Where it goes on.
    pub end: Offset,
    /// The hybrid clock of the batch that it begins with; 0 where there is none.
    pub first: u64,
    /// The hybrid clock of the batch that ends there; 0 where there is none.
    pub hlc: u64,
}

impl LiesAhead {
    /// As if the partition ended there.
    pub fn stand(&self) -> Stand {
        Stand { end: self.end, hlc: self.hlc, digest: 0, is_gapless: false }
    }
}

/// What upstream has said that lies ahead of where partitions end.
#[derive(Debug, Clone, Default)]
pub struct HeardAhead {
    /// The parts of each, in order.
    pub parts: BTreeMap<PartitionId, Vec<LiesAhead>>,
    /// How many a partition may have there.
    pub parts_max: usize,
}

/// What waits of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// Stored bytes of it, about.
    pub bytes: u64,
    /// Age of its oldest event, milliseconds.
    pub ms: u64,
    /// Where its newest events begin.
    pub newest: Offset,
}

/// How a partition goes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Way {
    /// In order, from this offset.
    InOrder(Offset),
    /// What is live from `to` on, ahead of what lies from `from` up to there: upstream is told of the open hole.
    Skips {
        /// Where it ends upstream.
        from: Offset,
        /// Where it goes on.
        to: Offset,
    },
    /// As it had begun: what is live behind the last of the parts ahead, and what lies before each of them behind that.
    Ahead {
        /// Where it ends upstream.
        from: Offset,
        /// The parts, each from its first offset to where it goes on.
        parts: Vec<(Offset, Offset)>,
        /// Where what is live goes on, if it is missed for so long already that it is skipped once more.
        skip_to: Option<Offset>,
    },
    /// What lies before the parts alone: one of them is more than is here, or something else, and so is what lies behind it.
    FillsAlone {
        /// Where it ends upstream.
        from: Offset,
        /// The parts, as above.
        parts: Vec<(Offset, Offset)>,
        /// The place of the first one that is not the same.
        place: usize,
        /// Whether all before it is what that one goes on from.
        is_same: bool,
        /// Whether it is something else; it is more than is here otherwise.
        is_forked: bool,
    },
}

/// A part that lies ahead of a partition upstream, judged by what is here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AheadJudged {
    /// What lies there.
    pub ahead: LiesAhead,
    /// How it would go on from its end.
    pub begin: Begin,
    /// Whether it begins with the batch that is here at that place.
    pub is_same: bool,
}

/// Decides how a partition goes on that ends at `from` upstream: by what lies ahead there, in order, as it was judged, and by where it is to be skipped to.
pub fn way(from: Offset, judged: &[AheadJudged], skip_to: Option<Offset>) -> Way {
    // What was filled in the moment in between lies ahead no more.
    let open: Vec<&AheadJudged> = judged.iter().filter(|judged| from < judged.ahead.from).collect();
    let parts: Vec<_> = open.iter().map(|judged| (judged.ahead.from, judged.ahead.end)).collect();
    let is_other = |judged: &&AheadJudged| !matches!(judged.begin, Begin::From(_));
    if let Some(place) = open.iter().position(is_other) {
        let AheadJudged { begin, is_same, .. } = *open[place];
        return Way::FillsAlone { from, parts, place, is_same, is_forked: begin != Begin::Ahead };
    }
    match (parts.last(), skip_to) {
        (Some((_, live)), to) => {
            let skip_to = to.filter(|to| live < to && parts.len() < PARTS_AHEAD_MAX);
            Way::Ahead { from, skip_to, parts }
        }
        (None, Some(to)) if from < to => Way::Skips { from, to },
        (None, _) => Way::InOrder(from),
    }
}

/// From where what is live goes on of a partition that ends at `from` upstream: behind all that lies ahead there.
pub fn live_from(from: Offset, judged: &[AheadJudged]) -> Offset {
    judged.last().map_or(from, |last| last.ahead.end.max(from))
}

/// Up to where a partition of which so much waits is skipped; `None`: it goes in order.
pub fn skip_to(waits: &Waits) -> Option<Offset> {
    (waits.bytes > WAITS_BYTES_MAX || waits.ms > WAITS_MS_MAX).then_some(waits.newest)
}

/// What waits of a partition from an offset up to where it ends, and where the newest of it begins, so many bytes; `None` where nothing waits,
/// or it cannot be read. Reads the store.
pub fn waits(
    store: &Store,
    id: PartitionId,
    (from, end): (Offset, Offset),
    now_ms: i64,
    newest_bytes: usize,
) -> Option<Waits> {
    let reach = store.reach(id);
    let from = from.max(reach.start);
    if from >= end {
        return None;
    }
    let first = store.read(id, from, 1).ok().and_then(|batches| batches.into_iter().next());
    let ms = first.map_or(now_ms, |batch| sled_data::hlc_ms(batch.envelope().hlc));
    let newest = store.read_back(id, end, newest_bytes).ok()?.last()?.base_offset();
    let ms = u64::try_from(now_ms.saturating_sub(ms)).unwrap_or(0);
    Some(Waits { bytes: waiting_bytes(&reach, end - from), ms, newest })
}

/// What lies ahead of a partition's end here, for the edge to judge, in order. Reads the store; asked before where it ends.
pub fn lies_ahead(store: &Store, id: PartitionId) -> Vec<LiesAhead> {
    let told = |part: &sled_data::Ahead| {
        let sled_data::Ahead { from, end, .. } = *part;
        let hlc = if from < end { store.hlc_before(id, end).unwrap_or(0) } else { 0 };
        LiesAhead { from, end, first: clock_at(store, id, from).unwrap_or(0), hlc }
    };
    store.parts_ahead(id).iter().map(told).collect()
}

/// What is here of a part that lies ahead at another place.
#[derive(Debug, Clone, Copy)]
pub(super) struct AheadRead {
    ahead: LiesAhead,
    is_same: bool,
    /// What lies before its end; `None`: the part is of another log.
    mine: Option<Mine>,
}

impl AheadRead {
    /// Reads the store.
    pub(super) fn of(store: &Store, id: PartitionId, ahead: LiesAhead) -> Self {
        let here = batch_at(store, id, ahead.from).filter(|_| ahead.first != 0);
        let is_same = here.as_ref().is_some_and(|here| is_at(here, ahead.from, ahead.first));
        // Batches are stored whole: one that lies across is another one as well. So is what goes on from something newer.
        let is_other = here.is_some() && !is_same || ahead.first != 0 && !is_same && is_newer_before(store, id, ahead);
        let mine = if is_other { None } else { Some(mine(store, id, &ahead.stand())) };
        Self { ahead, is_same, mine }
    }

    /// How it goes on, where the origin was found to be another one there, or not.
    pub(super) fn judged(&self, is_apart: bool) -> AheadJudged {
        let Self { ahead, is_same, mine } = *self;
        // Where nothing lies there yet, nothing can differ.
        let is_apart = is_apart && ahead.from < ahead.end;
        let begin = mine.map_or(Begin::Forked, |mine| begin(&ahead.stand(), &Mine { is_apart, ..mine }));
        AheadJudged { ahead, begin, is_same }
    }
}

/// Judges a part that lies ahead at a place by what is here. Reads the store.
pub fn judge_ahead(store: &Store, place: &str, id: PartitionId, ahead: LiesAhead) -> AheadJudged {
    AheadRead::of(store, id, ahead).judged(store.is_apart(id.origin, place))
}

/// Whether something is here before a part that is newer than what that begins with: within a partition clocks never fall, so they went on apart before.
fn is_newer_before(store: &Store, id: PartitionId, ahead: LiesAhead) -> bool {
    let before = store.read_back(id, ahead.from, 1).ok().and_then(|batches| batches.into_iter().next());
    before.is_some_and(|batch| batch.envelope().hlc > ahead.first)
}

fn is_at(batch: &StoredBatch, offset: Offset, hlc: u64) -> bool {
    batch.base_offset() == offset && batch.envelope().hlc == hlc
}

/// The hybrid clock of the batch that begins at an offset.
fn clock_at(store: &Store, id: PartitionId, offset: Offset) -> Option<u64> {
    batch_at(store, id, offset).filter(|batch| batch.base_offset() == offset).map(|batch| batch.envelope().hlc)
}

/// The batch that an offset is in; `None` where there is none, or it cannot be read.
fn batch_at(store: &Store, id: PartitionId, offset: Offset) -> Option<StoredBatch> {
    store.read_newest(id, offset, 1).ok()?.into_iter().next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_goes_on_by_what_lies_ahead_and_by_what_waits() {
        let ahead = |from, end, begin, is_same| AheadJudged {
            ahead: LiesAhead { from, end, first: 6, hlc: 7 },
            begin,
            is_same,
        };
        let (first, second) = (ahead(9, 12, Begin::From(12), true), ahead(15, 18, Begin::From(18), true));
        let goes = |from, parts: &[(u64, u64)], skip_to| Way::Ahead { from, parts: parts.to_vec(), skip_to };
        let alone = |parts: &[(u64, u64)], place, is_same, is_forked| Way::FillsAlone {
            from: 4,
            parts: parts.to_vec(),
            place,
            is_same,
            is_forked,
        };
        let all: Vec<_> = (0..PARTS_AHEAD_MAX as u64).map(|n| (10 * n + 10, 10 * n + 12)).collect();
        let many: Vec<_> = all.iter().map(|(from, end)| ahead(*from, *end, Begin::From(*end), true)).collect();
        // where it ends upstream, what lies ahead there and how that is judged, where it would be skipped to, how it goes on
        let cases = [
            (4, vec![], None, Way::InOrder(4)),
            (4, vec![], Some(9), Way::Skips { from: 4, to: 9 }),
            (9, vec![], Some(9), Way::InOrder(9)),
            (10, vec![], Some(9), Way::InOrder(10)),
            (4, vec![first], None, goes(4, &[(9, 12)], None)),
            (4, vec![first], Some(12), goes(4, &[(9, 12)], None)),
            (4, vec![ahead(9, 9, Begin::From(9), false)], None, goes(4, &[(9, 9)], None)),
            (4, vec![first, second], None, goes(4, &[(9, 12), (15, 18)], None)),
            // It was missed again while the hole is open: it is skipped once more, while there may be more parts.
            (4, vec![first], Some(20), goes(4, &[(9, 12)], Some(20))),
            (4, vec![first, second], Some(20), goes(4, &[(9, 12), (15, 18)], Some(20))),
            (4, many.clone(), Some(900), goes(4, &all, None)),
            (4, many[1..].to_vec(), Some(900), goes(4, &all[1..], Some(900))),
            (4, vec![ahead(9, 12, Begin::Ahead, true)], Some(20), alone(&[(9, 12)], 0, true, false)),
            (4, vec![ahead(9, 12, Begin::Forked, false)], None, alone(&[(9, 12)], 0, false, true)),
            (4, vec![first, ahead(15, 18, Begin::Doubtful, true)], None, alone(&[(9, 12), (15, 18)], 1, true, true)),
            (4, vec![ahead(9, 12, Begin::Forked, true), second], None, alone(&[(9, 12), (15, 18)], 0, true, true)),
            // It was filled in the moment in between.
            (12, vec![first], None, Way::InOrder(12)),
            (12, vec![first], Some(20), Way::Skips { from: 12, to: 20 }),
            (12, vec![ahead(9, 12, Begin::Forked, true), second], None, goes(12, &[(15, 18)], None)),
        ];
        for (from, ahead, skip_to, expected) in cases {
            assert_eq!(way(from, &ahead, skip_to), expected, "{from} {ahead:?} {skip_to:?}");
            assert!(live_from(from, &ahead) >= from);
        }
    }

    #[test]
    fn what_is_here_and_newer_than_a_part_that_lies_behind_it_is_of_another_log() {
        let backend = std::sync::Arc::new(sled_data::MemoryBackend::new());
        let options = sled_data::Options { seed: Some(1), ..sled_data::Options::default() };
        let (store, _) = Store::on(backend, options).unwrap();
        let topic = store.create_topic("t", sled_data::TopicConfig::default()).unwrap();
        let id = PartitionId { origin: store.origin(), topic: topic.id, index: 0 };
        for hlc in 5..=8 {
            let appends = vec![crate::event_log::rubbish::sound(id, hlc - 5, hlc, &["event"])];
            store.commit(&sled_data::Commit { hlc, appends, ..sled_data::Commit::default() }).unwrap();
        }
        // where a part begins, and the clock with which it does; how it is judged by four events with the clocks 5 to 8
        let cases = [
            (9, 12, Begin::Ahead),
            (9, 8, Begin::Ahead),
            (9, 7, Begin::Forked),
            (4, 9, Begin::Ahead),
            (4, 7, Begin::Forked),
            // It begins with a gap there.
            (9, 0, Begin::Ahead),
        ];
        for (from, first, expected) in cases {
            let ahead = LiesAhead { from, end: from + 3, first, hlc: 30 };
            assert_eq!(judge_ahead(&store, "hq", id, ahead).begin, expected, "{from} {first}");
        }
        // What is the same here says enough.
        let same = LiesAhead { from: 2, end: 4, first: 7, hlc: 8 };
        assert_eq!(
            judge_ahead(&store, "hq", id, same),
            AheadJudged { ahead: same, begin: Begin::From(4), is_same: true }
        );
    }

    #[test]
    fn only_what_takes_long_is_skipped() {
        let waits = |bytes, ms| Waits { bytes, ms, newest: 5 };
        for (waits, expected) in [
            (waits(WAITS_BYTES_MAX, WAITS_MS_MAX), None),
            (waits(WAITS_BYTES_MAX + 1, 0), Some(5)),
            (waits(0, WAITS_MS_MAX + 1), Some(5)),
        ] {
            assert_eq!(skip_to(&waits), expected, "{waits:?}");
        }
    }
}
