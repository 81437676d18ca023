//! What an edge notes of how far upstream is: its cursors, and what lies ahead there, which does not wait, also while a link is cut after a restart.

use std::collections::{BTreeMap, BTreeSet};

use sled_data::{Offset, PARTS_AHEAD_MAX, PartitionId};

use super::dial::READER;
use crate::event_log::{EventLog, Ticket};

/// The link's name, a byte 0 and the partition's id to the version and the parts in order: from and to before each, 8 bytes, big-endian.
const TREE: &str = "link_ahead";
/// Partitions that are noted under one guard of the open commit: some 420 KB at most, so that it stays far below what a commit may have.
const NOTED_AT_ONCE_MAX: usize = 1_000;
/// The version byte before a stored value.
const VERSION: u8 = 1;

/// The parts that lie ahead of a partition upstream, each from and to before.
pub(super) type Parts = Vec<(Offset, Offset)>;

/// What was noted when the store was written last, of these partitions.
pub(super) fn noted(
    log: &EventLog,
    name: &str,
    ids: impl Iterator<Item = PartitionId>,
) -> BTreeMap<PartitionId, Parts> {
    let parts = |id| read(&log.state_get(TREE, &key(name, id)).ok().flatten()?);
    ids.filter_map(|id| Some((id, parts(id)?))).collect()
}

/// The names of links of which something is noted. What cannot be read is left out. Reads the store.
pub(super) fn names(log: &EventLog) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let read = log.state_walk_of(log.origin(), TREE, |key, _| {
        let name = key.split(|byte| *byte == 0).next().unwrap_or_default();
        if let Ok(name) = std::str::from_utf8(name)
            && !names.contains(name)
        {
            names.insert(name.to_owned());
        }
    });
    if let Err(error) = read {
        tracing::warn!(%error, "what is noted of links cannot be read");
    }
    names
}

/// Removes what was noted of the link of a name; the commit by which all of it is gone. Reads the store.
pub(super) fn remove(log: &EventLog, name: &str) -> Ticket {
    let prefix = [name.as_bytes(), &[0]].concat();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = log.state_scan(TREE, &prefix, after.as_deref(), NOTED_AT_ONCE_MAX).unwrap_or_default();
        let mut open = log.lock();
        // No entry has this key: there is something to wait for where there is none at all.
        open.put_state(TREE, &prefix, None);
        for (key, _) in &page {
            open.put_state(TREE, key, None);
        }
        match page.into_iter().last() {
            Some((last, _)) => after = Some(last),
            None => return open.ticket(),
        }
    }
}

/// What is new of a partition: the cursor, and the entry of `TREE`, `None` for one that goes.
#[derive(Default)]
struct News {
    next: Option<Offset>,
    ahead: Option<Option<Vec<u8>>>,
}

/// Notes how far upstream is where that has changed: of each partition up to where it is stored, and what lies ahead there. `noted` is what is noted of the
/// latter, which is brought up to date: it is not read again. Reads the store.
pub(super) fn note(
    log: &EventLog,
    name: &str,
    (known, ahead): (BTreeMap<PartitionId, Offset>, &BTreeMap<PartitionId, Parts>),
    noted: &mut BTreeMap<PartitionId, Parts>,
) {
    let reader = format!("{READER}{name}");
    let mut all: BTreeMap<PartitionId, News> = BTreeMap::new();
    for (id, next) in known {
        // A commit with a cursor that passes an end is refused, with all that others have put into it.
        let next = next.min(log.visible_end(id));
        if log.cursor(&reader, id).ok().flatten() != Some(next) {
            all.entry(id).or_default().next = Some(next);
        }
    }
    for (id, value) in news(ahead, noted) {
        all.entry(id).or_default().ahead = Some(value);
    }
    let mut all = all.into_iter().peekable();
    while all.peek().is_some() {
        // Taken anew each time: one that is full is closed then.
        let mut open = log.lock();
        for (id, News { next, ahead }) in all.by_ref().take(NOTED_AT_ONCE_MAX) {
            if let Some(value) = ahead {
                open.put_state(TREE, &key(name, id), value.as_deref());
            }
            if let Some(next) = next {
                open.move_cursor(&reader, id, next);
            }
        }
    }
}

/// What is to be written of what lies ahead now, `None` for an entry that goes; `noted` is as that leaves it.
fn news(
    now: &BTreeMap<PartitionId, Parts>,
    noted: &mut BTreeMap<PartitionId, Parts>,
) -> Vec<(PartitionId, Option<Vec<u8>>)> {
    let mut news: Vec<_> = noted.keys().filter(|id| !now.contains_key(id)).map(|id| (*id, None)).collect();
    news.iter().for_each(|(id, _)| drop(noted.remove(id)));
    for (id, parts) in now.iter().filter(|(id, parts)| noted.get(*id) != Some(*parts)).collect::<Vec<_>>() {
        news.push((*id, Some(value(parts))));
        noted.insert(*id, parts.clone());
    }
    news
}

fn key(name: &str, id: PartitionId) -> Vec<u8> {
    [name.as_bytes(), &[0], &id.to_bytes()].concat()
}

fn value(parts: &[(Offset, Offset)]) -> Vec<u8> {
    let ends = parts.iter().flat_map(|(from, end)| [*from, *end]);
    std::iter::once(VERSION).chain(ends.flat_map(Offset::to_be_bytes)).collect()
}

/// What cannot be read is taken for not noted.
fn read(value: &[u8]) -> Option<Parts> {
    let (&VERSION, ends) = value.split_first()? else { return None };
    let (ends, rest) = ends.as_chunks::<8>();
    let (parts, odd) = ends.as_chunks::<2>();
    let parts: Parts = parts.iter().map(|[from, end]| (u64::from_be_bytes(*from), u64::from_be_bytes(*end))).collect();
    let is_in_order = parts.iter().all(|(from, end)| from <= end) && parts.is_sorted_by(|one, next| one.1 < next.0);
    let is_sound = rest.is_empty() && odd.is_empty() && is_in_order && parts.len() <= PARTS_AHEAD_MAX;
    is_sound.then_some(parts)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sled_data::{MemoryBackend, Options, Store, TopicConfig};

    use super::*;
    use crate::clock::Clock;
    use crate::event_log::{Config, NO_HEADERS, NewEvent, Topic};

    /// As many as a link may have, with the longest name: no commit could take it all.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_note_of_many_partitions_stops_no_append() {
        let (store, _) = Store::on(Arc::new(MemoryBackend::new()), Options::default()).unwrap();
        let log = EventLog::open(Arc::new(store), Arc::new(Clock::starting_after(0)), Config::default()).unwrap();
        let (topic, name) = (log.ensure_topic("telemetry", None).unwrap(), "n".repeat(64));
        let append = || {
            let (key, headers) = (Some(&b"key"[..]), &NO_HEADERS);
            let event = NewEvent { timestamp_ms: 1, key, value: key, headers, extra: &NO_HEADERS, fanned_out: false };
            let mut open = log.lock();
            open.append_keyed(&topic, &event).unwrap();
            open.ticket()
        };
        let config = TopicConfig { partitions: 256, ..TopicConfig::default() };
        let topics: Vec<_> =
            (0..128).map(|n| log.ensure_topic(&format!("t{n}"), Some(config.clone())).unwrap()).collect();
        let of_topic = |topic: &Arc<Topic>| log.partitions_of(topic).iter().map(|of| (of.id(), 0)).collect::<Vec<_>>();
        let known: BTreeMap<_, _> = topics.iter().flat_map(of_topic).collect();
        assert_eq!(known.len(), 32_768);
        let parts: Parts = (1..=PARTS_AHEAD_MAX as u64).map(|n| (10 * n, 10 * n + 1)).collect();
        let ahead: BTreeMap<_, _> = known.keys().step_by(4).map(|id| (*id, parts.clone())).collect();
        let before = append();
        note(&log, &name, (known.clone(), &ahead), &mut BTreeMap::new());
        let after = append();
        log.durable(before).await.unwrap();
        log.durable(after).await.unwrap();
        let reader = format!("{READER}{name}");
        let is_known = |id: &PartitionId| log.cursor(&reader, *id).unwrap() == Some(0);
        assert!(known.keys().all(is_known), "the cursors are noted");
        assert_eq!(noted(&log, &name, known.keys().copied()), ahead);
        log.close();
    }

    #[test]
    fn what_is_noted_is_written_once() {
        let id = |topic| PartitionId { origin: sled_data::OriginId(1), topic: sled_data::TopicId(topic), index: 0 };
        let mut noted = BTreeMap::from([(id(1), vec![(5, 6)]), (id(2), vec![(5, 6)])]);
        // what lies ahead, what is written of it
        let written = |parts: &[(Offset, Offset)]| Some(value(parts));
        let steps = [
            (vec![(id(1), vec![(5, 6)]), (id(2), vec![(5, 7)])], vec![(id(2), written(&[(5, 7)]))]),
            (vec![(id(1), vec![(5, 6)]), (id(2), vec![(5, 7)])], vec![]),
            (vec![(id(2), vec![(5, 7)]), (id(3), vec![(8, 8)])], vec![(id(1), None), (id(3), written(&[(8, 8)]))]),
            (vec![], vec![(id(2), None), (id(3), None)]),
            (vec![], vec![]),
        ];
        for (now, expected) in steps {
            let now = BTreeMap::from_iter(now);
            assert_eq!(news(&now, &mut noted), expected, "{now:?}");
            assert_eq!(noted, now);
        }
    }

    #[test]
    fn what_is_kept_has_these_bytes() {
        let id = PartitionId { origin: sled_data::OriginId(1), topic: sled_data::TopicId(2), index: 3 };
        assert_eq!(key("up", id), b"up\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\x03");
        let bytes = b"\x01\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\x08";
        assert_eq!(value(&[(5, 6), (8, 8)]), bytes);
        assert_eq!(read(bytes), Some(vec![(5, 6), (8, 8)]));
        let part = |from: u64, end: u64| [from.to_be_bytes(), end.to_be_bytes()].concat();
        let many: Vec<u8> = (0..=PARTS_AHEAD_MAX as u64).flat_map(|n| part(2 * n, 2 * n + 1)).collect();
        for wrong in
            [vec![], vec![0; 8], part(5, 6)[..15].to_vec(), part(6, 5), [part(5, 6), part(6, 7)].concat(), many]
        {
            let value = [&[VERSION], &wrong[..]].concat();
            assert_eq!(read(&value), wrong.is_empty().then(Vec::new), "{value:?}");
        }
        assert_eq!((read(b""), read(b"\x02")), (None, None));
    }
}
