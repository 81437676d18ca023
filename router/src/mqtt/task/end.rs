//! The end of a connection: what is due is written, the session kept or given up, the will seen to.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use super::connection::Connection;
use super::wills::WaitingWill;
use crate::mqtt::session::{EXPIRY_NEVER, End};
use crate::transport::Outgoing;

/// How long the last bytes may take.
const CLOSE_WAIT: Duration = Duration::from_secs(2);
/// What a peer may still send before its connection is dropped, bytes.
const DRAIN_BYTES_MAX: usize = 64 << 10;

/// Writes what waits, closes this side, and reads what the peer still sends: a reset would take our last words
/// from it.
pub(super) async fn write_and_close<S: AsyncRead + AsyncWrite + Unpin>(io: &mut S, outgoing: &mut Outgoing) {
    if outgoing.write_all(io).await.is_err() || io.shutdown().await.is_err() {
        return;
    }
    let mut drained = 0;
    let mut sink = [0; 1_024];
    while drained < DRAIN_BYTES_MAX {
        match io.read(&mut sink).await {
            Ok(0) | Err(_) => return,
            Ok(count) => drained += count,
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// A session that is kept must know which of its publishes were refused: one that is sent again is new then.
    async fn settle_last(&mut self) {
        let Some(newest) = self.acks.newest().filter(|_| self.session.is_kept()) else { return };
        let log = Arc::clone(&self.door.log);
        let _ = tokio::time::timeout(CLOSE_WAIT, log.replicated(newest)).await;
        // An error asks for the connection's end, which this is; each takes what it was about off the queue.
        while self.settle().is_err() {}
    }

    /// Ends the session with its connection.
    pub(super) async fn finish(mut self, end: End) {
        self.publisher.flush_live();
        self.settle_last().await;
        let now_ms = self.door.now_ms();
        let interrupted = self.deliverer.interrupted();
        let heard_ms = self.session.heard_at_ms();
        let mut ended = self.session.end(end, now_ms);
        let client_id = Arc::clone(&self.entry.client_id);
        drop(self.offers);
        if let Some(due) = ended.will {
            let will = self.door.take_will(&client_id, WaitingWill::new(due, self.entry.begun, heard_ms));
            if let Some(kept) = &mut ended.kept {
                kept.will = will;
            }
        }
        let keep = ended.kept.map(|kept| {
            let keep_s = (kept.expiry_s != EXPIRY_NEVER).then_some(kept.expiry_s);
            (kept.to_bytes(), keep_s)
        });
        self.door.sessions.disconnect(&self.entry, keep, interrupted);
        let last_words = write_and_close(&mut self.io, &mut self.outgoing);
        let _ = tokio::time::timeout(CLOSE_WAIT, last_words).await;
    }
}
