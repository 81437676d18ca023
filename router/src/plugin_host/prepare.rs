//! From effects to events ready to be appended: pure.
//!
//! Everything that can fail is done here, before the commit is opened.

use devices::command::{COMMANDS_TOPIC, CommandId, OriginHex, Queued, Repeat, StepEvent, Taken, UNSEEN_TERMS};
use devices::headers;
use devices::twin::{WISHES_TOPIC, Wish};
use sled_data::{EVENT_BYTES_MAX, HeaderBlock};

use super::batch::{Batch, EventRef};
use super::cause::{command_cause, push_cause};
use super::effects::{CommandEffect, Effect, Effects, WishEffect};

/// The internal topic of events that were set aside.
pub const DEAD_LETTERS_TOPIC: &str = "_dead_letters";
/// Headers of an event that do not go with it when it is forwarded: they say
/// which way it came.
const LEFT_BEHIND: [&str; 5] =
    [headers::MQTT_TOPIC, headers::MQTT_RETAIN, headers::MQTT_WILL, headers::SESSION, headers::CAUSE];

/// A key or a value: the source event's, or a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content<'a> {
    /// As stored.
    Same(Option<&'a [u8]>),
    /// Made by the plugin or by the node.
    New(Option<Vec<u8>>),
}

impl Content<'_> {
    /// The bytes; `None` for no key, or a deletion.
    pub fn bytes(&self) -> Option<&[u8]> {
        match self {
            Content::Same(bytes) => *bytes,
            Content::New(bytes) => bytes.as_deref(),
        }
    }
}

/// An event ready to be appended.
pub struct Prepared<'a> {
    pub topic: String,
    pub timestamp_ms: i64,
    pub key: Content<'a>,
    pub value: Content<'a>,
    pub headers: HeaderBlock,
}

impl Prepared<'_> {
    /// Its bytes as the event log counts them.
    pub fn bytes(&self) -> usize {
        let length = |content: &Content<'_>| content.bytes().map_or(0, <[u8]>::len);
        length(&self.key) + length(&self.value) + self.headers.bytes().len()
    }
}

/// What one batch caused, by kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    pub appended: u64,
    pub commands: u64,
    pub dead_letters: u64,
    pub wishes: u64,
}

/// Turns effects into events; `now_ms` is the node's wall clock.
pub fn prepare<'a>(
    effects: Effects,
    batch: &Batch<'a>,
    plugin: &str,
    now_ms: i64,
    out: &mut Vec<Prepared<'a>>,
) -> Counts {
    let mut counts = Counts::default();
    let mut cause_text = Vec::new();
    for effect in effects.list {
        let cause = match &effect {
            Effect::Emit { cause, .. }
            | Effect::Forward { cause, .. }
            | Effect::Command { cause, .. }
            | Effect::SetDesired { cause, .. }
            | Effect::DeadLetter { cause, .. } => *cause,
        };
        // Places were checked when the effects were made.
        let Some(event) = batch.events.get(cause) else { continue };
        cause_text.clear();
        push_cause(&mut cause_text, plugin, batch, event.offset);
        let (counter, prepared) = match effect {
            Effect::Emit { emit, .. } => {
                let mut block = HeaderBlock::new();
                for header in &emit.headers {
                    block.push(&header.name, &header.value);
                }
                block.push(headers::CAUSE, &cause_text);
                let prepared = Prepared {
                    topic: emit.topic,
                    timestamp_ms: emit.timestamp_ms.unwrap_or(event.timestamp_ms),
                    key: Content::New(emit.key),
                    value: Content::New(Some(emit.value)),
                    headers: block,
                };
                (&mut counts.appended, prepared)
            }
            Effect::Forward { topic, .. } => (&mut counts.appended, forward(topic, event, &cause_text)),
            Effect::Command { ordinal, command, .. } => {
                (&mut counts.commands, queue(command, event, batch, plugin, ordinal, now_ms))
            }
            Effect::SetDesired { ordinal, wish, .. } => {
                (&mut counts.wishes, desire(wish, event, batch, plugin, ordinal, now_ms))
            }
            Effect::DeadLetter { reason, .. } => {
                (&mut counts.dead_letters, dead_letter(event, batch, plugin, &reason, now_ms))
            }
        };
        *counter += 1;
        out.push(prepared);
    }
    counts
}

fn forward<'a>(topic: String, event: &EventRef<'a>, cause: &[u8]) -> Prepared<'a> {
    let mut block = HeaderBlock::new();
    for (name, value) in event.headers.iter().filter(|(name, _)| !LEFT_BEHIND.contains(name)) {
        block.push(name, value);
    }
    block.push(headers::CAUSE, cause);
    Prepared {
        topic,
        timestamp_ms: event.timestamp_ms,
        key: Content::Same(event.key),
        value: Content::Same(event.value),
        headers: block,
    }
}

/// The first step of a command's life. It must be delivered within a time from
/// its cause; a cause that claims to be of the future counts as of now. Where
/// another node may have sent it already, it is as one that was taken up from
/// there.
fn queue(
    command: CommandEffect,
    event: &EventRef<'_>,
    batch: &Batch<'_>,
    plugin: &str,
    ordinal: u32,
    now_ms: i64,
) -> Prepared<'static> {
    let unsigned = |ms: i64| u64::try_from(ms).unwrap_or(0);
    let cause = command_cause(plugin, batch, event.offset, ordinal);
    let id = CommandId::of_cause(unsigned(event.timestamp_ms), &cause);
    let deliver_by_ms = unsigned(event.timestamp_ms.min(now_ms)) + command.deliver_within_ms;
    let queued = Queued {
        repeat: command.repeat,
        execution_timeout_ms: command.execution_timeout_ms,
        urgent: command.urgent,
        supersede: command.supersede,
        cause: Some(Box::new(cause)),
        taken: sent_before(batch, event, command.repeat).map(Box::new),
        ..Queued::new(&command.name, command.payload, deliver_by_ms, &format!("plugin:{plugin}"))
    };
    let step = StepEvent::queued(id, unsigned(now_ms), queued);
    Prepared {
        topic: COMMANDS_TOPIC.to_owned(),
        timestamp_ms: now_ms,
        key: Content::New(Some(command.device.into_bytes())),
        value: Content::New(Some(step.encode())),
        headers: HeaderBlock::new(),
    }
}

/// What is to be thought of a command that another node may have derived: it may have arrived.
fn sent_before(batch: &Batch<'_>, event: &EventRef<'_>, repeat: Repeat) -> Option<Taken> {
    let doubt = batch.doubt.filter(|doubt| event.offset < doubt.until)?;
    Some(Taken {
        from: OriginHex(doubt.life.0),
        // Above that of the one who submitted it first, which is 0, and those under which that one may have handed it over.
        term: batch.term.max(UNSEEN_TERMS + 1),
        attempts: 0,
        may_have_arrived: true,
        clients: Vec::new(),
        with_device: None,
        is_over: repeat == Repeat::Never,
        gateway: None,
        called_off: None,
    })
}

/// What the room of twins applies once.
fn desire(
    wish: WishEffect,
    event: &EventRef<'_>,
    batch: &Batch<'_>,
    plugin: &str,
    ordinal: u32,
    now_ms: i64,
) -> Prepared<'static> {
    let mut event_of = Wish::new(u64::try_from(now_ms).unwrap_or(0), &format!("plugin:{plugin}"), wish.document);
    (event_of.replace, event_of.if_version) = (wish.replace, wish.if_version);
    event_of.cause = Some(command_cause(plugin, batch, event.offset, ordinal));
    Prepared {
        topic: WISHES_TOPIC.to_owned(),
        timestamp_ms: now_ms,
        key: Content::New(Some(wish.device.into_bytes())),
        value: Content::New(Some(event_of.encode())),
        headers: HeaderBlock::new(),
    }
}

/// The event with what happened to it in headers. Where both do not fit, the
/// value is left out: it still stands in its own topic.
fn dead_letter<'a>(event: &EventRef<'a>, batch: &Batch<'_>, plugin: &str, reason: &str, now_ms: i64) -> Prepared<'a> {
    let mut block = HeaderBlock::new();
    block.push("dead.plugin", plugin.as_bytes());
    block.push("dead.topic", batch.topic.as_bytes());
    block.push("dead.partition", batch.partition.to_string().as_bytes());
    block.push("dead.offset", event.offset.to_string().as_bytes());
    block.push("dead.error", reason.as_bytes());
    let mut value = event.value;
    if event.bytes() + block.bytes().len() > EVENT_BYTES_MAX {
        block.push("dead.value-left-out", b"1");
        value = None;
    } else {
        block.extend(event.headers);
    }
    Prepared {
        topic: DEAD_LETTERS_TOPIC.to_owned(),
        timestamp_ms: now_ms,
        key: Content::Same(event.key),
        value: Content::Same(value),
        headers: block,
    }
}

#[cfg(test)]
mod tests;
