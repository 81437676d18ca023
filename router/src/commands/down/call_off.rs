//! Calling a command off that is at a linked site: the headquarters asks the gateway that has it, which does as it does with a
//! call-off of its own people. The wish is kept until the gateway has answered.

use std::collections::BTreeSet;
use std::sync::Arc;

use devices::command::{CommandId, Input, Refusal, Verdict};
use sled_data::OriginId;

use super::super::Commands;
use super::super::call_off::CallOffError;
use super::super::table::{CancelError, Now, Table};
use super::notes::Phase;
use super::take::{Above, who};
use super::wire::{ASKED_MAX, CalledOffV2, VERSION_CALL_OFF, decode_as, encode_as};

/// What a gateway is asked to call off.
pub(in crate::commands) fn call_offs(table: &Table, ids: &[CommandId]) -> Vec<u8> {
    let by =
        |id: &CommandId| table.get(*id).and_then(|entry| entry.called_off.as_deref()).unwrap_or_default().to_owned();
    let asked: Vec<([u8; 16], String)> = ids.iter().map(|id| (*id.as_bytes(), by(id))).collect();
    encode_as(VERSION_CALL_OFF, &asked)
}

/// Reads what it answers, one for each of `count` commands; fewer where the rest is not known.
pub(in crate::commands) fn decode_called_off(answer: &[u8], count: usize) -> Vec<CalledOffV2> {
    match decode_as(VERSION_CALL_OFF, answer) {
        Some(answers) => answers,
        // An older release knows no such question.
        None if !answer.is_empty() => vec![CalledOffV2::Not(Refusal::AlreadySent.code().to_owned()); count],
        None => Vec::new(),
    }
}

/// Takes what it answers of one.
pub(in crate::commands) fn take_called_off(
    table: &mut Table,
    (id, gateway): (CommandId, OriginId),
    answer: CalledOffV2,
    now: Now,
) {
    match answer {
        CalledOffV2::Ended(end) => match end.end().filter(|(of, _)| *of == id) {
            Some((_, end)) => table.ended_at_site(id, gateway, end, now),
            // It is told in the usual way as well.
            None => table.calls_off(id, gateway),
        },
        CalledOffV2::Not(_) => table.not_called_off(id, gateway, Refusal::AlreadySent, now),
        CalledOffV2::Asked => table.calls_off(id, gateway),
        CalledOffV2::NotKnown => table.is_not_known_at(id, gateway),
        CalledOffV2::Later => {}
    }
}

impl Commands {
    /// An upstream site calls commands off that it has given; what became of each.
    pub(super) async fn call_off_from_above(self: &Arc<Self>, above: &Above, request: &[u8]) -> Vec<u8> {
        let asked: Vec<([u8; 16], String)> = decode_as(VERSION_CALL_OFF, request).unwrap_or_default();
        let (mut answers, mut before) = (Vec::new(), BTreeSet::new());
        for (id, by) in asked.into_iter().take(ASKED_MAX) {
            answers.push(match before.insert(id) {
                true => self.call_off_given(above, CommandId::from_bytes(id), by).await,
                // The same question has it twice.
                false => CalledOffV2::Later,
            });
        }
        encode_as(VERSION_CALL_OFF, &answers)
    }

    async fn call_off_given(&self, above: &Above, id: CommandId, by: String) -> CalledOffV2 {
        let note = self.down.notes.lock().get(id).filter(|note| note.link == above.link);
        let Some(note) = note else { return CalledOffV2::NotKnown };
        if note.phase == Phase::Open {
            if let Some(answer) = self.not_called_off(above.link, id) {
                return answer;
            }
            match self.cancel_now(id, &who(above, by)).await {
                Ok(_) | Err(CallOffError::Command(CancelError::Refused(Refusal::AlreadyEnded))) => {}
                Err(CallOffError::Command(CancelError::Refused(refusal))) => {
                    return CalledOffV2::Not(refusal.code().to_owned());
                }
                Err(CallOffError::Command(CancelError::Asked)) => return CalledOffV2::Asked,
                Err(_) => return CalledOffV2::Later,
            }
        }
        match self.stored_note(id).and_then(|note| note.ended) {
            Some(end) => CalledOffV2::Ended(end),
            None => CalledOffV2::Later,
        }
    }

    /// What is answered of one that has not ended without calling it off; `None`: it is to be called off. Each call-off is written down, whatever comes of it:
    /// of those that change nothing no more than may be, as an upstream may ask on and on. The first one of a command that is with another gateway
    /// changes something.
    fn not_called_off(&self, link: u64, id: CommandId) -> Option<CalledOffV2> {
        let (answer, is_away) = {
            let table = self.table.lock();
            // What was taken a moment ago is not in the table yet.
            let Some(entry) = table.get(id) else { return Some(CalledOffV2::Later) };
            let is_away = entry.away.is_some() && !entry.progress.state().is_outcome();
            let answer = match entry.progress.judge(Input::Cancelled) {
                _ if is_away && entry.called_off.is_some() => return Some(CalledOffV2::Asked),
                _ if is_away => CalledOffV2::Later,
                Verdict::Refuse(Refusal::AlreadyEnded) => return Some(CalledOffV2::Later),
                Verdict::Refuse(refusal) => CalledOffV2::Not(refusal.code().to_owned()),
                _ => return None,
            };
            (answer, is_away)
        };
        let mut notes = self.down.notes.lock();
        let may_be = is_away && notes.wish(id) || notes.may_write(link, self.now().steady);
        (!may_be).then_some(answer)
    }
}
