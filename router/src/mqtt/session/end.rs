//! The end of a connection: what is kept of the session, and whether and when its will is published.

use super::Session;
use super::kept::KeptSession;
use super::will::{self, DueWill};

/// How a connection ended.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The client sent DISCONNECT.
    Disconnected {
        /// As [`super::Action::Disconnect`] says.
        with_will: bool,
    },
    /// The socket failed or closed, the client was silent, or the server closed for any reason of its own.
    Lost,
    /// The client connected again elsewhere.
    TakenOver {
        /// Whether the new connection begins a new session.
        clean_start: bool,
    },
}

/// What is left of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// The will to publish, at once or later. Where the session is kept it is in there as well, so that a restart
    /// does not lose it; a connection that resumes the session before it is due calls it off.
    pub will: Option<DueWill>,
    /// The session, if it outlives its connection.
    pub kept: Option<KeptSession>,
}

impl Session {
    /// The state to keep while the connection lives, for a task that stores it when it changes.
    pub fn kept(&self) -> KeptSession {
        let (inflight, next_packet_id) = self.window.kept();
        KeptSession {
            client_id: self.client_id.to_string(),
            expiry_s: self.expiry_s,
            disconnected_at_ms: None,
            subscriptions: self.subscriptions.kept(),
            qos2_held: self.inbound.held(),
            inflight,
            next_packet_id,
            will: self.will.clone().map(|will| (will, 0)),
        }
    }

    /// Ends the connection.
    pub fn end(mut self, end: End, now_ms: u64) -> Ended {
        let due = self.will.take().and_then(|will| {
            let at_ms = will::due_at_ms(&will, self.expiry_s, now_ms);
            let at_ms = match end {
                End::Disconnected { with_will: false } => None,
                End::Disconnected { with_will: true } | End::Lost => Some(at_ms),
                End::TakenOver { clean_start: true } => Some(now_ms),
                // The session goes on before the delay has passed ([MQTT-3.1.3-9]).
                End::TakenOver { clean_start: false } => (at_ms <= now_ms).then_some(at_ms),
            };
            at_ms.map(|at_ms| DueWill { will, at_ms })
        });
        let ends = self.expiry_s == 0 || end == End::TakenOver { clean_start: true };
        let kept = (!ends).then(|| {
            let pending = due.as_ref().filter(|due| due.at_ms > now_ms);
            KeptSession {
                disconnected_at_ms: Some(now_ms),
                will: pending.map(|due| (due.will.clone(), due.at_ms)),
                ..self.kept()
            }
        });
        Ended { will: due, kept }
    }
}
