//! A connection to another node that has greeted: what it said last, asks, and long streams.

use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Semaphore;

use super::Heartbeat;
use super::close::{Close, Reset};
use super::hello::Hello;
use super::state::{ConnectionState, Known};
use crate::replication::config::ASKS_MAX;
use crate::transport::{FrameReceiver, FrameSender, NodeId, SiteConnection, StreamError};

/// Largest body of an ask, and of its answer, in bytes.
pub const ASK_BYTES_MAX: usize = 16 << 20;
/// The first byte of the stream by which nodes greet.
pub(super) const MODE_HELLO: u8 = 0;
/// The first byte of a stream that carries an ask; the second is its kind.
pub(super) const MODE_ASK: u8 = 1;
/// The first byte of a long stream; the second is its kind.
pub(super) const MODE_LONG: u8 = 2;

/// Why an ask was not answered, or no stream was opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// There is no connection to the node.
    #[error("node {node} is not connected: {why}")]
    NotConnected {
        /// The node.
        node: NodeId,
        /// Why not.
        why: String,
    },
    /// No answer came in time. The other side may have done what was asked.
    #[error("no answer came in time")]
    Timeout,
    /// The other side has no place for it right now.
    #[error("the other node has too much to do right now")]
    Busy,
    /// The ask or the answer is longer than is taken.
    #[error("the ask or its answer is longer than {ASK_BYTES_MAX} bytes")]
    TooLong,
    /// The other side does not know what is asked: its program is older.
    #[error("the other node does not know what is asked: is its program older?")]
    UnknownKind,
    /// The connection ended, or the other side gave up. It may have done what was asked.
    #[error("the answer was lost: {0}")]
    Lost(String),
}

impl From<StreamError> for AskError {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::GivenUp(code) if code == Reset::Busy as u32 => Self::Busy,
            StreamError::GivenUp(code) if code == Reset::TooLong as u32 => Self::TooLong,
            StreamError::GivenUp(code) if code == Reset::UnknownKind as u32 => Self::UnknownKind,
            StreamError::TooLong { .. } => Self::TooLong,
            other => Self::Lost(other.to_string()),
        }
    }
}

/// What changes while the connection stands.
#[derive(Debug, Clone, Copy)]
struct Heard {
    at: Duration,
    heartbeat: Option<Heartbeat>,
    clock_ahead_ms: i64,
    wall_ahead_ms: i64,
}

impl Heard {
    fn of(heartbeat: Option<Heartbeat>, wall_ms: i64, rtt: Duration, now: Moment) -> Self {
        let ahead_of = |ours_ms| ahead(wall_ms, rtt, ours_ms);
        let (clock_ahead_ms, wall_ahead_ms) = (ahead_of(now.wall_ms), ahead_of(times_ms(now.steady_ms)));
        Self { at: now.monotonic, heartbeat, clock_ahead_ms, wall_ahead_ms }
    }
}

/// A connection to a node that has greeted.
pub(super) struct Link {
    /// Tells the connections of this process apart.
    pub(super) number: u64,
    pub(super) node: NodeId,
    pub(super) hello: Hello,
    pub(super) connection: SiteConnection,
    pub(super) began: Duration,
    /// By how much the clock by which the other side times what it stores is ahead of this node's: neither is stepped while both run.
    steady_ahead_ms: i64,
    protocol: u16,
    heard: Mutex<Heard>,
    asks: Semaphore,
}

/// When something came, on all clocks.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Moment {
    pub(super) monotonic: Duration,
    pub(super) wall_ms: i64,
    /// As [`crate::clock::Clock::steady_ms`] has it.
    pub(super) steady_ms: u64,
}

impl Link {
    pub(super) fn new(
        number: u64,
        node: NodeId,
        hello: Hello,
        connection: SiteConnection,
        protocol: u16,
        now: Moment,
    ) -> Self {
        let theirs_ms = hello.steady_ms.map_or(hello.wall_ms, times_ms);
        let steady_ahead_ms = ahead(theirs_ms, connection.rtt(), times_ms(now.steady_ms));
        let heard = Mutex::new(Heard::of(None, hello.wall_ms, connection.rtt(), now));
        let asks = Semaphore::new(ASKS_MAX as usize);
        Self { number, node, hello, connection, began: now.monotonic, steady_ahead_ms, protocol, heard, asks }
    }

    /// A heartbeat came.
    pub(super) fn hear(&self, heartbeat: Heartbeat, now: Moment) {
        *self.heard.lock() = Heard::of(Some(heartbeat), heartbeat.wall_ms, self.connection.rtt(), now);
    }

    pub(super) fn known(&self) -> Known {
        let heard = *self.heard.lock();
        Known {
            origin: self.hello.origin,
            incarnation: self.hello.incarnation,
            program: self.hello.program.clone(),
            protocol_max: self.hello.protocols.iter().max().copied().unwrap_or(0),
            heard: heard.at,
            heartbeat: heard.heartbeat,
            clock_ahead_ms: heard.clock_ahead_ms,
            wall_ahead_ms: heard.wall_ahead_ms,
            steady_ahead_ms: self.steady_ahead_ms,
        }
    }

    pub(super) fn state(&self, is_copied: bool) -> ConnectionState {
        ConnectionState {
            address: self.connection.address(),
            rtt: self.connection.rtt(),
            protocol: self.protocol,
            traffic: self.connection.traffic(),
            is_copied,
        }
    }

    pub(super) fn close(&self, close: Close, text: &str) {
        close.close(&self.connection, text);
    }

    /// Asks, and waits for the answer. As many as [`ASKS_MAX`] are under way at once; more wait.
    pub(super) async fn ask(&self, kind: u8, body: &[u8]) -> Result<Vec<u8>, AskError> {
        if body.len() > ASK_BYTES_MAX {
            return Err(AskError::TooLong);
        }
        // The semaphore is never closed.
        let _place = self.asks.acquire().await;
        let (mut send, mut receive) = self.connection.open().await?;
        send.send_frame_after(&[MODE_ASK, kind], body).await?;
        send.finish();
        let answer = receive.receive_frame(ASK_BYTES_MAX).await?;
        answer.ok_or_else(|| AskError::Lost(StreamError::Cut.to_string()))
    }

    /// Opens a long stream.
    pub(super) async fn open(&self, kind: u8) -> Result<(FrameSender, FrameReceiver), AskError> {
        let (mut send, receive) = self.connection.open().await?;
        send.send_head(&[MODE_LONG, kind]).await?;
        Ok((send, receive))
    }
}

fn times_ms(steady_ms: u64) -> i64 {
    i64::try_from(steady_ms).unwrap_or(i64::MAX)
}

/// By how much a clock that said `theirs_ms` is ahead of one that says `ours_ms` when it is heard.
fn ahead(theirs_ms: i64, rtt: Duration, ours_ms: i64) -> i64 {
    let on_its_way = i64::try_from(rtt.as_millis() / 2).unwrap_or(0);
    theirs_ms.saturating_add(on_its_way).saturating_sub(ours_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_may_stand_anywhere() {
        let rtt = Duration::from_millis(100);
        assert_eq!(ahead(1_000, rtt, 1_050), 0);
        assert_eq!(ahead(0, rtt, 86_400_000), -86_399_950);
        assert_eq!(ahead(i64::MAX, rtt, -5), i64::MAX);
        assert_eq!(ahead(i64::MIN, rtt, i64::MAX), i64::MIN);
    }
}
