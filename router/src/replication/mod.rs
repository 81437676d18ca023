//! A site's nodes and one another: how one joins, the connections between them, and their commit streams.
//!
//! `join` lets a node in, `peers` keeps the connections. `plan` decides which origin is followed from whom, `begin`
//! how a source begins with a follower (both pure); `wire` is what they say; `source` and `follower` do it, and `task`
//! keeps them at it. `send` sends commits, at once or in groups (`grouping`), and `pace` lets live traffic go before what
//! is caught up with. `book` knows how far everybody is, `floor` what retention keeps for others; `holdings` is what
//! nodes tell each other of the origins that they keep, `held` what they told.

mod begin;
mod book;
mod choose;
mod claims;
mod config;
mod floor;
mod follower;
mod grouping;
mod held;
#[cfg(test)]
mod hold_tests;
mod holdings;
pub mod join;
mod lacking;
mod lags;
mod pace;
pub mod peers;
mod plan;
mod progress;
mod same;
mod send;
#[cfg(test)]
mod send_tests;
mod source;
#[cfg(test)]
mod stream_tests;
mod task;
mod turns;
mod wire;

use std::future::Future;
use std::pin::Pin;

pub use begin::{Begin, Has, asked, begin};
pub use book::{Book, Follower as FollowerState, Following, Trouble};
pub use config::{Config, LINK_BYTES_MIN, LINK_CERTIFICATE_S_MIN, LINKED_QUORUM_MAX};
pub use floor::{Behind, Floor, Lacks, LeftCopy, lacked_copies, lacked_lives};
pub use grouping::{Standing, Turn, turn};
pub use held::Held;
pub use holdings::Holdings;
pub use lags::{Extents, Lag, Lags, PartitionLag, extents};
pub use pace::{CatchUp, Counted};
pub use peers::{MEMBERS_MAX, Member};
pub use plan::{Holder, Known, wanted};
pub use same::{Point, SAME_LOGS_MAX, decode_answer, encode_question};
pub use task::{Listed, Replication, Voters};
pub use wire::{Asked, Follow, Refused, RefusedCode, Said, VERSION, WireError};

/// An answer that is on its way.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// The kind of an ask for what the catalog answers.
pub const ASK_CATALOG: u8 = 1;
/// The kind of an ask for what a node holds of others' origins.
pub const ASK_HOLDINGS: u8 = 2;
/// The kind of an ask for a part of a plugin's component.
pub const ASK_PLUGIN: u8 = 3;
/// The kind of an ask that hands a command over.
pub const ASK_COMMAND: u8 = 4;
/// The kind of an ask that has a node hand its log over before it is removed.
pub const ASK_HAND_OVER: u8 = 5;
/// The kind of an ask for how far a node is with what links bring.
pub const ASK_LINKED: u8 = 6;
/// The kind of an ask whether a node has logs up to commits, and the same.
pub const ASK_SAME: u8 = 7;
/// The kind of an ask for what sites below are to have of plugins.
pub const ASK_WANTS: u8 = 8;
/// The kind of an ask that tells a node what it cannot see of itself.
pub const ASK_NEWS: u8 = 9;
/// The kind of a long stream that follows an origin.
pub const STREAM_FOLLOW: u8 = 1;
/// The kind of a long stream of what links have brought.
pub const STREAM_LINKED: u8 = 2;

/// The program's version, as it is told to others.
pub const PROGRAM: &str = env!("CARGO_PKG_VERSION");
