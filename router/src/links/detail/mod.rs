//! Detail on demand: an upstream site asks a site that feeds it for a range of a topic, and gives it on as it comes. Nothing is
//! stored upstream.
//!
//! Upstream `asked` asks all gateways that are connected, each on a `stream` of its own, and hands on what comes; at the edge
//! `serve` answers, from what `range` reads of the log, `low` at the link's gate, and never further ahead of the one who asks than a
//! `window`. Pure are `share` (which of several gateways sends what), `window`, `position` (up to where somebody has all, to go on from there), and the bytes in `wire`.

mod asked;
mod position;
mod range;
mod serve;
mod share;
mod stream;
mod window;
mod wire;

pub(super) use asked::ALL_REQUESTS_MAX;
pub use asked::{Asks, Detail};
pub use position::{Position, PositionError};
pub(super) use serve::{REQUESTS_MAX, serve};
pub use stream::{AskError, CutShort, Missing};
pub use wire::{Ask, End, From, Span};
