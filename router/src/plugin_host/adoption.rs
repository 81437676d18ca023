//! What a node takes from the one that had a charge before: decided here, done by `taking_up`.
//!
//! State belongs to a partition number over all of a plugin's topics, so partitions of one number go together.

use sled_data::Offset;

use super::charge::{SpanV1, SpansV1};

/// One partition, as it stands before the charge begins.
#[derive(Debug, Clone, Default)]
pub struct Standing {
    /// Where this node is in it: its cursor, or the start.
    pub own: Offset,
    /// Where its predecessor is, as far as is known here; `None` where that never read it.
    pub before: Option<Offset>,
    /// The newest span of an earlier term in this node's own record, where it is of this life.
    pub own_span: Option<SpanV1>,
    /// Whether a begin under the same term, which was cut short, has taken the predecessor's place and state.
    pub was_taken: bool,
    /// The newest spans that are known.
    pub known: SpansV1,
    /// The oldest offset that is stored.
    pub start: Offset,
    /// Whether an earlier life than the charge's has written it.
    pub is_earlier: bool,
}

/// Who had the charge before, as this node sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Before {
    /// Nobody, or this node: it goes on where it is.
    Own,
    /// Another, which read this node's own origin while it was away.
    Guest,
    /// Another.
    Other,
}

/// What to do with the state of a partition number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It stays.
    Stays,
    /// It is replaced by the predecessor's.
    Taken,
}

/// Where each of the partitions of one number begins under `term`.
pub fn begin(before: Before, standings: &[Standing], term: u64, life: u64) -> (State, Vec<SpanV1>) {
    let own_from = |standing: &Standing| standing.own_span.map_or(0, |span| span.from);
    let own_since = |standing: &Standing| standing.own_span.map_or(0, |span| span.since);
    // This node had done more than the other: what it did stands, if all of it is its own.
    let stands = |s: &Standing| {
        // Readers do not wait for what was done of an earlier life beyond the other: it counts for nobody.
        let did_more = |before| if s.is_earlier { s.own == before } else { s.own >= before };
        !s.was_taken && s.before.is_none_or(|before| did_more(before) && before >= own_from(s))
    };
    // What nobody else has read of an earlier life goes on where it is: lives before this one have derived of it.
    let first = |s: &Standing, from: Offset| s.before.unwrap_or(if s.is_earlier { s.own } else { from });
    let span = |since, from| SpanV1 { term, since, life, from };
    match before {
        Before::Own => (State::Stays, standings.iter().map(|s| span(term, s.own)).collect()),
        Before::Guest if standings.iter().all(stands) => {
            let begun = |s: &Standing| span(own_since(s), first(s, own_from(s)));
            (State::Stays, standings.iter().map(begun).collect())
        }
        Before::Guest | Before::Other => {
            (State::Taken, standings.iter().map(|s| span(term, first(s, s.start))).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn standing(own: Offset, before: Option<Offset>, own_span: Option<(u64, Offset)>) -> Standing {
        let own_span = own_span.map(|(since, from)| SpanV1 { term: 2, since, life: 1, from });
        Standing { own, before, own_span, was_taken: false, known: SpansV1::default(), start: 3, is_earlier: false }
    }

    #[test]
    fn who_did_more_goes_on_where_it_is() {
        use Before::{Guest, Other, Own};
        use State::{Stays, Taken};
        let s = standing;
        let e = |standing| Standing { is_earlier: true, ..standing };
        // Who had it, the partitions of one number, what becomes of the state, where it begins: (since, from).
        type Case<'a> = (Before, &'a [Standing], State, &'a [(u64, Offset)]);
        let cases: &[Case<'_>] = &[
            (Own, &[s(9, None, None)], Stays, &[(4, 9)]),
            (Own, &[s(9, Some(9), Some((2, 5)))], Stays, &[(4, 9)]),
            (Other, &[s(0, Some(9), None)], Taken, &[(4, 9)]),
            (Other, &[s(12, Some(9), None)], Taken, &[(4, 9)]),
            (Other, &[s(0, None, None)], Taken, &[(4, 3)]),
            (Guest, &[s(9, Some(9), None)], Stays, &[(0, 9)]),
            (Guest, &[s(12, Some(9), None)], Stays, &[(0, 9)]),
            (Guest, &[s(12, Some(9), Some((2, 7)))], Stays, &[(2, 9)]),
            // What it has of 9 and 10 is not its own work.
            (Guest, &[s(12, Some(9), Some((2, 11)))], Taken, &[(4, 9)]),
            (Guest, &[s(8, Some(9), None)], Taken, &[(4, 9)]),
            (Guest, &[Standing { was_taken: true, ..s(9, Some(9), None) }], Taken, &[(4, 9)]),
            (Guest, &[s(8, None, None)], Stays, &[(0, 0)]),
            // State is of the number: all of its partitions stand, or none.
            (Guest, &[s(12, Some(9), None), s(1, Some(2), None)], Taken, &[(4, 9), (4, 2)]),
            (Guest, &[s(12, Some(9), None), s(5, None, None)], Stays, &[(0, 9), (0, 0)]),
            // Of an earlier life.
            (Other, &[e(s(0, Some(9), None)), e(s(5, None, None))], Taken, &[(4, 9), (4, 5)]),
            (Guest, &[s(12, Some(9), None), e(s(6, Some(6), None))], Stays, &[(0, 9), (0, 6)]),
            (Guest, &[s(12, Some(9), None), e(s(7, Some(6), None))], Taken, &[(4, 9), (4, 6)]),
            (Guest, &[s(12, Some(9), None), e(s(7, None, None))], Stays, &[(0, 9), (0, 7)]),
            (Guest, &[s(8, Some(9), None), e(s(7, None, None))], Taken, &[(4, 9), (4, 7)]),
        ];
        for (before, standings, state, begins) in cases {
            let (told, spans) = begin(*before, standings, 4, 1);
            let spans: Vec<(u64, Offset)> = spans.iter().map(|span| (span.since, span.from)).collect();
            assert_eq!((told, spans.as_slice()), (*state, *begins), "{before:?} {standings:?}");
        }
    }
}
