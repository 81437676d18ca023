//! Where an event goes: routing rules choose the topic and key, `admit` says what is refused, `lanes` what was here
//! before, `gate` how much of what clients do wrong is said to people.

mod admit;
mod gate;
mod lanes;
mod routing;

pub use admit::{Ingest, OpenError, Refused, Route, Stats};
pub use gate::Gate;
pub use lanes::{Arrivals, Config as LanesConfig, Lanes, OpenError as LanesError, Stats as LanesStats, Verdict};
pub use routing::{Config, RulesError};

/// The topic that takes what no rule names; its key is the MQTT topic.
pub const CATCH_ALL_TOPIC: &str = "mqtt";
