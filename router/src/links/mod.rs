//! Links: a site feeds its upstream sites, through outages, each event exactly once.
//!
//! At the edge `edge` has the links, `dial` keeps trying, `sender` sends what there is of one priority, `offer` says what that is and
//! `hear` what upstream answers; `gate` lets the priorities go in turn, at the link's rate; `lanes` merges partitions
//! back into the order of commits, `waiting` knows what is carried and how much of it waits. Upstream `upstream` takes
//! connections, `receiver` stores what comes within a `budget`, `records` knows who may, as the catalog says. `down` is about what a link brings down, `down_desk` upstream's part, `down_taker` the edge's. `lives` bounds how often an
//! upstream ends a life. Pure are `pattern` (which topics), `class` (how urgent they are), `hours` (when they may go), `turns` (who
//! goes next), `begin` (how to go on with a partition), `left` (whose origins), `backoff`, `pace`, `meter` (how fast it is), and the
//! bytes in `wire`, `pack`, `unpack`, `invite` and `records`. docs/decisions/2026-11-26-links.md says why it is so.

mod accept;
mod backoff;
mod begin;
mod book;
mod budget;
mod class;
mod config;
mod dial;
mod down;
mod down_desk;
mod down_taker;
mod edge;
mod folder;
mod gate;
mod hear;
mod hours;
mod invite;
mod lanes;
mod left;
mod lives;
mod meter;
mod offer;
mod pace;
mod pack;
mod pattern;
mod receiver;
mod records;
mod sender;
#[cfg(test)]
mod stream_tests;
mod turns;
mod unpack;
mod upstream;
mod waiting;
mod wire;

pub use accept::AcceptError;
pub use begin::{Begin, Mine, Stand, begin};
pub use book::{ClassView, Direction, Gap, Lag, LinkView, State};
pub use class::{LinkClass, Priority};
pub use config::{Compress, LinkConfig, Origins};
pub use down::{ByLink, COMMANDS, GiveDown, Pending, TakeDown, URGENT};
pub use down_desk::{AskError, Desk};
pub use edge::{Edge, Setup};
pub use folder::FolderError;
pub use lanes::{Lanes, Round};
pub use receiver::{check as check_parts, may_come, stand};
pub use records::{LinkRecord, RecordError, Records};

pub use crate::catalog::is_link_name;
pub use upstream::Upstream;
pub use waiting::mine;
pub use wire::{Answer, Parts, Refused, Said};

/// The version of what is said that is spoken.
pub const PROTOCOL: u8 = 2;
/// The oldest that is spoken still: nothing comes down by it.
pub const PROTOCOL_MIN: u8 = 1;
/// The program's version, as it is told to others.
const PROGRAM: &str = env!("CARGO_PKG_VERSION");
