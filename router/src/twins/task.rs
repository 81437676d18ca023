//! The room's one task: read, decide, commit, tell.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use devices::twin::{delta_message, delta_topic, refused_message, refused_topic, state_message, state_topic, takes};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::courier::Kind;
use super::record::RecordError;
use super::{Inner, OpenError, Report, Twins};
use crate::event_log::{CommitFailed, ReadError};
use crate::sessions::{Delivery, Offer, SessionHandle};

/// Devices with a delta are looked for among all sessions at most this often, however many come and go.
const SCAN_EVERY: Duration = Duration::from_millis(20);
/// And so seldom that looking takes at most one part of so many of the time.
const SCAN_SHARE: u32 = 10;
/// The longest sleep: clocks are looked at now and then.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// The pause after a failure.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a round failed.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Others(#[from] sled_data::ReadError),
    #[error(transparent)]
    Record(#[from] RecordError),
    #[error(transparent)]
    Commit(#[from] CommitFailed),
    #[error(transparent)]
    Store(#[from] OpenError),
}

/// When sessions are looked through.
struct Scan {
    /// When it is due, if it is.
    at: Option<Instant>,
    /// Not before this.
    earliest: Instant,
}

/// A message on its way to a session.
type Message = (SessionHandle, Offer);

impl Twins {
    /// Runs until `stop` turns true or its sender is gone.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut visible = self.log.watch_internal();
        let mut sessions = self.sessions.changes();
        let mut scan = Scan { at: Some(Instant::now()), earliest: Instant::now() };
        while !*stop.borrow() {
            visible.mark_unchanged();
            let begun = Instant::now();
            let scans = scan.at.is_some_and(|at| at <= begun);
            if scans {
                sessions.mark_unchanged();
                scan.at = None;
            }
            match self.round(scans).await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => {
                    tracing::error!(%error, "twins could not be recorded; trying again");
                    sleep(RETRY_AFTER).await;
                    scan.at = Some(Instant::now());
                    continue;
                }
            }
            if scans {
                scan.earliest = Instant::now() + SCAN_EVERY.max(begun.elapsed() * SCAN_SHARE);
            }
            let clock = sleep_until(self.wake_at().min(scan.at.unwrap_or_else(far)));
            tokio::select! {
                changed = visible.changed() => if changed.is_err() { return },
                changed = sessions.changed(), if scan.at.is_none() => {
                    if changed.is_err() { return }
                    scan.at = Some(scan.earliest);
                }
                () = self.reports.arrived.notified() => {}
                () = clock => {}
                stopped = stop.changed() => if stopped.is_err() { return },
            }
        }
    }

    fn wake_at(&self) -> Instant {
        let Some(deadline) = self.inner.lock().courier.next_deadline() else { return far() };
        let left = Duration::from_millis(deadline.saturating_sub(self.log.clock().steady_ms()));
        Instant::now() + left.min(SLEEP_MAX)
    }

    /// One round: all that is new goes through the table into one commit; once all that was decided is durable,
    /// devices are told. Whether there is more to read at once.
    async fn round(&self, scan: bool) -> Result<bool, RoundError> {
        self.refresh().await?;
        let (messages, newest, recorded, more) = {
            let mut inner = self.inner.lock();
            if inner.is_stale {
                return Ok(true);
            }
            let steady_ms = self.log.clock().steady_ms();
            for Report { device, kind, delivery } in std::mem::take(&mut *self.reports.list.lock()) {
                match delivery {
                    Delivery::Sent => {}
                    Delivery::Acked => inner.courier.arrived(&device, kind),
                    Delivery::Dropped | Delivery::TooLarge => inner.courier.fell(&device, kind, steady_ms),
                }
            }
            let heard = self.take_others(&mut inner).inspect_err(|_| inner.is_stale = true)?;
            let read = self.take_new(&mut inner, self.moment()).inspect_err(|_| inner.is_stale = true)?;
            inner.table.drop_marks(self.wall_ms());
            if read.moved || !inner.table.pending().saved.is_empty() {
                self.record(&mut inner, read.outcomes)?;
            }
            let more = read.more || heard.more;
            (self.messages(&mut inner, scan, steady_ms), inner.newest, read.moved || heard.merged, more)
        };
        if let Some(ticket) = newest {
            self.log.durable(ticket).await?;
        }
        if recorded {
            self.changed.send_modify(|count| *count += 1);
        }
        for (handle, offer) in messages {
            if let Err(offer) = handle.offer(offer) {
                // Its mailbox is full; dropping the offer reports it.
                drop(offer);
            }
        }
        Ok(more)
    }

    /// What is to be told now, to whom: to the newest session that subscribes to the device's twin.
    fn messages(&self, inner: &mut Inner, scan: bool, steady_ms: u64) -> Vec<Message> {
        let mut waiting = inner.courier.take_waiting(steady_ms);
        if scan {
            waiting.extend(inner.table.differing().iter().map(|device| (Arc::clone(device), Kind::Delta)));
        }
        waiting.into_iter().filter_map(|(device, kind)| self.message(inner, device, kind)).collect()
    }

    fn message(&self, inner: &mut Inner, device: Arc<str>, kind: Kind) -> Option<Message> {
        let twin = inner.table.get(&device);
        let (version, topic) = match kind {
            Kind::Delta => {
                let Some(twin) = twin.filter(|_| inner.table.differing().contains(&device)) else {
                    inner.courier.settled(&device);
                    return None;
                };
                (twin.desired.version, delta_topic(&device, twin.desired.version))
            }
            Kind::State => (0, state_topic(&device)),
            Kind::Refused if !inner.courier.has_refusal(&device) => return None,
            Kind::Refused => (0, refused_topic(&device)),
        };
        let Some(handle) = self.sessions.find_receiver(&topic, |filter| takes(filter, &topic)) else {
            // Nobody listens: deltas are found again when somebody comes, refusals are not kept.
            if kind == Kind::Refused {
                inner.courier.take_refusal(&device);
            }
            return None;
        };
        if !inner.courier.offer(&device, kind, handle.number(), version) {
            return None;
        }
        let reported_version = twin.map_or(0, |twin| twin.reported.version);
        let payload = match (kind, twin) {
            (Kind::Delta, Some(twin)) => delta_message(version, &twin.delta()),
            (Kind::Refused, _) => {
                let refusal = inner.courier.take_refusal(&device)?;
                refused_message(&refusal, reported_version)
            }
            (_, twin) => state_message(twin),
        };
        match kind {
            Kind::Delta => self.stats.deltas.fetch_add(1, Relaxed),
            Kind::State => self.stats.states.fetch_add(1, Relaxed),
            Kind::Refused => 0,
        };
        let reports = Arc::clone(&self.reports);
        let offer = Offer::new(topic.into(), payload.into_bytes().into(), move |delivery| {
            reports.list.lock().push(Report { device: Arc::clone(&device), kind, delivery });
            reports.arrived.notify_one();
        });
        Some((handle, offer))
    }
}

fn far() -> Instant {
    Instant::now() + SLEEP_MAX
}
