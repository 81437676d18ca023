//! The device's client: buffered publishes in lanes, commands and answers, the device's twin, over MQTT 5 or 3.1.1.
//!
//! A publish goes into a bounded buffer, in memory or on disk, and leaves it when the node has acknowledged it,
//! which means that it is durable there. What is urgent overtakes what is not. The client reconnects by itself and
//! then sends again, in order, all that was not acknowledged. Each publish has a number ([`crate::sequence`]), by
//! which the node recognises what comes again: it is stored once. MQTT 3.1.1 cannot carry the number, so that there a
//! publish whose acknowledgement was lost may be stored twice. Quality of service 2 is not offered: numbers do the
//! same with one acknowledgement.
//!
//! The node may take a publish not for now, as its store is full. The publish then waits again in its old place, and
//! the lane pauses, longer each time. A refusal for good is the publish's fate.

mod answers;
pub(crate) mod backoff;
pub mod blocking;
mod config;
mod counters;
#[cfg(feature = "disk")]
pub mod disk;
mod handle;
mod link;
mod mqtt;
mod outbox;
mod pauses;
mod publish;
#[cfg(feature = "quic")]
mod quic;
mod shared;
mod task;
mod terms;
#[cfg(feature = "tls")]
mod tls;
mod twin;
mod url;

#[cfg(test)]
pub(crate) mod fake_node;
#[cfg(test)]
mod lane_tests;
#[cfg(test)]
mod tests;

pub use answers::{Call, Handlers};
pub use config::{Buffer, Config, ConfigError, Login, Overflow, Transport, Version};
pub use counters::Counters;
pub use handle::{Client, StartError};
pub use outbox::{Fate, Priority, Qos};
pub use publish::{PublishError, PublishOptions, Receipt};
#[cfg(feature = "quic")]
pub use quic::SharedEndpoint;
pub use terms::Terms;
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsError};
pub use twin::{TwinHandler, TwinNews};
pub use url::UrlError;
