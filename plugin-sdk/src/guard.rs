//! Write guards of commands: plugins that are asked before a command is sent.
//!
//! ```
//! use edgeway_plugin::guard::{AskedCommand, Guard, GuardHost, Verdict};
//! use edgeway_plugin::{Config, export_guard};
//!
//! /// Forbids a command at night.
//! struct Office { closes_at_h: i64 }
//!
//! impl Guard for Office {
//!     fn init(config: &Config) -> Result<Self, String> {
//!         Ok(Office { closes_at_h: config.parsed("closes_at_h", 18)? })
//!     }
//!
//!     fn judge<H: GuardHost>(&mut self, _command: &AskedCommand, host: &mut H) -> Verdict {
//!         match host.now_ms() / 3_600_000 % 24 {
//!             hour if hour < self.closes_at_h => Verdict::Allow,
//!             hour => Verdict::Deny(format!("the office is closed at {hour} h (UTC)")),
//!         }
//!     }
//! }
//!
//! export_guard!(Office);
//! # fn main() {}
//! ```
//!
//! No answer is a no: a panic, an endless loop or too much memory keep the
//! command back. The contract is `wit/guard.wit`.

mod inside;
pub mod mock;

pub use crate::bindings::command_guard::exports::edgeway::plugin::guard::{AskedCommand, Verdict};
#[doc(hidden)]
pub use inside::{NodeGuardHost, Slot};

use crate::{Config, Level};

/// What a guard does. One instance is asked about one command after the other.
pub trait Guard: Sized {
    /// Makes an instance from the manifest's `[config]` table.
    ///
    /// # Errors
    /// The text is shown to the operator, and the guard does not answer: all
    /// commands that it judges are kept back.
    fn init(config: &Config) -> Result<Self, String>;

    /// Judges one command. Where the guard cannot tell, it says [`Verdict::Deny`].
    fn judge<H: GuardHost>(&mut self, command: &AskedCommand, host: &mut H) -> Verdict;
}

/// What a guard may ask of the node.
///
/// Guards take it as a type parameter, so that a component imports no more than
/// it uses: one that imports `plugin-state` is refused unless its manifest grants
/// it something to read.
pub trait GuardHost {
    /// Writes a line to the node's log.
    fn log(&mut self, level: Level, text: &str);
    /// The node's wall clock, in milliseconds since 1970-01-01 UTC.
    fn now_ms(&mut self) -> i64;
    /// What a plugin keeps in its state under this key, as its last commit stored
    /// it: one value for each partition that has the key, so mostly one, or none.
    fn kept(&mut self, plugin: &str, key: &[u8]) -> Vec<Vec<u8>>;
}
