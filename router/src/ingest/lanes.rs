//! The last numbers of devices' lanes, by which what comes again is known: judged before the append, written with it.
//!
//! All of it happens under the guard of the open commit, so that a verdict and the append that follows are one step.
//! Numbers are in memory for the devices in use, commits on their way among them, and in the store for all.

mod arrivals;
mod cache;
mod forget;
mod stored;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use devices::sequence::{Lane, Number, Sequence};
use parking_lot::{Mutex, MutexGuard};
use serde::{Deserialize, Serialize};

use crate::event_log::{EventLog, OpenCommit, Ticket, fits_state};
use cache::{Advanced, Cache, Device, Last};

pub use arrivals::Arrivals;

/// Bounds of what is kept of devices that number their events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Devices whose numbers are kept; beyond that new ones cannot number their events.
    pub devices_max: usize,
    /// Devices whose numbers are in memory.
    pub cached_max: usize,
    /// Days after which a device that sends nothing is forgotten; what it sends again then is new.
    pub keep_days: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self { devices_max: 100_000, cached_max: 20_000, keep_days: 30 }
    }
}

/// What a number says of its event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It was not here: append it, then [`Lanes::advance`].
    New,
    /// It is in the log, once that commit is settled (`None`: it is durable). Where the commit fails, it is not.
    Duplicate(Option<Ticket>),
    /// Its boot is before the lane's: refused for good.
    StaleBoot {
        /// The lane's last number.
        last: Number,
    },
    /// No room for another device.
    TooManyDevices,
}

/// Counters of what was not appended.
#[derive(Debug, Default)]
pub struct Stats {
    /// Events that were here already.
    pub duplicates: AtomicU64,
    /// Events of a boot before their lane's.
    pub stale_boot: AtomicU64,
    /// Events of devices for which there was no room.
    pub refused_too_many: AtomicU64,
    /// Events with a number that is none; counted by the doors.
    pub malformed: AtomicU64,
    /// Events behind one that was refused for now, see [`Arrivals`]; counted by the doors.
    pub behind: AtomicU64,
}

/// The last numbers cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store could not be read.
    #[error("the last numbers of devices cannot be read: {0}; run `edgeway store verify`")]
    Read(#[from] sled_data::ReadError),
}

/// A lane's last number, and the commit that it is in; `None`: it is durable.
type Found = (Lane, Number, Option<Ticket>);

/// The last numbers of devices' lanes: in memory for those in use, in the store for all.
///
/// Its own lock is only taken under the open commit's.
pub struct Lanes {
    log: Arc<EventLog>,
    config: Config,
    cache: Mutex<Cache>,
    /// Where the next pass of forgetting begins: behind this key.
    forgotten_to: Mutex<Option<Vec<u8>>>,
    stats: Stats,
}

impl Lanes {
    /// Counts the devices that the store knows.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn open(log: Arc<EventLog>, config: Config) -> Result<Self, OpenError> {
        let known = stored::count_devices(&log)?;
        let cache = Mutex::new(Cache::new(known));
        Ok(Self { log, config, cache, forgotten_to: Mutex::default(), stats: Stats::default() })
    }

    /// Whether a device of this name can number its events: the name is a key of the store, without control characters.
    pub fn can_name(device: &str) -> bool {
        let has_control = device.bytes().any(|byte| byte.is_ascii_control());
        !device.is_empty() && !has_control && fits_state(&stored::key(device, Lane::BULK), &[])
    }

    /// Judges a number before its append, under the guard of the commit that it would go into. The device's name is one
    /// that [`Self::can_name`] takes.
    pub fn judge(&self, open: &OpenCommit<'_>, device: &str, sequence: Sequence) -> Verdict {
        let mut cache = self.cache(open);
        let is_full = cache.known() >= self.config.devices_max;
        let verdict = self.with(&mut cache, device, |device| match device.lanes[sequence.lane.index()] {
            None if is_full && device.is_new() => Verdict::TooManyDevices,
            last => judge(last, sequence.number),
        });
        let is_durable = |ticket| matches!(self.log.acknowledged(ticket), Some(Ok(())));
        let (counter, verdict) = match verdict {
            Verdict::New => return verdict,
            Verdict::Duplicate(ticket) => {
                (&self.stats.duplicates, Verdict::Duplicate(ticket.filter(|ticket| !is_durable(*ticket))))
            }
            Verdict::StaleBoot { .. } => (&self.stats.stale_boot, verdict),
            Verdict::TooManyDevices => (&self.stats.refused_too_many, verdict),
        };
        counter.fetch_add(1, Ordering::Relaxed);
        verdict
    }

    /// Notes that everything of a lane up to a number is in this commit or before it, or was refused for good; written
    /// with the commit. A number that is not above the lane's last changes nothing.
    pub fn advance(&self, open: &mut OpenCommit<'_>, device: &str, sequence: Sequence) {
        let last_ms = u64::try_from(self.log.clock().wall_ms()).unwrap_or(0);
        let (ticket, mut cache) = (open.ticket(), self.cache(open));
        let last = Last { number: sequence.number, last_ms, ticket: Some(ticket) };
        let advanced = self.with(&mut cache, device, |device| device.advance(sequence.lane, last));
        match advanced {
            Advanced::No => return,
            Advanced::First => cache.count_one(),
            Advanced::On => {}
        }
        drop(cache);
        stored::put(open, device, sequence, last_ms);
    }

    /// The durable last numbers of a device's lanes; waits for what is on its way. A lane whose last event waits for a
    /// quorum is left out: the device must not forget what only this node has.
    pub async fn last(&self, device: &str) -> Vec<(Lane, Number)> {
        loop {
            let (found, newest) = self.newest(device);
            // Where the commit fails, the numbers are what the store has.
            let is_stored = match newest {
                Some(newest) => self.log.durable(newest).await.is_ok(),
                None => true,
            };
            if is_stored {
                let is_safe = |ticket: Option<Ticket>| {
                    let ticket = ticket.or_else(|| self.log.quorum_barrier());
                    ticket.is_none_or(|ticket| matches!(self.log.acknowledged(ticket), Some(Ok(()))))
                };
                return found.into_iter().filter(|(.., ticket)| is_safe(*ticket)).map(|(l, n, _)| (l, n)).collect();
            }
        }
    }

    /// A device's numbers as they are now, and the newest commit that they are in.
    fn newest(&self, device: &str) -> (Vec<Found>, Option<Ticket>) {
        let open = self.log.lock();
        let mut cache = self.cache(&open);
        self.with(&mut cache, device, |device| {
            let lanes = Lane::ALL.into_iter().zip(device.lanes);
            let found = lanes.filter_map(|(lane, last)| last.map(|last| (lane, last.number, last.ticket))).collect();
            (found, device.newest())
        })
    }

    /// Its counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// How many devices have numbers here.
    pub fn known(&self) -> usize {
        self.cache.lock().known()
    }

    /// The cache, without what was lost since it was asked last.
    fn cache(&self, open: &OpenCommit<'_>) -> MutexGuard<'_, Cache> {
        let mut cache = self.cache.lock();
        cache.drop_lost(open.failures(), |ticket| matches!(self.log.outcome(ticket), Some(Err(_))));
        cache
    }

    /// Does something with a device's numbers, read from the store where they are not in memory.
    fn with<T>(&self, cache: &mut Cache, device: &str, what: impl FnOnce(&mut Device) -> T) -> T {
        let settled = |ticket| self.log.outcome(ticket).is_some();
        cache.with(device, self.config.cached_max, settled, || self.load(device), what)
    }

    /// Nothing of the device is on its way: what the store has is all.
    fn load(&self, device: &str) -> Device {
        match stored::lanes_of(&self.log, device) {
            Ok(lanes) => Device::of(lanes),
            Err(error) => {
                // Where the store has failed, it refuses the append as well.
                tracing::error!(device, %error, "a device's numbers cannot be read; it begins anew");
                Device::of([None; 3])
            }
        }
    }
}

/// What a number is to the last of its lane.
fn judge(last: Option<Last>, number: Number) -> Verdict {
    match last {
        Some(last) if number.boot < last.number.boot => Verdict::StaleBoot { last: last.number },
        Some(last) if number <= last.number => Verdict::Duplicate(last.ticket),
        _ => Verdict::New,
    }
}
