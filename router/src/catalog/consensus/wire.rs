//! What nodes say to each other about changes: a version byte, then postcard. Pure.

use serde::{Deserialize, Serialize};

use super::reach::TERM_MAX;
use super::stored::{AppliedV1, EntryV1, LogIdV1, PayloadV1, RolesV1, VoteV1};
use crate::catalog::encoding;
use crate::catalog::member::MEMBERS_MAX;
use crate::transport::NodeId;

/// Bytes that one question or answer has at most.
pub const BODY_BYTES_MAX: usize = 1 << 20;
/// Bytes of one proposal at most: an entry of the log is one value of the store.
pub(in crate::catalog) const PROPOSAL_BYTES_MAX: usize = 56 << 10;
/// Numbers of changes end here, far beyond what can be reached.
const INDEX_MAX: u64 = u64::MAX / 2;
/// Nodes that the roles may name: members, and those who were not forgotten yet.
const NODES_MAX: usize = 2 * MEMBERS_MAX;
/// The version that is spoken.
const VERSION: u8 = 1;

/// What one node asks of another.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Question {
    /// The group that it speaks for: what another one says is not heard.
    pub(super) group: u64,
    pub(super) about: About,
}

/// What a question is about. Frozen: kinds are added at the end.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum About {
    /// Take these entries.
    Append { vote: VoteV1, prev: Option<LogIdV1>, done: Option<LogIdV1>, entries: Vec<EntryV1> },
    /// Vote for me.
    Vote { vote: VoteV1, last: Option<LogIdV1> },
    /// Take this page of the state; with the last one comes up to where the state has come.
    Page { vote: VoteV1, snapshot: String, number: u32, page: Vec<u8>, end: Option<AppliedV1> },
    /// Have this change made.
    Propose { number: u64, who: String, change: Vec<u8>, patience_ms: u32 },
    /// Do you hear a leader? Of an older program it is unreadable.
    Led,
}

/// What is answered. Frozen: kinds are added at the end.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Answer {
    /// To entries: they are stored.
    Stored,
    /// To entries: what should stand before them does not.
    Conflict,
    /// To entries and pages: another leader is followed, or will be.
    Other(VoteV1),
    /// To a vote.
    Voted { vote: VoteV1, is_given: bool, last: Option<LogIdV1> },
    /// To a page: it is taken; to the last one: the state is stored.
    Taken(VoteV1),
    /// To a page: begin again with the first.
    Again,
    /// To a proposal.
    Proposed(Proposed),
    /// To anything: no.
    No(No),
    /// To whether a leader is heard.
    Led(bool),
}

/// What became of a proposal.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(super) enum Proposed {
    /// It was judged, in the order of all changes; its node will know how as soon as it has come that far.
    Done,
    /// As of change `index` it would be refused.
    Refused { index: u64, at_ms: i64, devices_max: u64, bytes_max: u64 },
    /// Here is no leader.
    NotLeader(Option<NodeId>),
    /// These voters are not heard; nothing was begun.
    NoMajority(Vec<NodeId>),
    /// A proposal of a higher number was judged already.
    Stale(u64),
    /// It is not known what becomes of it.
    Lost,
}

/// Why nothing was done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub(super) enum No {
    /// The question cannot be read.
    #[error("the node could not read what it was asked")]
    Unreadable,
    /// The question is of a version that is not spoken.
    #[error("the node speaks version {0} at most; update it")]
    Version(u8),
    /// The question is too long.
    #[error("the node takes no question of that length")]
    TooLong,
    /// The group is another one.
    #[error("the node belongs to another group; it must join anew")]
    Group,
    /// The asking node was removed.
    #[error("this node was removed from the site; wipe its store, so that it joins under a new id")]
    Removed,
    /// The node takes no part now.
    #[error("the node takes no part in changes now")]
    Down,
}

/// Writes a question or an answer.
pub(super) fn encode<T: Serialize>(message: &T) -> Vec<u8> {
    encoding::encode(VERSION, message)
}

/// Reads a question.
///
/// # Errors
/// What to answer where it cannot be read.
pub(super) fn decode(body: &[u8]) -> Result<Question, No> {
    match body.first() {
        _ if body.len() > BODY_BYTES_MAX => Err(No::TooLong),
        Some(&version) if version > VERSION => Err(No::Version(VERSION)),
        _ => encoding::decode(VERSION, body).ok_or(No::Unreadable),
    }
}

/// Reads an answer; `None` where it cannot be read.
pub(super) fn decode_answer(body: &[u8]) -> Option<Answer> {
    (body.len() <= BODY_BYTES_MAX).then(|| encoding::decode(VERSION, body)).flatten()
}

/// Whether an entry is within its bounds.
fn is_fit(entry: &EntryV1) -> bool {
    match &entry.payload {
        PayloadV1::Blank => true,
        PayloadV1::Proposal(proposal) => proposal.len() <= PROPOSAL_BYTES_MAX,
        PayloadV1::Roles(roles) => are_fit(roles),
    }
}

/// Whether roles are within their bounds: somebody votes, and who votes follows.
fn are_fit(roles: &RolesV1) -> bool {
    let voters = roles.voters.iter().all(|set| !set.is_empty() && set.iter().all(|node| roles.nodes.contains(node)));
    voters && (1..=2).contains(&roles.voters.len()) && roles.nodes.len() <= NODES_MAX
}

/// Whether a change may be of a log that the leader of `vote` has: it is its own, or an earlier leader's.
fn is_before(id: &LogIdV1, vote: &VoteV1) -> bool {
    (id.term, id.leader) <= (vote.term, vote.leader)
}

impl About {
    /// The vote by which its node leads, or stands.
    pub(super) fn vote(&self) -> Option<&VoteV1> {
        match self {
            Self::Append { vote, .. } | Self::Vote { vote, .. } | Self::Page { vote, .. } => Some(vote),
            Self::Propose { .. } | Self::Led => None,
        }
    }

    /// Whether openraft can take it: entries follow on each other, and it is a leader's or a candidate's own.
    pub(super) fn is_sound(&self, from: NodeId) -> bool {
        if self.vote().is_some_and(|vote| vote.term > TERM_MAX) {
            return false;
        }
        match self {
            Self::Append { vote, prev, entries, .. } => {
                let first = prev.map_or(0, |prev| prev.index.saturating_add(1));
                if first >= INDEX_MAX {
                    return false;
                }
                let follow = entries.iter().zip(first..).all(|(entry, index)| entry.id.index == index);
                let term = |entry: &EntryV1| (entry.id.term, entry.id.leader);
                let rise = entries.is_sorted_by_key(term) && entries.iter().all(|e| is_before(&e.id, vote));
                let fit = entries.iter().all(is_fit);
                vote.is_won && vote.leader == from && fit && follow && rise
            }
            Self::Vote { vote, .. } => !vote.is_won && vote.leader == from,
            Self::Page { vote, end, .. } => {
                let is_last = |last: LogIdV1| last.index < INDEX_MAX && is_before(&last, vote);
                let fit = |end: &AppliedV1| end.last.is_some_and(is_last) && are_fit(&end.roles);
                vote.is_won && vote.leader == from && end.as_ref().is_none_or(fit)
            }
            Self::Propose { .. } | Self::Led => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VOTE: VoteV1 = VoteV1 { term: 2, leader: NodeId(1), is_won: true };

    fn entry(term: u64, index: u64) -> EntryV1 {
        EntryV1 { id: LogIdV1 { term, leader: NodeId(1), index }, payload: PayloadV1::Blank }
    }

    #[test]
    fn a_question_has_these_bytes() {
        let ask = |about| encode(&Question { group: 9, about });
        let append = About::Append { vote: VOTE, prev: Some(entry(1, 3).id), done: None, entries: vec![entry(2, 4)] };
        let proposal = About::Propose { number: 5, who: "a".into(), change: vec![6], patience_ms: 7 };
        let page = About::Page { vote: VOTE, snapshot: "s".into(), number: 1, page: vec![8], end: None };
        let vote = About::Vote { vote: VoteV1 { is_won: false, ..VOTE }, last: None };
        let cases = [
            (ask(append), vec![1, 9, 0, 2, 1, 1, 1, 1, 1, 3, 0, 1, 2, 1, 4, 0]),
            (ask(vote), vec![1, 9, 1, 2, 1, 0, 0]),
            (ask(page), vec![1, 9, 2, 2, 1, 1, 1, b's', 1, 1, 8, 0]),
            (ask(proposal), vec![1, 9, 3, 5, 1, b'a', 1, 6, 7]),
            (ask(About::Led), vec![1, 9, 4]),
            (encode(&Answer::No(No::Version(1))), vec![1, 7, 1, 1]),
            (encode(&Answer::Proposed(Proposed::Stale(3))), vec![1, 6, 4, 3]),
            (encode(&Answer::Taken(VOTE)), vec![1, 4, 2, 1, 1]),
            (encode(&Answer::Led(true)), vec![1, 8, 1]),
        ];
        for (encoded, golden) in cases {
            assert_eq!(encoded, golden);
        }
    }

    #[test]
    fn what_cannot_be_read_is_told_so() {
        let good = encode(&Question { group: 1, about: About::Vote { vote: VOTE, last: None } });
        assert!(decode(&good).is_ok());
        let cases: [(&[u8], No); 6] = [
            (&[], No::Unreadable),
            (&[0], No::Unreadable),
            (&[2, 1, 2, 3], No::Version(1)),
            (&good[..good.len() - 1], No::Unreadable),
            (&[&good[..], &[0]].concat(), No::Unreadable),
            (&vec![1; BODY_BYTES_MAX + 1], No::TooLong),
        ];
        for (body, expected) in cases {
            assert_eq!(decode(body), Err(expected));
        }
        // Each question's beginnings, and each with one byte turned, are read or refused, and nothing else.
        for at in 0..good.len() {
            let mut turned = good.clone();
            turned[at] ^= 0xff;
            let _ = (decode(&good[..at]), decode(&turned), decode_answer(&turned));
        }
    }

    #[test]
    fn only_what_openraft_can_take_is_sound() {
        let append = |vote, prev: Option<u64>, entries: &[(u64, u64)]| About::Append {
            vote,
            prev: prev.map(|index| entry(1, index).id),
            done: None,
            entries: entries.iter().map(|(term, index)| entry(*term, *index)).collect(),
        };
        let stood = VoteV1 { is_won: false, ..VOTE };
        let page_of = |vote, end| About::Page { vote, snapshot: String::new(), number: 0, page: Vec::new(), end };
        let page = |end| page_of(VOTE, end);
        let alone = |last: LogIdV1| {
            Some(AppliedV1 { last: Some(last), roles: RolesV1::alone(NodeId(1)), ..Default::default() })
        };
        let cases = [
            (append(VOTE, None, &[]), true),
            (append(VOTE, None, &[(1, 0), (2, 1)]), true),
            (append(VOTE, Some(4), &[(1, 5), (1, 6)]), true),
            (append(VOTE, Some(4), &[(1, 4)]), false),
            (append(VOTE, Some(4), &[(1, 5), (1, 7)]), false),
            (append(VOTE, Some(u64::MAX), &[(1, 0)]), false),
            (append(VOTE, None, &[(2, 0), (1, 1)]), false),
            (append(VOTE, None, &[(3, 0)]), false),
            (append(stood, None, &[]), false),
            (append(VoteV1 { term: TERM_MAX, ..VOTE }, None, &[]), true),
            (append(VoteV1 { term: TERM_MAX + 1, ..VOTE }, None, &[]), false),
            (append(VoteV1 { term: u64::MAX, ..VOTE }, None, &[]), false),
            (About::Vote { vote: VoteV1 { term: u64::MAX, ..stood }, last: None }, false),
            (About::Vote { vote: stood, last: None }, true),
            (About::Vote { vote: VOTE, last: None }, false),
            (page(None), true),
            (page(Some(AppliedV1::default())), false),
            (page(alone(entry(1, 2).id)), true),
            (page(alone(entry(2, 2).id)), true),
            (page(alone(entry(3, 2).id)), false),
            (page_of(VoteV1 { term: u64::MAX, ..VOTE }, None), false),
        ];
        for (about, expected) in cases {
            assert_eq!(about.is_sound(NodeId(1)), expected, "{about:?}");
            assert!(!about.is_sound(NodeId(2)), "{about:?}");
        }
    }
}
