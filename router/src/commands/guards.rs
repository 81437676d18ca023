//! Asks the guards, off the room's task: what they say comes back by mail.

use std::sync::Arc;

use super::mail::Mail;
use super::table::Table;
use crate::security::{Asked, Guard};

/// What is asked about a command.
pub(super) fn question(table: &Table, id: devices::command::CommandId) -> Option<Asked> {
    let entry = table.get(id)?;
    Some(Asked {
        id,
        device: Arc::clone(&entry.device),
        name: entry.queued.name.clone(),
        payload: entry.queued.payload.0.clone(),
        issued_by: entry.queued.issued_by.clone(),
        urgent: entry.queued.urgent,
    })
}

/// Has the guards judge, in order, on a thread where blocking is fine. There are at most as many questions at once as
/// `asked_max` says, and the urgent ones that are merely shown.
pub(super) fn ask(guard: &Arc<dyn Guard>, mail: &Arc<Mail>, questions: Vec<Asked>) {
    let (guard, mail) = (Arc::clone(guard), Arc::clone(mail));
    tokio::task::spawn_blocking(move || {
        for asked in questions {
            let judgement = guard.judge(&asked);
            // Of an urgent one the table waits for nothing.
            mail.judged(asked.id, judgement);
        }
    });
}
