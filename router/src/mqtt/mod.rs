//! The MQTT door: packets to values and back. What decides is pure; sockets, log and clock are the task's.
//!
//! `codec` makes packets of bytes, `session` decides about them, `task` owns the sockets. `topic` says what a filter
//! matches and `filter_tree` finds it; `retained` has the retained messages of this node, `merged` the newest of all
//! nodes; `outgoing` encodes a PUBLISH once for all who get it.

pub mod codec;
pub mod filter_tree;
pub mod merged;
pub mod outgoing;
pub mod retained;
pub mod session;
pub mod task;
pub mod topic;
