//! What comes from other nodes and is stored as it is: queued, taken by the committer in rounds, answered when it is synced.

use std::collections::VecDeque;

use tokio::sync::oneshot;

use super::EventLog;
use super::open::Open;

/// Bytes that one round of the committer takes of each queue, unless what comes first is larger: the node's own commits wait no
/// longer than this takes to store.
const ROUND_BYTES_MAX: usize = 512 << 10;

/// What was brought, on its way into the store.
pub(super) struct Brought<T, A> {
    pub(super) what: T,
    bytes: usize,
    pub(super) done: Done<A>,
}

/// Who waits until it is stored.
pub(super) struct Done<A>(oneshot::Sender<A>);

impl<A> Done<A> {
    pub(super) fn answer(self, answer: A) {
        // Whoever asked may have gone away.
        let _ = self.0.send(answer);
    }
}

/// Takes what one round stores off the queue.
pub(super) fn take_round<T, A>(queue: &mut VecDeque<Brought<T, A>>) -> Vec<Brought<T, A>> {
    let mut taken = Vec::new();
    let mut bytes = 0;
    while let Some(next) = queue.front() {
        bytes += next.bytes;
        if !taken.is_empty() && bytes > ROUND_BYTES_MAX {
            break;
        }
        taken.extend(queue.pop_front());
    }
    taken
}

impl EventLog {
    /// Queues what was brought and waits until it is stored; `None` where the node is stopping. The caller bounds how many bytes
    /// it has under way.
    pub(super) async fn bring<T, A>(
        &self,
        queue: impl FnOnce(&mut Open) -> &mut VecDeque<Brought<T, A>>,
        what: T,
        bytes: usize,
    ) -> Option<A> {
        let (done, answer) = oneshot::channel();
        {
            let mut open = self.open.lock();
            if open.closing {
                return None;
            }
            queue(&mut open).push_back(Brought { what, bytes, done: Done(done) });
            if open.idle {
                open.idle = false;
                self.work.notify_one();
            }
        }
        // It is dropped unanswered only where the committer has ended.
        answer.await.ok()
    }
}
