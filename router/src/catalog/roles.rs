//! Who votes, and the next step towards it. Pure: the same members give the same answer.

use std::collections::BTreeSet;

use super::member::{Member, MemberState};
use crate::transport::NodeId;

/// How many may vote, the most first: an even number would bear no more losses than the odd one beneath it.
const VOTERS: [usize; 3] = [5, 3, 1];

/// How things stand, as the leader sees them.
#[derive(Debug, Clone, Copy)]
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

/// Who shall vote: five, three or one of the active nodes. The leader and those who vote stay before others, who has caught up stands before who
/// has not, and who came earlier before who came later. Those who have not caught up, and perhaps never come, keep nobody from voting: fewer
/// vote until they have, but for their sake not fewer than vote now.
pub(super) fn voters(view: &View<'_>) -> BTreeSet<NodeId> {
    let active = view.members.iter().filter(|member| member.state == MemberState::Active);
    let is_fit = |member: &Member| member.voter || view.caught_up.contains(&member.node);
    let mut active: Vec<&Member> = active.collect();
    active
        .sort_by_key(|member| (member.node != view.leader, !member.voter, !is_fit(member), member.joined, member.node));
    let most = |nodes: usize| VOTERS.into_iter().find(|count| *count <= nodes).unwrap_or(0);
    let (all, fit) = (most(active.len()), most(active.iter().filter(|member| is_fit(member)).count()));
    let current = view.voters.last().map_or(0, BTreeSet::len);
    let count = if fit >= current { fit } else { all };
    active.into_iter().take(count).map(|member| member.node).collect()
}

/// Whether other nodes would vote if all had caught up, so that it is to be looked at again.
pub(super) fn is_waited_for(view: &View<'_>) -> bool {
    let all: BTreeSet<NodeId> = view.members.iter().map(|member| member.node).collect();
    let wanted = voters(&View { caught_up: &all, ..*view });
    view.voters.len() != 1 || view.voters.first() != Some(&wanted)
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
    let target = voters(view);
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
            let members = members(text);
            let nodes: BTreeSet<NodeId> = members.iter().map(|member| member.node).collect();
            let now = [members.iter().filter(|member| member.voter).map(|member| member.node).collect()];
            let leader = NodeId(leader);
            let view = View { members: &members, leader, voters: &now, nodes: &nodes, caught_up: &nodes };
            assert_eq!(voters(&view), set(expected), "{text}");
        }
    }

    /// `1|123`: the set of node 1, and that of 1, 2 and 3.
    fn sets(text: &str) -> Vec<BTreeSet<NodeId>> {
        let nodes = |set: &str| set.bytes().map(|digit| NodeId((digit - b'0').into())).collect();
        text.split('|').filter(|set| !set.is_empty()).map(nodes).collect()
    }

    #[test]
    fn one_step_follows_another() {
        let learn = |node| Some(Step::Learn(NodeId(node)));
        let vote = |nodes: &[u64]| Some(Step::Vote(set(nodes)));
        let forget = |node| Some(Step::Forget(NodeId(node)));
        // (members, who votes, who follows, who has caught up, the next step)
        let cases = [
            ("a1", "1", "1", "1", None),
            ("a1 a2-", "1", "1", "1", learn(2)),
            ("a1 a2-", "1", "12", "12", None),
            ("a1 a2- a3-", "1", "12", "12", learn(3)),
            ("a1 a2- a3-", "1", "123", "12", None),
            ("a1 a2- a3-", "1", "123", "123", vote(&[1, 2, 3])),
            ("a1 a2 a3", "1|123", "123", "1", vote(&[1, 2, 3])),
            ("a1 a2 a3 a4-", "123", "1234", "1234", None),
            ("a1 a2 a3 a4- a5-", "123", "12345", "145", vote(&[1, 2, 3, 4, 5])),
            ("a1 a2 x3", "123", "123", "12", vote(&[1])),
            ("a1 a2- x3-", "1", "123", "1", forget(3)),
            ("a1 a2- l3-", "1", "123", "1", None),
            ("l1 a2-", "1", "12", "12", vote(&[2])),
            ("a2", "2", "12", "2", forget(1)),
            ("x1", "1", "1", "1", None),
            ("a1", "", "", "", None),
            // Node 2 has never come.
            ("a1 a2- a3- a4-", "1", "1234", "13", None),
            ("a1 a2- a3- a4-", "1", "1234", "134", vote(&[1, 3, 4])),
            ("a1 a2- a3- a4- a5-", "1", "12345", "1345", vote(&[1, 3, 4])),
            ("a1 a2- a3 a4 a5-", "134", "12345", "1345", None),
            ("a1 a2- a3 a4 a5-", "134", "12345", "12345", vote(&[1, 2, 3, 4, 5])),
            // Who votes stays, also where it is behind and another one is not.
            ("a1 a2- a3 a4", "134", "1234", "12", None),
            // Fewer than now would vote for the sake of one that has not caught up.
            ("l1 a2 a3 a4-", "123", "1234", "123", None),
            ("l1 a2 a3 a4-", "123", "1234", "1234", vote(&[2, 3, 4])),
        ];
        for (text, voters, nodes, caught_up, expected) in cases {
            let one = |text| sets(text).pop().unwrap_or_default();
            let (members, voters, nodes, caught_up) = (members(text), sets(voters), one(nodes), one(caught_up));
            let leader = NodeId(1);
            let view = View { members: &members, leader, voters: &voters, nodes: &nodes, caught_up: &caught_up };
            assert_eq!(next_step(&view), expected, "{text}: {view:?}");
        }
    }

    #[test]
    fn it_is_looked_at_again_while_one_may_come_to_vote() {
        let cases = [
            ("a1 a2- a3-", "1", "12", true),
            ("a1 a2- a3-", "1", "1", true),
            ("a1 a2-", "1", "1", false),
            ("a1 a2- a3 a4", "134", "134", false),
            ("a1 a2- a3 a4 a5-", "134", "1345", true),
            ("a1 a2 a3", "1|123", "123", true),
        ];
        for (text, voters, caught_up, expected) in cases {
            let (members, voters) = (members(text), sets(voters));
            let caught_up = sets(caught_up).pop().unwrap_or_default();
            let view = View {
                members: &members,
                leader: NodeId(1),
                voters: &voters,
                nodes: &caught_up,
                caught_up: &caught_up,
            };
            assert_eq!(is_waited_for(&view), expected, "{text} {view:?}");
        }
    }

    #[test]
    fn a_majority_is_one_of_every_set() {
        let cases = [
            ("1", "1", true),
            ("123", "1", false),
            ("123", "13", true),
            ("12", "1", false),
            ("1|123", "1", false),
            ("1|123", "12", true),
            ("", "1", false),
        ];
        for (voters, present, expected) in cases {
            let there = sets(present).pop().unwrap_or_default();
            assert_eq!(is_majority(&sets(voters), |node| there.contains(&node)), expected, "{voters} {present}");
        }
    }
}
