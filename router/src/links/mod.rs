//! Links: a site feeds its upstream sites, through outages, each event exactly once.
//!
//! At the edge `edge` has the links, and `config` says what each carries; `accept` takes an invitation, `folder` keeps what it gave. `dial` keeps
//! trying and `reach` connects. `sender` sends what there is of one priority: `offer` says what that is, `hear` takes what upstream answers, `judge` looks
//! where partitions end there, `go_on` goes on from it. `lanes` merges partitions back into the order of commits and leaves out what is too old;
//! `waiting` knows what is carried and how much of it waits; `gate` lets the priorities go in turn, at the link's rate. `renewal` asks for the next certificate.
//!
//! Upstream `upstream` takes connections: `guests` are those who accept an invitation, `connected` those that stand. `greet` judges their streams, and
//! `receiver` stores what comes: `admit` says what may, `adopt` makes its topics, `budget` bounds its memory, `counted` counts apart what comes again,
//! `refused` remembers what does not fit again and again.
//! `records` knows who may feed this site, as the catalog says; `certificates` renews what links show, `newest` knows who has shown what; `kept`
//! bounds what a link keeps on the disk.
//!
//! At both ends `book` is what people are told of a link. `within` has the site's other nodes keep what links bring. `detail` gives upstream a range of a
//! topic when it asks for it. `down` is about what a link brings down: commands (`down_desk` upstream, `down_taker` at the edge), `topics` and `plugins`.
//!
//! Pure are `pattern` (which topics), `summary` (what goes as a plugin makes of it), `class` (how urgent they are), `hours` (when they may go), `turns`
//! (who goes next), `begin` (how to go on with a partition), `later` (what goes before what was missed), `left` (whose origins), `backoff`, `ways` (by UDP
//! or TCP), `pace`, `meter` (how fast it is), and the bytes in `wire`, `pack`, `unpack` and `invite`. docs/decisions/2026-11-26-links.md says why it is so.

mod accept;
mod admit;
mod adopt;
mod ahead_note;
mod backoff;
mod begin;
mod book;
mod budget;
mod came;
mod certificates;
mod class;
mod config;
mod connected;
mod counted;
pub mod detail;
mod dial;
mod down;
mod down_desk;
mod down_taker;
mod edge;
mod folder;
mod forget;
mod gate;
mod go_on;
mod greet;
mod guests;
mod hear;
mod hours;
mod invite;
mod judge;
mod kept;
mod knows_ahead;
mod lanes;
mod later;
mod left;
mod meter;
mod newest;
mod offer;
mod pace;
mod pack;
mod pattern;
pub mod plugins;
mod reach;
mod receiver;
mod records;
mod refused;
mod renewal;
mod sender;
#[cfg(test)]
mod stream_tests;
mod summary;
mod topics;
mod turns;
mod unpack;
mod upstream;
mod waiting;
mod ways;
mod wire;
mod within;

pub use accept::AcceptError;
pub use admit::{check as check_parts, may_come, stand};
pub use begin::{Begin, Mine, Stand, begin};
pub use book::{ClassView, Direction, Gap, Lag, Later, LinkView, Page, State};
pub use class::{Backlog, LinkClass, Priority};
pub use config::{Compress, LinkConfig, Origins};
pub use down::{ByLink, COMMANDS, GiveDown, TakeDown, URGENT};
pub use down_desk::{AskError, Desk};
pub use edge::{Edge, PauseError, Setup};
pub use folder::FolderError;
pub use judge::{judge, shown_ahead};
pub use lanes::Fill;
pub use lanes::{Lanes, Moment, Round};
pub use later::{AheadJudged, HeardAhead, LiesAhead, Way, judge_ahead, lies_ahead, live_from, skip_to, waits, way};
pub use records::{LinkRecord, RecordError, Records};
pub use refused::{RefusedParts, fits_to};
pub use summary::{LinkSummary, PluginFacts};
pub use topics::{Downlink, Given, MayBring, TopicDown, TopicsDown};

pub use crate::catalog::is_link_name;
pub use upstream::Upstream;
pub use waiting::{goes_up, mine};
pub use ways::Transport;
pub use wire::{Answer, Parts, Refused, Said};
pub use within::{NoAnswer, Nodes, Pending, Within};

/// The version of what is said that is spoken: 2 knows of certificates that are renewed, and of what comes down; 3 of
/// what lies ahead, 4 of several parts of that.
pub const PROTOCOL: u8 = 4;
/// The oldest that is spoken with.
const PROTOCOL_MIN: u8 = 1;
/// From which on an edge renews its certificate.
const PROTOCOL_RENEWS: u8 = 2;
/// From which on something comes down.
const PROTOCOL_DOWN: u8 = 2;
/// From which on what is live may go ahead of what was missed.
const PROTOCOL_AHEAD: u8 = 3;
/// From which on it may at each outage, while what was missed before is still to come.
const PROTOCOL_ALL_AHEAD: u8 = 4;
/// The program's version, as it is told to others.
const PROGRAM: &str = env!("CARGO_PKG_VERSION");
