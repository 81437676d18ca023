//! What is dropped so that another publish fits; pure.

use super::super::config::Overflow;
use crate::sequence::{LANES, Lane, Number};

/// Lists that wait: of each lane those without a number, then those with one.
pub(super) const LISTS: usize = 2 * LANES as usize;

/// What a part of the buffer holds, and may hold.
#[derive(Clone, Copy)]
pub(super) struct Room {
    pub(super) publishes: usize,
    pub(super) publishes_max: usize,
    pub(super) bytes: u64,
    pub(super) bytes_max: u64,
}

/// There is no room, and none may be made.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoRoom;

/// How many of each list's oldest have to go for a newcomer of a lane and size.
///
/// `nth` gives the order and size of a list's n-th that waits in the same part of the buffer.
pub(super) fn victims(
    overflow: Overflow,
    mut room: Room,
    (lane, bytes): (Lane, u64),
    mut nth: impl FnMut(usize, usize) -> Option<(Number, u64)>,
) -> Result<[usize; LISTS], NoRoom> {
    let mut counts = [0; LISTS];
    if bytes > room.bytes_max {
        return Err(NoRoom);
    }
    while room.publishes >= room.publishes_max || room.bytes > room.bytes_max - bytes {
        let oldest = (0..LISTS).filter_map(|list| nth(list, counts[list]).map(|(number, bytes)| (number, list, bytes)));
        let least_urgent = |list: usize| std::cmp::Reverse(list / 2);
        let victim = match overflow {
            Overflow::Refuse => None,
            Overflow::DropOldest => oldest.min(),
            Overflow::KeepByPriority => oldest
                .filter(|(_, list, _)| list / 2 > lane.index())
                .min_by_key(|(number, list, _)| (least_urgent(*list), *number)),
        };
        let (_, list, bytes) = victim.ok_or(NoRoom)?;
        counts[list] += 1;
        room.publishes = room.publishes.saturating_sub(1);
        room.bytes = room.bytes.saturating_sub(bytes);
    }
    Ok(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO_EACH: [&[u64]; LISTS] = [&[], &[1, 9], &[], &[3, 5], &[4], &[2, 6]];

    fn check(overflow: Overflow, lane: Lane, publishes_max: usize) -> Result<[usize; LISTS], NoRoom> {
        let room = Room { publishes: 7, publishes_max, bytes: 70, bytes_max: 1_000 };
        victims(overflow, room, (lane, 10), |list, at| {
            TWO_EACH[list].get(at).map(|seq| (Number { boot: 1, seq: *seq }, 10))
        })
    }

    #[test]
    fn each_rule_drops_what_it_says() {
        use Overflow::{DropOldest, KeepByPriority, Refuse};
        let cases = [
            (Refuse, Lane::URGENT, 8, Ok([0; LISTS])),
            (Refuse, Lane::URGENT, 7, Err(NoRoom)),
            (DropOldest, Lane::BULK, 7, Ok([0, 1, 0, 0, 0, 0])),
            (DropOldest, Lane::URGENT, 4, Ok([0, 1, 0, 1, 1, 1])),
            (DropOldest, Lane::NORMAL, 0, Err(NoRoom)),
            (KeepByPriority, Lane::URGENT, 7, Ok([0, 0, 0, 0, 0, 1])),
            (KeepByPriority, Lane::URGENT, 6, Ok([0, 0, 0, 0, 1, 1])),
            (KeepByPriority, Lane::URGENT, 4, Ok([0, 0, 0, 1, 1, 2])),
            (KeepByPriority, Lane::NORMAL, 5, Ok([0, 0, 0, 0, 1, 2])),
            (KeepByPriority, Lane::NORMAL, 4, Err(NoRoom)),
            (KeepByPriority, Lane::BULK, 7, Err(NoRoom)),
        ];
        for (overflow, lane, publishes_max, expected) in cases {
            assert_eq!(check(overflow, lane, publishes_max), expected, "{overflow:?} {lane:?} {publishes_max}");
        }
    }

    #[test]
    fn bytes_are_a_bound_too() {
        let room = Room { publishes: 3, publishes_max: 100, bytes: 90, bytes_max: 100 };
        let nth = |list, at| (list == 5 && at < 9).then_some((Number { boot: 1, seq: at as u64 }, 10));
        let dropped = |bytes| victims(Overflow::DropOldest, room, (Lane::NORMAL, bytes), nth).map(|counts| counts[5]);
        assert_eq!(dropped(10), Ok(0));
        assert_eq!(dropped(11), Ok(1));
        assert_eq!(dropped(25), Ok(2));
        assert_eq!(dropped(101), Err(NoRoom), "more than an empty buffer holds");
    }
}
