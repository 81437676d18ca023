//! Kafka's variable-length integers: zigzag, then seven bits a byte, least significant first.

/// Most bytes that one varint takes.
pub const VARINT_BYTES_MAX: usize = 10;

/// Small numbers of either sign become small unsigned ones.
#[inline]
pub fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

/// Undoes [`zigzag`].
#[inline]
pub fn unzigzag(n: u64) -> i64 {
    ((n >> 1) as i64) ^ -((n & 1) as i64)
}

/// Bytes that `n` takes, zigzag included.
#[inline]
pub fn varint_len(n: i64) -> usize {
    let bits = 64 - (zigzag(n) | 1).leading_zeros() as usize;
    bits.div_ceil(7)
}

/// Writes `n` at the start of `out`, which has room for it; the number of bytes written.
#[inline]
pub fn write_varint(out: &mut [u8], n: i64) -> usize {
    let mut rest = zigzag(n);
    let mut at = 0;
    while rest >= 0x80 {
        out[at] = rest as u8 | 0x80;
        rest >>= 7;
        at += 1;
    }
    out[at] = rest as u8;
    at + 1
}

/// Appends `n` to `out`.
#[inline]
pub fn push_varint(out: &mut Vec<u8>, n: i64) {
    let mut bytes = [0; VARINT_BYTES_MAX];
    let len = write_varint(&mut bytes, n);
    out.extend_from_slice(&bytes[..len]);
}

/// Takes one varint off the front of `bytes`; `None` where they end early or the number is too long.
#[inline]
pub fn take_varint(bytes: &mut &[u8]) -> Option<i64> {
    let (&first, rest) = bytes.split_first()?;
    if first < 0x80 {
        *bytes = rest;
        return Some(unzigzag(u64::from(first)));
    }
    take_long_varint(bytes)
}

fn take_long_varint(bytes: &mut &[u8]) -> Option<i64> {
    let mut n = 0_u64;
    for (at, &byte) in bytes.iter().take(VARINT_BYTES_MAX).enumerate() {
        if at == VARINT_BYTES_MAX - 1 && byte > 1 {
            return None;
        }
        n |= u64::from(byte & 0x7f) << (7 * at);
        if byte < 0x80 {
            *bytes = bytes.get(at + 1..)?;
            return Some(unzigzag(n));
        }
    }
    None
}

/// Takes `len` bytes off the front of `bytes`.
#[inline]
pub fn take_bytes<'a>(bytes: &mut &'a [u8], len: usize) -> Option<&'a [u8]> {
    let (head, rest) = bytes.split_at_checked(len)?;
    *bytes = rest;
    Some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_and_take_the_length_foretold() {
        for n in [0, 1, -1, 63, 64, -64, -65, 8191, 8192, i64::from(i32::MAX), i64::MAX, i64::MIN] {
            let mut bytes = Vec::new();
            push_varint(&mut bytes, n);
            assert_eq!(bytes.len(), varint_len(n), "{n}");
            let mut rest = bytes.as_slice();
            assert_eq!(take_varint(&mut rest), Some(n));
            assert!(rest.is_empty());
            assert_eq!(take_varint(&mut &bytes[..bytes.len() - 1]), None, "{n} cut short");
        }
    }

    #[test]
    fn known_bytes() {
        for (n, bytes) in [(0, &[0_u8][..]), (-1, &[1]), (1, &[2]), (150, &[0xac, 0x02])] {
            let mut out = Vec::new();
            push_varint(&mut out, n);
            assert_eq!(out, bytes);
        }
        assert_eq!(take_varint(&mut &[0xff; 10][..]), None);
        assert_eq!(take_varint(&mut &[0x80; 12][..]), None);
    }
}
