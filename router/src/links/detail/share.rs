//! Which gateway sends which partition of a range (pure).

use std::collections::BTreeMap;

use sled_data::PartitionId;

use super::wire::Span;

/// Of what each gateway has, what it is to send: each partition comes of the one that has it furthest, of those from the one that has it
/// from furthest back, of those from the one that has most of all. So few send as can.
pub(super) fn share(has: &[Vec<Span>]) -> Vec<Vec<Span>> {
    let events = |spans: &[Span]| -> u64 { spans.iter().map(|span| span.to.saturating_sub(span.from)).sum() };
    let mut best: BTreeMap<PartitionId, (usize, Span)> = BTreeMap::new();
    let mut order: Vec<usize> = (0..has.len()).collect();
    order.sort_by_key(|at| std::cmp::Reverse(events(&has[*at])));
    for at in order {
        for span in &has[at] {
            let is_better = |before: &Span| (span.to, before.from) > (before.to, span.from);
            match best.get(&span.id) {
                Some((_, before)) if !is_better(before) => {}
                _ => drop(best.insert(span.id, (at, *span))),
            }
        }
    }
    let mut shares = vec![Vec::new(); has.len()];
    for (at, span) in best.into_values() {
        shares[at].push(span);
    }
    shares
}

#[cfg(test)]
mod tests {
    use super::super::wire::id;
    use super::*;

    #[test]
    fn each_partition_comes_from_the_one_that_has_most_of_it() {
        let span = |origin, from, to| Span { id: id(origin, 0), from, to, oldest_ms: None };
        // (what each has, as ORIGIN FROM TO; what each is to send)
        type Spans = Vec<Vec<(u64, u64, u64)>>;
        let cases: [(Spans, Spans); 6] = [
            (vec![vec![(1, 0, 9)]], vec![vec![(1, 0, 9)]]),
            // Each sends its own alone.
            (vec![vec![(1, 0, 9)], vec![(2, 0, 3)]], vec![vec![(1, 0, 9)], vec![(2, 0, 3)]]),
            // One is behind in all.
            (vec![vec![(1, 0, 8), (2, 0, 3)], vec![(1, 0, 9), (2, 0, 3)]], vec![vec![], vec![(1, 0, 9), (2, 0, 3)]]),
            // Each is behind with the other's.
            (vec![vec![(1, 0, 9), (2, 0, 2)], vec![(1, 0, 8), (2, 0, 3)]], vec![vec![(1, 0, 9)], vec![(2, 0, 3)]]),
            // One keeps more.
            (vec![vec![(1, 5, 9), (2, 0, 90)], vec![(1, 2, 9)]], vec![vec![(2, 0, 90)], vec![(1, 2, 9)]]),
            (vec![vec![], vec![(1, 4, 4)]], vec![vec![], vec![(1, 4, 4)]]),
        ];
        for (has, sends) in cases {
            let of = |all: &Spans| -> Vec<Vec<Span>> {
                all.iter().map(|all| all.iter().map(|(id, from, to)| span(*id, *from, *to)).collect()).collect()
            };
            assert_eq!(share(&of(&has)), of(&sends), "{has:?}");
        }
    }
}
