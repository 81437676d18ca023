//! What happens in the site's demo and when; pure, so that it can be told without nodes.

use std::time::Duration;

/// How long everything just flows.
const STEADY: Duration = Duration::from_secs(4);
/// How long the others go on without the dead one, before and after what they say of it is shown.
const ALONE: Duration = Duration::from_secs(3);
/// How long the gateways go on without the headquarters, once something waits for it.
const CUT: Duration = Duration::from_secs(6);
/// Readings that must wait before the link is mended.
const BACKLOG: u64 = 1_000;
/// Readings that may be on their way to the headquarters while it counts as level.
const LEVEL: u64 = 200;
/// How long anything that is waited for may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What can be seen from outside.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Devices of all gateways, and how many are connected.
    pub devices: usize,
    pub online: usize,
    /// Readings acknowledged.
    pub acked: u64,
    /// Whether all that run hear each other, the dead one too where it is back.
    pub all_heard: bool,
    /// Whether each node that runs has nearly all that the others have.
    pub level: bool,
    /// Readings that the headquarters has, and those that wait for it; `None` before it is there.
    pub upstream: Option<Upstream>,
}

/// What can be seen of the links to the headquarters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Upstream {
    /// Whether each gateway is connected to it.
    pub is_connected: bool,
    pub stored: u64,
    pub waiting: u64,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Kill,
    /// Show on the screen what `edgeway node status` says.
    Tell,
    Restart,
    /// Found a headquarters and link the gateways to it.
    Grow,
    /// Cut the way to it.
    Cut,
    /// Show on the screen what `edgeway link show` says.
    TellLink,
    /// Mend the way.
    Mend,
    End,
    /// What was waited for did not come.
    Fail(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scene {
    Connecting,
    Steady,
    Missed { acked: u64 },
    Alone { acked: u64 },
    Told { acked: u64 },
    Returning { acked: u64 },
    Whole,
    Linking,
    Fed,
    Cut { acked: u64 },
    Backlog { acked: u64 },
    Draining,
    Drained,
}

/// Where the demo stands.
#[derive(Debug)]
pub struct Story {
    scene: Scene,
    since: Duration,
}

impl Story {
    pub fn new() -> Story {
        Story { scene: Scene::Connecting, since: Duration::ZERO }
    }

    /// What goes on, in words.
    pub fn title(&self) -> &'static str {
        match self.scene {
            Scene::Connecting => "three gateways are one site; the devices connect",
            Scene::Steady => "each reading is acknowledged when two of three disks have it",
            Scene::Missed { .. } => "n2 was killed (SIGKILL); nobody has noticed yet",
            Scene::Alone { .. } | Scene::Told { .. } => "n1 and n3 miss it and go on; its devices keep their readings",
            Scene::Returning { .. } => "n2 is back; it takes what it missed, its devices send what they kept",
            Scene::Whole => "n2 has all; the site is whole again",
            Scene::Linking => "a headquarters is founded; each gateway is linked to it with a token that serves once",
            Scene::Fed => "the gateways feed the headquarters, each what its devices send",
            Scene::Cut { .. } => "the way to the headquarters is cut; the gateways go on and keep what it lacks",
            Scene::Backlog { .. } => "the backlog grows; nothing is refused",
            Scene::Draining => "the way is mended; the backlog drains",
            Scene::Drained => "the headquarters has all that was acknowledged",
        }
    }

    /// Moves on, where what is seen allows it; `now` counts from the start.
    pub fn next(&mut self, now: Duration, seen: &Seen) -> Option<Act> {
        let waited = now.saturating_sub(self.since);
        let (scene, act) = match self.follow(waited, seen) {
            Some(step) => step,
            None if waited > PATIENCE => return Some(Act::Fail(self.missing())),
            None => return None,
        };
        (self.scene, self.since) = (scene, now);
        act
    }

    fn follow(&self, waited: Duration, seen: &Seen) -> Option<(Scene, Option<Act>)> {
        let all_online = seen.online == seen.devices;
        let acked = seen.acked;
        let step = match self.scene {
            Scene::Connecting if all_online && seen.acked > 0 => (Scene::Steady, None),
            Scene::Steady if waited >= STEADY => (Scene::Missed { acked }, Some(Act::Kill)),
            // The quorum is two of three: what the others take is acknowledged all the while.
            Scene::Missed { acked: before } if !seen.all_heard && acked > before => (Scene::Alone { acked }, None),
            Scene::Alone { acked: before } if waited >= ALONE && acked > before => {
                (Scene::Told { acked }, Some(Act::Tell))
            }
            Scene::Told { acked: before } if waited >= ALONE && acked > before => {
                (Scene::Returning { acked }, Some(Act::Restart))
            }
            Scene::Returning { acked: before } if all_online && seen.all_heard && seen.level && acked > before => {
                (Scene::Whole, Some(Act::Tell))
            }
            Scene::Whole if waited >= STEADY => (Scene::Linking, Some(Act::Grow)),
            _ => return self.feed(waited, acked, seen.upstream?),
        };
        Some(step)
    }

    /// The scenes of the headquarters.
    fn feed(&self, waited: Duration, acked: u64, upstream: Upstream) -> Option<(Scene, Option<Act>)> {
        let Upstream { is_connected, stored, waiting } = upstream;
        let is_level = is_connected && stored > 0 && waiting < LEVEL;
        let step = match self.scene {
            Scene::Linking if is_level => (Scene::Fed, None),
            Scene::Fed if waited >= STEADY => (Scene::Cut { acked }, Some(Act::Cut)),
            Scene::Cut { acked: before } if waited >= CUT && waiting > BACKLOG && acked > before => {
                (Scene::Backlog { acked }, Some(Act::TellLink))
            }
            Scene::Backlog { acked: before } if waited >= ALONE && acked > before => (Scene::Draining, Some(Act::Mend)),
            Scene::Draining if is_level => (Scene::Drained, Some(Act::TellLink)),
            Scene::Drained if waited >= ALONE => (Scene::Drained, Some(Act::End)),
            _ => return None,
        };
        Some(step)
    }

    fn missing(&self) -> &'static str {
        match self.scene {
            Scene::Connecting => "not all devices connected",
            Scene::Missed { .. } => "the others did not miss the killed node, or took nothing",
            Scene::Alone { .. } | Scene::Told { .. } => "nothing was acknowledged while one of three nodes was dead",
            Scene::Returning { .. } => "the killed node did not catch up, or its devices did not come back",
            Scene::Linking => "the headquarters was not fed",
            Scene::Cut { .. } | Scene::Backlog { .. } => "nothing was kept for the headquarters while it was cut off",
            Scene::Draining => "the backlog did not drain",
            _ => "the demo stood still",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What goes wrong in a story.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Fault {
        None,
        /// The others take nothing while one is dead.
        StandStill,
        NoReturn,
        NotFed,
        NotDrained,
    }

    /// Tells the story in steps of 100 ms.
    fn told(fault: Fault) -> Vec<Act> {
        let mut story = Story::new();
        let mut acts = Vec::new();
        let mut seen = Seen { devices: 30, online: 30, all_heard: true, level: true, ..Seen::default() };
        for step in 0..2_000 {
            let taken = u64::from(fault != Fault::StandStill || seen.all_heard) * 100;
            seen.acked += taken;
            if let Some(upstream) = &mut seen.upstream {
                upstream.waiting += taken;
                if upstream.is_connected {
                    (upstream.stored, upstream.waiting) = (upstream.stored + upstream.waiting, 0);
                }
            }
            let act = story.next(Duration::from_millis(step * 100), &seen);
            match act {
                Some(Act::Kill) => (seen.online, seen.all_heard, seen.level) = (20, false, false),
                Some(Act::Restart) if fault != Fault::NoReturn => {
                    (seen.online, seen.all_heard, seen.level) = (30, true, true)
                }
                Some(Act::Grow) => {
                    seen.upstream = Some(Upstream { is_connected: fault != Fault::NotFed, ..Upstream::default() })
                }
                Some(Act::Cut) => seen.upstream.iter_mut().for_each(|upstream| upstream.is_connected = false),
                Some(Act::Mend) => {
                    seen.upstream.iter_mut().for_each(|upstream| upstream.is_connected = fault != Fault::NotDrained)
                }
                _ => {}
            }
            acts.extend(act);
            if matches!(act, Some(Act::End | Act::Fail(_))) {
                break;
            }
        }
        acts
    }

    #[test]
    fn the_story_has_one_good_end_and_fails_at_what_is_missing() {
        use Act::{Cut, End, Fail, Grow, Kill, Mend, Restart, Tell, TellLink};
        let good = [Kill, Tell, Restart, Tell, Grow, Cut, TellLink, Mend, TellLink, End];
        assert_eq!(told(Fault::None), good);
        for (fault, acts, why) in [
            (Fault::StandStill, 1, "the others did not miss the killed node, or took nothing"),
            (Fault::NoReturn, 3, "the killed node did not catch up, or its devices did not come back"),
            (Fault::NotFed, 5, "the headquarters was not fed"),
            (Fault::NotDrained, 8, "the backlog did not drain"),
        ] {
            assert_eq!(told(fault), [&good[..acts], &[Fail(why)]].concat(), "{fault:?}");
        }
    }
}
