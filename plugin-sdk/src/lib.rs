//! Write Edgeway plugins in Rust: consumers, as below, and guards of commands ([`guard`]).
//!
//! A plugin is a type that implements [`Plugin`], made known by [`export!`]:
//!
//! ```
//! use edgeway_plugin::{Action, Batch, Config, Emit, Host, Plugin, export};
//!
//! /// Copies each event to another topic, in capitals.
//! struct Shout { topic: String }
//!
//! impl Plugin for Shout {
//!     fn init(config: &Config) -> Result<Self, String> {
//!         Ok(Shout { topic: config.text("topic").unwrap_or("loud").to_owned() })
//!     }
//!
//!     fn process<H: Host>(&mut self, batch: &Batch, _host: &mut H) -> Result<Vec<Action>, String> {
//!         Ok((0u32..).zip(&batch.events).map(|(index, event)| {
//!             Emit::new(index, &self.topic)
//!                 .key(event.key.as_deref())
//!                 .value(event.value.to_ascii_uppercase())
//!                 .into()
//!         }).collect())
//!     }
//! }
//!
//! export!(Shout);
//! # fn main() {}
//! ```
//!
//! The crate is a `cdylib`, built for `wasm32-unknown-unknown` and made a
//! component (in Edgeway's tree by `cargo xtask build-plugins`; elsewhere by
//! `wasm-tools component new`). The same crate builds and tests natively:
//! [`mock::MockHost`] stands in for the node.
//!
//! The contract itself, with its rules, is `wit/plugin.wit` and `wit/guard.wit`.
#![cfg_attr(test, allow(clippy::unwrap_used))]

extern crate self as edgeway_plugin; // the generated code names the crate

mod action;
pub mod bindings;
mod config;
pub mod guard;
mod guest;
pub mod json;
pub mod mock;

pub use bindings::edgeway::plugin::host::Level;
pub use bindings::edgeway::plugin::types::{
    Action, Batch, Command, Emit, Event, Forward, Header, Reject, Repeat, SetDesired, Setting,
};
pub use config::Config;
#[doc(hidden)]
pub use guest::{NodeHost, Slot};

/// What a plugin does. One instance is called for one batch after the other.
pub trait Plugin: Sized {
    /// Makes an instance from the manifest's `[config]` table.
    ///
    /// # Errors
    /// The text is shown to the operator, and the plugin does not run.
    fn init(config: &Config) -> Result<Self, String>;

    /// Answers a batch with actions, carried out in the order given.
    ///
    /// `self` may cache what is in the host's state, and nothing more: after a
    /// failed call the node goes on with a new instance.
    ///
    /// # Errors
    /// The node searches for the event at fault by giving smaller batches. Where
    /// the plugin knows it, [`Reject`] is cheaper.
    fn process<H: Host>(&mut self, batch: &Batch, host: &mut H) -> Result<Vec<Action>, String>;
}

/// What a plugin may ask of the node.
///
/// Plugins take it as a type parameter, so that a component imports no more than
/// it uses: one that imports `state` or `twins` is refused unless its manifest
/// grants it.
pub trait Host {
    /// Writes a line to the node's log.
    fn log(&mut self, level: Level, text: &str);
    /// The node's wall clock, in milliseconds since 1970-01-01 UTC.
    fn now_ms(&mut self) -> i64;
    /// The state's value, as last set in this call or before.
    fn state_get(&mut self, key: &[u8]) -> Option<Vec<u8>>;
    /// Sets a value; durable together with the call's actions.
    fn state_set(&mut self, key: &[u8], value: &[u8]);
    /// Removes a value.
    fn state_delete(&mut self, key: &[u8]);
    /// What a device says it is, a JSON object; needs the grant `twins`.
    fn twin_reported(&mut self, device: &str) -> Option<String>;
    /// What a device shall be, a JSON object; needs the grant `twins`.
    fn twin_desired(&mut self, device: &str) -> Option<String>;
}
