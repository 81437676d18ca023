//! From a guest's answer to what the node does: pure.

use sled_data::EVENT_BYTES_MAX;

use super::batch::Batch;
use super::bindings::edgeway::plugin::types::{Action, Command, Emit, Repeat};
use super::manifest::Manifest;

/// Actions that one call may answer with.
pub const ACTIONS_MAX: usize = 65_536;
/// A command's `deliver-within-ms` where it does not say.
pub const DELIVER_WITHIN_MS_DEFAULT: u32 = 60_000;
/// The longest `deliver-within-ms`: a day.
pub const DELIVER_WITHIN_MS_MAX: u32 = 86_400_000;
/// A device's or a command's name has at most this many bytes.
const COMMAND_NAME_BYTES_MAX: usize = 256;
/// A reason for setting an event aside is cut to this many bytes.
pub const REASON_BYTES_MAX: usize = 1024;
/// What an appended event costs besides its key, value and headers.
const EVENT_BYTES_EXTRA: usize = 96;
/// Headers with these names or prefixes are the node's to give.
const RESERVED_HEADERS: [&str; 4] = ["cause", "session", "dead.", "mqtt."];
/// Reserved names that a plugin may give all the same.
const OPEN_HEADERS: [&str; 4] = [
    "mqtt.content-type",
    "mqtt.payload-format",
    "mqtt.expiry",
    "mqtt.user",
];

/// One thing to be done. `cause` is the event's place in the whole batch.
#[derive(Debug)]
pub enum Effect {
    /// Append a new event.
    Emit { cause: usize, emit: Emit },
    /// Append the event itself to another topic.
    Forward { cause: usize, topic: String },
    /// Queue a command; the `ordinal`-th one of its event.
    Command {
        cause: usize,
        ordinal: u32,
        command: CommandEffect,
    },
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
    pub deliver_within_ms: u32,
    /// Whether it may be sent again after an unanswered send.
    pub repeat: bool,
}

/// What the calls about one batch caused, in order.
#[derive(Debug, Default)]
pub struct Effects {
    /// In the order in which they are to be done.
    pub list: Vec<Effect>,
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
            return Err(format!(
                "the answer has {} actions; {ACTIONS_MAX} can be",
                actions.len()
            ));
        }
        let before = self.list.len();
        let mut room = manifest.limits.output_kib as usize * 1024;
        let mut ordinals = Ordinals::default();
        for action in actions {
            let added =
                check(action, part, base, manifest, &mut ordinals).and_then(|(effect, bytes)| {
                    room = room.checked_sub(bytes).ok_or_else(|| {
                        format!(
                            "the answer causes more than {} KiB",
                            manifest.limits.output_kib
                        )
                    })?;
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
        Ok(())
    }

    /// Sets an event aside.
    pub fn set_aside(&mut self, cause: usize, mut reason: String) {
        reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
        self.list.push(Effect::DeadLetter { cause, reason });
    }
}

/// Counts commands per event; answers mostly come in the order of events.
#[derive(Default)]
struct Ordinals {
    counts: std::collections::HashMap<u32, u32>,
}

impl Ordinals {
    fn next(&mut self, cause: u32) -> u32 {
        let count = self.counts.entry(cause).or_default();
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
    };
    let Some(event) = part.events.get(index as usize) else {
        return Err(format!(
            "an action names event {index} of a batch of {}",
            part.events.len()
        ));
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
            Ok((
                Effect::Forward { cause, topic },
                event.bytes() + EVENT_BYTES_EXTRA,
            ))
        }
        Action::Command(command) => {
            let ordinal = ordinals.next(index);
            let command = check_command(command, manifest)?;
            let bytes = command.payload.len() + EVENT_BYTES_EXTRA;
            Ok((
                Effect::Command {
                    cause,
                    ordinal,
                    command,
                },
                bytes,
            ))
        }
        Action::Reject(reject) => {
            let mut reason = reject.reason;
            reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
            Ok((
                Effect::DeadLetter { cause, reason },
                event.bytes() + EVENT_BYTES_EXTRA,
            ))
        }
    }
}

fn check_topic(topic: &str, manifest: &Manifest) -> Result<(), String> {
    if topic.starts_with('_') {
        return Err(format!(
            "topic `{topic}` is internal: no plugin may append to it"
        ));
    }
    if manifest.grants.emit.iter().any(|granted| granted == topic) {
        return Ok(());
    }
    Err(format!(
        "topic `{topic}` is not granted: add it to `grants.emit` in the manifest"
    ))
}

fn check_emit(emit: &Emit) -> Result<usize, String> {
    let reserved = emit.headers.iter().find(|header| {
        let name = header.name.as_str();
        RESERVED_HEADERS
            .iter()
            .any(|reserved| name.starts_with(reserved))
            && !OPEN_HEADERS.contains(&name)
    });
    if let Some(header) = reserved {
        return Err(format!("header `{}` is reserved for the node", header.name));
    }
    let headers: usize = emit
        .headers
        .iter()
        .map(|h| h.name.len() + h.value.len() + 8)
        .sum();
    let bytes =
        emit.key.as_ref().map_or(0, Vec::len) + emit.value.len() + headers + EVENT_BYTES_EXTRA;
    if bytes > EVENT_BYTES_MAX {
        return Err(format!(
            "an event of {bytes} bytes; {EVENT_BYTES_MAX} can be"
        ));
    }
    Ok(bytes)
}

fn check_command(command: Command, manifest: &Manifest) -> Result<CommandEffect, String> {
    let Command {
        device,
        name,
        payload,
        deliver_within_ms,
        repeat,
        ..
    } = command;
    if !manifest
        .grants
        .commands
        .iter()
        .any(|pattern| matches(pattern, &name))
    {
        return Err(format!(
            "command `{name}` is not granted: add it to `grants.commands` in the manifest"
        ));
    }
    for (what, text) in [("device", &device), ("command", &name)] {
        if text.is_empty() || text.len() > COMMAND_NAME_BYTES_MAX {
            return Err(format!(
                "a {what}'s name has {} bytes; 1 to {COMMAND_NAME_BYTES_MAX} can be",
                text.len()
            ));
        }
    }
    let deliver_within_ms = deliver_within_ms.unwrap_or(DELIVER_WITHIN_MS_DEFAULT);
    if deliver_within_ms > DELIVER_WITHIN_MS_MAX {
        return Err(format!(
            "deliver-within-ms {deliver_within_ms} is more than a day"
        ));
    }
    let repeat = repeat != Some(Repeat::Never);
    Ok(CommandEffect {
        device,
        name,
        payload,
        deliver_within_ms,
        repeat,
    })
}

/// Whether a text fits a pattern in which `*` stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
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
