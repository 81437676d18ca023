//! The room's one task: read, decide, commit, offer.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use devices::command::COMMAND_PREFIX;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::Commands;
use super::round::RoundError;
use crate::sessions::Arrived;

/// Devices whose sessions have come are looked for at most this often, however many come.
const SCAN_EVERY: Duration = Duration::from_millis(5);
/// The longest sleep: clocks are looked at now and then.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// Devices that are told in one round that an answer of theirs does not count; others are not told.
const TOLD_MAX: usize = 256;
/// The pause after a failure before the table is rebuilt.
const RETRY_AFTER: Duration = Duration::from_secs(1);

impl Commands {
    /// Runs until `stop` turns true or its sender is gone.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut visible = self.log.watch_internal();
        let mut sessions = self.sessions.changes();
        let mut arrivals = u64::MAX;
        let mut scan_at = Some(Instant::now());
        let mut scanned = Instant::now();
        self.resume();
        self.hold_back();
        while !*stop.borrow() {
            visible.mark_unchanged();
            if scan_at.is_some_and(|at| at <= Instant::now()) {
                sessions.mark_unchanged();
                (scan_at, scanned) = (None, Instant::now());
                self.note_arrivals(&mut arrivals);
            }
            if let Err(error) = self.round().await {
                tracing::error!(%error, "commands could not be recorded; trying again");
                sleep(RETRY_AFTER).await;
                self.start_over();
                arrivals = u64::MAX;
                scan_at = Some(Instant::now());
                continue;
            }
            self.look_elsewhere(self.now());
            let clock = sleep_until(self.wake_at().min(scan_at.unwrap_or_else(far)));
            tokio::select! {
                changed = visible.changed() => if changed.is_err() { return },
                changed = sessions.changed(), if scan_at.is_none() => {
                    if changed.is_err() { return }
                    scan_at = Some(scanned + SCAN_EVERY);
                }
                () = self.mail.arrived.notified() => {}
                () = clock => {}
                stopped = stop.changed() => if stopped.is_err() { return },
            }
        }
    }

    fn start_over(&self) {
        self.stats.rebuilt.fetch_add(1, Relaxed);
        self.movers.lock().start_over();
        match self.rebuild() {
            Ok(()) => {
                let table = self.table.lock();
                self.desk.lock().end_known(|id| table.get(id).is_some());
                drop(table);
                self.resume();
            }
            Err(error) => tracing::error!(%error, "the commands could not be rebuilt"),
        }
    }

    fn wake_at(&self) -> Instant {
        if self.reading.lock().has_more() {
            return Instant::now();
        }
        let held = self.held_until();
        let (deadline, again, look) = {
            let table = self.table.lock();
            if table.has_wanting() && held.is_none() {
                return Instant::now();
            }
            let is_unsure = !table.unsure(1).is_empty() || !self.unsure_gateways(&table).is_empty();
            let again = is_unsure.then(|| self.movers.lock().again_ms());
            (held.or_else(|| table.next_deadline()), again.filter(|_| held.is_none()), self.look_ms(&table))
        };
        let unstored = self.unstored.lock().due_ms();
        let jobs = self.jobs.lock().next_due();
        let Some(due) = [deadline, again, look, unstored, jobs].into_iter().flatten().min() else { return far() };
        let left = Duration::from_millis(due.saturating_sub(self.now().steady));
        Instant::now() + left.min(SLEEP_MAX)
    }

    /// Tells the table for which devices sessions have come.
    fn note_arrivals(&self, position: &mut u64) {
        let arrived = if *position == u64::MAX { Arrived::Many } else { self.sessions.arrived_since(position) };
        if *position == u64::MAX {
            *position = 0;
            self.sessions.arrived_since(position);
        }
        let mut table = self.table.lock();
        let Arrived::Filters(filters) = arrived else { return table.all_came() };
        for filter in filters {
            let device = filter.strip_prefix(COMMAND_PREFIX).and_then(|rest| rest.split('/').next());
            match device {
                Some("+" | "#") => return table.all_came(),
                Some(device) => table.session_came(device),
                None => {}
            }
        }
    }

    /// One round: all that is new goes through the table into one commit; what follows is done when that is durable.
    async fn round(&self) -> Result<(), RoundError> {
        let Some(round) = self.decide()? else { return Ok(()) };
        if let Some(ticket) = round.ticket {
            self.log.durable(ticket).await?;
        }
        for (handle, id) in round.withdrawn {
            handle.withdraw(id.as_bytes());
        }
        self.hand_over(round.offers);
        self.ask_to_take(round.batches);
        self.asking.ask(self.guard.on_duty(), &self.mail, round.questions);
        for refused in round.refused.into_iter().take(TOLD_MAX) {
            self.tell(&refused);
        }
        for (reply, cancelled) in round.replies {
            // Who asked may have gone.
            let _ = reply.send(cancelled);
        }
        for reply in round.heard_below {
            let _ = reply.send(());
        }
        for (reply, told) in round.job_replies {
            let _ = reply.send(told);
        }
        self.changed.send_modify(|count| *count += 1);
        Ok(())
    }
}

fn far() -> Instant {
    Instant::now() + SLEEP_MAX
}
