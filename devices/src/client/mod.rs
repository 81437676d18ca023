//! The device's client: buffered publishes, commands and answers over MQTT 5 or 3.1.1.
//!
//! A publish goes into a bounded buffer in memory and leaves it when the node has acknowledged it,
//! which means that it is durable there. The client reconnects by itself and then sends again, in
//! order, all that was not acknowledged: at least once, so that a publish whose acknowledgement was
//! lost may be stored twice. Quality of service 2 is not offered: a client without a disk could not
//! keep its promise over a restart.

mod answers;
pub(crate) mod backoff;
pub mod blocking;
mod config;
mod handle;
mod link;
mod outbox;
mod task;

#[cfg(test)]
pub(crate) mod fake_node;
#[cfg(test)]
mod tests;

pub use answers::{Call, Handlers};
pub use config::{Buffer, Config, ConfigError, Login, Overflow, Version};
pub use handle::{Client, Counters, PublishError, Receipt};
pub use outbox::{Fate, Qos};
