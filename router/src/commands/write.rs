//! What a round puts into the open commit.

use devices::headers;
use serde_json::json;
use sled_data::HeaderBlock;

use super::jobs::JobWork;
use super::record::{self, COMMANDS_TREE};
use super::table::{Effect, Ended, Now, Table};
use super::unstored::Portion;
use super::{Commands, Entry, READER};
use crate::event_log::{Act, AppendError, NO_HEADERS, NewEvent, OpenCommit, Ticket};

impl Commands {
    /// Puts steps, ends, cursors and a part of what is to be stored into the open commit, if there are any.
    pub(super) fn record(
        &self,
        table: &mut Table,
        effects: &[Effect],
        jobs: &JobWork,
        now: Now,
    ) -> Result<Option<Ticket>, AppendError> {
        let mut unstored = self.unstored.lock();
        let mut reading = self.reading.lock();
        let mut open = self.log.lock();
        open.check(0)?;
        let mut own = HeaderBlock::new();
        own.push(headers::OWN_STEP, &[]);
        let mut wrote = false;
        for effect in effects {
            match effect {
                Effect::Append(device, event) => {
                    self.stats.count(&event.step);
                    let value = event.encode();
                    let new = NewEvent {
                        timestamp_ms: i64::try_from(event.at_ms).unwrap_or(i64::MAX),
                        key: Some(device.as_bytes()),
                        value: Some(&value),
                        headers: &own,
                        extra: &NO_HEADERS,
                        fanned_out: true,
                    };
                    open.append_keyed(&self.commands, &new)?;
                    wrote = true;
                }
                Effect::Save(id) => unstored.save(*id),
                Effect::Forget(id, is_stored) => unstored.forget(*id, *is_stored),
                Effect::Ended(ended) => audit_end(&mut open, ended)?,
                Effect::Ask(_) | Effect::Offer(..) | Effect::Withdraw(..) => {}
            }
        }
        jobs.write(&mut open, &self.commands, &self.jobs_topic)?;
        wrote |= !jobs.is_empty();
        unstored.turn(now.steady, &reading.commands);
        let portion = unstored.portion(|id| table.get(id).map_or(0, Entry::bytes));
        wrote |= portion != Portion::default() || !reading.answers_moved.is_empty();
        for id in portion.put {
            if let Some(entry) = table.get(id) {
                open.put_state(COMMANDS_TREE, id.as_bytes(), Some(&record::encode(entry)));
                table.set_stored(id);
            }
        }
        for id in portion.delete {
            open.put_state(COMMANDS_TREE, id.as_bytes(), None);
        }
        for (partition, next) in portion.cursor.into_iter().flatten() {
            open.move_cursor(READER, partition, next);
        }
        for place in std::mem::take(&mut reading.answers_moved) {
            if let Some((partition, next)) = reading.answers.get(place) {
                open.move_cursor(READER, *partition, *next);
            }
        }
        Ok(wrote.then(|| open.ticket()))
    }
}

/// Writes down how a command ended.
fn audit_end(open: &mut OpenCommit<'_>, ended: &Ended) -> Result<(), AppendError> {
    let mut detail = json!({"id": ended.id, "name": ended.name, "at_ms": ended.at_ms});
    if let Some(code) = ended.code {
        detail["code"] = json!(code);
    }
    if let Some(guard) = &ended.overridden {
        detail["overridden"] = json!(guard);
    }
    if let Some(job) = ended.job {
        detail["job"] = json!(job);
    }
    let (who, what, outcome) = (&ended.issued_by, &ended.device, ended.outcome.as_str());
    open.audit(Act { who, act: "command.send", what, outcome, detail })
}
