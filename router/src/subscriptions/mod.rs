//! Events out: who wants which MQTT topic, and the shared segments that they are handed.
//!
//! `index` finds subscribers by topic; `segment` is a run of events that many subscribers share,
//! encoded once per format; `queue` is one subscriber's bounded queue, which falls back to reading
//! the log when it overflows; `fan_out` ties them to the event log. Beneath the doors: they encode
//! and send, this room decides who gets what.

mod catch_up;
mod fan_out;
mod index;
mod queue;
mod segment;

#[cfg(test)]
mod tests;

pub use fan_out::{Config, FanOut, Stats};
pub use queue::{Position, Subscriber};
pub use segment::{FORMATS, Frame, Frames, LateWills, Segment, SegmentEvent};
