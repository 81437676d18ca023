//! Serves the streams that another node opens.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::Stats;
use super::close::Reset;
use super::link::{ASK_BYTES_MAX, Link, MODE_ASK, MODE_LONG};
use super::serve::Serve;
use super::stats::count;
use crate::replication::config::{ASKS_MAX, LONG_STREAMS_MAX};
use crate::transport::{FrameReceiver, FrameSender, StreamError};

/// How long a stream may take to say what it is.
const HEAD_WAIT: Duration = Duration::from_secs(5);
/// How long an ask may take to arrive whole.
const BODY_WAIT: Duration = Duration::from_secs(30);
/// What the bytes of asks are counted in.
const BYTES_PER_PLACE: usize = 1 << 10;
/// Bytes of asks, of all nodes together, that are not answered yet; more wait in the connection.
const UNANSWERED_BYTES_MAX: usize = 64 << 20;

/// Room for the bytes of asks, of all nodes together.
pub(super) struct Room(Semaphore);

impl Room {
    pub(super) fn new() -> Self {
        Self(Semaphore::new(UNANSWERED_BYTES_MAX / BYTES_PER_PLACE))
    }
}

/// Places for the streams of one connection.
pub(super) struct Places {
    asks: Semaphore,
    long: Semaphore,
}

impl Places {
    pub(super) fn new() -> Self {
        Self { asks: Semaphore::new(ASKS_MAX as usize), long: Semaphore::new(LONG_STREAMS_MAX as usize) }
    }
}

/// What serves streams.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) link: Arc<Link>,
    pub(super) places: Arc<Places>,
    pub(super) room: Arc<Room>,
    pub(super) serve: Arc<dyn Serve>,
    pub(super) stats: Arc<Stats>,
}

impl Server {
    /// Serves one stream to its end.
    pub(super) async fn stream(self, mut send: FrameSender, mut receive: FrameReceiver) {
        let reset = match timeout(HEAD_WAIT, receive.receive_head::<2>()).await {
            Ok(Ok(Some([MODE_ASK, kind]))) => match self.answer(kind, &mut send, &mut receive).await {
                Ok(()) => return count(&self.stats.answered),
                Err(reset) => reset,
            },
            Ok(Ok(Some([MODE_LONG, kind]))) => match self.places.long.try_acquire() {
                Ok(_place) => return self.serve.stream(self.link.node, kind, send, receive).await,
                Err(_) => Reset::Busy,
            },
            Ok(Ok(_)) => Reset::Garbage,
            Ok(Err(_)) => return,
            Err(_) => Reset::Late,
        };
        count(&self.stats.streams_refused);
        send.reset(reset as u32);
        receive.stop(reset as u32);
    }

    async fn answer(&self, kind: u8, send: &mut FrameSender, receive: &mut FrameReceiver) -> Result<(), Reset> {
        // Neither semaphore is ever closed. One that asks has as many places itself, so that few wait here.
        let _place = self.places.asks.acquire().await;
        let length = match timeout(BODY_WAIT, receive.receive_length(ASK_BYTES_MAX)).await {
            Ok(Ok(Some(length))) => length,
            Ok(Err(StreamError::TooLong { .. })) => return Err(Reset::TooLong),
            Ok(_) => return Err(Reset::Garbage),
            Err(_) => return Err(Reset::Late),
        };
        let places = u32::try_from(length.div_ceil(BYTES_PER_PLACE)).unwrap_or(u32::MAX);
        let _room = self.room.0.acquire_many(places).await;
        let body = match timeout(BODY_WAIT, receive.receive_body(length)).await {
            Ok(Ok(body)) => body,
            Ok(Err(_)) => return Err(Reset::Garbage),
            Err(_) => return Err(Reset::Late),
        };
        let answer = self.serve.answer(self.link.node, kind, body).await.ok_or(Reset::UnknownKind)?;
        if answer.len() > ASK_BYTES_MAX {
            tracing::error!(kind, bytes = answer.len(), "an answer to another node is longer than it may be");
            return Err(Reset::TooLong);
        }
        // What fails is that the one who asked is gone.
        if send.send_frame(&answer).await.is_ok() {
            send.finish();
        }
        Ok(())
    }
}
