//! How a partition goes on over a link: from where the receiver ends, or not at all (pure).

use sled_data::Offset;

/// What the receiver has of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stand {
    /// The offset of the next event.
    pub end: Offset,
    /// The hybrid clock of the batch that ends there; 0 where it is not kept.
    pub hlc: u64,
    /// The running digest.
    pub digest: u64,
    /// Whether it has all from the first offset on: only then the digest says something.
    pub is_gapless: bool,
}

/// What the batch before an offset is, here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// A batch ends there, with this hybrid clock.
    Clock(u64),
    /// No batch ends there, though what lies there is kept.
    Across,
    /// One side does not keep it any more; what comes after it is here, and so the running digest there is known.
    Digest(u64),
    /// Nothing is kept there. Within a log clocks never fall: one that ends there has a hybrid clock from this one to that one, both of them with it.
    Between(u64, u64),
    /// It is not kept, or cannot be read.
    Unknown,
}

/// What is here of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mine {
    /// The offset of the next event.
    pub end: Offset,
    /// What lies before the receiver's end.
    pub before: Before,
    /// The running digest.
    pub digest: u64,
    /// Whether all from the first offset on came here.
    pub is_gapless: bool,
    /// Whether the origin was found to be another one there: nothing of it goes but what is known to be the same.
    pub is_apart: bool,
}

/// How it goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// From this offset.
    From(Offset),
    /// The receiver has more: what is here was restored, or another gateway has sent more of it.
    Ahead,
    /// The receiver has something else.
    Forked,
    /// The receiver has something else of the origin, and nothing is left by which this partition could be told to be the same.
    Doubtful,
}

/// Decides.
pub fn begin(stand: &Stand, mine: &Mine) -> Begin {
    if stand.end > mine.end {
        return Begin::Ahead;
    }
    let are_gapless = stand.is_gapless && mine.is_gapless;
    let is_other = match mine.before {
        Before::Clock(hlc) => stand.hlc != 0 && hlc != stand.hlc,
        // Batches are stored whole: upstream ends within none of those that it had from here.
        Before::Across => true,
        Before::Digest(digest) => are_gapless && digest != stand.digest,
        Before::Between(lo, hi) => stand.hlc != 0 && !(lo..=hi).contains(&stand.hlc),
        Before::Unknown => false,
    };
    if is_other || are_gapless && stand.end == mine.end && stand.digest != mine.digest {
        return Begin::Forked;
    }
    let is_same = match mine.before {
        Before::Clock(_) => stand.hlc != 0,
        Before::Digest(_) => are_gapless,
        // A clock that fits may be another one's.
        Before::Across | Before::Between(..) | Before::Unknown => are_gapless && stand.end == mine.end,
    };
    if mine.is_apart && stand.end > 0 && !is_same { Begin::Doubtful } else { Begin::From(stand.end) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_partition_goes_on_where_the_receiver_ends() {
        let stand = |end, hlc, digest, is_gapless| Stand { end, hlc, digest, is_gapless };
        let mine = |end, before, digest, is_gapless| Mine { end, before, digest, is_gapless, is_apart: false };
        let cases = [
            ("first contact", stand(0, 0, 0, true), mine(9, Before::Unknown, 5, true), Begin::From(0)),
            ("the next", stand(4, 70, 3, true), mine(9, Before::Clock(70), 5, true), Begin::From(4)),
            ("nothing new", stand(9, 70, 5, true), mine(9, Before::Clock(70), 5, true), Begin::From(9)),
            ("what it had last is gone here", stand(4, 70, 3, true), mine(9, Before::Unknown, 5, true), Begin::From(4)),
            (
                "what it had last is gone there",
                stand(4, 0, 3, true),
                mine(9, Before::Clock(70), 5, true),
                Begin::From(4),
            ),
            ("it has more", stand(10, 70, 5, true), mine(9, Before::Unknown, 5, true), Begin::Ahead),
            ("another batch", stand(4, 71, 3, true), mine(9, Before::Clock(70), 5, true), Begin::Forked),
            ("gone here, the same", stand(4, 70, 3, true), mine(9, Before::Digest(3), 5, true), Begin::From(4)),
            ("gone here, not the same", stand(4, 70, 3, true), mine(9, Before::Digest(2), 5, true), Begin::Forked),
            ("gone here, with a gap", stand(4, 70, 3, false), mine(9, Before::Digest(2), 5, true), Begin::From(4)),
            ("across a batch", stand(4, 71, 3, true), mine(9, Before::Across, 5, true), Begin::Forked),
            ("across a batch, its own is gone", stand(4, 0, 3, true), mine(9, Before::Across, 5, true), Begin::Forked),
            ("in a gap here, newer", stand(4, 71, 3, false), mine(9, Before::Between(60, 70), 5, false), Begin::Forked),
            ("in a gap here, older", stand(4, 59, 3, false), mine(9, Before::Between(60, 70), 5, false), Begin::Forked),
            (
                "of the commit before",
                stand(4, 60, 3, false),
                mine(9, Before::Between(60, 70), 5, false),
                Begin::From(4),
            ),
            (
                "of the commit behind",
                stand(4, 70, 3, false),
                mine(9, Before::Between(60, 70), 5, false),
                Begin::From(4),
            ),
            ("in a gap of both", stand(4, 0, 3, false), mine(9, Before::Between(60, 70), 5, false), Begin::From(4)),
            ("other events", stand(9, 70, 6, true), mine(9, Before::Clock(70), 5, true), Begin::Forked),
            ("its digest lacks a gap", stand(9, 70, 6, false), mine(9, Before::Clock(70), 5, true), Begin::From(9)),
            ("ours lacks a gap", stand(9, 70, 6, true), mine(9, Before::Clock(70), 5, false), Begin::From(9)),
        ];
        for (case, stand, mine, expected) in cases {
            assert_eq!(begin(&stand, &mine), expected, "{case}");
        }
    }

    #[test]
    fn of_an_origin_that_is_another_one_there_only_what_is_the_same_goes_on() {
        let stand = |end, hlc, is_gapless| Stand { end, hlc, digest: 3, is_gapless };
        let mine = |end, before, digest| Mine { end, before, digest, is_gapless: true, is_apart: true };
        let cases = [
            ("nothing is there", stand(0, 0, true), mine(9, Before::Unknown, 5), Begin::From(0)),
            ("the same batch", stand(4, 70, false), mine(9, Before::Clock(70), 5), Begin::From(4)),
            ("the same events", stand(4, 0, true), mine(9, Before::Digest(3), 5), Begin::From(4)),
            ("the same events, and no more", stand(9, 0, true), mine(9, Before::Unknown, 3), Begin::From(9)),
            ("another batch", stand(4, 71, false), mine(9, Before::Clock(70), 5), Begin::Forked),
            ("its batch is gone there", stand(4, 0, false), mine(9, Before::Clock(70), 5), Begin::Doubtful),
            ("its batch is gone here", stand(4, 70, false), mine(9, Before::Unknown, 5), Begin::Doubtful),
            ("its clock fits a gap here", stand(4, 65, false), mine(9, Before::Between(60, 70), 5), Begin::Doubtful),
            ("its clock fits no gap here", stand(4, 71, false), mine(9, Before::Between(60, 70), 5), Begin::Forked),
            ("a digest that lacks a gap", stand(4, 0, false), mine(9, Before::Digest(2), 5), Begin::Doubtful),
            ("the ends alone are the same", stand(9, 0, false), mine(9, Before::Unknown, 5), Begin::Doubtful),
        ];
        for (case, stand, mine, expected) in cases {
            assert_eq!(begin(&stand, &mine), expected, "{case}");
        }
    }
}
