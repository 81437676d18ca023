//! The guard of commands: asked before each dispatch, so that an interlock can forbid what would do harm.

use std::sync::{Arc, OnceLock};

use devices::command::CommandId;

/// A command that is about to be handed to a session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    /// Its id.
    pub id: CommandId,
    /// The device that it is for.
    pub device: Arc<str>,
    /// What to do.
    pub name: String,
    /// What it is to be done with.
    pub payload: Vec<u8>,
    /// Who sent it: `plugin:threshold-alarm`, `cli`, `api`.
    pub issued_by: String,
    /// An emergency: it is shown to the guard and goes whatever the guard says.
    pub urgent: bool,
}

/// What a guard says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It may go.
    Allow,
    /// It may go with this payload in place of its own (at most `devices::command::PAYLOAD_BYTES_MAX` bytes).
    Rewrite {
        /// Which guard says so.
        guard: String,
        /// The payload.
        payload: Vec<u8>,
    },
    /// It must not go.
    Deny {
        /// Which guard says so.
        guard: String,
        /// Why, for people: at most 256 bytes.
        reason: String,
    },
    /// The guard did not answer in its bounds; the command must not go either.
    Failed {
        /// Which guard failed.
        guard: String,
        /// How, for people: at most 256 bytes.
        reason: String,
    },
}

/// Judges commands. Several guards are asked one after another: the first that does not allow ends the asking, and a
/// rewritten payload is what the next one sees.
pub trait Guard: Send + Sync {
    /// Whether there is anybody to ask; where not, commands go without a detour.
    fn is_on_duty(&self) -> bool;

    /// Whether a guard asks to see commands of this name to this device; the others go without a detour.
    fn wants(&self, device: &str, name: &str) -> bool {
        let _ = (device, name);
        true
    }

    /// Judges one command. It may block for the guard's own time limit and no longer; call it where blocking is fine.
    fn judge(&self, asked: &Asked) -> Judgement;
}

/// Where the node puts its guard once the room that has it is open.
#[derive(Default)]
pub struct GuardSlot(OnceLock<Arc<dyn Guard>>);

impl GuardSlot {
    /// Puts the guard in; the first one stays.
    pub fn set(&self, guard: Arc<dyn Guard>) {
        let _ = self.0.set(guard);
    }

    /// The guard, if there is one and it is on duty.
    pub fn on_duty(&self) -> Option<&Arc<dyn Guard>> {
        self.0.get().filter(|guard| guard.is_on_duty())
    }
}
