//! Plugins: readers of the log whose answers are computed in a sandbox.
//!
//! A batch goes through these files: `task` is a plugin's thread; `round` reads
//! at the plugin's cursor; `run` gives the events to the `sandbox` and finds
//! those at fault by `bisect`; `effects` judges the answer by the `manifest`;
//! `prepare` makes events of it; and `round` makes one commit of all of it:
//! outputs, state, commands and the moved cursor.
//!
//! In a site, work follows data: `duties` says what a node reads, `taking_up` ends and begins a plugin's charges
//! (`charge`) with the help of `adoption` and `carry`, and `charge_index` tells, by `overridden`, which of the events
//! that two lives derived counts. `cause` is what an event or a command was made of; where another node may have read
//! that before, it is in `doubt`, and what is derived of it says so.
//!
//! `guard` has plugins of another kind, which are asked before a command is sent.
//!
//! `host` deploys, lists, removes and restores: `deploy` makes a plugin of the bytes that somebody sent, `loops` says
//! whether plugins would feed each other for ever, `registry` keeps what is deployed and `compiled` what the `engine`
//! made of it; `forget` ends where removed ones stood. A running `guest` sees a `batch` and its `state`. `wants` keeps what
//! sites that feed this one are to have.

mod adoption;
mod batch;
pub mod bench;
mod bindings;
mod bisect;
mod carry;
mod cause;
mod charge;
mod charge_index;
mod compiled;
mod counters;
mod deploy;
mod doubt;
mod duties;
mod effects;
mod engine;
mod error;
mod fault;
mod forget;
mod guard;
mod guest;
mod host;
mod loops;
mod manifest;
mod overridden;
mod prepare;
mod registry;
mod rests;
mod round;
mod run;
mod sandbox;
#[cfg(test)]
mod site_tests;
mod state;
mod status;
mod taking_up;
mod task;
#[cfg(test)]
pub(crate) mod test_guest;
mod wants;

pub use cause::DerivedFrom;
pub use charge::{Charge, SpanV1, SpansV1};
pub use charge_index::{ChargeIndex, View};
pub use counters::PluginCounters;
pub use deploy::WASM_BYTES_MAX;
pub use duties::{
    Assignment, Before, Duties, Earlier, GivenAway, HandedOn, Predecessor, Share, Site, TakeOver, TakenOver, duties,
};
pub use error::{DeployError, Deployed, RemoveError, SettleError, StartError};
pub use guard::{GuardCounters, GuardFigures};
pub use host::{Here, PLUGINS_MAX, PluginHost, Settled, Step, step};
pub use manifest::{From, Grants, Kind, Limits, MANIFEST_BYTES_MAX, Manifest, ManifestError, Scope, TwinGrant};
pub use overridden::{Derived, Verdict, judge, readable_to};
pub use prepare::DEAD_LETTERS_TOPIC;
pub use registry::RecordV2;
pub use status::{PluginStatus, RunState};
pub use wants::{
    ANSWERS_MAX, AnswerV1, ENTRIES_AT_ONCE_MAX, GONE_MAX, Head, Known, WANTS_MAX, WantError, WantV1, Wants,
};

/// Bytes as lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a string does not fail
        text
    })
}
