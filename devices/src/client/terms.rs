//! What the node says of a command besides its name and payload.

use std::time::{Duration, Instant};

/// On which terms a command comes. By MQTT 3.1.1 nothing of it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// When it arrived.
    pub arrived: Instant,
    /// How long after its arrival it may still be begun, as the node's clock had it when it was written.
    pub expires_in: Option<Duration>,
    /// Until when it may be begun, in milliseconds since 1970 by the node's clock; for devices whose clock is right.
    pub deliver_by_ms: Option<u64>,
    /// How long it may take, once it has arrived.
    pub execution_timeout: Option<Duration>,
    /// An emergency.
    pub urgent: bool,
    /// Whether the node may send it again; where not, it is sent at most once.
    pub may_repeat: bool,
    /// How often it has been sent, from 1.
    pub attempt: Option<u32>,
}

impl Terms {
    /// The terms of a command that arrives now.
    pub(super) fn new<'a>(
        expires_in: Option<Duration>,
        properties: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Self {
        let mut terms = Self {
            arrived: Instant::now(),
            expires_in,
            deliver_by_ms: None,
            execution_timeout: None,
            urgent: false,
            may_repeat: true,
            attempt: None,
        };
        for (name, value) in properties {
            match name {
                "deliver-by" => terms.deliver_by_ms = value.parse().ok(),
                "execution-timeout" => terms.execution_timeout = value.parse().ok().map(Duration::from_millis),
                "urgent" => terms.urgent = value == "1",
                "repeat" => terms.may_repeat = value != "never",
                "attempt" => terms.attempt = value.parse().ok(),
                _ => {}
            }
        }
        terms
    }

    /// Whether it is too late to begin, by the time since its arrival.
    pub fn is_expired(&self) -> bool {
        self.expires_in.is_some_and(|within| self.arrived.elapsed() >= within)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn properties_are_terms() {
        let given = [
            ("deliver-by", "61000"),
            ("execution-timeout", "500"),
            ("urgent", "1"),
            ("repeat", "never"),
            ("attempt", "2"),
            ("other", "x"),
        ];
        let terms = Terms::new(Some(Duration::from_secs(1)), given);
        assert_eq!((terms.deliver_by_ms, terms.execution_timeout), (Some(61_000), Some(Duration::from_millis(500))));
        assert_eq!((terms.urgent, terms.may_repeat, terms.attempt), (true, false, Some(2)));
        assert!(!terms.is_expired());
        assert!(Terms::new(Some(Duration::ZERO), []).is_expired());
        let plain = Terms::new(None, [("attempt", "many")]);
        assert_eq!((plain.urgent, plain.may_repeat, plain.attempt), (false, true, None));
    }
}
