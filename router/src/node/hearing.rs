//! Whom a node hears, and since when: whether it may decide for the others, and who of them counts as lost (pure; monotonic time alone).

use std::collections::BTreeMap;
use std::time::Duration;

use crate::catalog::Member;
use crate::transport::NodeId;

/// How long a node is not heard before it counts as lost here: what was restarted is back before.
const LOST_AFTER: Duration = Duration::from_secs(1);
/// How long a line stands until its falls before count no more.
const STANDS: Duration = Duration::from_secs(120);
/// Falls of a line that count. With each one the node is waited for twice as long: 32 seconds at most.
const FALLS_MAX: u32 = 5;
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

/// The line to another node, as it is now.
#[derive(Debug, Clone, Copy)]
pub struct Line {
    /// The node.
    pub node: NodeId,
    /// Whether it is heard.
    pub is_up: bool,
    /// Since when it is, or is not.
    pub since: Duration,
    /// Which process of the node was heard last: its incarnation, or 0.
    pub process: u64,
}

/// How a line has fallen of late.
#[derive(Debug, Default, Clone, Copy)]
struct Falls {
    count: u32,
    /// It is down for so long that the node would count as lost.
    is_down: bool,
    /// Which process was heard when it was up.
    process: u64,
}

/// Since when a majority is heard, and whose lines fall again and again: one for each node of the site.
#[derive(Debug, Default)]
pub struct Hearing {
    majority_since: Option<Duration>,
    falls: BTreeMap<NodeId, Falls>,
}

impl Hearing {
    /// Takes note of how it is now.
    pub fn look(&mut self, is_majority: bool, lines: &[Line], now: Duration) {
        match is_majority {
            true => drop(self.majority_since.get_or_insert(now)),
            false => self.majority_since = None,
        }
        let has_settled = self.has_settled(now);
        self.falls.retain(|node, _| lines.iter().any(|line| line.node == *node));
        for line in lines {
            let falls = self.falls.entry(line.node).or_default();
            let lasted = now.saturating_sub(line.since);
            match line.is_up {
                false => falls.is_down |= has_settled && lasted >= LOST_AFTER,
                // The node was started again: it was not the line that fell.
                true if falls.process != line.process => *falls = Falls { process: line.process, ..Falls::default() },
                true if falls.is_down => (falls.count, falls.is_down) = (FALLS_MAX.min(falls.count + 1), false),
                true if lasted >= STANDS => falls.count = 0,
                true => {}
            }
        }
    }

    /// Whether one that is not heard since then counts as lost. Where its line has fallen before, of late, that is later than the first time: what is handed over
    /// and back with each fall would be with nobody for a moment each time.
    pub fn is_lost(&self, node: NodeId, silent_since: Duration, now: Duration) -> bool {
        let falls = self.falls.get(&node).map_or(0, |falls| falls.count);
        self.has_settled(now) && now.saturating_sub(silent_since) >= LOST_AFTER * 2_u32.pow(falls)
    }

    fn has_settled(&self, now: Duration) -> bool {
        self.majority_since.is_some_and(|since| now.saturating_sub(since) >= COME_BACK)
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

    const NODE: NodeId = NodeId(2);

    #[test]
    fn nobody_is_lost_to_one_that_was_away_itself() {
        let mut hearing = Hearing::default();
        let is_lost = |hearing: &Hearing, since: u32, now: u32| hearing.is_lost(NODE, SECOND * since, SECOND * now);
        assert!(!is_lost(&hearing, 0, 60), "it has heard no majority yet");
        hearing.look(true, &[], SECOND * 60);
        assert!(!is_lost(&hearing, 0, 69));
        assert!(is_lost(&hearing, 0, 70));
        // Who goes then is lost soon.
        hearing.look(true, &[], SECOND * 90);
        assert!(!is_lost(&hearing, 90, 90) && is_lost(&hearing, 90, 91));
        hearing.look(false, &[], SECOND * 92);
        assert!(!is_lost(&hearing, 90, 99));
        hearing.look(true, &[], SECOND * 100);
        assert!(!is_lost(&hearing, 90, 109) && is_lost(&hearing, 90, 110));
    }

    /// The line is up for so long, and then down, by the looks of four a second; after how many milliseconds the node counts as lost, if it does.
    fn fall(hearing: &mut Hearing, now: &mut Duration, (up, down): (Duration, Duration)) -> Option<u128> {
        let mut lost_after = None;
        for (is_up, lasts) in [(true, up), (false, down)] {
            let since = *now;
            while *now < since + lasts {
                *now += SECOND / 4;
                hearing.look(true, &[Line { node: NODE, is_up, since, process: 1 }], *now);
                if !is_up && hearing.is_lost(NODE, since, *now) {
                    lost_after.get_or_insert((*now - since).as_millis());
                }
            }
        }
        lost_after
    }

    #[test]
    fn a_line_that_falls_again_and_again_is_waited_for_longer_each_time() {
        let (mut hearing, mut now) = (Hearing::default(), Duration::ZERO);
        let second_up = |down: u32| (SECOND, SECOND * down);
        assert_eq!(fall(&mut hearing, &mut now, (SECOND * 20, SECOND * 3)), Some(1_000));
        assert_eq!(fall(&mut hearing, &mut now, second_up(3)), Some(2_000));
        // It comes back before that, so nothing is handed over.
        for _ in 0..3 {
            assert_eq!(fall(&mut hearing, &mut now, second_up(3)), None);
        }
        // It is not waited for ever, and others are as before.
        for _ in 0..3 {
            assert_eq!(fall(&mut hearing, &mut now, second_up(60)), Some(32_000));
        }
        assert!(hearing.is_lost(NodeId(3), now - SECOND, now));
        // What was too short to count does not count; what has stood for long begins anew.
        assert_eq!(fall(&mut hearing, &mut now, (SECOND * 121, SECOND / 2)), None);
        assert_eq!(fall(&mut hearing, &mut now, second_up(3)), Some(1_000));
    }

    #[test]
    fn a_node_that_is_started_again_is_taken_over_as_soon_as_before() {
        let (mut hearing, mut now) = (Hearing::default(), Duration::ZERO);
        assert_eq!(fall(&mut hearing, &mut now, (SECOND * 20, SECOND * 3)), Some(1_000));
        assert_eq!(fall(&mut hearing, &mut now, (SECOND, SECOND * 3)), Some(2_000));
        now += SECOND;
        hearing.look(true, &[Line { node: NODE, is_up: true, since: now, process: 2 }], now);
        assert!(hearing.is_lost(NODE, now, now + SECOND));
    }

    #[test]
    fn falls_count_where_the_others_are_heard_and_are_forgotten_with_their_node() {
        let (mut hearing, mut now) = (Hearing::default(), Duration::ZERO);
        let down = [Line { node: NODE, is_up: false, since: now, process: 1 }];
        let up = [Line { is_up: true, ..down[0] }];
        // This node was the one that was away.
        for lines in [down, up].iter().cycle().take(10) {
            now += SECOND * 2;
            hearing.look(false, lines, now);
        }
        assert_eq!(fall(&mut hearing, &mut now, (SECOND * 20, SECOND * 3)), Some(1_000));
        hearing.look(true, &[], now);
        assert_eq!(fall(&mut hearing, &mut now, (SECOND, SECOND * 3)), Some(1_000));
        assert!(hearing.falls.len() == 1);
    }
}
