//! What two nodes of a site know of one plugin that a site below is to have becomes one (pure): the same at both, whoever hears first.
//!
//! What was said last counts, and last is by number: who says something gives it a higher one than all that it knows of. Only what is said at two nodes
//! that do not hear each other can have one number; there the clock decides, and then the content. Answers of gateways are put together.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use super::stored::{ANSWERS_MAX, AnswerV1, NOBODY, WantV1};

/// What one want is by, before which others.
pub fn place(want: &WantV1) -> impl Ord {
    let WantV1 { number, manifest, sha256, bytes, given_ms, who, .. } = want;
    (*number, *given_ms, *sha256, *bytes, manifest, who)
}

/// Whether two say the same, whoever has answered.
pub fn is_same(one: &WantV1, other: &WantV1) -> bool {
    place(one).cmp(&place(other)).is_eq()
}

/// What is known when both are; `None` where that is what is here.
pub fn join(here: Option<&WantV1>, heard: WantV1) -> Option<WantV1> {
    let Some(here) = here else { return Some(heard) };
    let order = place(here).cmp(&place(&heard));
    match order {
        Ordering::Less => Some(heard),
        Ordering::Greater => None,
        Ordering::Equal => {
            let both = answers(here.answers.iter().chain(&heard.answers));
            if both == here.answers { None } else { Some(WantV1 { answers: both, ..heard }) }
        }
    }
}

/// One answer of each gateway, its last one; those of the last gateways, by their ids. That a plugin is gone stays.
pub fn answers<'a>(all: impl Iterator<Item = &'a AnswerV1>) -> Vec<AnswerV1> {
    let mut last: BTreeMap<u64, &AnswerV1> = BTreeMap::new();
    let age = |answer: &AnswerV1| (answer.at_ms, answer.code.clone(), answer.text.clone());
    for answer in all {
        let known = last.entry(answer.gateway).or_insert(answer);
        if age(answer) > age(known) {
            *known = answer;
        }
    }
    let mut kept: Vec<AnswerV1> = last.into_values().cloned().collect();
    kept.sort_by_key(|answer| std::cmp::Reverse((answer.gateway == NOBODY, answer.at_ms, answer.gateway)));
    kept.truncate(ANSWERS_MAX);
    kept.sort_by_key(|answer| answer.gateway);
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn want(number: u64, given_ms: i64, bytes: u64, answers: &[(u64, i64)]) -> WantV1 {
        let answer = |(gateway, at_ms): &(u64, i64)| AnswerV1 {
            gateway: *gateway,
            code: String::new(),
            text: String::new(),
            at_ms: *at_ms,
        };
        WantV1 {
            number,
            manifest: String::new(),
            sha256: [bytes as u8; 32],
            bytes,
            given_ms,
            who: String::new(),
            answers: answers.iter().map(answer).collect(),
        }
    }

    /// All that some wants can be known as, in whichever order they are heard.
    fn known(all: &[WantV1]) -> Vec<WantV1> {
        let mut found = Vec::new();
        for turn in 0..all.len() {
            let mut order = all.to_vec();
            order.rotate_left(turn);
            for order in [order.clone(), order.into_iter().rev().collect()] {
                let mut here: Option<WantV1> = None;
                for heard in order {
                    here = join(here.as_ref(), heard).or(here);
                }
                found.extend(here);
            }
        }
        found
    }

    #[test]
    fn nodes_come_to_know_the_same_whatever_they_hear_first() {
        // what is said where, which counts
        let cases = [
            // A new version, and a removal, by a clock that is behind.
            (vec![want(1, 500, 9, &[(1, 1)]), want(2, 100, 8, &[])], want(2, 100, 8, &[])),
            (vec![want(1, 500, 9, &[(1, 1)]), want(2, 100, 0, &[])], want(2, 100, 0, &[])),
            (vec![want(3, 1, 9, &[]), want(2, 900, 0, &[(1, 1)]), want(1, 5, 9, &[])], want(3, 1, 9, &[])),
            // Two that did not hear each other.
            (vec![want(2, 100, 9, &[]), want(2, 101, 0, &[])], want(2, 101, 0, &[])),
            (vec![want(2, 100, 9, &[]), want(2, 100, 8, &[])], want(2, 100, 9, &[])),
            // Gateways that have answered to different nodes, and to both.
            (
                vec![want(2, 1, 9, &[(1, 5)]), want(2, 1, 9, &[(2, 6)]), want(2, 1, 9, &[(1, 7)])],
                want(2, 1, 9, &[(1, 7), (2, 6)]),
            ),
        ];
        for (all, expected) in cases {
            for found in known(&all) {
                assert_eq!(found, expected, "{all:?}");
            }
        }
        // Nothing new.
        let here = want(2, 1, 9, &[(1, 5), (2, 6)]);
        for heard in [want(1, 9, 9, &[(3, 9)]), want(2, 1, 9, &[(2, 6)]), here.clone()] {
            assert_eq!(join(Some(&here), heard.clone()), None, "{heard:?}");
        }
    }

    #[test]
    fn answers_of_the_last_gateways_are_kept_the_same_at_all_nodes() {
        let of = |gateways: std::ops::Range<u64>| -> Vec<(u64, i64)> { gateways.map(|n| (n, n as i64)).collect() };
        let all = ANSWERS_MAX as u64;
        let expected = want(2, 1, 9, &of(20..20 + all));
        for found in
            known(&[want(2, 1, 9, &of(1..all)), want(2, 1, 9, &of(20..20 + all)), want(2, 1, 9, &of(7..7 + all))])
        {
            assert_eq!(found, expected);
        }
        // That it is gone is not pushed out.
        let kept = known(&[want(2, 1, 0, &of(0..all)), want(2, 1, 0, &of(20..20 + all))]);
        assert!(kept.iter().all(|want| want.is_gone() && want.answers.len() == ANSWERS_MAX));
    }
}
