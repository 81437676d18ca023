//! Where an MQTT publish goes: routing rules choose the topic and key, `admit` says what is refused,
//! `gate` how much of that is said to people.

mod admit;
mod gate;
mod routing;

pub use admit::{Ingest, Refused, Route, Stats};
pub use gate::Gate;
pub use routing::{Config, Rule, RuleError};

/// The topic that takes what no rule names; its key is the MQTT topic.
pub const CATCH_ALL_TOPIC: &str = "mqtt";
