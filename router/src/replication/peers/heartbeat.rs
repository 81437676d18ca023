//! The datagram by which a node is known to be alive, and how far its log is (pure).
//!
//! A version byte, then five numbers of 8 bytes each, the lowest first: 41 bytes.

/// The only version.
const VERSION: u8 = 1;

/// What a node says each second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Heartbeat {
    /// Which process it is.
    pub incarnation: u64,
    /// The newest commit of its own that is synced; 0 where there is none.
    pub synced: u64,
    /// The newest commit of its own whose events count as durable in topics that ask for more nodes.
    pub quorum: u64,
    /// Its hybrid clock.
    pub hybrid: u64,
    /// Its wall clock, milliseconds since 1970.
    pub wall_ms: i64,
}

impl Heartbeat {
    pub(super) fn encode(&self) -> Vec<u8> {
        let wall = self.wall_ms.to_le_bytes();
        let numbers = [self.incarnation, self.synced, self.quorum, self.hybrid].map(u64::to_le_bytes);
        let mut bytes = vec![VERSION];
        bytes.extend(numbers.as_flattened());
        bytes.extend(wall);
        bytes
    }

    /// `None` for what is no heartbeat.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&VERSION, body) = bytes.split_first()? else { return None };
        let ([incarnation, synced, quorum, hybrid, wall], []) = body.as_chunks::<8>() else { return None };
        let number = |bytes: &[u8; 8]| u64::from_le_bytes(*bytes);
        Some(Self {
            incarnation: number(incarnation),
            synced: number(synced),
            quorum: number(quorum),
            hybrid: number(hybrid),
            wall_ms: i64::from_le_bytes(*wall),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bytes_do_not_change() {
        let heartbeat = Heartbeat { incarnation: 0x0102, synced: 3, quorum: 4, hybrid: u64::MAX, wall_ms: -1 };
        let bytes = heartbeat.encode();
        let mut expected = vec![1, 2, 1, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0];
        expected.extend([0xff; 16]);
        assert_eq!((bytes.len(), &bytes), (41, &expected));
        assert_eq!(Heartbeat::decode(&bytes), Some(heartbeat));
        for wrong in [&b""[..], b"x", &bytes[..40], &[&bytes[..], &[0]].concat(), &[&[2], &bytes[1..]].concat()] {
            assert_eq!(Heartbeat::decode(wrong), None);
        }
    }
}
