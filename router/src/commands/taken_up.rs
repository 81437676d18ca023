//! How far what a lost node has left was taken up: under which term, and how far its steps were read for that (pure).

use std::collections::BTreeMap;

/// The small named tree of how far it was read for that: the life, when it was taken up first, and where each partition of its steps ended.
pub(super) const READ_TREE: &str = "commands-taken-up-to";
/// The version byte before each value.
const VERSION: u8 = 1;

/// Up to where the steps of a lost node were read, by the number of the partition.
pub(super) type Ends = BTreeMap<u32, u64>;

/// How far what a life had left was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ReadUpTo {
    /// When it was taken up first under the term, in milliseconds since 1970 by the lost node's clock: what is queued later is of a node that
    /// lives.
    pub(super) first_ms: u64,
    pub(super) ends: Ends,
}

/// How what a life has left is taken up in this run.
#[derive(Debug, Default)]
pub(super) struct TakingUp {
    pub(super) term: u64,
    pub(super) ends: Ends,
    pub(super) is_running: bool,
}

impl TakingUp {
    /// Whether it is to be taken up, under this term and as far as it has come here: anew where the term is higher, and what has come since
    /// where more has.
    pub(super) fn is_due(&self, term: u64, ends: &Ends) -> bool {
        let is_more = || ends.iter().any(|(index, end)| *end > self.ends.get(index).copied().unwrap_or(0));
        !self.is_running && (term > self.term || term == self.term && is_more())
    }
}

/// The version byte, the time in 8 bytes, then the number of each partition and its end, 4 and 8 bytes, all big-endian.
pub(super) fn write_up_to(read: &ReadUpTo) -> Vec<u8> {
    let mut bytes = vec![VERSION];
    bytes.extend(read.first_ms.to_be_bytes());
    for (index, end) in &read.ends {
        bytes.extend(index.to_be_bytes());
        bytes.extend(end.to_be_bytes());
    }
    bytes
}

pub(super) fn read_up_to(bytes: &[u8]) -> Option<ReadUpTo> {
    let (&VERSION, body) = bytes.split_first()? else { return None };
    let (first_ms, ends) = body.split_first_chunk::<8>()?;
    let (all, []) = ends.as_chunks::<12>() else { return None };
    let read = |pair: &[u8; 12]| {
        let (index, end) = pair.split_first_chunk::<4>()?;
        Some((u32::from_be_bytes(*index), u64::from_be_bytes(end.try_into().ok()?)))
    };
    let ends = all.iter().map(read).collect::<Option<Ends>>()?;
    Some(ReadUpTo { first_ms: u64::from_be_bytes(*first_ms), ends })
}

pub(super) fn write_term(term: u64) -> Vec<u8> {
    [&[VERSION][..], &term.to_be_bytes()].concat()
}

pub(super) fn read_term(bytes: &[u8]) -> Option<u64> {
    match bytes.split_first()? {
        (&VERSION, term) => Some(u64::from_be_bytes(term.try_into().ok()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stored_of_a_take_over_has_these_bytes() {
        assert_eq!(write_term(258), [1, 0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(read_term(&write_term(258)), Some(258));
        assert_eq!((read_term(&[2, 0]), read_term(&[])), (None, None));
        let read = ReadUpTo { first_ms: 259, ends: Ends::from([(1, 2), (256, u64::MAX)]) };
        let head = [1, 0, 0, 0, 0, 0, 0, 1, 3];
        let bytes = [&head[..], &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 1, 0], &[0xff; 8]].concat();
        assert_eq!(write_up_to(&read), bytes);
        assert_eq!(read_up_to(&bytes), Some(read));
        assert_eq!(read_up_to(&head), Some(ReadUpTo { first_ms: 259, ends: Ends::new() }));
        for wrong in [&[][..], &[1], &[2; 9], &bytes[..12]] {
            assert_eq!(read_up_to(wrong), None, "{wrong:?}");
        }
    }

    #[test]
    fn what_comes_later_is_taken_up_too_and_one_at_a_time() {
        let ends = |all: &[(u32, u64)]| all.iter().copied().collect::<Ends>();
        let known = |term, all, is_running| TakingUp { term, ends: ends(all), is_running };
        for (known, term, here, due) in [
            (TakingUp::default(), 1, &[][..], true),
            (known(1, &[(0, 5)], false), 1, &[(0, 5)], false),
            (known(1, &[(0, 5)], false), 1, &[(0, 6)], true),
            (known(1, &[(0, 5)], false), 1, &[(0, 5), (1, 1)], true),
            (known(1, &[(0, 5)], false), 3, &[(0, 5)], true),
            (known(3, &[(0, 5)], false), 1, &[(0, 9)], false),
            (known(1, &[(0, 5)], true), 3, &[(0, 9)], false),
        ] {
            assert_eq!(known.is_due(term, &ends(here)), due, "{known:?} {term} {here:?}");
        }
    }
}
