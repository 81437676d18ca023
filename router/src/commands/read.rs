//! What events on the two topics mean to the table.

use std::sync::atomic::Ordering::Relaxed;

use devices::command::{
    CommandId, KEY_BYTES_MAX, PAYLOAD_BYTES_MAX, Step, StepEvent, check_command_name, parse_answer_topic,
};
use devices::headers;
use sled_data::{PartitionId, RecordRef};

use super::down::check_target;
use super::table::{AnswerError, Answered, Now, Table};
use super::{Commands, Stats};
use crate::event_log::{Batch, ReadError};

/// Bytes read from one partition at once.
const READ_BYTES_MAX: usize = 256 * 1024;

/// An answer that did not count: who is to be told what.
pub(super) struct Refused {
    pub(super) device: String,
    pub(super) id: CommandId,
    pub(super) code: &'static str,
}

impl Commands {
    /// Reads what is new on both topics into the table; the answers that do not count.
    pub(super) fn take_new(&self, table: &mut Table, now: Now) -> Result<Vec<Refused>, ReadError> {
        let mut reading = self.reading.lock();
        let reading = &mut *reading;
        reading.own_has_more = false;
        for (id, next) in &mut reading.commands {
            let batches = self.read_on(*id, *next)?;
            let has_read = !batches.is_empty();
            for batch in batches {
                for (_, record) in batch.events_from(*next) {
                    if let Some(taken) = take_command(table, &self.stats, record, now) {
                        self.desk.lock().taken(taken);
                    }
                }
                *next = batch.next_offset();
            }
            if !has_read {
                self.pass_what_is_gone(*id, next);
            }
            reading.own_has_more |= has_read && *next < self.log.visible_end(*id);
        }
        let mut refused = Vec::new();
        for (place, (id, next)) in reading.answers.iter_mut().enumerate() {
            let batches = self.read_on(*id, *next)?;
            let has_read = !batches.is_empty();
            if has_read || self.pass_what_is_gone(*id, next) {
                reading.answers_moved.push(place);
            }
            for batch in batches {
                for (_, record) in batch.events_from(*next) {
                    refused.extend(take_answer(table, &self.stats, record, false, now));
                }
                *next = batch.next_offset();
            }
            reading.own_has_more |= has_read && *next < self.log.visible_end(*id);
        }
        Ok(refused)
    }

    /// Says what retention has taken of an ended life before it was read, where nothing of it is left; whether there is such.
    fn pass_what_is_gone(&self, id: PartitionId, next: &mut u64) -> bool {
        let end = self.log.visible_end(id);
        if id.origin == self.log.origin() || *next >= end || self.log.start_offset(id) < end {
            return false;
        }
        tracing::warn!(partition = %id, from = *next, to = end, "events were removed by retention before they were read");
        *next = end;
        true
    }

    /// What comes next in one partition; nothing in one of an ended life that retention has dropped.
    fn read_on(&self, id: PartitionId, next: u64) -> Result<Vec<Batch>, ReadError> {
        match self.log.read(id, next, READ_BYTES_MAX) {
            Err(ReadError::NoPartition { .. }) if id.origin != self.log.origin() => Ok(Vec::new()),
            read => read,
        }
    }
}

/// Whether a step can be taken: its names fit an MQTT topic, and what it holds is within the bounds.
pub(super) fn is_sound(device: &str, event: &StepEvent) -> bool {
    let fits = |key: &Option<String>| key.as_ref().is_none_or(|key| key.len() <= KEY_BYTES_MAX);
    check_target(device).is_ok()
        && match &event.step {
            Step::Queued(queued) => {
                check_command_name(&queued.name).is_ok()
                    && queued.payload.0.len() <= PAYLOAD_BYTES_MAX
                    && fits(&queued.supersede)
                    && fits(&queued.idempotency_key)
            }
            _ => true,
        }
}

/// Takes a command's step: only a submission says something new, the others are this room's own. The command, where it
/// came from another node.
fn take_command(table: &mut Table, stats: &Stats, record: RecordRef<'_>, now: Now) -> Option<CommandId> {
    if record.headers.get(headers::OWN_STEP).is_some() {
        return None;
    }
    let device = record.key.and_then(|key| std::str::from_utf8(key).ok());
    let event = record.value.and_then(|value| StepEvent::decode(value).ok());
    let (Some(device), Some(event)) = (device, event) else {
        stats.unreadable.fetch_add(1, Relaxed);
        return None;
    };
    let taken = match &event.step {
        Step::Queued(queued) => queued.taken.is_some().then_some(event.id),
        _ => None,
    };
    if !is_sound(device, &event) {
        stats.unreadable.fetch_add(1, Relaxed);
    } else if let Step::Queued(_) = event.step {
        stats.queued.fetch_add(1, Relaxed);
        table.submitted(device, event, now);
    }
    taken
}

/// Takes a device's answer. What came in at another node, `is_elsewhere`, is that node's to refuse.
pub(super) fn take_answer(
    table: &mut Table,
    stats: &Stats,
    record: RecordRef<'_>,
    is_elsewhere: bool,
    now: Now,
) -> Option<Refused> {
    let text = |name| record.headers.get(name).and_then(|bytes| std::str::from_utf8(bytes).ok());
    let topic = text(headers::MQTT_TOPIC).and_then(|topic| parse_answer_topic(topic).ok());
    let session = record.headers.get(headers::SESSION).and_then(headers::decode_session);
    let (Some(topic), Some(session)) = (topic, session) else {
        stats.unreadable.fetch_add(1, Relaxed);
        return None;
    };
    let client = text(headers::MQTT_CLIENT).unwrap_or_default();
    // Sessions are numbered by each node for itself.
    let session = match is_elsewhere {
        false => session,
        true => {
            let session = table.get(topic.id)?.speaks_for_elsewhere(client)?;
            table.would_count(topic.id, session, topic.status).then_some(session)?
        }
    };
    let said = Said::in_headers(&record);
    let answer = Answered {
        device: topic.device,
        id: topic.id,
        status: topic.status,
        percent: topic.percent.or(said.percent),
        code: if topic.code.is_empty() { said.code } else { topic.code },
        text: said.text,
        session,
        client,
        payload: record.value.unwrap_or_default(),
    };
    let why = table.answered(answer, now).err()?;
    if is_elsewhere || matches!(why, AnswerError::Elsewhere) {
        return None;
    }
    stats.answers_refused.fetch_add(1, Relaxed);
    tracing::debug!(device = topic.device, command = %topic.id, ?why, "an answer does not count");
    Some(Refused { device: topic.device.to_owned(), id: topic.id, code: why.code() })
}

/// What an answer says in MQTT 5 user properties.
#[derive(Default)]
struct Said<'a> {
    percent: Option<u8>,
    code: &'a str,
    text: &'a str,
}

impl<'a> Said<'a> {
    fn in_headers(record: &RecordRef<'a>) -> Self {
        let mut said = Self::default();
        let properties = record.headers.iter().filter(|(name, _)| *name == headers::MQTT_USER);
        for (name, value) in properties.filter_map(|(_, bytes)| headers::decode_user_property(bytes)) {
            match name {
                "percent" => said.percent = value.parse().ok().filter(|percent| *percent <= 100),
                "code" if devices::command::is_code(value) => said.code = value,
                "text" => said.text = value,
                _ => {}
            }
        }
        said
    }
}
