//! Who votes, and the next step towards it. Pure: the same members give the same answer.

use std::collections::BTreeSet;

use super::member::{Member, MemberState};
use crate::transport::NodeId;

/// How many may vote, the most first: an even number would bear no more losses than the odd one beneath it.
const VOTERS: [usize; 3] = [5, 3, 1];

/// How things stand, as the leader sees them.
#[derive(Debug)]
pub(super) struct View<'a> {
    /// The nodes of the site.
    pub(super) members: &'a [Member],
    /// The leader.
    pub(super) leader: NodeId,
    /// Who votes; two sets while one follows the other.
    pub(super) voters: &'a [BTreeSet<NodeId>],
    /// Who follows the changes, voters among them.
    pub(super) nodes: &'a BTreeSet<NodeId>,
    /// Who has acknowledged the newest change of the roles.
    pub(super) caught_up: &'a BTreeSet<NodeId>,
}

/// What the leader does next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// The node follows the changes from now on, without a vote.
    Learn(NodeId),
    /// These vote from now on; who voted before and does not any more goes on following.
    Vote(BTreeSet<NodeId>),
    /// The node follows no more.
    Forget(NodeId),
}

/// Who shall vote: five, three or one of the active nodes. The leader and those who vote stay before others, and who
/// came earlier stands before who came later.
pub(super) fn voters(members: &[Member], leader: NodeId) -> BTreeSet<NodeId> {
    let mut active: Vec<&Member> = members.iter().filter(|member| member.state == MemberState::Active).collect();
    active.sort_by_key(|member| (member.node != leader, !member.voter, member.joined, member.node));
    let count = VOTERS.into_iter().find(|count| *count <= active.len()).unwrap_or(0);
    active.into_iter().take(count).map(|member| member.node).collect()
}

/// The next step, one at a time; `None`: all is as it shall be, or waits for a node that has not caught up.
pub(super) fn next_step(view: &View<'_>) -> Option<Step> {
    let current = match view.voters {
        [] => return None,
        [current] => current,
        // One set follows another: what was begun is ended first.
        [.., last] => return Some(Step::Vote(last.clone())),
    };
    let follows = |member: &&Member| member.state != MemberState::Lost;
    let wanted: BTreeSet<NodeId> = view.members.iter().filter(follows).map(|member| member.node).collect();
    if let Some(new) = wanted.difference(view.nodes).next() {
        return Some(Step::Learn(*new));
    }
    let target = voters(view.members, view.leader);
    if target != *current {
        // A voter that is not there would cost the majority at once.
        let is_ready = target.difference(current).all(|node| view.caught_up.contains(node));
        return (is_ready && !target.is_empty()).then_some(Step::Vote(target));
    }
    view.nodes.difference(&wanted).find(|node| !current.contains(node)).map(|node| Step::Forget(*node))
}

/// Whether those who are present are a majority of every set.
pub(super) fn is_majority(voters: &[BTreeSet<NodeId>], is_present: impl Fn(NodeId) -> bool) -> bool {
    let has = |set: &BTreeSet<NodeId>| set.iter().filter(|node| is_present(**node)).count() > set.len() / 2;
    !voters.is_empty() && voters.iter().all(has)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(nodes: &[u64]) -> BTreeSet<NodeId> {
        nodes.iter().copied().map(NodeId).collect()
    }

    /// `a1` is an active voter 1, `a2-` an active one without a vote, `l` leaves, `x` is lost.
    fn members(text: &str) -> Vec<Member> {
        let member = |(joined, word): (usize, &str)| {
            let (state, number) = word.split_at(1);
            Member {
                node: NodeId(number.trim_end_matches('-').parse().unwrap_or_default()),
                name: word.to_owned(),
                address: "a:1".to_owned(),
                origin: None,
                voter: !number.ends_with('-'),
                state: match state {
                    "l" => MemberState::Leaving,
                    "x" => MemberState::Lost,
                    _ => MemberState::Active,
                },
                version: String::new(),
                joined: joined as u64,
            }
        };
        text.split_whitespace().enumerate().map(member).collect()
    }

    #[test]
    fn one_three_or_five_vote() {
        let cases: [(&str, u64, &[u64]); 14] = [
            ("a1", 1, &[1]),
            ("a1 a2-", 1, &[1]),
            ("a1 a2- a3-", 1, &[1, 2, 3]),
            ("a1 a2 a3 a4-", 1, &[1, 2, 3]),
            ("a1 a2 a3 a4- a5-", 1, &[1, 2, 3, 4, 5]),
            ("a1 a2 a3 a4 a5 a6-", 2, &[1, 2, 3, 4, 5]),
            ("a1 a2 a3 x4 a5", 1, &[1, 2, 3]),
            ("a1 a2 x3", 2, &[2]),
            ("a1 a2 l3", 9, &[1]),
            ("l1 a2-", 1, &[2]),
            ("x1 a2 a3 a4-", 2, &[2, 3, 4]),
            ("a9 a2 a3- a1", 3, &[9, 2, 3]),
            ("", 1, &[]),
            ("x1", 1, &[]),
        ];
        for (text, leader, expected) in cases {
            assert_eq!(voters(&members(text), NodeId(leader)), set(expected), "{text}");
        }
    }

    #[test]
    fn one_step_follows_another() {
        let learn = |node| Some(Step::Learn(NodeId(node)));
        let vote = |nodes: &[u64]| Some(Step::Vote(set(nodes)));
        let forget = |node| Some(Step::Forget(NodeId(node)));
        type Case = (&'static str, &'static [&'static [u64]], &'static [u64], &'static [u64], Option<Step>);
        let cases: Vec<Case> = vec![
            ("a1", &[&[1]], &[1], &[1], None),
            ("a1 a2-", &[&[1]], &[1], &[1], learn(2)),
            ("a1 a2-", &[&[1]], &[1, 2], &[1, 2], None),
            ("a1 a2- a3-", &[&[1]], &[1, 2], &[1, 2], learn(3)),
            ("a1 a2- a3-", &[&[1]], &[1, 2, 3], &[1, 2], None),
            ("a1 a2- a3-", &[&[1]], &[1, 2, 3], &[1, 2, 3], vote(&[1, 2, 3])),
            ("a1 a2 a3", &[&[1], &[1, 2, 3]], &[1, 2, 3], &[1], vote(&[1, 2, 3])),
            ("a1 a2 a3 a4-", &[&[1, 2, 3]], &[1, 2, 3, 4], &[1, 2, 3, 4], None),
            ("a1 a2 a3 a4- a5-", &[&[1, 2, 3]], &[1, 2, 3, 4, 5], &[1, 4, 5], vote(&[1, 2, 3, 4, 5])),
            ("a1 a2 x3", &[&[1, 2, 3]], &[1, 2, 3], &[1, 2], vote(&[1])),
            ("a1 a2- x3-", &[&[1]], &[1, 2, 3], &[1], forget(3)),
            ("a1 a2- l3-", &[&[1]], &[1, 2, 3], &[1], None),
            ("l1 a2-", &[&[1]], &[1, 2], &[1, 2], vote(&[2])),
            ("a2", &[&[2]], &[1, 2], &[2], forget(1)),
            ("x1", &[&[1]], &[1], &[1], None),
            ("a1", &[], &[], &[], None),
        ];
        for (text, sets, nodes, caught_up, expected) in cases {
            let voters: Vec<_> = sets.iter().map(|nodes| set(nodes)).collect();
            let (members, nodes, caught_up) = (members(text), set(nodes), set(caught_up));
            let (leader, voters) = (NodeId(1), &voters[..]);
            let view = View { members: &members, leader, voters, nodes: &nodes, caught_up: &caught_up };
            assert_eq!(next_step(&view), expected, "{text}: {view:?}");
        }
    }

    #[test]
    fn a_majority_is_one_of_every_set() {
        let present = |nodes: &'static [u64]| move |node: NodeId| nodes.contains(&node.0);
        let cases: [(&[&[u64]], &'static [u64], bool); 6] = [
            (&[&[1]], &[1], true),
            (&[&[1, 2, 3]], &[1], false),
            (&[&[1, 2, 3]], &[1, 3], true),
            (&[&[1, 2]], &[1], false),
            (&[&[1], &[1, 2, 3]], &[1], false),
            (&[], &[1], false),
        ];
        for (sets, nodes, expected) in cases {
            let sets: Vec<_> = sets.iter().map(|nodes| set(nodes)).collect();
            assert_eq!(is_majority(&sets, present(nodes)), expected, "{sets:?} {nodes:?}");
        }
    }
}
