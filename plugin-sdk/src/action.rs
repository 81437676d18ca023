//! Short ways to write actions.

use crate::{Action, Command, Emit, Forward, Header, Reject, Repeat, SetDesired};

impl Emit {
    /// An event for `topic`, caused by the batch's event at `cause`; without key,
    /// with an empty value and its cause's timestamp until told otherwise.
    #[must_use]
    pub fn new(cause: u32, topic: &str) -> Emit {
        Emit { cause, topic: topic.to_owned(), key: None, value: Vec::new(), headers: Vec::new(), timestamp_ms: None }
    }

    /// Sets the key.
    #[must_use]
    pub fn key(mut self, key: Option<&[u8]>) -> Emit {
        self.key = key.map(<[u8]>::to_vec);
        self
    }

    /// Sets the value.
    #[must_use]
    pub fn value(mut self, value: impl Into<Vec<u8>>) -> Emit {
        self.value = value.into();
        self
    }

    /// Adds a header.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl Into<Vec<u8>>) -> Emit {
        self.headers.push(Header { name: name.to_owned(), value: value.into() });
        self
    }

    /// Sets the timestamp, in milliseconds since 1970-01-01 UTC.
    #[must_use]
    pub fn timestamp_ms(mut self, timestamp_ms: i64) -> Emit {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }
}

impl Command {
    /// A command for `device`, caused by the batch's event at `cause`.
    #[must_use]
    pub fn new(cause: u32, device: &str, name: &str) -> Command {
        Command {
            cause,
            device: device.to_owned(),
            name: name.to_owned(),
            payload: Vec::new(),
            deliver_within_ms: None,
            repeat: None,
            urgent: false,
            execution_timeout_s: None,
            supersede: None,
        }
    }

    /// Sets the payload.
    #[must_use]
    pub fn payload(mut self, payload: impl Into<Vec<u8>>) -> Command {
        self.payload = payload.into();
        self
    }

    /// Sets how long after its cause the command may still be delivered.
    #[must_use]
    pub fn deliver_within_ms(mut self, ms: u32) -> Command {
        self.deliver_within_ms = Some(ms);
        self
    }

    /// Makes it an emergency: it overtakes what waits, and no guard holds it.
    #[must_use]
    pub fn urgent(mut self) -> Command {
        self.urgent = true;
        self
    }

    /// Sets how long the device may take to do it, in seconds.
    #[must_use]
    pub fn execution_timeout_s(mut self, seconds: u16) -> Command {
        self.execution_timeout_s = Some(seconds);
        self
    }

    /// It takes the place of the device's waiting commands with this key.
    #[must_use]
    pub fn supersede(mut self, key: &str) -> Command {
        self.supersede = Some(key.to_owned());
        self
    }

    /// Forbids to send the command twice.
    #[must_use]
    pub fn never_repeat(mut self) -> Command {
        self.repeat = Some(Repeat::Never);
        self
    }
}

impl Forward {
    /// Sends the batch's event at `cause` on to `topic` as it is.
    #[must_use]
    pub fn new(cause: u32, topic: &str) -> Forward {
        Forward { cause, topic: topic.to_owned() }
    }
}

impl SetDesired {
    /// Merges a JSON object into what is desired of `device`, caused by the
    /// batch's event at `cause`; null removes a member.
    #[must_use]
    pub fn new(cause: u32, device: &str, document: impl Into<String>) -> SetDesired {
        SetDesired { cause, device: device.to_owned(), document: document.into(), replace: false, if_version: None }
    }

    /// The document is all that is desired.
    #[must_use]
    pub fn replace(mut self) -> SetDesired {
        self.replace = true;
        self
    }

    /// Only where the desired version is this one.
    #[must_use]
    pub fn if_version(mut self, version: u64) -> SetDesired {
        self.if_version = Some(version);
        self
    }
}

impl From<SetDesired> for Action {
    fn from(set: SetDesired) -> Action {
        Action::SetDesired(set)
    }
}

impl From<Emit> for Action {
    fn from(emit: Emit) -> Action {
        Action::Emit(emit)
    }
}

impl From<Command> for Action {
    fn from(command: Command) -> Action {
        Action::Command(command)
    }
}

impl From<Forward> for Action {
    fn from(forward: Forward) -> Action {
        Action::Forward(forward)
    }
}

impl Reject {
    /// Sets the batch's event at `cause` aside.
    #[must_use]
    pub fn new(cause: u32, reason: impl Into<String>) -> Reject {
        Reject { cause, reason: reason.into() }
    }
}

impl From<Reject> for Action {
    fn from(reject: Reject) -> Action {
        Action::Reject(reject)
    }
}
