//! What is wrong with the node's site now, and not told of any more once it is mended: a full store, clocks that are far apart.

use super::clock_apart::{Apart, OtherClock, apart};
use super::site::SiteNode;
use super::site_view::Names;
use crate::admin::site::TroubleView;
use crate::event_log::FULL_ADVICE;
use crate::transport::NodeId;

impl SiteNode {
    /// The wall clocks of the other nodes that were heard in this run, as they show now.
    pub(super) fn other_clocks(&self) -> Vec<OtherClock> {
        let steady_ms = i64::try_from(self.log.clock().steady_ms()).unwrap_or(i64::MAX);
        let peers = self.peers().map(|peers| peers.states()).unwrap_or_default();
        let clock = |(node, ahead_ms): (NodeId, i64)| OtherClock { node, wall_ms: steady_ms.saturating_add(ahead_ms) };
        peers.iter().filter_map(|peer| Some((peer.node, peer.known.as_ref()?.wall_ahead_ms))).map(clock).collect()
    }

    /// Whose clock is far from those of others.
    pub(super) fn clocks_apart(&self) -> Vec<Apart> {
        apart(self.log.clock().wall_ms(), &self.other_clocks())
    }

    /// What is wrong now.
    pub(super) fn troubles_now(&self, names: &Names) -> Vec<TroubleView> {
        let at_ms = self.log.clock().wall_ms();
        let trouble = |code: &str, text: String| TroubleView { at_ms, code: code.to_owned(), text };
        let full = self.log.why_full().map(|why| trouble(STORE_FULL, full_text(&why)));
        let clocks = self.clocks_apart().into_iter().map(|apart| trouble(CLOCK_APART, clock_text(apart, names)));
        full.into_iter().chain(clocks).collect()
    }
}

/// The store takes nothing for want of room.
const STORE_FULL: &str = "store-full";
/// A clock is far from others.
pub(super) const CLOCK_APART: &str = "clock-apart";

fn full_text(why: &str) -> String {
    format!(
        "the store of this node is full: {why}. It takes no events, keeps none of the others', and does not count for a quorum: {FULL_ADVICE}"
    )
}

/// What is told of a clock that is far from others.
pub(super) fn clock_text(apart: Apart, names: &Names) -> String {
    let far = |ms: i64| {
        let way = if ms < 0 { "behind" } else { "ahead of" };
        (about(ms.unsigned_abs()), way)
    };
    match apart {
        Apart::Own(ms) => {
            let (by, way) = far(ms);
            format!(
                "this node's clock is {by} {way} those of all other nodes that were heard: set it (is NTP running here?); what is published \
                 here is dated by it{}",
                if ms > 0 { ", and retention by age goes by the others' clocks until then" } else { "" }
            )
        }
        Apart::Other(node, ms) => {
            let (by, way) = far(ms);
            let name = names.of(node);
            format!(
                "the clock of {name} is {by} {way} this node's: see which of the two is right and set the other one (is NTP running there?); \
                 what is published at it is dated wrong, and events are kept for too short or too long a time"
            )
        }
    }
}

/// A span in its largest unit, as people read it.
fn about(ms: u64) -> String {
    let minutes = ms / 60_000;
    match minutes {
        0..120 => format!("{minutes} minutes"),
        120..2_880 => format!("{} hours", minutes / 60),
        _ => format!("{} days", minutes / 1_440),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_clock_is_wrong_and_by_how_much_is_said_in_words() {
        let names = Names::of_pairs([(NodeId(3), "n3".to_owned())]);
        let minute = 60_000;
        for (apart, words) in [
            (Apart::Own(400 * 1_440 * minute), "this node's clock is 400 days ahead of those of all other nodes"),
            (Apart::Own(-7 * minute), "this node's clock is 7 minutes behind those of all"),
            (Apart::Other(NodeId(3), 300 * minute), "the clock of n3 is 5 hours ahead of this node's"),
            (Apart::Other(NodeId(4), -6 * minute), "the clock of 0000000000000004 is 6 minutes behind this node's"),
        ] {
            let text = clock_text(apart, &names);
            assert!(text.contains(words), "{text}");
        }
        assert!(clock_text(Apart::Own(minute), &names).contains("goes by the others' clocks"));
    }
}
