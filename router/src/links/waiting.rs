//! What a link carries, how much of it waits to be upstream, and what is here of a partition. Reads the store: not for a task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sled_data::{Offset, OriginId, PartitionId, Reach, ReadError, Store, StoredBatch};

use super::begin::{Before, Mine, Stand};
use super::book::{Lag, Lags, Shared};
use super::config::{LinkConfig, Origins};
use crate::event_log::{EventLog, PartitionLog};

/// Partitions whose oldest event is looked for, to say how old it is.
const OLDEST_LOOKS_MAX: usize = 64;
/// Stored bytes of a partition that are read to know whether it is the same upstream, where what upstream has is gone here.
const DIGEST_READ_BYTES_MAX: u64 = 16 << 20;
/// Looks for what is kept behind a gap: it may begin with a hole, and go on in the moment between.
const GAP_LOOKS_MAX: usize = 3;
/// Bytes that are read of it at once.
const READ_BYTES_MAX: usize = 256 << 10;

/// Whether a link is about an origin's events.
pub fn meant(log: &EventLog, config: &LinkConfig) -> impl Fn(OriginId) -> bool {
    let store = log.store();
    let linked: BTreeMap<OriginId, u64> =
        store.linked().into_iter().map(|(origin, linked)| (origin, linked.link)).collect();
    let followed: BTreeSet<OriginId> = store.followed().into_iter().map(|(origin, _)| origin).collect();
    let (origins, down) = (config.origins, config.brings_down_as);
    move |origin: OriginId| goes_up(origins, linked.get(&origin).copied(), followed.contains(&origin), down)
}

/// Whether a link is about an origin that the link of this id has brought, or none; `down` is the link's own id, of what comes down it (pure).
pub fn goes_up(origins: Origins, linked: Option<u64>, is_followed: bool, down: Option<u64>) -> bool {
    match origins {
        // What came down the link does not go up it.
        Origins::All => linked.is_none_or(|link| Some(link) != down),
        Origins::Site => linked.is_none(),
        // Earlier lives of this node are its own.
        Origins::Own => linked.is_none() && !is_followed,
    }
}

/// The partitions that a link carries and that have events.
pub fn carried(log: &EventLog, config: &LinkConfig) -> Vec<Arc<PartitionLog>> {
    let is_meant = meant(log, config);
    let mut all = log.all_partitions();
    all.retain(|partition| {
        partition.visible_end() > 0 && is_meant(partition.id().origin) && config.carries(partition.topic())
    });
    all
}

/// About how many stored bytes so many of a partition's events have.
pub fn waiting_bytes(reach: &Reach, events: u64) -> u64 {
    let kept = u128::from((reach.end - reach.start).max(1));
    u64::try_from(u128::from(reach.bytes) * u128::from(events) / kept).unwrap_or(u64::MAX)
}

/// From where on a partition that reaches so far is kept for a link that has brought it upstream up to `stored`; `None`: it may go. Of what is visible up to
/// `end`, `is_there` events are upstream ahead of what is missed. What waits beyond the bound is not held; where nothing is left, upstream is yet to be
/// told so (pure).
pub fn floor(stored: Offset, reach: &Reach, (end, is_there): (Offset, u64), hold_bytes_max: u64) -> Option<Offset> {
    let from = stored.max(reach.start);
    if from >= end {
        return (stored < end).then_some(stored);
    }
    let waits = (end - from).saturating_sub(is_there);
    (waiting_bytes(reach, waits) <= hold_bytes_max).then_some(from)
}

/// How far upstream is behind in each priority of what is carried, by what is known to be stored there; and in what this node sends, which is what upstream is
/// told: what the site's other nodes write they tell themselves. Reads the store.
pub fn measure(log: &EventLog, carried: Vec<Arc<PartitionLog>>, config: &LinkConfig, page: &Shared) -> (Lags, Lag) {
    let (stored, ahead, left) = {
        let page = page.lock();
        (page.stored.clone(), page.ahead.clone(), page.left.clone())
    };
    let others: BTreeSet<OriginId> = log.others().into_iter().collect();
    let (mut lags, mut mine) = (Lags::default(), Lag::default());
    let now_ms = log.clock().wall_ms();
    let mut looks = 0;
    for partition in carried {
        let (id, reach) = (partition.id(), log.store().reach(partition.id()));
        let from = stored.get(&id).copied().unwrap_or(0).max(reach.start);
        // What is upstream already, ahead of what is still to come, does not wait.
        let is_there = ahead.get(&id).into_iter().flatten().map(|(from, end)| end - from).sum();
        let events = partition.visible_end().saturating_sub(from).saturating_sub(is_there);
        if events == 0 {
            continue;
        }
        let mut lag = Lag { events, bytes: waiting_bytes(&reach, events), ms: 0 };
        if looks < OLDEST_LOOKS_MAX {
            looks += 1;
            let first = log.store().read(id, from, 1).ok().and_then(|batches| batches.into_iter().next());
            let ms = first.map_or(now_ms, |batch| sled_data::hlc_ms(batch.envelope().hlc));
            lag.ms = u64::try_from(now_ms.saturating_sub(ms)).unwrap_or(0);
        }
        let of_priority = &mut lags[config.priority(partition.topic()).place()];
        *of_priority = of_priority.plus(lag);
        if !others.contains(&id.origin) || left.contains(&id) {
            mine = mine.plus(lag);
        }
    }
    (lags, mine)
}

/// What is here of a partition of which upstream has so much.
pub fn mine(store: &Store, id: PartitionId, stand: &Stand) -> Mine {
    let reach = store.reach(id);
    let holes = store.holes(id);
    let mut before = before(store, id, stand, &reach);
    // The clock of one batch says enough, where both sides have it.
    let is_open = stand.hlc == 0 || matches!(before, Before::Between(..) | Before::Unknown);
    if is_open && stand.is_gapless && holes.is_empty() {
        before = digest_at(store, id, stand.end, &reach).map_or(before, Before::Digest);
    }
    Mine { end: reach.end, before, digest: reach.digest, is_gapless: holes.is_empty(), is_apart: false }
}

fn before(store: &Store, id: PartitionId, stand: &Stand, reach: &Reach) -> Before {
    let end = stand.end;
    let Some(last) = end.checked_sub(1).filter(|_| end <= reach.end) else {
        return Before::Unknown;
    };
    match store.read(id, last, 1) {
        Ok(batches) => batches.first().map_or(Before::Unknown, |batch| match batch.next_offset() == end {
            true => Before::Clock(batch.envelope().hlc),
            false => Before::Across,
        }),
        // A hole is there, or retention took it.
        Err(ReadError::Trimmed { start, .. }) if stand.hlc != 0 => between(store, id, end, start),
        Err(ReadError::Trimmed { .. } | ReadError::Damaged { .. }) => Before::Unknown,
        Err(error) => {
            tracing::warn!(%error, partition = %id, "it is not known whether a partition is the same upstream");
            Before::Unknown
        }
    }
}

/// Between which clocks a batch must lie that ends at an offset at which nothing is kept: those of what is kept before and behind it. What is kept behind it
/// begins at `next`, or farther on.
fn between(store: &Store, id: PartitionId, end: Offset, mut next: Offset) -> Before {
    let clock = |batches: Vec<StoredBatch>| batches.first().map(|batch| batch.envelope().hlc);
    let lo = store.read_back(id, end, 1).ok().and_then(clock).unwrap_or(0);
    let mut hi = u64::MAX;
    for _ in 0..GAP_LOOKS_MAX {
        match store.read(id, next, 1) {
            Ok(batches) => {
                hi = clock(batches).unwrap_or(u64::MAX);
                break;
            }
            Err(ReadError::Trimmed { start, .. }) => next = start,
            Err(_) => break,
        }
    }
    // Where two logs are here already, the clocks say nothing.
    if lo > hi || (lo, hi) == (0, u64::MAX) { Before::Unknown } else { Before::Between(lo, hi) }
}

/// The running digest at an offset: that of all that the partition has had, without what comes from there on. `None` where that is too much to be
/// read, or something of it is missing.
fn digest_at(store: &Store, id: PartitionId, offset: Offset, reach: &Reach) -> Option<u64> {
    let is_here = (reach.start..=reach.end).contains(&offset) && offset > 0;
    if !is_here || waiting_bytes(reach, reach.end - offset) > DIGEST_READ_BYTES_MAX {
        return None;
    }
    let (mut next, mut digest) = (offset, reach.digest);
    while next < reach.end {
        for batch in store.read(id, next, READ_BYTES_MAX).ok()? {
            if batch.base_offset() != next || batch.next_offset() > reach.end {
                return None;
            }
            digest = digest.wrapping_sub(batch.envelope().digest);
            next = batch.next_offset();
        }
    }
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_upstream_is_kept_within_the_bound_and_a_gap_until_it_is_told() {
        let reach = |start, end, bytes| Reach { start, end, bytes, digest: 0 };
        // upstream has; what is here; visible end and what is ahead; the bound; kept from
        for (stored, reach, end, hold, expected) in [
            (0, reach(0, 10, 100), (10, 0), 100, Some(0)),
            (4, reach(0, 10, 100), (10, 0), 60, Some(4)),
            (4, reach(0, 10, 100), (10, 0), 59, None),
            (4, reach(0, 10, 100), (10, 3), 30, Some(4)),
            (2, reach(5, 10, 50), (10, 0), 50, Some(5)),
            (10, reach(5, 10, 50), (10, 0), 50, None),
            // Retention has taken all.
            (4, reach(10, 10, 0), (10, 0), 0, Some(4)),
            (10, reach(10, 10, 0), (10, 0), 0, None),
        ] {
            assert_eq!(floor(stored, &reach, end, hold), expected, "{stored} {reach:?} {end:?} {hold}");
        }
    }
}
