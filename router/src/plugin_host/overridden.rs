//! Which derived events count: pure.
//!
//! Where work went from one life to another, both may have derived events of the same source event. The spans of the
//! source's partition say whose count: of the spans that begin at or before the source's offset, the newest.

use sled_data::{Offset, OriginId};

use super::charge::{SPANS_MAX, SpansV1};

/// What is to be done with a derived event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is read.
    Counts,
    /// It is skipped: another life derives events of its source, and those count.
    Overridden,
    /// This node does not know yet: reading stops before it, and it is asked again later.
    NotYet,
}

/// A derived event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Derived {
    /// The life in whose partition it stands.
    pub life: OriginId,
    /// Who reads the source's partition where nobody has taken it over.
    pub natural: Option<OriginId>,
    /// Of a source in an earlier life than the charge's: whether a life of the same node has derived the event, as far as is known. `None` for any other.
    pub by_its_node: Option<bool>,
    /// The term under which it was derived.
    pub term: u64,
    /// The source's offset.
    pub offset: Offset,
}

/// Judges a derived event. `spans` are the newest known of the source's partition, `decided` is the term under which
/// the site has given the partition away last (0: never), and `done_to` tells how far a life is known to have read it.
pub fn judge(event: Derived, spans: &SpansV1, decided: u64, done_to: impl FnOnce(OriginId) -> Offset) -> Verdict {
    let newest = spans.newest();
    let known_term = newest.map_or(0, |span| span.term);
    if decided > known_term && decided > event.term {
        // Who has it now has not said where it begins, and may not have known of the newest span.
        return Verdict::NotYet;
    }
    let owner = spans.spans.iter().rposition(|span| span.from <= event.offset);
    let owning = owner.and_then(|at| spans.spans.get(at));
    let counts = match owning {
        _ if event.term > known_term => true,
        // Before the first who took it over its node has read it alone; another one that was given it then has not said so in time.
        None if event.by_its_node == Some(false) && spans.spans.len() < SPANS_MAX => false,
        None => spans.is_cut || event.natural.is_none_or(|natural| natural == event.life),
        Some(span) => span.life == event.life.0 && event.term >= span.since,
    };
    if counts {
        return Verdict::Counts;
    }
    // The life that writes the source's partition comes back: what it did beyond the others may stand.
    let is_newest = owner.is_some_and(|at| at + 1 == spans.spans.len());
    match newest {
        Some(span) if is_newest && event.natural == Some(event.life) && span.life != event.life.0 => {
            if event.offset >= done_to(OriginId(span.life)) { Verdict::NotYet } else { Verdict::Overridden }
        }
        _ => Verdict::Overridden,
    }
}

/// Up to which offset a partition may be read by one who reads whole runs: the first event that is not judged yet, or
/// `end`.
pub fn readable_to(judged: impl IntoIterator<Item = (Offset, Verdict)>, end: Offset) -> Offset {
    judged.into_iter().find(|(_, verdict)| *verdict == Verdict::NotYet).map_or(end, |(offset, _)| offset.min(end))
}

#[cfg(test)]
mod tests {
    use super::Verdict::{Counts, NotYet, Overridden};
    use super::*;
    use crate::plugin_host::charge::SpanV1;

    const A: u64 = 1;
    const B: u64 = 2;
    const C: u64 = 3;

    fn spans(list: &[(u64, u64, u64, u64)]) -> SpansV1 {
        let span = |(term, since, life, from): &(u64, u64, u64, u64)| SpanV1 {
            term: *term,
            since: *since,
            life: *life,
            from: *from,
        };
        SpansV1 { is_cut: false, spans: list.iter().map(span).collect() }
    }

    /// Judges an event of `life` under `term` from `offset` of A's partition; everybody has read up to 20.
    fn told(list: &[(u64, u64, u64, u64)], decided: u64, (life, term, offset): (u64, u64, u64)) -> Verdict {
        let event = Derived { life: OriginId(life), natural: Some(OriginId(A)), by_its_node: None, term, offset };
        judge(event, &spans(list), decided, |_| 20)
    }

    #[test]
    fn of_two_lives_that_derived_from_one_event_one_counts() {
        let none: &[(u64, u64, u64, u64)] = &[];
        let taken = &[(1, 1, B, 10)];
        let stands = &[(1, 1, B, 10), (2, 0, A, 20)];
        let anew = &[(1, 1, B, 10), (2, 2, A, 20)];
        let twice = &[(1, 1, B, 10), (3, 3, C, 15)];
        // Spans, the decided term, the event, what is said of it.
        let cases = [
            (none, 0, (A, 0, 5), Counts),
            // It is decided that another has it, which has not said from where on.
            (none, 1, (A, 0, 5), NotYet),
            (none, 0, (B, 0, 5), Overridden),
            (taken, 1, (A, 0, 9), Counts),
            (taken, 1, (A, 0, 10), Overridden),
            (taken, 1, (A, 0, 19), Overridden),
            // Beyond what B is known to have done: A may stand when it is back.
            (taken, 1, (A, 0, 20), NotYet),
            (taken, 1, (B, 1, 10), Counts),
            (taken, 1, (B, 1, 90), Counts),
            // A newer decision: where C begins is not known.
            (taken, 3, (B, 1, 12), NotYet),
            (taken, 3, (A, 0, 12), NotYet),
            (taken, 3, (C, 3, 12), Counts),
            (stands, 1, (A, 0, 19), Overridden),
            (stands, 1, (A, 0, 25), Counts),
            (stands, 1, (A, 2, 90), Counts),
            (stands, 1, (B, 1, 19), Counts),
            (stands, 1, (B, 1, 25), Overridden),
            (anew, 1, (A, 0, 25), Overridden),
            (anew, 1, (A, 2, 25), Counts),
            // B was lost too, with work that C did again.
            (twice, 3, (B, 1, 14), Counts),
            (twice, 3, (B, 1, 15), Overridden),
            (twice, 3, (B, 1, 90), Overridden),
            (twice, 3, (A, 0, 12), Overridden),
            (twice, 3, (A, 0, 40), NotYet),
            (twice, 3, (C, 3, 15), Counts),
        ];
        for (list, decided, event, want) in cases {
            assert_eq!(told(list, decided, event), want, "{list:?} {decided} {event:?}");
        }
    }

    #[test]
    fn a_share_belongs_to_nobody_before_it_is_given_out() {
        let event =
            |life, term, offset| Derived { life: OriginId(life), natural: None, by_its_node: None, term, offset };
        let list = spans(&[(1, 1, B, 10), (2, 2, C, 30)]);
        let verdict = |event| judge(event, &list, 2, |_| 0);
        assert_eq!(verdict(event(A, 0, 5)), Counts);
        assert_eq!(verdict(event(B, 1, 29)), Counts);
        assert_eq!(verdict(event(B, 1, 30)), Overridden);
        assert_eq!(verdict(event(C, 2, 30)), Counts);
    }

    #[test]
    fn what_is_older_than_all_that_is_known_counts() {
        let mut list = spans(&[(9, 9, C, 30)]);
        let event = Derived { life: OriginId(B), natural: Some(OriginId(A)), by_its_node: None, term: 1, offset: 5 };
        assert_eq!(judge(event, &list, 9, |_| 0), Overridden);
        list.is_cut = true;
        assert_eq!(judge(event, &list, 9, |_| 0), Counts);
    }

    #[test]
    fn of_an_earlier_life_what_its_node_did_counts_before_the_first_who_took_it_over() {
        let mut list = spans(&[(3, 3, C, 9)]);
        list.is_cut = true;
        let verdict = |list: &SpansV1, by_its_node, term, offset| {
            let event = Derived { life: OriginId(B), natural: None, by_its_node: Some(by_its_node), term, offset };
            judge(event, list, 3, |_| 0)
        };
        assert_eq!((verdict(&list, true, 0, 8), verdict(&list, true, 0, 9)), (Counts, Overridden));
        // Given to it under a term of which C did not know that it was begun.
        assert_eq!(verdict(&list, false, 1, 8), Overridden);
        (0..SPANS_MAX as u64)
            .for_each(|term| list = list.clone().with(SpanV1 { term: term + 4, since: 4, life: C, from: 9 }));
        assert_eq!(verdict(&list, false, 1, 8), Counts, "of older ones nothing is known");
    }

    #[test]
    fn a_run_is_read_up_to_what_is_not_known() {
        let judged = [(3, Counts), (4, Overridden), (5, NotYet), (6, Counts)];
        assert_eq!(readable_to(judged, 7), 5);
        assert_eq!(readable_to(judged[..2].iter().copied(), 7), 7);
    }
}
