//! The buffer of unacknowledged publishes: pure, bounded, in order.
//!
//! A publish waits, is handed to the connection, gets a packet id when it is written, and leaves
//! when it is acknowledged (QoS 1) or written (QoS 0). When the connection ends, all that was handed
//! over or under way waits again, in its old order and before everything newer.

use std::collections::{BTreeMap, VecDeque};

use bytes::Bytes;

use super::config::{Buffer, Overflow};

/// Room beyond the bound that is kept for answers, in publishes: a full buffer must not silence them.
pub(super) const ANSWERS_RESERVED_MAX: usize = 64;

/// How surely a publish is to arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Qos {
    /// QoS 0: it is gone once it is written.
    AtMostOnce,
    /// QoS 1: it is kept until it is acknowledged.
    AtLeastOnce,
}

/// What became of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The node acknowledged it: it is durable there.
    Acked {
        /// It had been sent before over a connection that broke, so that it may be stored twice.
        repeated: bool,
    },
    /// QoS 0: it was written to the connection.
    Written,
    /// The node refused it, with this MQTT 5 reason code.
    Refused(u8),
    /// It was dropped for a newer one.
    Dropped,
    /// The client was stopped before it was acknowledged; it may have arrived.
    Stopped,
}

/// Called once with a publish's fate.
pub(super) type Done = Box<dyn FnOnce(Fate) + Send>;

/// One buffered publish.
pub(super) struct Entry {
    order: u64,
    pub(super) topic: String,
    pub(super) payload: Bytes,
    pub(super) qos: Qos,
    repeated: bool,
    done: Done,
}

impl Entry {
    fn bytes(&self) -> usize {
        self.topic.len() + self.payload.len()
    }
}

/// The buffer is full and nothing may be dropped.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

pub(super) struct Outbox {
    limits: Buffer,
    in_flight_max: usize,
    waiting: VecDeque<Entry>,
    handed: VecDeque<Entry>,
    in_flight: BTreeMap<u16, Entry>,
    bytes: usize,
    next_order: u64,
}

impl Outbox {
    pub(super) fn new(limits: Buffer, in_flight_max: u16) -> Self {
        Self {
            limits,
            in_flight_max: usize::from(in_flight_max),
            waiting: VecDeque::new(),
            handed: VecDeque::new(),
            in_flight: BTreeMap::new(),
            bytes: 0,
            next_order: 0,
        }
    }

    /// Unacknowledged publishes.
    pub(super) fn len(&self) -> usize {
        self.waiting.len() + self.handed.len() + self.in_flight.len()
    }

    /// Takes a publish; gives back those that it displaced. `answer` may use the reserved room.
    pub(super) fn push(
        &mut self,
        topic: String,
        payload: Bytes,
        qos: Qos,
        answer: bool,
        done: Done,
    ) -> Result<Vec<Done>, Full> {
        let entry = Entry { order: self.next_order, topic, payload, qos, repeated: false, done };
        let reserve = if answer { ANSWERS_RESERVED_MAX } else { 0 };
        let publishes_max = self.limits.publishes_max + reserve;
        let bytes_max = match answer {
            true => usize::MAX,
            false => self.limits.bytes_max.saturating_sub(entry.bytes()),
        };
        if !answer && entry.bytes() > self.limits.bytes_max {
            return Err(Full);
        }
        let (mut publishes, mut bytes) = (self.len(), self.bytes);
        let mut drops = 0;
        while publishes >= publishes_max || bytes > bytes_max {
            let droppable = match self.limits.overflow {
                Overflow::DropOldest => self.waiting.get(drops),
                Overflow::Refuse => None,
            };
            bytes -= droppable.ok_or(Full)?.bytes();
            publishes -= 1;
            drops += 1;
        }
        let displaced = self.waiting.drain(..drops).map(|old| old.done).collect();
        self.bytes = bytes;
        self.next_order += 1;
        self.bytes += entry.bytes();
        self.waiting.push_back(entry);
        Ok(displaced)
    }

    /// The next publish to hand to the connection, within the window.
    pub(super) fn hand_over(&mut self) -> Option<&Entry> {
        if self.handed.len() + self.in_flight.len() >= self.in_flight_max {
            return None;
        }
        let entry = self.waiting.pop_front()?;
        self.handed.push_back(entry);
        self.handed.back()
    }

    /// The connection wrote the oldest publish handed over, under this packet id (0: QoS 0).
    pub(super) fn written(&mut self, packet_id: u16) -> Option<Done> {
        let entry = self.handed.pop_front()?;
        if entry.qos == Qos::AtMostOnce {
            return Some(self.take(entry));
        }
        self.in_flight.insert(packet_id, entry);
        None
    }

    /// The node acknowledged or refused a packet id. Also tells whether it had been sent before.
    pub(super) fn acked(&mut self, packet_id: u16) -> Option<(Done, bool)> {
        let entry = self.in_flight.remove(&packet_id)?;
        let repeated = entry.repeated;
        Some((self.take(entry), repeated))
    }

    /// The connection ended. Returns how many publishes wait again that may have arrived.
    pub(super) fn disconnected(&mut self) -> usize {
        let mut again: Vec<Entry> = std::mem::take(&mut self.in_flight).into_values().collect();
        let repeated = again.len();
        again.iter_mut().for_each(|entry| entry.repeated = true);
        again.extend(self.handed.drain(..));
        again.sort_by_key(|entry| entry.order);
        for entry in again.into_iter().rev() {
            self.waiting.push_front(entry);
        }
        repeated
    }

    /// Everything that is left, to be told its fate.
    pub(super) fn drain(&mut self) -> Vec<Done> {
        self.disconnected();
        self.bytes = 0;
        self.waiting.drain(..).map(|entry| entry.done).collect()
    }

    fn take(&mut self, entry: Entry) -> Done {
        self.bytes -= entry.bytes();
        entry.done
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::{Arc, Mutex};

    use super::*;

    type Fates = Arc<Mutex<Vec<(u32, Fate)>>>;

    fn outbox(publishes_max: usize, bytes_max: usize, overflow: Overflow) -> (Outbox, Fates) {
        let limits = Buffer { publishes_max, bytes_max, overflow };
        (Outbox::new(limits, 3), Fates::default())
    }

    fn push(outbox: &mut Outbox, fates: &Fates, number: u32, qos: Qos) -> Result<(), Full> {
        push_as(outbox, fates, number, qos, false)
    }

    fn push_as(o: &mut Outbox, fates: &Fates, n: u32, qos: Qos, answer: bool) -> Result<(), Full> {
        let fates = fates.clone();
        let done: Done = Box::new(move |fate| fates.lock().unwrap().push((n, fate)));
        let payload = Bytes::from(n.to_string());
        let displaced = o.push("t".into(), payload, qos, answer, done)?;
        displaced.into_iter().for_each(|done| done(Fate::Dropped));
        Ok(())
    }

    fn handed(outbox: &mut Outbox) -> Vec<String> {
        let mut handed = Vec::new();
        while let Some(entry) = outbox.hand_over() {
            handed.push(String::from_utf8(entry.payload.to_vec()).unwrap());
        }
        handed
    }

    #[test]
    fn a_broken_connection_brings_all_back_in_order() {
        let (mut outbox, fates) = outbox(10, 1_000, Overflow::Refuse);
        for number in 0..5 {
            push(&mut outbox, &fates, number, Qos::AtLeastOnce).unwrap();
        }
        assert_eq!(handed(&mut outbox), ["0", "1", "2"], "the window is three");
        assert!(outbox.written(9).is_none());
        assert!(outbox.written(1).is_none());
        let (done, repeated) = outbox.acked(9).unwrap();
        done(Fate::Acked { repeated });
        assert!(outbox.acked(9).is_none(), "a second ack finds nothing");
        assert_eq!(handed(&mut outbox), ["3"]);
        assert_eq!(outbox.disconnected(), 1, "one was written");
        assert_eq!(handed(&mut outbox), ["1", "2", "3"]);
        for (packet_id, expected) in [(5, true), (6, false)] {
            outbox.written(packet_id);
            let (done, repeated) = outbox.acked(packet_id).unwrap();
            assert_eq!(repeated, expected);
            done(Fate::Acked { repeated });
        }
        let acked = |number, repeated| (number, Fate::Acked { repeated });
        assert_eq!(*fates.lock().unwrap(), [acked(0, false), acked(1, true), acked(2, false)]);
        assert_eq!(outbox.len(), 2);
    }

    #[test]
    fn qos_0_ends_when_written() {
        let (mut outbox, fates) = outbox(10, 1_000, Overflow::Refuse);
        push(&mut outbox, &fates, 0, Qos::AtMostOnce).unwrap();
        handed(&mut outbox);
        outbox.written(0).unwrap()(Fate::Written);
        assert_eq!((outbox.len(), outbox.bytes), (0, 0));
        assert_eq!(*fates.lock().unwrap(), [(0, Fate::Written)]);
    }

    #[test]
    fn a_full_buffer_refuses_or_drops_the_oldest_waiting() {
        for bytes in [false, true] {
            let (count, size) = if bytes { (100, 8) } else { (4, 1_000) };
            let (mut refusing, fates) = outbox(count, size, Overflow::Refuse);
            let (mut dropping, dropped) = outbox(count, size, Overflow::DropOldest);
            for number in 0..4 {
                push(&mut refusing, &fates, number, Qos::AtLeastOnce).unwrap();
                push(&mut dropping, &dropped, number, Qos::AtLeastOnce).unwrap();
            }
            handed(&mut dropping);
            assert_eq!(push(&mut refusing, &fates, 4, Qos::AtLeastOnce), Err(Full));
            push(&mut dropping, &dropped, 4, Qos::AtLeastOnce).unwrap();
            assert_eq!(*dropped.lock().unwrap(), [(3, Fate::Dropped)]);
            push(&mut dropping, &dropped, 5, Qos::AtLeastOnce).unwrap();
            assert_eq!(*dropped.lock().unwrap(), [(3, Fate::Dropped), (4, Fate::Dropped)]);
            assert!(fates.lock().unwrap().is_empty());
        }
    }

    #[test]
    fn what_is_on_its_way_is_never_dropped() {
        let (mut outbox, fates) = outbox(3, 1_000, Overflow::DropOldest);
        for number in 0..3 {
            push(&mut outbox, &fates, number, Qos::AtLeastOnce).unwrap();
        }
        handed(&mut outbox);
        assert_eq!(push(&mut outbox, &fates, 3, Qos::AtLeastOnce), Err(Full));
    }

    #[test]
    fn answers_have_room_of_their_own_with_a_bound() {
        let (mut outbox, fates) = outbox(1, 2, Overflow::Refuse);
        push(&mut outbox, &fates, 0, Qos::AtLeastOnce).unwrap();
        for number in 0..ANSWERS_RESERVED_MAX as u32 {
            push_as(&mut outbox, &fates, number, Qos::AtLeastOnce, true).unwrap();
        }
        let more = push_as(&mut outbox, &fates, 99, Qos::AtLeastOnce, true);
        assert_eq!(more, Err(Full));
    }

    #[test]
    fn draining_gives_everything_back() {
        let (mut outbox, fates) = outbox(10, 1_000, Overflow::Refuse);
        for number in 0..5 {
            push(&mut outbox, &fates, number, Qos::AtLeastOnce).unwrap();
        }
        handed(&mut outbox);
        outbox.written(1);
        for done in outbox.drain() {
            done(Fate::Stopped);
        }
        let order: Vec<u32> = fates.lock().unwrap().iter().map(|(n, _)| *n).collect();
        assert_eq!(order, [0, 1, 2, 3, 4]);
        assert_eq!((outbox.len(), outbox.bytes), (0, 0));
    }
}
