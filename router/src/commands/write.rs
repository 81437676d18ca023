//! What a round puts into the open commit.

use devices::command::{CommandId, Why, WhyCode};
use devices::headers;
use serde::Serialize;
use serde_json::json;
use sled_data::HeaderBlock;

use super::jobs::JobWork;
use super::mail::CancelAct;
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
        acts: &[CancelAct],
        jobs: &JobWork,
        now: Now,
    ) -> Result<Option<Ticket>, AppendError> {
        let mut unstored = self.unstored.lock();
        let mut reading = self.reading.lock();
        let mut open = self.log.lock();
        open.check(0)?;
        let mut own = HeaderBlock::new();
        own.push(headers::OWN_STEP, &[]);
        let (mut wrote, mut value) = (false, Vec::new());
        for effect in effects {
            match effect {
                Effect::Append(device, event) => {
                    self.stats.count(&event.step);
                    if event.step.outcome().is_none() {
                        self.note_progress(event.id);
                    }
                    event.encode_into(&mut value);
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
                Effect::Ended(ended) => {
                    self.note_end(&mut open, table, ended);
                    // What another node has ended, it has written down.
                    if !ended.is_elsewhere {
                        audit_end(&mut open, ended)?;
                    }
                }
                Effect::Ask(_) | Effect::Offer(..) | Effect::Withdraw(..) => {}
            }
        }
        for act in acts {
            let (what, outcome) = (act.id.to_string(), act.outcome());
            open.audit(Act { who: &act.by, act: "command.cancel", what: &what, outcome, detail: json!(null) })?;
            wrote = true;
        }
        wrote |= self.down.sites.lock().write(&mut open);
        jobs.write(&mut open, &self.commands, &self.jobs_topic)?;
        wrote |= !jobs.is_empty();
        unstored.turn(now.steady, || reading.commands.iter().chain(reading.others.positions()).copied().collect());
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
    #[derive(Serialize)]
    struct Detail<'a> {
        id: CommandId,
        name: &'a str,
        at_ms: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        code: Option<WhyCode>,
        #[serde(skip_serializing_if = "Option::is_none")]
        job: Option<CommandId>,
        #[serde(skip_serializing_if = "Option::is_none")]
        overridden: Option<&'a Why>,
    }
    let detail = Detail {
        id: ended.id,
        name: &ended.name,
        at_ms: ended.at_ms,
        code: ended.code,
        job: ended.job,
        overridden: ended.overridden.as_deref(),
    };
    let (who, what, outcome) = (&ended.issued_by, &ended.device, ended.outcome.as_str());
    let act = Act { who, act: "command.send", what, outcome, detail: json!(null) };
    open.audit_with(act, Some(detail))
}
