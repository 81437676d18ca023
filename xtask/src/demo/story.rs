//! What happens in the demo and when; pure, so that it can be told without a node.

use std::time::Duration;

/// The first device that overheats; it speaks MQTT.
pub const FIRST: &str = "mqtt-0007";
/// The one that overheats after the restart; it speaks edgeway/1 over QUIC.
pub const SECOND: &str = "quic-0013";
/// Where the shipped threshold-alarm raises its alarm, in °C.
const LIMIT: f64 = 80.0;
/// Where it clears it.
const CLEAR: f64 = 75.0;

/// How long everything just flows.
const STEADY: Duration = Duration::from_secs(3);
/// How long the node stays dead.
const DEAD: Duration = Duration::from_secs(1);
/// How long anything that is waited for may take.
const PATIENCE: Duration = Duration::from_secs(12);

/// What can be seen from outside.
#[derive(Debug, Clone, Copy, Default)]
pub struct Seen {
    /// Devices of both fleets, and how many are connected.
    pub devices: usize,
    pub online: usize,
    /// Readings acknowledged.
    pub acked: u64,
    /// Temperature of the device that is on stage, in °C, and its commands.
    pub temperature: f64,
    pub commands: u64,
}

/// What is to be done now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Overheat(&'static str),
    Kill,
    Restart,
    End,
    /// What was waited for did not come.
    Fail(&'static str),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scene {
    Connecting,
    Steady,
    Heating,
    Cooling,
    Cooled,
    Dead,
    Returning { acked: u64 },
    HeatingAgain,
    CoolingAgain,
    CooledAgain,
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

    /// The device that is on stage.
    pub fn device(&self) -> &'static str {
        match self.scene {
            Scene::HeatingAgain | Scene::CoolingAgain | Scene::CooledAgain => SECOND,
            _ => FIRST,
        }
    }

    /// What goes on, in words.
    pub fn title(&self) -> &'static str {
        match self.scene {
            Scene::Connecting => "the devices connect",
            Scene::Steady => "readings flow",
            Scene::Heating => "a device by MQTT overheats; the plugin watches",
            Scene::HeatingAgain => "a device by QUIC overheats; the plugin watches",
            Scene::Cooling | Scene::CoolingAgain => "the plugin's command has come; the device cools",
            Scene::Cooled | Scene::CooledAgain => "cooled",
            Scene::Dead => "the node was killed (SIGKILL); the devices keep their readings",
            Scene::Returning { .. } => "the node is back; the devices send what they kept",
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
        let step = match self.scene {
            Scene::Connecting if all_online => (Scene::Steady, None),
            Scene::Steady if waited >= STEADY => (Scene::Heating, Some(Act::Overheat(FIRST))),
            Scene::Heating if seen.commands > 0 => (Scene::Cooling, None),
            Scene::Cooling if seen.temperature < CLEAR => (Scene::Cooled, None),
            Scene::Cooled if waited >= STEADY => (Scene::Dead, Some(Act::Kill)),
            Scene::Dead if waited >= DEAD => (Scene::Returning { acked: seen.acked }, Some(Act::Restart)),
            Scene::Returning { acked } if all_online && seen.acked > acked => {
                (Scene::HeatingAgain, Some(Act::Overheat(SECOND)))
            }
            Scene::HeatingAgain if seen.commands > 0 => (Scene::CoolingAgain, None),
            Scene::CoolingAgain if seen.temperature < CLEAR => (Scene::CooledAgain, None),
            Scene::CooledAgain if waited >= STEADY => (Scene::CooledAgain, Some(Act::End)),
            _ => return None,
        };
        Some(step)
    }

    fn missing(&self) -> &'static str {
        match self.scene {
            Scene::Connecting => "not all devices connected",
            Scene::Heating | Scene::HeatingAgain => "no command came for the overheated device",
            Scene::Cooling | Scene::CoolingAgain => "the device did not cool",
            Scene::Returning { .. } => "the devices did not come back after the restart",
            _ => "the demo stood still",
        }
    }
}

/// How a temperature is to be read.
pub fn judge(temperature: f64) -> &'static str {
    match temperature {
        t if t > LIMIT => "over the limit",
        t if t > CLEAR => "warm",
        _ => "normal",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tells the story in steps of 100 ms with a device that heats and obeys.
    fn told(cools: bool, returns: bool) -> Vec<Act> {
        let mut story = Story::new();
        let mut acts = Vec::new();
        let mut seen = Seen { devices: 50, online: 50, acked: 0, temperature: 45.0, commands: 0 };
        let mut heating = false;
        for step in 0..1_000 {
            seen.acked += u64::from(seen.online == 50);
            seen.temperature = if heating { 90.0 } else { 45.0 };
            if heating && seen.temperature > LIMIT && cools {
                (heating, seen.commands) = (false, 1);
            }
            match story.next(Duration::from_millis(step * 100), &seen) {
                Some(act @ Act::Overheat(_)) => {
                    (heating, seen.commands) = (true, 0);
                    acts.push(act);
                }
                Some(Act::Kill) => {
                    seen.online = 0;
                    acts.push(Act::Kill);
                }
                Some(Act::Restart) => {
                    seen.online = if returns { 50 } else { 49 };
                    acts.push(Act::Restart);
                }
                Some(last) => {
                    acts.push(last);
                    return acts;
                }
                None => {}
            }
        }
        acts
    }

    #[test]
    fn the_story_has_one_good_end_and_fails_at_what_is_missing() {
        use Act::{End, Fail, Kill, Overheat, Restart};
        assert_eq!(told(true, true), [Overheat(FIRST), Kill, Restart, Overheat(SECOND), End]);
        let missing = Fail("no command came for the overheated device");
        assert_eq!(told(false, true), [Overheat(FIRST), missing]);
        let missing = Fail("the devices did not come back after the restart");
        assert_eq!(told(true, false), [Overheat(FIRST), Kill, Restart, missing]);
    }
}
