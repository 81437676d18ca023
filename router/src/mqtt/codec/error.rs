//! Why bytes were refused.

use super::Version;
use super::reason::Reason;
use super::rules::Rule;

/// Bytes that break a rule; the connection is of no use after it.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{} [{}]", .rule.text, .rule.statement(*.version))]
pub struct DecodeError {
    /// The rule.
    pub rule: &'static Rule,
    /// The version whose text names it.
    pub version: Version,
    /// Set for a CONNECT that may be answered with a CONNACK, in this version's form, before the connection closes.
    pub connack: Option<Version>,
}

impl DecodeError {
    /// The reason code for CONNACK or DISCONNECT in MQTT 5.0.
    pub fn reason(&self) -> Reason {
        self.rule.reason
    }

    /// The statement that is broken, `MQTT-3.1.2-3` or `section 2.2.2.2`.
    pub fn statement(&self) -> &'static str {
        self.rule.statement(self.version)
    }
}
