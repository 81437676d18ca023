//! The numbers of devices in use, commits on their way among them (pure).

use std::collections::HashMap;

use devices::sequence::{LANES, Lane, Number};

use crate::event_log::Ticket;

/// The last number of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Last {
    pub(super) number: Number,
    /// When it came, by this node's wall clock.
    pub(super) last_ms: u64,
    /// The commit that it is in, where that is of this run.
    pub(super) ticket: Option<Ticket>,
}

/// The last numbers of a device's lanes.
pub(super) type LastNumbers = [Option<Last>; LANES as usize];

/// A device in use.
#[derive(Debug, Clone)]
pub(super) struct Device {
    pub(super) lanes: LastNumbers,
    /// The commit that changed whether it is known.
    counted: Option<Counted>,
    /// Whether it was asked for since the cache was cleared out last.
    is_used: bool,
}

/// A change of the number of known devices.
#[derive(Debug, Clone, Copy)]
enum Counted {
    Made(Ticket),
    Forgotten(Ticket),
}

impl Counted {
    fn ticket(self) -> Ticket {
        match self {
            Self::Made(ticket) | Self::Forgotten(ticket) => ticket,
        }
    }
}

/// What a number did to its lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Advanced {
    /// Nothing: the lane was there already.
    No,
    /// It is the lane's last.
    On,
    /// It is the device's first.
    First,
}

impl Device {
    pub(super) fn of(lanes: LastNumbers) -> Self {
        Self { lanes, counted: None, is_used: true }
    }

    /// One that is forgotten with the commit of `ticket`.
    pub(super) fn forgotten(ticket: Ticket) -> Self {
        Self { counted: Some(Counted::Forgotten(ticket)), ..Self::of([None; LANES as usize]) }
    }

    /// Sets a lane's last number, which comes with a commit, where it is above the one before.
    pub(super) fn advance(&mut self, lane: Lane, last: Last) -> Advanced {
        let is_new = self.is_new();
        let before = &mut self.lanes[lane.index()];
        if before.is_some_and(|before| before.number >= last.number) {
            return Advanced::No;
        }
        *before = Some(last);
        if !is_new {
            return Advanced::On;
        }
        self.counted = last.ticket.map(Counted::Made);
        Advanced::First
    }

    /// Whether none of its lanes has a number.
    pub(super) fn is_new(&self) -> bool {
        self.lanes.iter().all(Option::is_none)
    }

    /// The newest commit of this run that its numbers are in.
    pub(super) fn newest(&self) -> Option<Ticket> {
        let lanes = self.lanes.iter().flatten().filter_map(|last| last.ticket);
        lanes.chain(self.counted.map(Counted::ticket)).max()
    }
}

/// Devices in use, and the count of all.
#[derive(Debug)]
pub(super) struct Cache {
    /// Failed commits when it was last asked: what was on its way at a failure is not stored.
    failures: u64,
    devices: HashMap<Box<str>, Device>,
    /// Devices in the store, and those on their way to it.
    known: usize,
}

impl Cache {
    pub(super) fn new(known: usize) -> Self {
        Self { failures: 0, devices: HashMap::new(), known }
    }

    pub(super) fn known(&self) -> usize {
        self.known
    }

    /// After a failure everything is read anew; `failed` says so of the commits that are remembered.
    pub(super) fn drop_lost(&mut self, failures: u64, failed: impl Fn(Ticket) -> bool) {
        if self.failures == failures {
            return;
        }
        self.failures = failures;
        for device in self.devices.values() {
            match device.counted {
                Some(Counted::Made(ticket)) if failed(ticket) => self.known = self.known.saturating_sub(1),
                Some(Counted::Forgotten(ticket)) if failed(ticket) => self.known += 1,
                _ => {}
            }
        }
        self.devices.clear();
    }

    /// Counts a device that has its first number.
    pub(super) fn count_one(&mut self) {
        self.known += 1;
    }

    /// A device in use.
    pub(super) fn get(&self, name: &str) -> Option<&Device> {
        self.devices.get(name)
    }

    /// A device is forgotten with the commit of `ticket`; it stays in memory until that is settled.
    pub(super) fn forget(&mut self, name: &str, ticket: Ticket) {
        self.known = self.known.saturating_sub(1);
        self.devices.insert(name.into(), Device::forgotten(ticket));
    }

    /// Does something with a device in use, or with one that `load` finds; others make room where there are too many.
    pub(super) fn with<T>(
        &mut self,
        name: &str,
        cached_max: usize,
        settled: impl Fn(Ticket) -> bool,
        load: impl FnOnce() -> Device,
        what: impl FnOnce(&mut Device) -> T,
    ) -> T {
        if let Some(device) = self.devices.get_mut(name) {
            device.is_used = true;
            return what(device);
        }
        if self.devices.len() >= cached_max {
            self.make_room(cached_max, settled);
        }
        let mut device = load();
        let done = what(&mut device);
        self.devices.insert(name.into(), device);
        done
    }

    /// Drops an eighth: first what was not asked for of late, then any; never what is on its way to the store.
    fn make_room(&mut self, cached_max: usize, settled: impl Fn(Ticket) -> bool) {
        let keep = cached_max - cached_max.div_ceil(8).min(cached_max);
        for is_any_dropped in [false, true] {
            let mut surplus = self.devices.len().saturating_sub(keep);
            self.devices.retain(|_, device| {
                let may_go = (is_any_dropped || !device.is_used) && device.newest().is_none_or(&settled);
                device.is_used = false;
                let goes = surplus > 0 && may_go;
                surplus -= usize::from(goes);
                !goes
            });
        }
    }
}
