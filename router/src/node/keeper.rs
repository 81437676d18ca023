//! Who reads what in the site, as the leader decides it: take-overs from nodes that are lost, their return, and which
//! node runs what of plugins of scope `site` (pure).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sled_data::{CommitNumber, OriginId};

use super::hearing::is_majority;
use crate::catalog::{Assignment, Change, Member, MemberState, TakeOver};
use crate::transport::NodeId;

/// Changes that are decided at once.
const CHANGES_MAX: usize = 64;

/// What the leader knows.
#[derive(Debug, Default)]
pub struct Scene {
    /// The nodes of the site.
    pub members: Vec<Member>,
    /// Those that are heard, the leader among them.
    pub heard: BTreeSet<NodeId>,
    /// Those that were not heard for so long that they count as lost.
    pub lost: BTreeSet<NodeId>,
    /// How far each node that is heard has synced each origin, as far as what it says is gone by.
    pub holds: BTreeMap<NodeId, BTreeMap<OriginId, CommitNumber>>,
    /// Whether one of them has not said it since the last was lost: it may have more by now.
    pub is_asking: bool,
    /// What was decided about origins.
    pub take_overs: BTreeMap<OriginId, Arc<TakeOver>>,
    /// Plugins of scope `site`, each with how many partition numbers its topics have.
    pub shared: BTreeMap<String, u32>,
    /// The plugins that are deployed, each with the change by which it was.
    pub deployed: BTreeMap<String, u64>,
    /// Whether all nodes know how to forget.
    pub may_forget: bool,
    /// What was decided about them.
    pub assignments: BTreeMap<(String, u32), Arc<Assignment>>,
}

/// What is to be changed now; nothing where no majority is heard: to one that is cut off itself all others seem lost.
pub fn decide(scene: &Scene) -> Vec<Change> {
    if !is_majority(&scene.members, |node| scene.heard.contains(&node)) {
        return Vec::new();
    }
    let mut changes = Vec::new();
    let written = scene.members.iter().filter_map(|member| Some(OriginId(member.origin?)));
    let origins: BTreeSet<OriginId> = written.chain(scene.take_overs.keys().copied()).collect();
    changes.extend(origins.into_iter().filter_map(|origin| scene.about_origin(origin)));
    for (plugin, count) in &scene.shared {
        changes.extend((0..*count).filter_map(|index| scene.about_share(plugin, index)));
    }
    if scene.may_forget {
        changes.extend(scene.forgotten_origins().chain(scene.forgotten_assignments()));
    }
    changes.truncate(CHANGES_MAX);
    changes
}

/// Who has most of a log, of those that are able to read it on; of several the one of the least id.
pub(super) fn longest(held: impl Iterator<Item = (NodeId, CommitNumber)>) -> Option<(NodeId, CommitNumber)> {
    held.max_by_key(|(node, commit)| (*commit, std::cmp::Reverse(*node)))
}

impl Scene {
    fn about_origin(&self, origin: OriginId) -> Option<Change> {
        let decided = self.take_overs.get(&origin);
        let writer = self.members.iter().find(|member| member.origin == Some(origin.0));
        let is_active = writer.is_some_and(|member| member.state == MemberState::Active);
        let is_leaving = writer.is_some_and(|member| member.state == MemberState::Leaving);
        match writer.map(|member| member.node) {
            Some(node) if is_active && self.heard.contains(&node) => {
                let open = decided.filter(|decided| !decided.has_returned)?;
                return Some(Change::GiveBack { origin: origin.0, term: open.term });
            }
            Some(node) if is_active && !self.lost.contains(&node) => return None,
            // One that leaves sees to it itself, while it is there.
            Some(node) if is_leaving && !self.lost.contains(&node) => return None,
            _ => {}
        }
        if self.is_asking {
            return None;
        }
        let (by, commit) = self.holder(origin)?;
        let is_able = |node: NodeId| self.is_member(node) && !self.lost.contains(&node);
        if decided.is_some_and(|open| !open.has_returned && is_able(open.by) && !self.has_less(origin, open, commit)) {
            return None;
        }
        let term = decided.map_or(1, |decided| decided.term + 2);
        Some(Change::TakeOver { origin: origin.0, from_commit: commit.0, by, term })
    }

    /// Whether the one that is to read on has less than what it was decided on, and than another has: it had said what it does not have, and
    /// nobody would ever come as far.
    fn has_less(&self, origin: OriginId, open: &TakeOver, most: CommitNumber) -> bool {
        let Some(holds) = self.holds.get(&open.by).filter(|_| self.heard.contains(&open.by)) else { return false };
        let has = holds.get(&origin).copied().unwrap_or_default();
        has.0 < open.from_commit && has < most
    }

    /// Who has most of an origin, of those that are heard.
    fn holder(&self, origin: OriginId) -> Option<(NodeId, CommitNumber)> {
        let active = |node: &NodeId| {
            self.members.iter().any(|member| member.node == *node && member.state == MemberState::Active)
        };
        let held = self.heard.iter().filter(|node| active(node)).map(|node| {
            let commit = self.holds.get(node).and_then(|holds| holds.get(&origin)).copied().unwrap_or_default();
            (*node, commit)
        });
        longest(held)
    }

    fn about_share(&self, plugin: &str, index: u32) -> Option<Change> {
        let decided = self.assignments.get(&(plugin.to_owned(), index));
        if decided.is_some_and(|decided| !self.lost.contains(&decided.node) && self.is_member(decided.node)) {
            return None;
        }
        // The same number of every plugin stays together: what one derives, the next one reads there.
        let able: Vec<NodeId> = self.heard.iter().copied().filter(|node| self.is_member(*node)).collect();
        let node = *able.get(index as usize % able.len().max(1))?;
        // Above all terms of a plugin of that name that was removed and forgotten.
        let first = self.deployed.get(plugin).copied().unwrap_or(0).max(1);
        let term = decided.map_or(first, |decided| decided.term + 1);
        Some(Change::SetAssignment { plugin: plugin.to_owned(), partition: index, node, term })
    }

    /// What was decided of lives that have ended, and that nobody keeps any more. All must be here to say so.
    fn forgotten_origins(&self) -> impl Iterator<Item = Change> {
        let mut active = self.members.iter().filter(|member| member.state != MemberState::Lost);
        let all_have_said = active.all(|m| self.heard.contains(&m.node) && self.holds.contains_key(&m.node));
        let is_gone = move |origin: &OriginId| {
            let is_kept = self.holds.values().any(|holds| holds.contains_key(origin));
            let lives = self.members.iter().any(|member| member.origin == Some(origin.0));
            all_have_said && !is_kept && !lives
        };
        let gone = self.take_overs.iter().filter(move |(origin, _)| is_gone(origin));
        gone.map(|(origin, decided)| Change::ForgetOrigin { origin: origin.0, term: decided.term })
    }

    /// What was decided of plugins that were removed.
    fn forgotten_assignments(&self) -> impl Iterator<Item = Change> {
        let is_there = |plugin: &String| self.deployed.contains_key(plugin) || self.shared.contains_key(plugin);
        let gone: BTreeSet<&String> =
            self.assignments.keys().map(|(plugin, _)| plugin).filter(|plugin| !is_there(plugin)).collect();
        gone.into_iter().map(|plugin| Change::ForgetAssignments { plugin: plugin.clone() })
    }

    fn is_member(&self, node: NodeId) -> bool {
        self.members.iter().any(|member| member.node == node && member.state == MemberState::Active)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const C: NodeId = NodeId(3);

    fn member(node: NodeId) -> Member {
        Member {
            node,
            name: node.to_string(),
            address: "h:1".into(),
            origin: Some(node.0 * 10),
            // Few cases are about who votes.
            voter: node == A,
            state: MemberState::Active,
            version: "1".into(),
            joined: 0,
        }
    }

    fn scene(heard: &[NodeId], lost: &[NodeId]) -> Scene {
        let holds = |commits: &[(u64, u64)]| -> BTreeMap<OriginId, CommitNumber> {
            commits.iter().map(|(origin, commit)| (OriginId(*origin), CommitNumber(*commit))).collect()
        };
        Scene {
            members: vec![member(A), member(B), member(C)],
            heard: heard.iter().copied().collect(),
            lost: lost.iter().copied().collect(),
            holds: [(A, holds(&[(20, 5), (30, 9)])), (B, holds(&[(30, 9), (10, 1)])), (C, holds(&[(20, 7)]))].into(),
            ..Scene::default()
        }
    }

    fn taken(by: NodeId, term: u64, has_returned: bool) -> Arc<TakeOver> {
        Arc::new(TakeOver { from_commit: 1, by, term, has_returned, before: Default::default() })
    }

    #[test]
    fn a_lost_node_is_taken_over_by_who_has_most_of_its_log() {
        let take = |by, from_commit, term| vec![Change::TakeOver { origin: 20, from_commit, by, term }];
        // heard, lost, what was decided about B's origin, what is decided now
        let cases = [
            ("all are there", vec![A, B, C], vec![], None, vec![]),
            ("one is silent, not yet lost", vec![A, C], vec![], None, vec![]),
            ("one is lost", vec![A, C], vec![B], None, take(C, 7, 1)),
            ("it is taken over already", vec![A, C], vec![B], Some(taken(C, 1, false)), vec![]),
            ("who took over is lost too", vec![A], vec![B, C], Some(taken(C, 1, false)), take(A, 5, 3)),
            ("it is lost again", vec![A, C], vec![B], Some(taken(A, 1, true)), take(C, 7, 3)),
            (
                "it is back",
                vec![A, B, C],
                vec![],
                Some(taken(C, 1, false)),
                vec![Change::GiveBack { origin: 20, term: 1 }],
            ),
            ("it has been back", vec![A, B, C], vec![], Some(taken(C, 1, true)), vec![]),
        ];
        for (case, heard, lost, decided, expected) in cases {
            let mut scene = scene(&heard, &lost);
            scene.take_overs.extend(decided.map(|decided| (OriginId(20), decided)));
            // Of C's own loss another case tells.
            scene
                .members
                .iter_mut()
                .filter(|member| member.node == C && lost.contains(&C))
                .for_each(|c| c.origin = None);
            assert_eq!(decide(&scene), expected, "{case}");
        }
    }

    #[test]
    fn nobody_takes_over_before_all_who_are_heard_have_said_what_they_hold() {
        let mut scene = scene(&[A, C], &[B]);
        scene.is_asking = true;
        assert_eq!(decide(&scene), []);
        scene.is_asking = false;
        assert_eq!(decide(&scene).len(), 1);
        // One that is back has its own again at once.
        let mut back = self::scene(&[A, B, C], &[]);
        (back.is_asking, back.take_overs) = (true, [(OriginId(20), taken(C, 1, false))].into());
        assert_eq!(decide(&back), [Change::GiveBack { origin: 20, term: 1 }]);
    }

    #[test]
    fn one_that_hears_no_majority_decides_nothing() {
        for (heard, lost, decides) in
            [(&[A][..], &[B, C][..], false), (&[A, B], &[C], true), (&[A, C], &[B], true), (&[B, C], &[A], true)]
        {
            let mut scene = scene(heard, lost);
            scene.members.iter_mut().for_each(|member| member.voter = true);
            scene.shared.insert("sum".into(), 4);
            assert_eq!(!decide(&scene).is_empty(), decides, "{heard:?}");
        }
        // One that alone votes decides alone.
        assert!(!decide(&scene(&[A], &[B, C])).is_empty());
    }

    #[test]
    fn of_several_who_have_the_same_the_least_has_the_longest() {
        for (held, expected) in [
            (vec![], None),
            (vec![(A, 0)], Some((A, 0))),
            (vec![(A, 5), (B, 7), (C, 6)], Some((B, 7))),
            (vec![(C, 7), (B, 7), (A, 6)], Some((B, 7))),
        ] {
            let held = held.into_iter().map(|(node, commit)| (node, CommitNumber(commit)));
            assert_eq!(longest(held).map(|(node, commit)| (node, commit.0)), expected);
        }
    }

    #[test]
    fn a_claim_that_is_not_gone_by_any_more_is_decided_anew() {
        let open = |by, from_commit| {
            let open = TakeOver { from_commit, by, term: 1, has_returned: false, before: Default::default() };
            BTreeMap::from([(OriginId(20), Arc::new(open))])
        };
        let anew = |by, from_commit| vec![Change::TakeOver { origin: 20, from_commit, by, term: 3 }];
        let unmet = u64::MAX;
        // who is to read on, from where; what C has; what is decided now
        for (case, by, from, c_has, expected) in [
            ("it has what it said", C, 7, Some(7), vec![]),
            ("it has not come so far, and nobody has more", C, unmet, Some(7), vec![]),
            ("what it said is not gone by", C, unmet, None, anew(A, 5)),
            ("it has come back with less", C, 7, Some(4), anew(A, 5)),
            ("another has most", A, unmet, Some(7), anew(C, 7)),
        ] {
            let mut scene = Scene { take_overs: open(by, from), ..scene(&[A, C], &[B]) };
            let holds = scene.holds.entry(C).or_default();
            holds.clear();
            holds.extend(c_has.map(|commit| (OriginId(20), CommitNumber(commit))));
            assert_eq!(decide(&scene), expected, "{case}");
            scene.is_asking = true;
            assert_eq!(decide(&scene), [], "{case}");
        }
        // It has not said anything.
        let mut silent = Scene { take_overs: open(C, unmet), ..scene(&[A, C], &[B]) };
        silent.holds.remove(&C);
        assert_eq!(decide(&silent), []);
    }

    #[test]
    fn those_who_are_given_up_are_taken_over_too() {
        let take = |by, from_commit, term| vec![Change::TakeOver { origin: 20, from_commit, by, term }];
        // Said to be lost: at once, without a silence of its own.
        let mut said = scene(&[A, C], &[]);
        said.members.iter_mut().filter(|member| member.node == B).for_each(|b| b.state = MemberState::Lost);
        assert_eq!(decide(&said), take(C, 7, 1));
        // Removed while another reads for it, and that one is lost as well.
        let mut removed = scene(&[A], &[C]);
        removed.members.retain(|member| member.node != B);
        removed.members.iter_mut().filter(|member| member.node == C).for_each(|c| c.origin = None);
        removed.take_overs.insert(OriginId(20), taken(C, 1, false));
        assert_eq!(decide(&removed), take(A, 5, 3));
        removed.take_overs.insert(OriginId(20), taken(A, 3, false));
        assert_eq!(decide(&removed), []);
    }

    #[test]
    fn one_that_leaves_is_taken_over_when_it_is_lost() {
        let take = vec![Change::TakeOver { origin: 20, from_commit: 7, by: C, term: 1 }];
        // heard, lost, what was decided about its origin, what is decided now
        for (case, heard, lost, decided, expected) in [
            ("it sees to it itself", &[A, B, C][..], &[][..], None, vec![]),
            ("it is silent", &[A, C], &[], None, vec![]),
            ("it is lost", &[A, C], &[B], None, take),
            ("it is taken over", &[A, C], &[B], Some(taken(C, 1, false)), vec![]),
            ("it is back, and leaves still", &[A, B, C], &[], Some(taken(C, 1, false)), vec![]),
        ] {
            let mut scene = scene(heard, lost);
            scene.members.iter_mut().filter(|member| member.node == B).for_each(|b| b.state = MemberState::Leaving);
            scene.take_overs.extend(decided.map(|decided| (OriginId(20), decided)));
            assert_eq!(decide(&scene), expected, "{case}");
        }
    }

    #[test]
    fn what_nobody_needs_is_forgotten() {
        let forget = |origin| Change::ForgetOrigin { origin, term: 3 };
        let mut scene = Scene { may_forget: true, ..scene(&[A, B, C], &[]) };
        // A life that has ended, with its record; A's copy of it is the last one.
        scene.take_overs.insert(OriginId(77), taken(A, 3, false));
        scene.holds.entry(A).or_default().insert(OriginId(77), CommitNumber(1));
        assert_eq!(decide(&scene), []);
        scene.holds.entry(A).or_default().remove(&OriginId(77));
        assert_eq!(decide(&scene), [forget(77)]);
        let not_all_have_said = |scene: &mut Scene| scene.holds.remove(&C).unwrap();
        let said = not_all_have_said(&mut scene);
        assert_eq!(decide(&scene), [], "C may keep it");
        scene.holds.insert(C, said);
        scene.heard.remove(&C);
        assert_eq!(decide(&scene), [], "what C said was before it went");
        scene.heard.insert(C);
        assert_eq!(decide(&Scene { may_forget: false, ..scene }), []);

        let mut scene = Scene { may_forget: true, ..self::scene(&[A, B, C], &[]) };
        // B's life is written: what was decided of it is needed.
        scene.take_overs.insert(OriginId(20), taken(A, 3, true));
        for holds in scene.holds.values_mut() {
            holds.remove(&OriginId(20));
        }
        assert_eq!(decide(&scene), []);
        let set = Arc::new(Assignment { node: A, term: 9, before: Default::default() });
        for plugin in ["gone", "there", "here-alone"] {
            scene.assignments.insert((plugin.into(), 0), Arc::clone(&set));
            scene.assignments.insert((plugin.into(), 1), Arc::clone(&set));
        }
        scene.deployed.insert("there".into(), 12);
        scene.shared.insert("here-alone".into(), 2);
        assert_eq!(decide(&scene), [Change::ForgetAssignments { plugin: "gone".into() }]);
        // Deployed again, it begins above what was forgotten.
        scene.assignments.clear();
        scene.shared = [("there".into(), 1)].into();
        let begins = Change::SetAssignment { plugin: "there".into(), partition: 0, node: A, term: 12 };
        assert_eq!(decide(&scene), [begins]);
    }

    #[test]
    fn shares_are_spread_and_move_from_lost_nodes_alone() {
        let mut scene = scene(&[A, B, C], &[]);
        scene.shared.insert("sum".into(), 4);
        let nodes: Vec<NodeId> = decide(&scene)
            .into_iter()
            .map(|change| match change {
                Change::SetAssignment { plugin, node, term: 1, .. } if plugin == "sum" => node,
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(nodes, [A, B, C, A]);
        let set = |node, term| Arc::new(Assignment { node, term, before: Default::default() });
        for (index, node) in (0..).zip(nodes) {
            scene.assignments.insert(("sum".into(), index), set(node, 1));
        }
        assert_eq!(decide(&scene), []);
        scene.heard.remove(&B);
        scene.lost.insert(B);
        scene.members.retain(|member| member.node != B);
        let moved = Change::SetAssignment { plugin: "sum".into(), partition: 1, node: C, term: 2 };
        assert_eq!(decide(&scene), [moved]);
    }
}
