//! How a log grows at the end of sled's tree without its values being written three times.
//!
//! sled writes a value with its key; ten writes to a leaf later, the whole leaf; and both halves of a leaf that is split, which is one of more than
//! 16 keys, of which the larger 8 go to the new leaf. A log that grows at its end alone so has each value written some 3.6 times. Three things are done:
//!
//! - Past any offset a log has seven keys without values. So the new leaf takes one value along instead of eight, and will be split before ten values
//!   were written to it. An eighth key would part the offsets from these keys, and nothing were gained.
//! - Where many values come at once, their keys are written first, without values, and one more beside each: leaves are split while that costs next to
//!   nothing, and have fewer than ten links when they are full.
//! - Keys that go together lose their values first: what is left of a leaf is written as a whole when there is nothing in it any more.
//!
//! A value is written 2.8 times then where one comes at a time, 1.5 times where 8 do, and 1.1 times where 64 do; and 0.35 times more until it is gone, as before.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::backend::{BackendError, Span};

/// The keys at the end: no batch has any of 9 bytes, and they lie past those of all batches.
const KEYS: [[u8; 9]; 7] = {
    let mut keys = [[0xff; 9]; 7];
    let mut at = 0;
    while at < keys.len() {
        keys[at][8] = 0xf0 + at as u8;
        at += 1;
    }
    keys
};
/// Last byte of a key that is written beside another one: past those of all its parts.
const BESIDE: u8 = 0xff;
/// From so many values on that come at once, and of so many bytes at the mean, less is written where their keys are written first.
const ANNOUNCED_MIN: usize = 8;
const ANNOUNCED_BYTES_MIN: usize = 2_000;
/// From so many bytes at the mean on it is worth a write to take values away before their keys.
const EMPTIED_BYTES_MIN: usize = 1_000;

/// Whether a log's tree was seen to have these keys.
#[derive(Default)]
pub(super) struct LogEnd(AtomicBool);

impl LogEnd {
    /// Puts the keys where they are not there yet: the store is new, or was written by a program that takes them for leftovers.
    pub(super) fn make(
        &self,
        has: impl Fn(&[u8]) -> Result<bool, BackendError>,
        put: impl Fn(&[u8]) -> Result<(), BackendError>,
    ) -> Result<(), BackendError> {
        if self.0.load(Ordering::Relaxed) {
            return Ok(());
        }
        for key in KEYS {
            if !has(&key)? {
                put(&key)?;
            }
        }
        self.0.store(true, Ordering::Relaxed);
        Ok(())
    }
}

/// The key without a value that is written beside one that is announced. A leaf has nine keys when it rests: with as many values it would have ten links, and
/// whatever is written to it next, the first emptied value, would have the other eight written again. With four or five of them nothing is.
pub(super) fn beside(key: &[u8]) -> Vec<u8> {
    [key, &[BESIDE]].concat()
}

/// Whether a key is one beside another: batches and their parts have keys of 8 and 10 bytes.
pub(super) fn is_beside(key: &[u8]) -> bool {
    key.len() % 2 == 1
}

/// A span of keys without those at the end.
pub(super) fn before(span: Span<'_>) -> Span<'_> {
    let end = KEYS[0].as_slice();
    Span { to: Some(span.to.map_or(end, |to| to.min(end))), ..span }
}

/// Whether so many values, of so many bytes together, are to be announced.
pub(super) fn is_worth_announcing(values: usize, value_bytes: usize) -> bool {
    values >= ANNOUNCED_MIN && value_bytes >= values * ANNOUNCED_BYTES_MIN
}

/// Whether so many keys, whose values have so many bytes together, are to lose their values before they are removed.
pub(super) fn is_worth_emptying(keys: usize, value_bytes: usize) -> bool {
    keys > 1 && value_bytes >= keys * EMPTIED_BYTES_MIN
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;
    use std::path::Path;

    use super::*;
    use crate::backend::{Backend, Direction, SledBackend, SledConfig, Tree};

    const VALUE_BYTES: usize = 12_000;
    /// Values of one test: 19 MB.
    const VALUES: u64 = 1_600;

    fn open(folder: &Path) -> SledBackend {
        SledBackend::open(folder, SledConfig { cache_bytes: 64 << 20 }).unwrap()
    }

    fn key(number: u64) -> Vec<u8> {
        number.to_be_bytes().to_vec()
    }

    /// Values that nothing makes smaller, so many at once.
    fn fill(tree: &dyn Tree, at_once: u64, sync: impl Fn()) {
        let value: Vec<u8> = (0..VALUE_BYTES as u32).map(|n| (n.wrapping_mul(0x9e37_79b1) >> 13) as u8).collect();
        for from in (0..VALUES).step_by(at_once as usize) {
            let keys: Vec<_> = (from..from + at_once).map(key).collect();
            tree.announce(&keys, keys.len() * VALUE_BYTES).unwrap();
            keys.iter().for_each(|key| tree.insert(key, &value).unwrap());
            sync();
        }
    }

    /// Bytes that sled's log has for one that was stored: it writes over a part of what is no longer needed.
    fn file_share(at_once: u64, is_log: bool) -> f64 {
        let home = tempfile::tempdir().unwrap();
        let backend = open(home.path());
        let tree = if is_log { backend.log_tree(b"log") } else { backend.tree(b"log") }.unwrap();
        fill(&*tree, at_once, || backend.sync().unwrap());
        backend.size_bytes() as f64 / (VALUES as usize * VALUE_BYTES) as f64
    }

    fn keys_of(tree: &dyn Tree, span: Span<'_>, direction: Direction) -> Vec<Vec<u8>> {
        let mut keys = Vec::new();
        let found = &mut |key: &[u8], _: &[u8]| {
            keys.push(key.to_vec());
            ControlFlow::Continue(())
        };
        tree.scan(span, direction, found).unwrap();
        keys
    }

    #[test]
    fn a_log_that_grows_by_many_values_at_once_takes_little_more_than_these() {
        let [in_a_tree, one_by_one, many] = [(1, false), (1, true), (64, true)].map(|(n, log)| file_share(n, log));
        assert!(many < 1.4, "{many} bytes for each that is stored");
        assert!(many < one_by_one && one_by_one < in_a_tree, "{many}, {one_by_one}, {in_a_tree}");
    }

    #[test]
    fn nobody_sees_what_was_announced_with_a_key_and_it_goes_with_that() {
        let home = tempfile::tempdir().unwrap();
        let backend = open(home.path());
        let (log, plain) = (backend.log_tree(b"log").unwrap(), backend.tree(b"log").unwrap());
        let mut keys: Vec<_> = (1..=20).map(key).collect();
        keys.insert(3, [&key(3)[..], &[0, 1]].concat());
        log.announce(&keys, keys.len() * 5_000).unwrap();
        keys.iter().for_each(|key| log.insert(key, &[1; 5_000]).unwrap());
        assert_eq!(keys_of(&*log, Span::ALL, Direction::Forward), keys);
        let back: Vec<_> = keys.iter().rev().cloned().collect();
        assert_eq!(keys_of(&*log, Span::ALL, Direction::Back), back);
        assert_eq!(keys_of(&*plain, Span::ALL, Direction::Forward).len(), 2 * keys.len() + KEYS.len());
        log.remove_all(&keys[..10], 50_000).unwrap();
        assert_eq!(keys_of(&*log, Span::ALL, Direction::Forward), keys[10..]);
        keys[10..].iter().for_each(|key| log.remove(key).unwrap());
        assert_eq!(keys_of(&*plain, Span::ALL, Direction::Forward).len(), KEYS.len());
        // What another one has removed meanwhile is not put back.
        log.remove_all(&keys, 1_000_000).unwrap();
        assert_eq!(keys_of(&*plain, Span::ALL, Direction::Forward).len(), KEYS.len());
    }

    #[test]
    fn nobody_sees_the_keys_at_the_end_and_who_takes_them_away_has_them_back() {
        let home = tempfile::tempdir().unwrap();
        for start in 0..3 {
            let backend = open(home.path());
            let log = backend.log_tree(b"log").unwrap();
            // Part of a batch at the largest offset, which has the largest key of all.
            let last = [&key(u64::MAX)[..], &[0xef, 0xff]].concat();
            let all = [key(start), key(u64::MAX), last];
            all.iter().for_each(|key| log.insert(key, b"x").unwrap());
            for direction in [Direction::Forward, Direction::Back] {
                let mut found = keys_of(&*log, Span::from(&key(start)), direction);
                found.sort();
                assert_eq!(found, all);
                assert_eq!(keys_of(&*log, Span::between(&key(start), &key(u64::MAX)), direction), [key(start)]);
            }
            // A program that does not know them takes away what lies past the end.
            let plain = backend.tree(b"log").unwrap();
            let beyond = keys_of(&*plain, Span::from(&key(start + 1)), Direction::Forward);
            assert_eq!(beyond.len(), 2 + KEYS.len(), "{beyond:x?}");
            beyond.iter().for_each(|key| plain.remove(key).unwrap());
        }
    }
}
