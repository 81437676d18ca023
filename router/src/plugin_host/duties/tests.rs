//! Who reads what, case by case.

use super::*;

const A: NodeId = NodeId(1);
const B: NodeId = NodeId(2);
const C: NodeId = NodeId(3);
/// The lives of A, B and C.
const LIVES: [OriginId; 3] = [OriginId(11), OriginId(12), OriginId(13)];

fn site(me: NodeId, here: &[NodeId], take_overs: &[(OriginId, TakeOver)]) -> Site {
    Site {
        me,
        lives: [A, B, C].into_iter().zip(LIVES).collect(),
        here: here.iter().copied().collect(),
        take_overs: take_overs.iter().cloned().collect(),
        ..Site::default()
    }
}

fn take_over(by: NodeId, term: u64, before: &[(NodeId, u64)]) -> TakeOver {
    TakeOver { from_commit: CommitNumber(7), by, term, before: before.iter().copied().collect() }
}

/// A node's duties in short.
fn told(duties: &Duties) -> String {
    let mut parts = Vec::new();
    let paused = duties.is_paused.then_some("paused".to_owned());
    parts.extend(paused);
    let handed = |h: &HandedOn| format!("hands on {:?} at {}", h.charge, h.term);
    let list = |list: &[Predecessor]| {
        let one = |before: &Predecessor| format!("{}/{}", before.life.0, before.term);
        list.iter().map(one).collect::<Vec<_>>().join("+")
    };
    parts
        .extend(duties.given_away.as_ref().map(|given| format!("given away at {} to {}", given.term, list(&given.to))));
    let taken = |t: &TakenOver| format!("takes {} at {} after {}", t.origin.0, t.term, list(&t.predecessors));
    parts.extend(duties.ended.iter().map(|ended| format!("goes on: {}", taken(ended))));
    parts.extend(duties.taken_over.iter().map(taken));
    let share = |s: &Share| format!("reads {} {} at {} after {}", s.plugin, s.index, s.term, list(&s.predecessors));
    parts.extend(duties.shares.iter().map(share));
    parts.extend(duties.handed_on.iter().map(handed));
    parts.extend(duties.gone.iter().map(|(life, commit)| format!("{} is gone at {commit}", life.0)));
    parts.join(", ")
}

#[test]
fn origins_go_to_who_takes_them_over_and_back() {
    let one = [(LIVES[0], take_over(B, 1, &[]))];
    let on = [(LIVES[0], take_over(C, 3, &[(B, 1)]))];
    let both = [(LIVES[0], take_over(C, 3, &[(B, 1)])), (LIVES[1], take_over(C, 1, &[]))];
    let own = [(LIVES[0], take_over(A, 3, &[(B, 1)]))];
    let again = [(LIVES[0], take_over(B, 5, &[(B, 1), (C, 3)]))];
    let old_life = [(OriginId(5), take_over(B, 1, &[]))];
    let all = [A, B, C];
    // Who asks, who is here, what is decided, what it is to do.
    type Case<'a> = (NodeId, &'a [NodeId], &'a [(OriginId, TakeOver)], &'a str);
    let cases: &[Case<'_>] = &[
        (A, &all, &[], ""),
        (B, &[B, C], &one, "takes 11 at 1 after 11/0, 11 is gone at 7"),
        (C, &[B, C], &one, "11 is gone at 7"),
        // A is back.
        (A, &all, &one, "given away at 1 to 12/1"),
        (B, &all, &one, "hands on Origin(OriginId(11)) at 1"),
        (C, &all, &one, ""),
        // It went on from B to C.
        (B, &[B, C], &on, "hands on Origin(OriginId(11)) at 1, 11 is gone at 7"),
        (C, &[B, C], &on, "takes 11 at 3 after 12/1+11/0, 11 is gone at 7"),
        (A, &all, &on, "given away at 3 to 12/1+13/3"),
        // B is lost as well.
        (C, &[C], &both, "takes 11 at 3 after 12/1+11/0, takes 12 at 1 after 12/0, 11 is gone at 7, 12 is gone at 7"),
        (A, &[A, C], &both, "given away at 3 to 12/1+13/3, 12 is gone at 7"),
        // B was lost while A came back.
        (A, &[A, C], &own, "given away at 2 to 12/1"),
        (C, &[A, C], &own, ""),
        (B, &all, &own, "hands on Origin(OriginId(11)) at 1"),
        // Back to B.
        (A, &all, &again, "given away at 5 to 13/3+12/5"),
        (B, &[B, C], &again, "takes 11 at 5 after 12/1+13/3+11/0, 11 is gone at 7"),
        (C, &[B, C], &again, "hands on Origin(OriginId(11)) at 3, 11 is gone at 7"),
        // A life that ended does not come back.
        (B, &all, &old_life, "takes 5 at 1 after 5/0, 5 is gone at 7"),
    ];
    for (me, here, decided, want) in cases {
        assert_eq!(told(&duties(&site(*me, here, decided))), *want, "{me} {here:?} {decided:?}");
    }
    let duties = duties(&site(C, &all, &one));
    assert_eq!(duties.origin_terms, BTreeMap::from([(LIVES[0], 1)]));
    assert!(!duties.is_alone && Duties::alone().is_alone);
}

#[test]
fn the_rest_of_a_life_of_ones_own_is_read_by_one_alone() {
    let ended = OriginId(5);
    let by = |node| vec![(ended, take_over(node, 3, &[(C, 1)]))];
    // What is decided, whether the site knows of the present life, what A is to do.
    let cases = [
        (vec![], false, ""),
        (vec![], true, "goes on: takes 5 at 0 after "),
        (by(B), true, "5 is gone at 7"),
        (by(A), false, "goes on: takes 5 at 3 after 13/1, 5 is gone at 7"),
        (by(A), true, "goes on: takes 5 at 3 after 13/1, 5 is gone at 7"),
    ];
    for (decided, is_known, want) in cases {
        let site = Site { ended: vec![ended], is_known, ..site(A, &[A, B, C], &decided) };
        let duties = duties(&site);
        assert_eq!(told(&duties), want, "{decided:?} {is_known}");
        let id = sled_data::PartitionId { origin: ended, topic: sled_data::TopicId(1), index: 0 };
        assert_eq!(duties.covers(Scope::Origin, "p", LIVES[0], id), want.starts_with("goes on"));
    }
    assert_eq!(told(&Duties::alone_after(vec![ended])), "goes on: takes 5 at 0 after ");
}

#[test]
fn what_was_unread_of_lives_before_goes_with_the_next_one_that_was_taken_over() {
    let (older, old, own) = (OriginId(5), OriginId(6), LIVES[0]);
    let by = |life, node| (life, take_over(node, 1, &[]));
    // Who asks, what is decided, which lives go with which one, which ones A goes on with.
    type Case<'a> = (NodeId, &'a [(OriginId, TakeOver)], &'a [(OriginId, OriginId)], &'a [OriginId]);
    let cases: &[Case<'_>] = &[
        (A, &[], &[], &[older, old]),
        (B, &[by(own, B)], &[(older, own), (old, own)], &[]),
        // It is back, and has it with its own.
        (A, &[by(own, B)], &[(older, own), (old, own)], &[older, old]),
        (A, &[by(old, B)], &[(older, old)], &[]),
        (A, &[by(old, B), by(own, C)], &[(older, old)], &[]),
        (A, &[by(older, B), by(own, C)], &[(old, own)], &[old]),
    ];
    for (me, decided, with, goes_on) in cases {
        let ended = if *me == A { vec![older, old] } else { Vec::new() };
        let chains = vec![vec![older, old, own]];
        let duties = duties(&Site { ended, chains, is_known: true, ..site(*me, &[A, B, C], decided) });
        let found: Vec<_> = duties.earlier.iter().map(|(life, earlier)| (*life, earlier.of)).collect();
        assert_eq!(found, *with, "{me} {decided:?}");
        let found: Vec<_> = duties.ended.iter().map(|ended| ended.origin).collect();
        assert_eq!(found, *goes_on, "{me} {decided:?}");
        let id = |origin| sled_data::PartitionId { origin, topic: sled_data::TopicId(1), index: 0 };
        for (life, of) in *with {
            assert!(
                duties.is_under(Charge::Origin(*of), id(*life)) && !duties.is_under(Charge::Origin(*life), id(*of))
            );
            assert!(
                duties
                    .earlier_of(id(older))
                    .is_none_or(|first| { duties.earlier_of(id(old)).is_none_or(|next| first.place < next.place) })
            );
        }
    }
    let lost = site(B, &[B, C], &[by(own, B)]);
    let duties = duties(&Site { chains: vec![vec![older, own]], ..lost });
    let id = sled_data::PartitionId { origin: older, topic: sled_data::TopicId(1), index: 0 };
    assert!(duties.covers(Scope::Origin, "p", LIVES[1], id));
}

#[test]
fn shares_go_from_node_to_node() {
    let shares = |me, assignments: &[(u32, Assignment)]| {
        let mut site = site(me, &[A, B, C], &[]);
        site.assignments =
            assignments.iter().map(|(index, record)| (("p".to_owned(), *index), record.clone())).collect();
        site.is_paused = me == C;
        duties(&site)
    };
    let assignment = |node, term, before: &[(NodeId, u64)]| {
        let before = before.iter().copied().collect();
        Assignment { node, term, before }
    };
    let first = [(0, assignment(B, 1, &[])), (1, assignment(C, 1, &[]))];
    let moved = [(0, assignment(C, 2, &[(B, 1)]))];
    assert_eq!(told(&shares(A, &first)), "");
    assert_eq!(told(&shares(B, &first)), "reads p 0 at 1 after ");
    assert_eq!(told(&shares(B, &moved)), "hands on Share(0) at 1");
    assert_eq!(told(&shares(C, &moved)), "paused, reads p 0 at 2 after 12/1");
    let duties = shares(C, &moved);
    assert_eq!(duties.shares_of("p").count(), 1);
    assert_eq!(duties.shares_of("q").count(), 0);
    assert_eq!(duties.share_terms, BTreeMap::from([(("p".to_owned(), 0), 2)]));
}
