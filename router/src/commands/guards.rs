//! Asks the guards, off the room's task: what they say comes back by mail.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use devices::command::CommandId;

use super::mail::Mail;
use super::table::Table;
use crate::security::{Asked, Guard, Judgement};

/// Urgent commands that guards may be shown at once; further ones go unseen.
const SHOWN_MAX: usize = 64;

/// What is asked about a command. A guard sees the payload that was submitted, however often it is asked.
pub(super) fn question(table: &Table, id: CommandId) -> Option<Asked> {
    let entry = table.get(id)?;
    Some(Asked {
        id,
        device: Arc::clone(&entry.device),
        name: entry.queued.name.clone(),
        payload: entry.submitted_payload().to_vec(),
        issued_by: entry.queued.issued_by.clone(),
        urgent: entry.queued.urgent,
    })
}

/// The way to the guards.
#[derive(Default)]
pub(super) struct Asking {
    shown: Arc<AtomicUsize>,
}

impl Asking {
    /// Has the guards judge, each question on a thread where blocking is fine, so that one that is slow to answer holds
    /// up its own command alone. There are at most `asked_max` questions, and [`SHOWN_MAX`] that are merely shown.
    /// Without a guard, as the last one may have gone meanwhile, all are allowed.
    pub(super) fn ask(&self, guard: Option<&Arc<dyn Guard>>, mail: &Arc<Mail>, questions: Vec<Asked>) {
        for asked in questions {
            let Some(guard) = guard else {
                mail.judged(asked.id, Judgement::Allow);
                continue;
            };
            let shown = asked.urgent.then(|| Arc::clone(&self.shown));
            if shown.as_ref().is_some_and(|shown| shown.fetch_add(1, Relaxed) >= SHOWN_MAX) {
                self.shown.fetch_sub(1, Relaxed);
                tracing::warn!(command = %asked.id, "an urgent command goes unseen by guards: they are busy");
                continue;
            }
            let (guard, mail) = (Arc::clone(guard), Arc::clone(mail));
            tokio::task::spawn_blocking(move || {
                let judgement = guard.judge(&asked);
                if let Some(shown) = shown {
                    shown.fetch_sub(1, Relaxed);
                }
                // Of an urgent one the table waits for nothing.
                mail.judged(asked.id, judgement);
            });
        }
    }
}
