//! The room's one task: read, decide, commit, offer.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use devices::command::{CommandId, Step, command_topic, response_topic};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::decide::{Effect, Now, Table};
use super::entry::COMMANDS_TREE;
use super::{Commands, READER, Report};
use crate::event_log::{AppendError, CommitFailed, NO_HEADERS, NewEvent, ReadError, Ticket};
use crate::sessions::{Delivery, Offer, SessionHandle};

/// Waiting devices are looked for among all sessions at most this often, however many come and go.
const SCAN_EVERY: Duration = Duration::from_millis(20);
/// The longest sleep: clocks are looked at now and then.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// The pause after a failure before the table is rebuilt.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a round failed: the table is then rebuilt from what is stored.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Commit(#[from] CommitFailed),
}

impl Commands {
    /// Runs until `stop` turns true or its sender is gone.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut visible = self.log.watch();
        let mut sessions = self.sessions.changes();
        let mut scan_at = Some(Instant::now());
        let mut scanned = Instant::now();
        while !*stop.borrow() {
            visible.mark_unchanged();
            let scan = scan_at.is_some_and(|at| at <= Instant::now());
            if scan {
                sessions.mark_unchanged();
                (scan_at, scanned) = (None, Instant::now());
            }
            if let Err(error) = self.round(scan).await {
                tracing::error!(%error, "commands could not be recorded; trying again");
                sleep(RETRY_AFTER).await;
                self.start_over();
                scan_at = Some(Instant::now());
                continue;
            }
            let clock = sleep_until(self.wake_at().min(scan_at.unwrap_or_else(far)));
            tokio::select! {
                changed = visible.changed() => if changed.is_err() { return },
                changed = sessions.changed(), if scan_at.is_none() => {
                    if changed.is_err() { return }
                    scan_at = Some(scanned + SCAN_EVERY);
                }
                () = self.reports.arrived.notified() => {}
                () = clock => {}
                stopped = stop.changed() => if stopped.is_err() { return },
            }
        }
    }

    fn start_over(&self) {
        self.stats.rebuilt.fetch_add(1, Relaxed);
        if let Err(error) = self.rebuild() {
            tracing::error!(%error, "the commands could not be rebuilt");
        }
    }

    fn wake_at(&self) -> Instant {
        let Some(deadline) = self.table.lock().next_deadline() else { return far() };
        let left = Duration::from_millis(deadline.saturating_sub(self.now().steady));
        Instant::now() + left.min(SLEEP_MAX)
    }

    /// One round: all that is new goes through the table into one commit, which is durable when this returns.
    async fn round(&self, scan: bool) -> Result<(), RoundError> {
        let (ticket, offers) = {
            let mut table = self.table.lock();
            let now = self.now();
            for report in std::mem::take(&mut *self.reports.list.lock()) {
                match report.delivery {
                    Delivery::Sent => {}
                    Delivery::Acked => table.delivered(report.id, report.session, now),
                    Delivery::Dropped => table.dropped(report.id, report.session, now),
                }
            }
            let moved = self.take_new(&mut table, now)?;
            table.tick(now);
            let handles = self.find_sessions(&mut table, scan, now);
            let effects = table.take_effects();
            if effects.is_empty() && !moved {
                return Ok(());
            }
            let ticket = self.record(&table, &effects)?;
            *self.newest.lock() = Some(ticket);
            (ticket, self.offers(&table, &effects, &handles, now))
        };
        // Only now, unlocked: a session may report at once.
        for (handle, offer) in offers {
            self.stats.offered.fetch_add(1, Relaxed);
            if let Err(offer) = handle.offer(offer) {
                // Its mailbox is full; dropping the offer reports it.
                drop(offer);
            }
        }
        self.log.durable(ticket).await?;
        self.changed.send_modify(|count| *count += 1);
        Ok(())
    }

    /// Finds sessions for devices that want one, and lets the table hand commands to them.
    fn find_sessions(&self, table: &mut Table, all: bool, now: Now) -> HashMap<u64, SessionHandle> {
        let mut handles = HashMap::new();
        for (device, id) in table.take_wanting(all) {
            let Some(entry) = table.get(id) else { continue };
            let topic = command_topic(&device, id, &entry.queued.name);
            let Some(handle) = self.sessions.find_receiver(&topic) else { continue };
            table.available(&device, handle.number(), handle.client_id(), now);
            handles.insert(handle.number(), handle);
        }
        handles
    }

    /// Puts steps, changed entries and cursors into the open commit.
    fn record(&self, table: &Table, effects: &[Effect]) -> Result<Ticket, AppendError> {
        let mut saved: BTreeSet<CommandId> = BTreeSet::new();
        let mut open = self.log.lock();
        open.check(0)?;
        for effect in effects {
            match effect {
                Effect::Append(device, event) => {
                    self.count(&event.step);
                    let value = event.encode();
                    let new = NewEvent {
                        timestamp_ms: i64::try_from(event.at_ms).unwrap_or(i64::MAX),
                        key: Some(device.as_bytes()),
                        value: Some(&value),
                        headers: &NO_HEADERS,
                        extra: &NO_HEADERS,
                        fanned_out: true,
                    };
                    open.append_keyed(&self.commands, &new)?;
                }
                Effect::Save(id) => {
                    saved.insert(*id);
                }
                Effect::Forget(id) => {
                    saved.remove(id);
                    open.put_state(COMMANDS_TREE, id.as_bytes(), None);
                }
                Effect::Offer(..) => {}
            }
        }
        for entry in saved.iter().filter_map(|id| table.get(*id)) {
            open.put_state(COMMANDS_TREE, entry.id.as_bytes(), Some(&entry.encode()));
        }
        let reading = self.reading.lock();
        for (partition, next) in reading.commands.iter().chain(&reading.answers) {
            open.move_cursor(READER, *partition, *next);
        }
        Ok(open.ticket())
    }

    /// The messages to sessions. What follows from them is reported to the next round.
    fn offers(
        &self,
        table: &Table,
        effects: &[Effect],
        handles: &HashMap<u64, SessionHandle>,
        now: Now,
    ) -> Vec<(SessionHandle, Offer)> {
        let mut offers = Vec::new();
        for effect in effects {
            let Effect::Offer(id, session) = *effect else { continue };
            let (Some(entry), Some(handle)) = (table.get(id), handles.get(&session)) else { continue };
            let topic = command_topic(&entry.device, id, &entry.queued.name);
            let reports = Arc::clone(&self.reports);
            let mut offer = Offer::new(topic.into(), entry.queued.payload.0.as_slice().into(), move |delivery| {
                reports.list.lock().push(Report { id, session, delivery });
                reports.arrived.notify_one();
            });
            let seconds = entry.deliver_by.saturating_sub(now.steady) / 1_000;
            offer.expiry_s = Some(u32::try_from(seconds).unwrap_or(u32::MAX).max(1));
            offer.response_topic = Some(response_topic(&entry.device, id).into());
            offer.correlation = Some(id.as_bytes().as_slice().into());
            offers.push((handle.clone(), offer));
        }
        offers
    }

    fn count(&self, step: &Step) {
        let counter = match step {
            Step::Returned { .. } => &self.stats.returned,
            Step::Delivered { .. } => &self.stats.delivered,
            Step::Succeeded(answer) if !answer.late => &self.stats.succeeded,
            Step::Failed(answer) | Step::Rejected(answer) if !answer.late => &self.stats.failed,
            Step::Expired | Step::Unknown | Step::TimedOut => &self.stats.expired,
            Step::Refused => &self.stats.refused,
            _ => return,
        };
        counter.fetch_add(1, Relaxed);
    }
}

fn far() -> Instant {
    Instant::now() + SLEEP_MAX
}
