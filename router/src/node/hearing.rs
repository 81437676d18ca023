//! Whom a node hears, and since when: whether it may decide for the others, and who of them counts as lost (pure; monotonic time alone).

use std::time::Duration;

use crate::catalog::Member;
use crate::transport::NodeId;

/// How long a node is not heard before it counts as lost here: what was restarted is back before.
const LOST_AFTER: Duration = Duration::from_secs(1);
/// How long a majority is to be heard before anybody counts as lost here: where this node was the one that was away, the others come back one
/// after another. Old connections are silent for three seconds before new ones are taken, and are dialled every five at most.
const COME_BACK: Duration = Duration::from_secs(10);

/// Whether most of those who vote are heard. The consensus may lead and hear nobody: openraft leads on until another one is elected, and leads
/// again after a restart.
pub fn is_majority(members: &[Member], is_heard: impl Fn(NodeId) -> bool) -> bool {
    let voters = members.iter().filter(|member| member.voter);
    let (count, heard) =
        voters.fold((0, 0), |(count, heard), voter| (count + 1, heard + usize::from(is_heard(voter.node))));
    heard * 2 > count
}

/// Since when a majority is heard.
#[derive(Debug, Default)]
pub struct Hearing {
    majority_since: Option<Duration>,
}

impl Hearing {
    /// Takes note of how it is now.
    pub fn look(&mut self, is_majority: bool, now: Duration) {
        match is_majority {
            true => drop(self.majority_since.get_or_insert(now)),
            false => self.majority_since = None,
        }
    }

    /// Whether one that is not heard since then counts as lost.
    pub fn is_lost(&self, silent_since: Duration, now: Duration) -> bool {
        let has_settled = self.majority_since.is_some_and(|since| now.saturating_sub(since) >= COME_BACK);
        has_settled && now.saturating_sub(silent_since) >= LOST_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::MemberState;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_majority_is_more_than_half_of_those_who_vote() {
        let member = |node: u64, voter| Member {
            node: NodeId(node),
            name: String::new(),
            address: String::new(),
            origin: None,
            voter,
            state: MemberState::Active,
            version: String::new(),
            joined: 0,
        };
        // how many vote, of nodes 1.. ; who is heard; whether that is a majority
        for (voters, heard, expected) in [
            (0, &[1][..], false),
            (1, &[1], true),
            (1, &[2], false),
            (3, &[1], false),
            (3, &[1, 4, 5], false),
            (3, &[1, 3], true),
            (5, &[1, 2], false),
            (5, &[1, 2, 5], true),
        ] {
            let members: Vec<Member> = (1..=6).map(|node| member(node, node <= voters)).collect();
            assert_eq!(is_majority(&members, |node| heard.contains(&node.0)), expected, "{voters} {heard:?}");
        }
    }

    #[test]
    fn nobody_is_lost_to_one_that_was_away_itself() {
        let mut hearing = Hearing::default();
        assert!(!hearing.is_lost(Duration::ZERO, SECOND * 60), "it has heard no majority yet");
        hearing.look(true, SECOND * 60);
        assert!(!hearing.is_lost(Duration::ZERO, SECOND * 69));
        assert!(hearing.is_lost(Duration::ZERO, SECOND * 70));
        // Who goes then is lost soon.
        hearing.look(true, SECOND * 90);
        assert!(!hearing.is_lost(SECOND * 90, SECOND * 90) && hearing.is_lost(SECOND * 90, SECOND * 91));
        hearing.look(false, SECOND * 92);
        assert!(!hearing.is_lost(SECOND * 90, SECOND * 99));
        hearing.look(true, SECOND * 100);
        assert!(!hearing.is_lost(SECOND * 90, SECOND * 109) && hearing.is_lost(SECOND * 90, SECOND * 110));
    }
}
