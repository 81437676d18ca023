//! A group of writes as one value.
//!
//! ```text
//! value:  version u8 = 1 | tree's name: length u16, bytes | number of writes u32 | writes | crc32c of all before u32
//! write:  1 | key's length u16 | value's length u32 | key | value        a value is written
//!         0 | key's length u16 | key                                     a key is removed
//! ```
//! Numbers are little-endian. Version and check stand where they do in each version.

use super::Group;

/// The newest version that is known.
pub(super) const VERSION: u8 = 1;
const PUT: u8 = 1;
const REMOVE: u8 = 0;
/// Bytes of the check at the end.
const SUM_BYTES: usize = 4;

/// Encodes a group of the tree `name` into `out`; false where it takes more than `bytes_max`, or a length does not fit.
pub(super) fn encode(name: &[u8], group: &Group, bytes_max: usize, out: &mut Vec<u8>) -> bool {
    out.clear();
    if group.bytes() > bytes_max {
        return false;
    }
    out.push(VERSION);
    encode_parts(name, group, out).is_some() && {
        out.extend_from_slice(&crc32c::crc32c(out).to_le_bytes());
        out.len() <= bytes_max
    }
}

fn encode_parts(name: &[u8], group: &Group, out: &mut Vec<u8>) -> Option<()> {
    out.extend_from_slice(&u16::try_from(name.len()).ok()?.to_le_bytes());
    out.extend_from_slice(name);
    let writes = u32::try_from(group.iter().count()).ok()?;
    out.extend_from_slice(&writes.to_le_bytes());
    for (key, value) in group.iter() {
        out.push(if value.is_some() { PUT } else { REMOVE });
        out.extend_from_slice(&u16::try_from(key.len()).ok()?.to_le_bytes());
        if let Some(value) = value {
            out.extend_from_slice(&u32::try_from(value.len()).ok()?.to_le_bytes());
        }
        out.extend_from_slice(key);
        out.extend_from_slice(value.unwrap_or_default());
    }
    Some(())
}

/// Why a value is not read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// It is whole, and of this version.
    Newer(u8),
    /// It is not whole.
    Damaged,
}

/// What a value says: the tree's name and the group.
pub(super) fn decode(bytes: &[u8]) -> Result<(Vec<u8>, Group), Unreadable> {
    let (body, sum) = bytes.split_last_chunk::<SUM_BYTES>().ok_or(Unreadable::Damaged)?;
    if crc32c::crc32c(body) != u32::from_le_bytes(*sum) {
        return Err(Unreadable::Damaged);
    }
    match body.split_first() {
        Some((&VERSION, rest)) => decode_parts(rest).ok_or(Unreadable::Damaged),
        Some((&version, _)) if version > VERSION => Err(Unreadable::Newer(version)),
        _ => Err(Unreadable::Damaged),
    }
}

fn decode_parts(bytes: &[u8]) -> Option<(Vec<u8>, Group)> {
    let mut rest = Rest(bytes);
    let name_len = rest.length_u16()?;
    let name = rest.take(name_len)?.to_vec();
    let writes = rest.length_u32()?;
    let mut group = Group::new();
    for _ in 0..writes {
        let is_put = match *rest.take(1)? {
            [PUT] => true,
            [REMOVE] => false,
            _ => return None,
        };
        let key_len = rest.length_u16()?;
        if is_put {
            let value_len = rest.length_u32()?;
            let key = rest.take(key_len)?;
            group.put(key, rest.take(value_len)?);
        } else {
            group.remove(rest.take(key_len)?);
        }
    }
    rest.0.is_empty().then_some((name, group))
}

struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn take(&mut self, bytes: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(bytes)?;
        self.0 = rest;
        Some(taken)
    }

    fn length_u16(&mut self) -> Option<usize> {
        Some(usize::from(u16::from_le_bytes(self.take(2)?.try_into().ok()?)))
    }

    fn length_u32(&mut self) -> Option<usize> {
        usize::try_from(u32::from_le_bytes(self.take(4)?.try_into().ok()?)).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group() -> Group {
        let mut group = Group::new();
        group.put(b"k", b"value");
        group.remove(b"gone");
        group.put(b"empty", b"");
        group
    }

    #[test]
    fn a_group_has_golden_bytes_and_comes_back() {
        let mut bytes = Vec::new();
        assert!(encode(b"meta", &group(), 1_000, &mut bytes));
        let body = b"\x01\x04\0meta\x03\0\0\0\x01\x01\0\x05\0\0\0kvalue\0\x04\0gone\x01\x05\0\0\0\0\0empty";
        assert_eq!(bytes[..bytes.len() - SUM_BYTES], body[..]);
        let (name, back) = decode(&bytes).unwrap();
        assert_eq!(name, b"meta");
        assert!(back.iter().eq(group().iter()));
    }

    #[test]
    fn damage_is_seen_and_nothing_is_read_past_the_end() {
        let mut bytes = Vec::new();
        assert!(encode(b"meta", &group(), 1_000, &mut bytes));
        for at in 0..bytes.len() {
            let mut broken = bytes.clone();
            broken[at] ^= 0x20;
            assert_eq!(decode(&broken).err(), Some(Unreadable::Damaged), "byte {at}");
            assert_eq!(decode(&bytes[..at]).err(), Some(Unreadable::Damaged), "cut at {at}");
        }
    }

    #[test]
    fn a_newer_version_is_told_from_damage() {
        for (version, why) in [(0, Unreadable::Damaged), (2, Unreadable::Newer(2)), (255, Unreadable::Newer(255))] {
            let mut bytes = vec![version, 7, 7];
            bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_le_bytes());
            assert_eq!(decode(&bytes).err(), Some(why));
        }
    }

    #[test]
    fn what_is_too_large_is_not_encoded() {
        let mut bytes = Vec::new();
        assert!(encode(b"meta", &group(), 1_000, &mut bytes));
        let whole = bytes.len();
        assert!(encode(b"meta", &group(), whole, &mut bytes));
        assert!(!encode(b"meta", &group(), whole - 1, &mut bytes));
        assert!(!encode(&[0; 70_000], &group(), 1 << 20, &mut bytes), "a name that no length can say");
    }
}
