//! Which of the site's nodes are not connected, and whether that is so new that they are waited for (pure).

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

use crate::transport::NodeId;

/// How long a node is waited for that is not connected: after a start, or after it was lost. Dialling takes so long at most.
pub const AWAY_WAIT: Duration = if cfg!(test) { Duration::from_secs(2) } else { Duration::from_secs(15) };

/// Since when each one is not connected.
#[derive(Debug, Default)]
pub struct Away(BTreeMap<NodeId, Instant>);

impl Away {
    /// Notes who is connected of those who are to be; who is missing for so short a time that it is waited for.
    pub fn look(&mut self, staying: &[NodeId], connected: &[NodeId], now: Instant) -> Vec<NodeId> {
        self.0.retain(|node, _| staying.contains(node) && !connected.contains(node));
        for node in staying.iter().filter(|node| !connected.contains(node)) {
            self.0.entry(*node).or_insert(now);
        }
        let is_new = |since: &Instant| now.duration_since(*since) < AWAY_WAIT;
        self.0.iter().filter(|(_, since)| is_new(since)).map(|(node, _)| *node).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// In how many waits, who stays, who is connected, who is waited for.
    type Step<'a> = (f64, &'a [NodeId], &'a [NodeId], &'a [NodeId]);

    #[test]
    fn a_node_is_waited_for_a_while_after_a_start_and_after_it_was_lost() {
        let (a, b, began) = (NodeId(1), NodeId(2), Instant::now());
        let mut away = Away::default();
        let steps: [Step; 8] = [
            (0.0, &[a, b], &[], &[a, b]),
            (0.5, &[a, b], &[a], &[b]),
            (1.0, &[a, b], &[a], &[]),
            (2.0, &[a, b], &[b], &[a]),
            (2.9, &[a, b], &[b], &[a]),
            (3.0, &[a, b], &[b], &[]),
            (3.1, &[b], &[], &[b]),
            (3.2, &[], &[], &[]),
        ];
        for (waits, staying, connected, expected) in steps {
            let now = began + AWAY_WAIT.mul_f64(waits);
            assert_eq!(away.look(staying, connected, now), expected, "{waits}");
        }
    }
}
