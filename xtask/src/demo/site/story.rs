//! What happens in the site's demo and when; pure, so that it can be told without nodes.

use std::time::Duration;

/// How long everything just flows.
const STEADY: Duration = Duration::from_secs(4);
/// How long the others go on without the dead one, before and after what they say of it is shown.
const ALONE: Duration = Duration::from_secs(3);
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
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Kill,
    /// Show on the screen what `edgeway node status` says.
    Tell,
    Restart,
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
            Scene::Whole if waited >= STEADY => (Scene::Whole, Some(Act::End)),
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
            _ => "the demo stood still",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tells the story in steps of 100 ms; `goes_on` says that the others take readings while one is dead.
    fn told(goes_on: bool, returns: bool) -> Vec<Act> {
        let mut story = Story::new();
        let mut acts = Vec::new();
        let mut seen = Seen { devices: 30, online: 30, acked: 0, all_heard: true, level: true };
        for step in 0..1_000 {
            seen.acked += u64::from(goes_on || seen.all_heard);
            let act = story.next(Duration::from_millis(step * 100), &seen);
            match act {
                Some(Act::Kill) => (seen.online, seen.all_heard, seen.level) = (20, false, false),
                Some(Act::Restart) if returns => (seen.online, seen.all_heard, seen.level) = (30, true, true),
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
        use Act::{End, Fail, Kill, Restart, Tell};
        assert_eq!(told(true, true), [Kill, Tell, Restart, Tell, End]);
        assert_eq!(told(false, true), [Kill, Fail("the others did not miss the killed node, or took nothing")]);
        let missing = Fail("the killed node did not catch up, or its devices did not come back");
        assert_eq!(told(true, false), [Kill, Tell, Restart, missing]);
    }
}
