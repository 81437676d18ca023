//! The site's other nodes: their commit streams into this node's store, and this node's to them.
//!
//! `plan` decides which origin is followed from whom, `begin` how a source begins with a follower (both pure); `wire`
//! is what they say; `source` and `follower` do it; `book` knows how far everybody is.

mod begin;
mod book;
mod follower;
mod holdings;
mod plan;
mod source;
#[cfg(test)]
mod stream_tests;
mod wire;

pub use begin::{Begin, Has, begin};
pub use book::{Book, Follower as FollowerState, Following, Lag, Trouble};
pub use plan::{Holder, Known, wanted};
pub use wire::{Asked, Follow, Refused, RefusedCode, Said, VERSION, WireError};
