//! What happened in a run.

use std::collections::BTreeSet;

/// A run. Times are microseconds since it began, unless they say otherwise.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// Bytes a second that go through the pipe.
    pub bandwidth: f64,
    /// Live commits a second; 0: nobody commits.
    pub live_a_second: u64,
    /// Bytes a second of the log's writer.
    pub written_a_second: f64,
    /// Bytes a second at which the stream goes at least.
    pub least: f64,
    /// Bytes that are there when the follower begins.
    pub backlog: f64,
    /// Bytes that may be on their way in the pipe when more is sent.
    pub ahead_bytes: usize,
    /// What live commits took together before it began, and how many they were.
    pub alone: (u64, u64),
    /// The same while it was caught up.
    pub beside: (u64, u64),
    /// The longest that one took then.
    pub longest: u64,
    /// When it had come up; `None`: not at all.
    pub came_up: Option<u64>,
    /// Sizes of what went at once.
    pub chunks: BTreeSet<usize>,
}

impl History {
    /// For whoever looks for a bug.
    pub fn story(&self) -> String {
        let chunks = (self.chunks.first(), self.chunks.last());
        format!("chunks {chunks:?} of {:?}", History { chunks: BTreeSet::new(), ..self.clone() })
    }
}

/// What one took, of several.
pub fn mean((took, count): (u64, u64)) -> f64 {
    took as f64 / count.max(1) as f64
}
