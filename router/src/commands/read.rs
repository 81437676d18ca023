//! What events on the two topics mean to the table.

use std::sync::atomic::Ordering::Relaxed;

use devices::command::{Step, StepEvent, check_command_name, check_device_name, parse_answer_topic};
use devices::headers;
use sled_data::RecordRef;

use super::decide::{Answered, Now, Table};
use super::{Commands, Stats};

/// Bytes read from one partition at once.
const READ_BYTES_MAX: usize = 256 * 1024;

impl Commands {
    /// Reads what is new on both topics into the table; `true` when cursors should move with the next commit.
    pub(super) fn take_new(&self, table: &mut Table, now: Now) -> Result<bool, crate::event_log::ReadError> {
        let mut reading = self.reading.lock();
        let mut found = false;
        for (id, next) in &mut reading.commands {
            for batch in self.log.read(*id, *next, READ_BYTES_MAX)? {
                for (_, record) in batch.events_from(*next) {
                    found |= take_command(table, &self.stats, record, now);
                }
                *next = batch.next_offset();
            }
        }
        for (id, next) in &mut reading.answers {
            for batch in self.log.read(*id, *next, READ_BYTES_MAX)? {
                for (_, record) in batch.events_from(*next) {
                    found = true;
                    take_answer(table, &self.stats, record, now);
                }
                *next = batch.next_offset();
            }
        }
        Ok(found)
    }
}

/// Takes a command's step: only a submission says something new, the others are this room's own.
fn take_command(table: &mut Table, stats: &Stats, record: RecordRef<'_>, now: Now) -> bool {
    let device =
        record.key.and_then(|key| std::str::from_utf8(key).ok()).filter(|name| check_device_name(name).is_ok());
    let event = record.value.and_then(|value| StepEvent::decode(value).ok());
    let (Some(device), Some(event)) = (device, event) else {
        stats.unreadable.fetch_add(1, Relaxed);
        return false;
    };
    let Step::Queued(queued) = event.step else { return false };
    if check_command_name(&queued.name).is_err() {
        stats.unreadable.fetch_add(1, Relaxed);
        return false;
    }
    stats.queued.fetch_add(1, Relaxed);
    table.queued(device, event.id, event.at_ms, queued, now);
    true
}

fn take_answer(table: &mut Table, stats: &Stats, record: RecordRef<'_>, now: Now) {
    let text = |name| record.headers.get(name).and_then(|bytes| std::str::from_utf8(bytes).ok());
    let topic = text(headers::MQTT_TOPIC).and_then(|topic| parse_answer_topic(topic).ok());
    let session = record.headers.get(headers::SESSION).and_then(headers::decode_session);
    let (Some(topic), Some(session)) = (topic, session) else {
        stats.unreadable.fetch_add(1, Relaxed);
        return;
    };
    let answer = Answered {
        device: topic.device,
        id: topic.id,
        status: topic.status,
        session,
        client: text(headers::MQTT_CLIENT).unwrap_or_default(),
        payload: record.value.unwrap_or_default(),
    };
    if let Err(why) = table.answered(answer, now) {
        stats.answers_refused.fetch_add(1, Relaxed);
        tracing::debug!(device = topic.device, command = %topic.id, ?why, "an answer does not count");
    }
}
