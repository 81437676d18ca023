//! The end of a connection: what is under way is settled and said, the session ended, then the connection closed.

use std::time::Duration;

use devices::native::Close;
use tokio::time::timeout;

use super::connection::{End, Task};
use super::way::Way;
use crate::quic::connection::close;

/// How long what was appended may take to be durable.
const SETTLE_WAIT: Duration = Duration::from_secs(2);
/// How long the last bytes may take to be confirmed by the client.
const LAST_WORDS_WAIT: Duration = Duration::from_secs(1);

impl Task {
    /// Ends the session with its connection.
    pub(super) async fn finish(mut self, end: End) {
        if matches!(end, End::Goodbye | End::Removed | End::Stopping | End::Leaving) {
            self.settle_last().await;
        }
        self.settle();
        let Self { native, connection, entry, control, lanes, events, .. } = self;
        // Commands that are not confirmed are told so before the session ends.
        let way = control.end();
        native.sessions.disconnect(&entry, None, Vec::new());
        let (code, words) = match end {
            End::Lost if connection.close_reason().is_some() => return,
            End::Lost => (Close::Ended, "the control stream is gone"),
            End::Wrong(wrong) => return native.close(&connection, &entry.client_id, &wrong),
            End::Goodbye => (Close::Ended, "goodbye"),
            End::TakenOver => (Close::TakenOver, "another connection speaks for this device"),
            End::Removed => (Close::NotAllowed, "the device was removed"),
            End::Stopping => (Close::Stopping, "the node stops"),
            End::Leaving => (Close::Stopping, "the node leaves its site"),
        };
        // What events there are would only hold up the rest.
        drop(events);
        let ways = lanes.into_iter().flatten().map(|lane| lane.way).chain([way]);
        let _ = timeout(LAST_WORDS_WAIT, say(ways)).await;
        close(&connection, code, words, &native.stats);
    }

    /// Waits until what was appended is durable or refused, within a bound.
    async fn settle_last(&mut self) {
        let newest = self.lanes.iter().flatten().filter_map(|lane| lane.newest()).max();
        if let Some(newest) = newest {
            let _ = timeout(SETTLE_WAIT, self.native.log.replicated(newest)).await;
        }
    }
}

/// Writes what waits, ends each stream, and waits until the client has all of it.
async fn say(ways: impl Iterator<Item = Way>) {
    let mut said = Vec::new();
    for mut way in ways {
        if way.out.write_all(&mut way.send).await.is_ok() {
            // It can only fail where the client has stopped it.
            let _ = way.send.finish();
            said.push(way);
        }
    }
    for way in &said {
        let _ = way.send.stopped().await;
    }
}
