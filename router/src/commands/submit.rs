//! Submitting a command: checked, appended, durable.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use devices::command::{
    CommandId, DELIVER_WITHIN_DEFAULT_MS, DELIVER_WITHIN_MAX_MS, EXECUTION_TIMEOUT_MAX_MS, KEY_BYTES_MAX, NameError,
    PAYLOAD_BYTES_MAX, Payload, Queued, Repeat, StepEvent, asks_for, check_command_name, command_topic,
};

use sled_data::OriginId;

use super::Commands;
use super::down::{check_target, site_of};
use crate::event_log::{AppendError, CommitFailed, NO_HEADERS, NewEvent, Ticket};

/// How long a submission waits until the room's task has read it, so that it can be looked up at once.
const LISTED_WITHIN: Duration = Duration::from_secs(1);

/// A command as people send it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCommand {
    /// The device that it is for.
    pub device: String,
    /// What to do.
    pub name: String,
    /// What it is to be done with.
    pub payload: Vec<u8>,
    /// How long it may take until it is delivered, in milliseconds; absent: one minute.
    pub deliver_within_ms: Option<u64>,
    /// How long the device may take to do it, in milliseconds; absent: one minute.
    pub execution_timeout_ms: Option<u64>,
    /// Whether it overtakes what waits for the device, and no guard holds it.
    pub urgent: bool,
    /// It takes the place of the device's queued commands with this key.
    pub supersede: Option<String>,
    /// The same key again is the same command.
    pub idempotency_key: Option<String>,
    /// Whether it may be sent again after a send that was not confirmed.
    pub repeat: Repeat,
    /// How often it may be sent; absent: the node's bound.
    pub deliveries_max: Option<u32>,
    /// Whether the device may be one that nobody knows yet.
    pub allow_unknown: bool,
    /// Who sends it: `cli`, `api`.
    pub issued_by: String,
    /// The command that it is sent again for.
    pub redrives: Option<CommandId>,
}

impl NewCommand {
    /// A command with everything that may be left out left out.
    pub fn new(device: &str, name: &str, issued_by: &str) -> Self {
        Self {
            device: device.to_owned(),
            name: name.to_owned(),
            payload: Vec::new(),
            deliver_within_ms: None,
            execution_timeout_ms: None,
            urgent: false,
            supersede: None,
            idempotency_key: None,
            repeat: Repeat::Safe,
            deliveries_max: None,
            allow_unknown: false,
            issued_by: issued_by.to_owned(),
            redrives: None,
        }
    }
}

/// A command that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Submitted {
    /// Its id.
    pub id: CommandId,
    /// Whether it is new; not where its idempotency key was known with the same content.
    pub is_new: bool,
}

/// Why a command was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The device's name cannot be in an MQTT topic.
    #[error("device {name:?}: {why}")]
    Device {
        /// What was given.
        name: String,
        /// What is wrong with it.
        why: NameError,
    },
    /// Nobody knows the device.
    #[error("device {0:?} was never seen, is not set, and no session takes its commands")]
    UnknownDevice(String),
    /// No site of that name feeds this one.
    #[error("no site called {0:?} feeds this one, so no command goes to a device of it")]
    UnknownSite(String),
    /// A linked site does not hear that its device may be unknown.
    #[error("the site says whether it knows the device: a command to an unknown one does not wait there")]
    UnknownThere,
    /// Only enrolled devices are known, and it is none.
    #[error("device {0:?} is not enrolled")]
    NotEnrolled(String),
    /// The command's name cannot be in an MQTT topic.
    #[error("command {name:?}: {why}")]
    Name {
        /// What was given.
        name: String,
        /// What is wrong with it.
        why: NameError,
    },
    /// The payload is over the bound.
    #[error("the payload has {bytes} bytes, the bound is {PAYLOAD_BYTES_MAX}")]
    PayloadTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// A time that is nothing, or over its bound.
    #[error("{what} is between 1 and {max_ms} ms")]
    Time {
        /// Which.
        what: &'static str,
        /// The bound.
        max_ms: u64,
    },
    /// A key that is empty or over its bound.
    #[error("the {what} key has 1 to {KEY_BYTES_MAX} bytes")]
    Key {
        /// Which.
        what: &'static str,
    },
    /// It may be sent never.
    #[error("a command is sent once at least")]
    Deliveries,
    /// The idempotency key stands for another command.
    #[error("idempotency key {key:?} stands for command {id}, which is another one; use a new key")]
    Conflict {
        /// The key.
        key: String,
        /// The command.
        id: CommandId,
    },
    /// The node that the device is connected to has refused it.
    #[error("the node of life {origin}, which the device is connected to, refuses it: {text}")]
    Elsewhere {
        /// The node's life.
        origin: OriginId,
        /// The code that it gives.
        code: String,
        /// Why.
        text: String,
    },
    /// The node that the device is connected to may have taken it.
    #[error(
        "the node of life {origin}, which the device is connected to, may have taken it as command {id}: {why}; \
         look at the command before it is sent again, or send it with an idempotency key"
    )]
    Unanswered {
        /// The command's id, if it was taken.
        id: CommandId,
        /// The node's life.
        origin: OriginId,
        /// What is known.
        why: String,
    },
    /// What became of it is not known.
    #[error("what became of the submission is not known; look at the node's log")]
    Lost,
    /// The store failed when it had it.
    #[error("command {id}: {why}; look at it when the node runs again, before it is sent once more")]
    Unknown {
        /// The command's id, if it was taken.
        id: CommandId,
        /// What is known.
        why: CommitFailed,
    },
    /// Too many commands are pending.
    #[error("too many commands are pending, in all or for this device; wait until some have ended")]
    Full,
    /// No random number for the id.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// The log did not take it.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// It did not become durable.
    #[error(transparent)]
    Commit(#[from] CommitFailed),
}

impl SubmitError {
    /// Why the commit of a command did not become durable, as far as is known.
    fn of(id: CommandId, why: CommitFailed) -> Self {
        match why {
            CommitFailed::Failed(_) | CommitFailed::Unreplicated(_) => Self::Unknown { id, why },
            CommitFailed::Full(_) | CommitFailed::Refused(_) => Self::Commit(why),
        }
    }

    /// Whether the command may have been taken all the same.
    pub(super) fn may_be_taken(&self) -> bool {
        matches!(self, Self::Unanswered { .. } | Self::Unknown { .. } | Self::Lost)
    }

    /// The code that is written down.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Device { .. } | Self::Name { .. } | Self::Time { .. } | Self::Key { .. } | Self::Deliveries => {
                "bad-request"
            }
            Self::UnknownDevice(_) => "unknown-device",
            Self::UnknownSite(_) => "unknown-site",
            Self::UnknownThere => "bad-request",
            Self::NotEnrolled(_) => "not-enrolled",
            Self::PayloadTooLarge { .. } => "too-large",
            Self::Conflict { .. } => "idempotency-conflict",
            Self::Full => "too-many-commands",
            Self::Elsewhere { .. } => "refused-elsewhere",
            Self::Unanswered { .. } => "unanswered",
            Self::Unknown { .. } => "unknown-outcome",
            Self::Lost | Self::Random(_) => "internal",
            Self::Append(_) | Self::Commit(_) => "not-stored",
        }
    }
}

/// Submissions with a key that the table does not list yet; at most one for each call under way.
pub(super) type Submitting = HashMap<String, (CommandId, String, Queued, Ticket)>;

/// What became of a submission in the open commit.
enum Begun {
    /// It is in this commit.
    New(Ticket),
    /// Its key stands for this command, which may be on its way yet.
    Known(CommandId, Option<Ticket>),
}

impl NewCommand {
    pub(super) fn check(&self) -> Result<(), SubmitError> {
        check_target(&self.device).map_err(|why| SubmitError::Device { name: self.device.clone(), why })?;
        check_command_name(&self.name).map_err(|why| SubmitError::Name { name: self.name.clone(), why })?;
        if self.payload.len() > PAYLOAD_BYTES_MAX {
            return Err(SubmitError::PayloadTooLarge { bytes: self.payload.len() });
        }
        let times = [
            ("the time for delivery", self.deliver_within_ms, DELIVER_WITHIN_MAX_MS),
            ("the time for the execution", self.execution_timeout_ms, EXECUTION_TIMEOUT_MAX_MS),
        ];
        for (what, given, max_ms) in times {
            if given.is_some_and(|ms| ms == 0 || ms > max_ms) {
                return Err(SubmitError::Time { what, max_ms });
            }
        }
        for (what, key) in [("supersede", &self.supersede), ("idempotency", &self.idempotency_key)] {
            if key.as_ref().is_some_and(|key| key.is_empty() || key.len() > KEY_BYTES_MAX) {
                return Err(SubmitError::Key { what });
            }
        }
        if self.deliveries_max == Some(0) {
            return Err(SubmitError::Deliveries);
        }
        Ok(())
    }

    /// The device, and the command as it is submitted now.
    pub(super) fn queued(self, now_ms: u64) -> (String, Queued) {
        let deliver_by_ms = now_ms + self.deliver_within_ms.unwrap_or(DELIVER_WITHIN_DEFAULT_MS);
        let queued = Queued {
            name: self.name,
            payload: Payload(self.payload),
            deliver_by_ms,
            execution_timeout_ms: self.execution_timeout_ms,
            urgent: self.urgent,
            supersede: self.supersede,
            idempotency_key: self.idempotency_key,
            repeat: self.repeat,
            deliveries_max: self.deliveries_max,
            issued_by: self.issued_by,
            cause: None,
            job: None,
            redrives: self.redrives,
            taken: None,
        };
        (self.device, queued)
    }
}

impl Commands {
    /// Submits a command; when this returns, it is durable and (the room's task running) listed. A command whose
    /// idempotency key is known with the same content is the one that was submitted first. Once begun it goes on
    /// although the caller goes away.
    ///
    /// # Errors
    /// When it breaks a bound, its key stands for another command, or the log does not take it: then it was not
    /// submitted. Where that is not known: [`SubmitError::Unanswered`], [`SubmitError::Unknown`] and [`SubmitError::Lost`].
    pub async fn submit(self: &Arc<Self>, command: NewCommand) -> Result<Submitted, SubmitError> {
        let room = Arc::clone(self);
        let submitted = tokio::spawn(async move { room.submit_once(command).await });
        submitted.await.unwrap_or(Err(SubmitError::Lost))
    }

    pub(super) async fn submit_once(&self, command: NewCommand) -> Result<Submitted, SubmitError> {
        command.check()?;
        if let Some(site) = site_of(&command.device) {
            self.check_site(site, &command)?;
        } else if !command.allow_unknown && !self.knows(&command.device, &command.name) {
            let by_enrolment = self.directory.get().is_some_and(|directory| directory.knows_by_enrolment());
            return Err(match by_enrolment {
                true => SubmitError::NotEnrolled(command.device),
                false => SubmitError::UnknownDevice(command.device),
            });
        }
        let mut random = [0; 10];
        getrandom::fill(&mut random).map_err(SubmitError::Random)?;
        let id = CommandId::v7(self.now().wall, random);
        match self.forwarded(id, &command).await {
            Some(forwarded) => forwarded,
            None => self.submit_here(id, command).await,
        }
    }

    /// Submits a command at this node, whatever node its device is connected to.
    pub(super) async fn submit_here(&self, id: CommandId, command: NewCommand) -> Result<Submitted, SubmitError> {
        command.check()?;
        let bytes = command.device.len() + command.name.len() + command.payload.len();
        let now = self.now();
        let (device, queued) = command.queued(now.wall);
        let key = queued.idempotency_key.clone();
        let ticket = match self.begin(&device, id, now.wall, bytes, queued)? {
            Begun::New(ticket) => ticket,
            Begun::Known(id, ticket) => return self.submitted_before(id, ticket).await,
        };
        let durable = self.log.durable(ticket).await;
        if durable.is_ok() {
            self.listed(id).await;
        }
        if let Some(key) = &key {
            self.submitting.lock().remove(key);
        }
        durable.map_err(|why| SubmitError::of(id, why))?;
        Ok(Submitted { id, is_new: true })
    }

    fn check_site(&self, site: &str, command: &NewCommand) -> Result<(), SubmitError> {
        if !self.knows(&command.device, &command.name) {
            return Err(SubmitError::UnknownSite(site.to_owned()));
        }
        // One that is sent again says so of every device.
        match command.allow_unknown && command.redrives.is_none() {
            true => Err(SubmitError::UnknownThere),
            false => Ok(()),
        }
    }

    /// Whether a device is known: seen, set, reached through some session, or with commands that wait.
    pub(super) fn knows(&self, device: &str, name: &str) -> bool {
        if let Some(site) = site_of(device) {
            return self.down.way().is_some_and(|way| way.has_site(site));
        }
        let Some(directory) = self.directory.get() else { return true };
        let topic = command_topic(device, CommandId::v7(0, [0; 10]), name);
        directory.is_known(device)
            || self.sessions.find_receiver(&topic, |filter| asks_for(filter, &topic)).is_some()
            || self.table.lock().has_pending(device)
    }

    /// Appends the submission, unless its key is known.
    fn begin(
        &self,
        device: &str,
        id: CommandId,
        now_ms: u64,
        bytes: usize,
        queued: Queued,
    ) -> Result<Begun, SubmitError> {
        let mut submitting = self.submitting.lock();
        if let Some((id, ticket)) = self.known(&submitting, device, &queued)? {
            return Ok(Begun::Known(id, ticket));
        }
        if !self.table.lock().would_take(device, bytes, queued.urgent) {
            return Err(SubmitError::Full);
        }
        let ticket = self.append_queued(device, id, now_ms, queued.clone())?;
        if let Some(key) = queued.idempotency_key.clone() {
            submitting.insert(key, (id, device.to_owned(), queued, ticket));
        }
        Ok(Begun::New(ticket))
    }

    /// The command that a key stands for already.
    fn known(
        &self,
        submitting: &Submitting,
        device: &str,
        queued: &Queued,
    ) -> Result<Option<(CommandId, Option<Ticket>)>, SubmitError> {
        let Some(key) = &queued.idempotency_key else { return Ok(None) };
        let table = self.table.lock();
        let listed = table.by_key(key);
        let listed = listed.map(|entry| (entry.id, &*entry.device, &entry.queued, entry.submitted_payload(), None));
        let under_way = submitting.get(key).map(|(id, device, queued, ticket)| {
            (*id, device.as_str(), queued, queued.payload.0.as_slice(), Some(*ticket))
        });
        let Some((id, of, known, payload, ticket)) = listed.or(under_way) else { return Ok(None) };
        // A guard may have rewritten the payload of one that is listed: what was submitted counts.
        let is_same = of == device && payload == queued.payload.0 && known.asks_the_same(queued);
        if is_same { Ok(Some((id, ticket))) } else { Err(SubmitError::Conflict { key: key.clone(), id }) }
    }

    async fn submitted_before(&self, id: CommandId, ticket: Option<Ticket>) -> Result<Submitted, SubmitError> {
        if let Some(ticket) = ticket {
            self.log.durable(ticket).await.map_err(|why| SubmitError::of(id, why))?;
            self.listed(id).await;
        }
        Ok(Submitted { id, is_new: false })
    }

    fn append_queued(&self, device: &str, id: CommandId, now_ms: u64, queued: Queued) -> Result<Ticket, AppendError> {
        let value = StepEvent::queued(id, now_ms, queued).encode();
        let event = NewEvent {
            timestamp_ms: i64::try_from(now_ms).unwrap_or(i64::MAX),
            key: Some(device.as_bytes()),
            value: Some(&value),
            headers: &NO_HEADERS,
            extra: &NO_HEADERS,
            fanned_out: true,
        };
        let mut open = self.log.lock();
        open.append_keyed(&self.commands, &event)?;
        Ok(open.ticket())
    }

    /// Waits until the table lists a command; it is durable, so that it may also be listed a little later.
    async fn listed(&self, id: CommandId) {
        let mut changed = self.changed.subscribe();
        let listed = async { while self.table.lock().get(id).is_none() && changed.changed().await.is_ok() {} };
        let _ = tokio::time::timeout(LISTED_WITHIN, listed).await;
    }
}
