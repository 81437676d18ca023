//! Datagrams in a stream of bytes: two bytes of length, the highest first, then the datagram (pure).

use bytes::{Buf, Bytes, BytesMut};

/// Largest datagram, in bytes: what an endpoint of QUIC says that it takes.
pub(super) const DATAGRAM_BYTES_MAX: usize = 1_472;
/// Bytes before each datagram.
const LENGTH_BYTES: usize = 2;

/// A stream that carries something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a datagram of {0} bytes: 1 to 1,472 are taken")]
pub(super) struct FramingError(usize);

/// Writes a datagram behind others. One that no other side would take is dropped, as a network would.
pub(super) fn put(datagram: &[u8], out: &mut BytesMut) {
    let Some(length) = u16::try_from(datagram.len()).ok().filter(|length| fits(usize::from(*length))) else { return };
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(datagram);
}

fn fits(length: usize) -> bool {
    (1..=DATAGRAM_BYTES_MAX).contains(&length)
}

/// Takes a stream apart. It holds what came and was not asked for yet, and at most one datagram that is not whole.
#[derive(Debug, Default)]
pub(super) struct Splitter {
    bytes: BytesMut,
}

impl Splitter {
    /// More has come.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole datagram.
    ///
    /// # Errors
    /// When its length cannot be; nothing after it is to be read.
    pub(super) fn next(&mut self) -> Result<Option<Bytes>, FramingError> {
        let Some(length) = self.bytes.first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes(*length));
        if !fits(length) {
            return Err(FramingError(length));
        }
        if self.bytes.len() < LENGTH_BYTES + length {
            return Ok(None);
        }
        self.bytes.advance(LENGTH_BYTES);
        Ok(Some(self.bytes.split_to(length).freeze()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What comes out of a stream that arrives in such pieces, and whether it is refused.
    fn split(pieces: &[&[u8]]) -> (Vec<Vec<u8>>, Option<FramingError>) {
        let (mut splitter, mut found) = (Splitter::default(), Vec::new());
        for piece in pieces {
            splitter.add(piece);
            loop {
                match splitter.next() {
                    Ok(Some(datagram)) => found.push(datagram.to_vec()),
                    Ok(None) => break,
                    Err(error) => return (found, Some(error)),
                }
            }
        }
        (found, None)
    }

    #[test]
    fn datagrams_come_out_as_they_went_in_however_they_are_cut() {
        let datagrams: Vec<Vec<u8>> = [1, 2, 255, 256, 1_200, DATAGRAM_BYTES_MAX]
            .into_iter()
            .map(|length| (0..length).map(|at| at as u8).collect())
            .collect();
        let mut stream = BytesMut::new();
        datagrams.iter().for_each(|datagram| put(datagram, &mut stream));
        for size in [1, 2, 3, 7, 256, 1_000, stream.len()] {
            let pieces: Vec<&[u8]> = stream.chunks(size).collect();
            assert_eq!(split(&pieces), (datagrams.clone(), None), "pieces of {size}");
        }
    }

    #[test]
    fn what_is_no_datagram_is_refused_and_half_a_one_waits() {
        // the stream, what comes out of it, the length for which it is refused
        let cases: [(&[&[u8]], &[&[u8]], Option<usize>); 7] = [
            (&[], &[], None),
            (&[&[0]], &[], None),
            (&[&[0], &[2], b"a"], &[], None),
            (&[&[0, 0], b"more"], &[], Some(0)),
            (&[&[0, 1], b"a", &[0, 0]], &[b"a"], Some(0)),
            (&[&[5, 0xc1]], &[], Some(DATAGRAM_BYTES_MAX + 1)),
            (&[b"GET / HTTP/1.1"], &[], Some(0x4745)),
        ];
        for (stream, expected, refused) in cases {
            let (found, error) = split(stream);
            assert_eq!((found, error), (expected.iter().map(|one| one.to_vec()).collect(), refused.map(FramingError)));
        }
        let mut out = BytesMut::new();
        put(&[], &mut out);
        put(&[0; DATAGRAM_BYTES_MAX + 1], &mut out);
        put(&[0; 70_000], &mut out);
        assert!(out.is_empty(), "nothing that the other side refuses is sent");
    }
}
