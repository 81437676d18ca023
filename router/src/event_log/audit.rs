//! The audit topic: every act of a person or a program on what is set or commanded, and how it ended.

use serde::Serialize;
use serde_json::Value;

use super::{AppendError, EventLog, NO_HEADERS, NewEvent, OpenCommit, Ticket, Topic};

/// The internal topic of acts; its key is what was acted on.
pub const AUDIT_TOPIC: &str = "_audit";
/// The version that is written.
const VERSION: u8 = 1;
/// Bytes of most lines.
const LINE_BYTES: usize = 320;
/// A text of an act is cut to this many bytes.
pub const AUDIT_TEXT_BYTES_MAX: usize = 512;

/// One act: who did what to what, and how it ended.
#[derive(Debug, Clone, Serialize)]
pub struct Act<'a> {
    /// Who: `cli`, `api`, `plugin:threshold-alarm`, `device:pump-7`.
    pub who: &'a str,
    /// What was done: a noun, a dot, a verb: `command.send`, `device.tag`.
    pub act: &'a str,
    /// To what: a device, a command's id, a topic.
    pub what: &'a str,
    /// `done`, or the code of the error with which it was refused.
    pub outcome: &'a str,
    /// What else there is to say.
    #[serde(skip_serializing_if = "Value::is_null")]
    pub detail: Value,
}

#[derive(Serialize)]
struct Line<'a, D> {
    v: u8,
    at_ms: i64,
    #[serde(flatten)]
    act: Act<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<D>,
}

impl EventLog {
    /// Writes an act down with a commit of its own, which the caller may wait for.
    ///
    /// # Errors
    /// When the log takes nothing; the act is then in the program's log alone.
    pub fn audit(&self, act: Act<'_>) -> Result<Ticket, AppendError> {
        let mut open = self.lock();
        open.audit(act)?;
        Ok(open.ticket())
    }
}

impl OpenCommit<'_> {
    /// Writes an act down with this commit: it is durable with what it tells of, or not at all.
    ///
    /// # Errors
    /// When the log takes nothing; the act is then in the program's log alone.
    pub fn audit(&mut self, act: Act<'_>) -> Result<(), AppendError> {
        self.audit_with(act, None::<()>)
    }

    /// The same, with a detail of any shape in place of the act's own.
    ///
    /// # Errors
    /// As [`Self::audit`].
    pub fn audit_with(&mut self, act: Act<'_>, detail: Option<impl Serialize>) -> Result<(), AppendError> {
        let topic = self.audit_topic()?;
        let at_ms = self.log.clock().wall_ms();
        let what = cut(act.what);
        let act = Act { who: cut(act.who), what, outcome: cut(act.outcome), ..act };
        let mut value = Vec::with_capacity(LINE_BYTES);
        // A struct of texts and numbers always becomes JSON.
        let _ = serde_json::to_writer(&mut value, &Line { v: VERSION, at_ms, act, detail });
        let event = NewEvent {
            timestamp_ms: at_ms,
            key: Some(what.as_bytes()),
            value: Some(&value),
            headers: &NO_HEADERS,
            extra: &NO_HEADERS,
            fanned_out: true,
        };
        self.append_keyed(&topic, &event)
    }

    fn audit_topic(&self) -> Result<std::sync::Arc<Topic>, AppendError> {
        // The node makes it at its start; it cannot be deleted but by hand.
        self.log.topic(AUDIT_TOPIC).ok_or_else(|| AppendError::Deleted { topic: AUDIT_TOPIC.to_owned() })
    }
}

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(AUDIT_TEXT_BYTES_MAX)]
}
