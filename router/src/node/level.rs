//! Raises the level of the site when all of its nodes speak it, and has this node speak nothing below it any more.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::site::SiteNode;
use crate::catalog::{Change, Member, MemberState};
use crate::transport::NodeId;

/// How often it looks besides when the catalog changes, while the site is not where this node could be.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Who the audit says proposed it.
const WHO: &str = "node";

impl SiteNode {
    /// Goes on for as long as the node runs.
    pub(super) async fn keep_level(self: Arc<Self>) {
        let mut changed = self.catalog.watch();
        loop {
            changed.borrow_and_update();
            let level = self.catalog.level();
            self.spoken.raise(level);
            let is_done = level >= self.spoken.highest();
            if !is_done && self.catalog.is_leader() {
                self.raise(level).await;
            }
            let ended = match is_done {
                true => changed.changed().await.is_err(),
                false => matches!(tokio::time::timeout(LOOK_EVERY, changed.changed()).await, Ok(Err(_))),
            };
            if ended {
                return;
            }
        }
    }

    async fn raise(&self, level: u16) {
        let peers = self.peers().map(|peers| peers.states()).unwrap_or_default();
        let here = peers.iter().filter(|peer| peer.is_connected);
        let mut spoken: BTreeMap<NodeId, u16> =
            here.filter_map(|peer| Some((peer.node, peer.known.as_ref()?.protocol_max))).collect();
        spoken.insert(self.place.node, self.spoken.highest());
        let Some(to) = next_level(level, &self.catalog.members(), &spoken) else { return };
        match self.catalog.propose(Change::RaiseLevel { to }, WHO).await {
            Ok(_) => tracing::info!(from = level, to, "all nodes of the site are upgraded"),
            Err(refusal) => tracing::debug!(%refusal, "the level of the site could not be raised; it is tried again"),
        }
    }
}

/// The level that all members speak who may come back, where it is above the one that there is. One that is not here
/// may have been started anew with an older program.
fn next_level(level: u16, members: &[Member], spoken: &BTreeMap<NodeId, u16>) -> Option<u16> {
    let counted = members.iter().filter(|member| member.state != MemberState::Lost);
    let highest = counted.map(|member| spoken.get(&member.node).copied().unwrap_or(0));
    highest.min().filter(|lowest| *lowest > level)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The level, the nodes with what they speak (0: not heard), the level that follows.
    type Case = (u16, &'static [(MemberState, u16)], Option<u16>);

    #[test]
    fn a_level_is_what_all_of_them_speak() {
        const ACTIVE: MemberState = MemberState::Active;
        const LEAVING: MemberState = MemberState::Leaving;
        const LOST: MemberState = MemberState::Lost;
        let cases: [Case; 9] = [
            (1, &[(ACTIVE, 2)], Some(2)),
            (2, &[(ACTIVE, 2)], None),
            (1, &[(ACTIVE, 2), (ACTIVE, 2), (ACTIVE, 2)], Some(2)),
            (1, &[(ACTIVE, 2), (ACTIVE, 1), (ACTIVE, 3)], None),
            (1, &[(ACTIVE, 3), (ACTIVE, 4)], Some(3)),
            (1, &[(ACTIVE, 2), (ACTIVE, 0)], None),
            (1, &[(ACTIVE, 2), (LEAVING, 1)], None),
            (1, &[(ACTIVE, 2), (LOST, 0)], Some(2)),
            (1, &[], None),
        ];
        for (level, nodes, expected) in cases {
            let members: Vec<Member> = (1..).zip(nodes).map(|(id, (state, _))| Member::sample(id, *state)).collect();
            let spoken = (1..).zip(nodes).filter(|(_, (_, spoken))| *spoken > 0);
            let spoken = spoken.map(|(id, (_, spoken))| (NodeId(id), *spoken)).collect();
            assert_eq!(next_level(level, &members, &spoken), expected, "{level} {nodes:?}");
        }
    }
}
