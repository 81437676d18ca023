//! Devices that wait for room: in a session that has as much as it takes, or among the questions to guards.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::Table;
use super::effect::Now;

/// How long a device waits for room before it is looked at anyway, in milliseconds.
const LOOK_AFTER_MS: u64 = 1_000;

/// Who waits for what. Each device is in a crowd once, and leaves it when it has no commands.
#[derive(Debug, Default)]
pub(super) struct Crowds {
    /// By session: devices that are reached through it, and found it full.
    of_session: BTreeMap<u64, BTreeSet<Arc<str>>>,
    /// Devices whose next command no guard could be asked about.
    of_guards: BTreeSet<Arc<str>>,
}

impl Crowds {
    /// The device that may ask next.
    pub(super) fn next_to_ask(&mut self) -> Option<Arc<str>> {
        self.of_guards.pop_first()
    }
}

impl Table {
    /// The device's session has no room: it is looked at again when the session has done something.
    pub(super) fn crowd_session(&mut self, device: &Arc<str>, session: u64, now: Now) {
        self.crowds.of_session.entry(session).or_default().insert(Arc::clone(device));
        self.rested.insert((now.steady + LOOK_AFTER_MS, Arc::clone(device)));
    }

    /// As many questions are open as may be: the device is looked at again when one is answered.
    pub(super) fn crowd_guards(&mut self, device: &Arc<str>, now: Now) {
        self.crowds.of_guards.insert(Arc::clone(device));
        self.rested.insert((now.steady + LOOK_AFTER_MS, Arc::clone(device)));
    }

    /// A session has done with one of its commands: there is room for another device's.
    pub(super) fn room_in_session(&mut self, session: u64) {
        let Some(crowd) = self.crowds.of_session.get_mut(&session) else { return };
        let first = crowd.pop_first();
        if crowd.is_empty() {
            self.crowds.of_session.remove(&session);
        }
        self.want_again(first);
    }

    /// A question is answered: there is room for another.
    pub(super) fn room_for_question(&mut self) {
        let first = self.crowds.next_to_ask();
        self.want_again(first);
    }

    fn want_again(&mut self, device: Option<Arc<str>>) {
        self.wanting.extend(device.filter(|device| self.devices.contains_key(device)));
    }
}
