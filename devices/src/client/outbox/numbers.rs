//! What the node says by numbers: how far it has a lane, and that a boot is not the newest.

use super::Outbox;
use super::entry::Fate;
use crate::sequence::{Lane, Number};

impl Outbox {
    /// The node tells the last number that it has of each lane, before anything was handed over.
    ///
    /// What is up to them is stored. Where they are of a later boot than this one, or of this one though nothing of it
    /// was handed over yet, they are not of this life: the counter of boots went back, or stood still. Then everything
    /// held gets a boot after theirs, and nothing is taken for stored.
    pub(in crate::client) fn known(&mut self, known: &[(Lane, Number)]) {
        let newest = known.iter().map(|(_, number)| number.boot).max();
        if let Some(newest) = newest
            && (newest > self.boot || newest == self.boot && !self.is_boot_used)
        {
            self.raise_boots_over(newest);
            return;
        }
        for (lane, number) in known {
            self.drop_known(*lane, *number);
        }
    }

    fn drop_known(&mut self, lane: Lane, number: Number) {
        loop {
            let queue = &mut self.lanes[lane.index()];
            queue.refill(self.store.as_mut(), lane, &mut self.ended);
            if queue.waiting().front().is_none_or(|first| first.number > number) {
                return;
            }
            if let Some(entry) = queue.pop_front() {
                let repeated = entry.repeated;
                self.end(entry, Fate::Acked { repeated });
            }
        }
    }

    /// Gives everything held a boot over `newest`, in the old order, and all that is to come too; nothing where that
    /// cannot be, as there is no later boot. The node refuses the old ones then.
    fn raise_boots_over(&mut self, newest: u64) {
        for lane in Lane::ALL {
            self.lanes[lane.index()].refill(self.store.as_mut(), lane, &mut self.ended);
        }
        let lowest = self.lanes.iter().filter_map(|lane| lane.first()).min().map_or(self.boot, |first| first.boot);
        let Some(by) = newest.checked_add(1).map(|wanted| wanted - lowest.min(self.boot)) else { return };
        let Some(boot) = self.boot.checked_add(by) else { return };
        if let Some(store) = &mut self.store {
            store.raise_boots(by, boot);
        }
        tracing::warn!(from = self.boot, to = boot, "the node knows a later boot: what is held is numbered anew");
        self.lanes.iter_mut().for_each(|lane| lane.raise_boots(by));
        (self.boot, self.is_boot_used) = (boot, false);
    }
}

#[cfg(any(test, feature = "quic"))]
impl Outbox {
    /// Everything of a lane that was handed over, up to a number, is durable.
    pub(in crate::client) fn acked_up_to(&mut self, lane: Lane, number: Number) {
        loop {
            let sent = &mut self.lanes[lane.index()].sent;
            if sent.front().is_none_or(|first| first.number > number) {
                return;
            }
            if let Some(entry) = sent.pop_front() {
                let repeated = entry.repeated;
                self.end(entry, Fate::Acked { repeated });
            }
        }
    }

    /// Publishes of one boot were refused for good.
    pub(in crate::client) fn refused_range(&mut self, lane: Lane, boot: u64, seqs: (u64, u64), code: u8) {
        let (first, last) = (Number { boot, seq: seqs.0 }, Number { boot, seq: seqs.1 });
        loop {
            let sent = &mut self.lanes[lane.index()].sent;
            let at = sent.partition_point(|entry| entry.number < first);
            if sent.get(at).is_none_or(|entry| entry.number > last) {
                return;
            }
            if let Some(entry) = sent.remove(at) {
                self.end(entry, Fate::Refused(code));
            }
        }
    }
}
