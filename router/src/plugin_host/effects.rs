//! From a guest's answer to what the node does: pure.

use devices::command::{
    DELIVER_WITHIN_DEFAULT_MS, DELIVER_WITHIN_MAX_MS, KEY_BYTES_MAX, PAYLOAD_BYTES_MAX, check_command_name,
    check_device_name,
};
use devices::headers;
use devices::twin::Document;
use sled_data::EVENT_BYTES_MAX;

use super::batch::Batch;
use super::bindings::edgeway::plugin::types::{Action, Command, Emit, Repeat, SetDesired};
use super::manifest::{Manifest, TwinGrant};

/// Actions that one call may answer with.
pub const ACTIONS_MAX: usize = 65_536;
/// A reason for setting an event aside is cut to this many bytes.
pub const REASON_BYTES_MAX: usize = 1024;
/// What an appended event costs besides its key, value and headers: its `cause` and the record's own fields.
const EVENT_BYTES_EXTRA: usize = 512;
/// What the headers of a dead letter begin with.
pub const DEAD_HEADERS: &str = "dead.";
/// Reserved headers that a plugin may give all the same.
const OPEN_HEADERS: [&str; 4] =
    [headers::MQTT_CONTENT_TYPE, headers::MQTT_PAYLOAD_FORMAT, headers::MQTT_EXPIRY, headers::MQTT_USER];

/// One thing to be done. `cause` is the event's place in the whole batch.
#[derive(Debug)]
pub enum Effect {
    /// Append a new event.
    Emit { cause: usize, emit: Emit },
    /// Append the event itself to another topic.
    Forward { cause: usize, topic: String },
    /// Queue a command; the `ordinal`-th one of its event.
    Command { cause: usize, ordinal: u32, command: CommandEffect },
    /// Wish that a device be so; the `ordinal`-th wish of its event.
    SetDesired { cause: usize, ordinal: u32, wish: WishEffect },
    /// Set the event aside.
    DeadLetter { cause: usize, reason: String },
}

/// A command that was allowed.
#[derive(Debug, PartialEq, Eq)]
pub struct CommandEffect {
    /// The device's name.
    pub device: String,
    /// What to do.
    pub name: String,
    /// Handed to the device.
    pub payload: Vec<u8>,
    /// Time from the cause's timestamp.
    pub deliver_within_ms: u64,
    /// Whether it may be sent again after a send that was not confirmed.
    pub repeat: devices::command::Repeat,
    /// How long the device may take.
    pub execution_timeout_ms: Option<u64>,
    /// Whether it overtakes what waits, and no guard holds it.
    pub urgent: bool,
    /// It takes the place of those that wait with this key.
    pub supersede: Option<String>,
}

/// What was allowed to be wished of a device.
#[derive(Debug, PartialEq)]
pub struct WishEffect {
    /// The device's name.
    pub device: String,
    /// The merge patch, or all that is desired.
    pub document: Document,
    /// Whether it is all.
    pub replace: bool,
    /// The desired version that it is meant for.
    pub if_version: Option<u64>,
}

/// What the calls about one batch caused, in order.
#[derive(Debug, Default)]
pub struct Effects {
    /// In the order in which they are to be done.
    pub list: Vec<Effect>,
    /// What they cost in the log, about.
    pub bytes: usize,
}

impl Effects {
    /// Adds the answer to the part of the batch that begins at `base`.
    ///
    /// # Errors
    /// What was not granted or passed a bound, in words; nothing is added then.
    pub fn add(
        &mut self,
        actions: Vec<Action>,
        part: &Batch<'_>,
        base: usize,
        manifest: &Manifest,
    ) -> Result<(), String> {
        if actions.len() > ACTIONS_MAX {
            return Err(format!("the answer has {} actions; {ACTIONS_MAX} can be", actions.len()));
        }
        let before = self.list.len();
        let bytes_max = manifest.limits.output_kib as usize * 1024;
        let mut room = bytes_max;
        let mut ordinals = Ordinals::default();
        for action in actions {
            let added = check(action, part, base, manifest, &mut ordinals).and_then(|(effect, bytes)| {
                room = room
                    .checked_sub(bytes)
                    .ok_or_else(|| format!("the answer causes more than {} KiB", manifest.limits.output_kib))?;
                Ok(effect)
            });
            match added {
                Ok(effect) => self.list.push(effect),
                Err(reason) => {
                    self.list.truncate(before);
                    return Err(reason);
                }
            }
        }
        self.bytes += bytes_max - room;
        Ok(())
    }

    /// Sets an event aside.
    pub fn set_aside(&mut self, cause: usize, mut reason: String) {
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        self.list.push(Effect::DeadLetter { cause, reason });
    }
}

/// Counts commands and wishes per event; answers mostly come in the order of events.
#[derive(Default)]
struct Ordinals {
    counts: std::collections::HashMap<(Counted, u32), u32>,
}

/// What is counted apart.
#[derive(PartialEq, Eq, Hash)]
enum Counted {
    Commands,
    Wishes,
}

impl Ordinals {
    fn next(&mut self, what: Counted, cause: u32) -> u32 {
        let count = self.counts.entry((what, cause)).or_default();
        *count += 1;
        *count - 1
    }
}

/// The effect of one action and the bytes it costs.
fn check(
    action: Action,
    part: &Batch<'_>,
    base: usize,
    manifest: &Manifest,
    ordinals: &mut Ordinals,
) -> Result<(Effect, usize), String> {
    let index = match &action {
        Action::Emit(emit) => emit.cause,
        Action::Forward(forward) => forward.cause,
        Action::Command(command) => command.cause,
        Action::Reject(reject) => reject.cause,
        Action::SetDesired(set) => set.cause,
    };
    let Some(event) = part.events.get(index as usize) else {
        return Err(format!("an action names event {index} of a batch of {}", part.events.len()));
    };
    let cause = base + index as usize;
    match action {
        Action::Emit(emit) => {
            check_topic(&emit.topic, manifest)?;
            let bytes = check_emit(&emit)?;
            Ok((Effect::Emit { cause, emit }, bytes))
        }
        Action::Forward(forward) => {
            check_topic(&forward.topic, manifest)?;
            let topic = forward.topic;
            Ok((Effect::Forward { cause, topic }, check_event_bytes(event.bytes())?))
        }
        Action::Command(command) => {
            let ordinal = ordinals.next(Counted::Commands, index);
            let command = check_command(command, manifest)?;
            let bytes = command.payload.len() + EVENT_BYTES_EXTRA;
            Ok((Effect::Command { cause, ordinal, command }, bytes))
        }
        Action::Reject(reject) => {
            let mut reason = reject.reason;
            reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
            Ok((Effect::DeadLetter { cause, reason }, event.bytes() + EVENT_BYTES_EXTRA))
        }
        Action::SetDesired(set) => {
            let ordinal = ordinals.next(Counted::Wishes, index);
            let bytes = set.document.len() + EVENT_BYTES_EXTRA;
            Ok((Effect::SetDesired { cause, ordinal, wish: check_wish(set, manifest)? }, bytes))
        }
    }
}

fn check_topic(topic: &str, manifest: &Manifest) -> Result<(), String> {
    if topic.starts_with('_') {
        return Err(format!("topic `{topic}` is internal: no plugin may append to it"));
    }
    if manifest.grants.emit.iter().any(|granted| granted == topic) {
        return Ok(());
    }
    Err(format!("topic `{topic}` is not granted: add it to `grants.emit` in the manifest"))
}

fn check_emit(emit: &Emit) -> Result<usize, String> {
    let reserved = emit.headers.iter().find(|header| {
        let name = header.name.as_str();
        let reserved = headers::is_reserved(name) || name.starts_with(DEAD_HEADERS);
        reserved && !OPEN_HEADERS.contains(&name)
    });
    if let Some(header) = reserved {
        return Err(format!("header `{}` is reserved for the node", header.name));
    }
    let headers: usize = emit.headers.iter().map(|h| h.name.len() + h.value.len() + 8).sum();
    check_event_bytes(emit.key.as_ref().map_or(0, Vec::len) + emit.value.len() + headers)
}

/// What an event of so many bytes costs in the log.
fn check_event_bytes(bytes: usize) -> Result<usize, String> {
    let bytes = bytes + EVENT_BYTES_EXTRA;
    if bytes > EVENT_BYTES_MAX {
        return Err(format!("an event of {bytes} bytes with its cause; {EVENT_BYTES_MAX} can be"));
    }
    Ok(bytes)
}

fn check_command(command: Command, manifest: &Manifest) -> Result<CommandEffect, String> {
    let Command { device, name, payload, deliver_within_ms, repeat, urgent, execution_timeout_s, supersede, .. } =
        command;
    if !manifest.grants.commands.iter().any(|pattern| matches(pattern, &name)) {
        return Err(format!("command `{name}` is not granted: add it to `grants.commands` in the manifest"));
    }
    check_device_name(&device).map_err(|error| format!("device {device:?}: {error}"))?;
    check_command_name(&name).map_err(|error| format!("command {name:?}: {error}"))?;
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(format!("a command's payload has {} bytes; {PAYLOAD_BYTES_MAX} can be", payload.len()));
    }
    let deliver_within_ms = deliver_within_ms.map_or(DELIVER_WITHIN_DEFAULT_MS, u64::from);
    if deliver_within_ms > DELIVER_WITHIN_MAX_MS {
        return Err(format!("deliver-within-ms {deliver_within_ms} is more than {DELIVER_WITHIN_MAX_MS}"));
    }
    let repeat = match repeat {
        Some(Repeat::Never) => devices::command::Repeat::Never,
        Some(Repeat::Allowed) | None => devices::command::Repeat::Safe,
    };
    if urgent && !manifest.grants.urgent {
        return Err(format!("command `{name}` is urgent, which is not granted: set `grants.urgent` in the manifest"));
    }
    if supersede.as_ref().is_some_and(|key| key.is_empty() || key.len() > KEY_BYTES_MAX) {
        return Err(format!("the supersede key of command `{name}` has 1 to {KEY_BYTES_MAX} bytes"));
    }
    let execution_timeout_ms = execution_timeout_s.map(|seconds| u64::from(seconds.max(1)) * 1_000);
    Ok(CommandEffect { device, name, payload, deliver_within_ms, execution_timeout_ms, repeat, urgent, supersede })
}

fn check_wish(set: SetDesired, manifest: &Manifest) -> Result<WishEffect, String> {
    let SetDesired { device, document, replace, if_version, .. } = set;
    if manifest.grants.twins != TwinGrant::Set {
        return Err("twins may not be set: write `grants.twins = \"set\"` in the manifest".to_owned());
    }
    check_device_name(&device).map_err(|error| format!("device {device:?}: {error}"))?;
    let document =
        Document::parse(document.as_bytes()).map_err(|error| format!("what is desired of {device:?}: {error}"))?;
    Ok(WishEffect { device, document, replace, if_version })
}

/// Whether a text fits a pattern in which `*` stands for any text.
pub fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(head) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let tail = parts.pop().unwrap_or_default();
    for part in parts {
        match text.find(part) {
            Some(at) => text = &text[at + part.len()..],
            None => return false,
        }
    }
    text.ends_with(tail)
}

#[cfg(test)]
mod tests;
