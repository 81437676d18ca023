//! The MQTT door: packets to values and back. What decides is pure; sockets, log and clock are the task's.

pub mod codec;
pub mod filter_tree;
pub mod merged;
pub mod outgoing;
pub mod retained;
pub mod session;
pub mod task;
pub mod topic;
