//! What devices answer.

use devices::command::{
    Answer, CommandId, Input, PAYLOAD_BYTES_MAX, Payload, Refusal, Status, Step, TEXT_BYTES_MAX, Verdict,
};

use super::{Now, Table};

/// Refused answers of one command that are written down; further ones are counted alone.
const REFUSED_STEPS_MAX: u32 = 16;
/// Answers of progress of one command that are all taken; further ones are taken as often as time says.
const PROGRESS_STEPS_MAX: u32 = 256;
/// Time between two of the further ones, in milliseconds; what comes sooner is in the log of answers alone.
const PROGRESS_EVERY_MS: u64 = 1_000;
/// Answers of progress that are taken after the outcome.
const LATE_PROGRESS_MAX: u32 = PROGRESS_STEPS_MAX + 16;

/// An answer as it was read.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// The device that the MQTT topic names.
    pub device: &'a str,
    /// The command that it names.
    pub id: CommandId,
    /// The status that it names.
    pub status: Status,
    /// How far it is, 0 to 100.
    pub percent: Option<u8>,
    /// The reason, for programs.
    pub code: &'a str,
    /// The reason, for people.
    pub text: &'a str,
    /// The session that it came through.
    pub session: u64,
    /// That session's client id.
    pub client: &'a str,
    /// The result.
    pub payload: &'a [u8],
}

/// Why an answer changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerError {
    /// There is no such command for that device, or it is forgotten.
    NoCommand,
    /// Another node has the command.
    Elsewhere,
    /// The state machine refuses it.
    Refused(Refusal),
}

impl AnswerError {
    /// The code that the device is told.
    pub fn code(self) -> &'static str {
        match self {
            Self::NoCommand => "no-command",
            Self::Elsewhere => "elsewhere",
            Self::Refused(refusal) => refusal.code(),
        }
    }
}

impl Table {
    /// A device's answer was read from the log.
    ///
    /// # Errors
    /// When it does not count.
    pub fn answered(&mut self, answer: Answered<'_>, now: Now) -> Result<(), AnswerError> {
        let entry = self.get(answer.id).filter(|entry| *entry.device == *answer.device);
        let entry = entry.ok_or(AnswerError::NoCommand)?;
        if entry.away.is_some() {
            return Err(AnswerError::Elsewhere);
        }
        let speaks_for = entry.speaks_for(answer.session, answer.client);
        let kept = kept(answer);
        if self.is_too_much(answer, now) {
            return Ok(());
        }
        let input = Input::Answered(speaks_for, answer.status);
        let verdict = self.advance(answer.id, input, now);
        match verdict {
            Some(Verdict::Refuse(code)) => {
                self.note_refused(answer, code, now);
                Err(AnswerError::Refused(code))
            }
            Some(verdict @ (Verdict::Move(_) | Verdict::Late(_))) => {
                let late = matches!(verdict, Verdict::Late(_));
                let kept = Answer { late, ..kept };
                self.change(answer.id, |entry| {
                    (entry.result, entry.answered) = (Some(Box::new(kept.clone())), Some(answer.status));
                });
                self.append(answer.id, now, step_of(answer.status, kept));
                if late {
                    self.forget_oldest();
                } else {
                    self.settle(answer.id);
                }
                Ok(())
            }
            Some(Verdict::Nothing) | None => Err(AnswerError::NoCommand),
        }
    }

    /// Whether a device tells of progress more often than is written down; counts it where not.
    fn is_too_much(&mut self, answer: Answered<'_>, now: Now) -> bool {
        if answer.status.is_final() {
            return false;
        }
        let Some(entry) = self.entries.get_mut(&answer.id) else { return false };
        let is_soon = now.wall.saturating_sub(entry.changed_ms) < PROGRESS_EVERY_MS;
        let is_over = entry.progress.state().is_outcome() && entry.progress_steps >= LATE_PROGRESS_MAX;
        let too_much = is_over || (entry.progress_steps >= PROGRESS_STEPS_MAX && is_soon);
        entry.progress_steps += u32::from(!too_much);
        too_much
    }

    fn note_refused(&mut self, answer: Answered<'_>, code: Refusal, now: Now) {
        let Some(entry) = self.entries.get_mut(&answer.id) else { return };
        entry.answers_refused = entry.answers_refused.saturating_add(1);
        if entry.answers_refused <= REFUSED_STEPS_MAX {
            let step = Step::AnswerRefused { session: answer.session, status: answer.status, code };
            self.append(answer.id, now, step);
        }
    }
}

/// What is kept of an answer.
fn kept(answer: Answered<'_>) -> Answer {
    let fits = answer.payload.len() <= PAYLOAD_BYTES_MAX;
    let text = &answer.text[..answer.text.floor_char_boundary(TEXT_BYTES_MAX)];
    Answer {
        session: answer.session,
        payload: Payload(if fits { answer.payload.to_vec() } else { Vec::new() }),
        percent: answer.percent,
        code: answer.code.to_owned(),
        text: text.to_owned(),
        left_out_bytes: (!fits).then_some(answer.payload.len() as u64),
        late: false,
    }
}

fn step_of(status: Status, answer: Answer) -> Step {
    match status {
        Status::Accepted => Step::Accepted(answer),
        Status::InProgress => Step::InProgress(answer),
        Status::Succeeded => Step::Succeeded(answer),
        Status::Failed => Step::Failed(answer),
        Status::Rejected => Step::Rejected(answer),
    }
}
