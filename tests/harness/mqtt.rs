//! MQTT as the tests speak it.

pub mod bytes;
pub mod client;
pub mod packet;
pub mod properties;
pub mod publisher;

pub use client::{Client, End};
pub use packet::{BOTH, Connect, Message, Packet, Version};
pub use properties::{Properties, Value, id};
