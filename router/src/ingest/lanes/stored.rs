//! What is stored of a lane: one entry of the tree `lanes`, under the device's name, a zero byte and the lane.

use devices::sequence::{LANES, Lane, Number, Sequence};
use serde::{Deserialize, Serialize};
use sled_data::ReadError;

use super::cache::{Last, LastNumbers};
use crate::event_log::{EventLog, OpenCommit};

/// The small named tree of the last numbers.
const LANES_TREE: &str = "lanes";
/// The version byte before a stored number.
const VERSION: u8 = 1;
/// Most bytes of a stored value: the version and three numbers of ten.
const VALUE_BYTES_MAX: usize = 31;
/// Entries read at once; a device has [`LANES`] at most.
const PAGE_COUNT: usize = 1_000;

/// The last number of a lane as it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredV1 {
    pub(super) boot: u64,
    pub(super) seq: u64,
    /// In milliseconds since 1970, by the node's clock.
    pub(super) last_ms: u64,
}

/// An entry that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) device: String,
    pub(super) lane: Lane,
    pub(super) last: StoredV1,
}

pub(super) fn key(device: &str, lane: Lane) -> Vec<u8> {
    let mut key = Vec::with_capacity(device.len() + 2);
    key.extend_from_slice(device.as_bytes());
    key.extend_from_slice(&[0, lane.number()]);
    key
}

fn encode<'a>(last: &StoredV1, buffer: &'a mut [u8; VALUE_BYTES_MAX]) -> &'a [u8] {
    buffer[0] = VERSION;
    let written = postcard::to_slice(last, &mut buffer[1..]).map_or(0, |body| body.len());
    &buffer[..=written]
}

fn decode(key: &[u8], value: &[u8]) -> Option<Entry> {
    let (device, lane) = match key {
        [device @ .., 0, lane] => (std::str::from_utf8(device).ok()?, Lane::new(*lane)?),
        _ => return None,
    };
    let (&VERSION, body) = value.split_first()? else { return None };
    Some(Entry { device: device.to_owned(), lane, last: postcard::from_bytes(body).ok()? })
}

/// Writes a lane's last number with a commit.
pub(super) fn put(open: &mut OpenCommit<'_>, device: &str, sequence: Sequence, last_ms: u64) {
    let Number { boot, seq } = sequence.number;
    let value = StoredV1 { boot, seq, last_ms };
    open.put_state(LANES_TREE, &key(device, sequence.lane), Some(encode(&value, &mut [0; VALUE_BYTES_MAX])));
}

/// Writes a device's numbers anew, as of `last_ms`.
pub(super) fn stamp(open: &mut OpenCommit<'_>, device: &str, lanes: &LastNumbers, last_ms: u64) {
    for (lane, last) in Lane::ALL.into_iter().zip(lanes) {
        if let Some(last) = last {
            put(open, device, Sequence { lane, number: last.number }, last_ms);
        }
    }
}

/// The greatest key before those of a device, as far as a scan behind it can tell.
pub(super) fn before(device: &str) -> Vec<u8> {
    device.as_bytes().to_vec()
}

/// Removes all lanes of a device with a commit.
pub(super) fn remove(open: &mut OpenCommit<'_>, device: &str) {
    for lane in Lane::ALL {
        open.put_state(LANES_TREE, &key(device, lane), None);
    }
}

/// The stored numbers of a device.
///
/// # Errors
/// When the store cannot be read.
pub(super) fn lanes_of(log: &EventLog, device: &str) -> Result<LastNumbers, ReadError> {
    let prefix = [device.as_bytes(), &[0]].concat();
    let mut lanes = [None; LANES as usize];
    for (key, value) in log.state_scan(LANES_TREE, &prefix, None, LANES as usize)? {
        let Some(Entry { lane, last, .. }) = decode(&key, &value) else {
            tracing::error!(device, "a lane's stored number cannot be read and is left out");
            continue;
        };
        let number = Number { boot: last.boot, seq: last.seq };
        lanes[lane.index()] = Some(Last { number, last_ms: last.last_ms, ticket: None });
    }
    Ok(lanes)
}

/// Entries in the order of their keys, and the last key that was read.
pub(super) struct Page {
    pub(super) entries: Vec<Entry>,
    pub(super) last_key: Vec<u8>,
}

/// Entries behind key `after`, [`PAGE_COUNT`] at most; `None` at the end.
///
/// # Errors
/// When the store cannot be read.
pub(super) fn page(log: &EventLog, after: Option<&[u8]>) -> Result<Option<Page>, ReadError> {
    let entries = log.state_scan(LANES_TREE, &[], after, PAGE_COUNT)?;
    let Some((last_key, _)) = entries.last() else { return Ok(None) };
    let last_key = last_key.clone();
    Ok(Some(Page { entries: entries.iter().filter_map(|(key, value)| decode(key, value)).collect(), last_key }))
}

/// How many devices have numbers.
///
/// # Errors
/// When the store cannot be read.
pub(super) fn count_devices(log: &EventLog) -> Result<usize, ReadError> {
    let (mut count, mut after, mut device) = (0, None, None);
    while let Some(Page { entries, last_key }) = page(log, after.as_deref())? {
        after = Some(last_key);
        for entry in entries {
            if device.as_ref() != Some(&entry.device) {
                count += 1;
                device = Some(entry.device);
            }
        }
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_has_these_bytes() {
        let last = StoredV1 { boot: 17, seq: 300, last_ms: 1 };
        let golden_key = b"pump-7\0\x01";
        let golden = [1, 17, 0xac, 2, 1];
        assert_eq!(key("pump-7", Lane::NORMAL), golden_key);
        assert_eq!(encode(&last, &mut [0; VALUE_BYTES_MAX]), golden);
        let entry = Entry { device: "pump-7".to_owned(), lane: Lane::NORMAL, last };
        assert_eq!(decode(golden_key, &golden), Some(entry));
        let largest = StoredV1 { boot: u64::MAX, seq: u64::MAX, last_ms: u64::MAX };
        assert_eq!(encode(&largest, &mut [0; VALUE_BYTES_MAX]).len(), VALUE_BYTES_MAX);
        let broken: [(&[u8], &[u8]); 4] =
            [(b"pump-7", &golden), (b"pump-7\0\x03", &golden), (golden_key, &[]), (golden_key, &[2, 1, 1, 1])];
        for (key, value) in broken {
            assert_eq!(decode(key, value), None, "{key:?} {value:?}");
        }
    }
}
