//! What a connection says of what it was handed.

use super::Outbox;
use super::entry::Fate;
use crate::sequence::Lane;

/// MQTT 5's reason codes for what a node does not take for now: quota exceeded, as its store is full, and unspecified
/// error, as it stops or its store failed. Every other refusal is for good.
pub(in crate::client) const FOR_NOW: [u8; 2] = [0x97, 0x80];

impl Outbox {
    /// The connection wrote the oldest that it was handed: of the numbered ones under a packet id, or, where that is
    /// 0, of those without a number.
    pub(in crate::client) fn written(&mut self, packet_id: u16) {
        if packet_id == 0 {
            if let Some(entry) = self.loose_handed.pop_front() {
                self.end(entry, Fate::Written);
            }
        } else if let Some((lane, number)) = self.unwritten.pop_front() {
            self.in_flight.insert(packet_id, (lane, number));
            let sent = &mut self.lanes[lane.index()].sent;
            if let Ok(at) = sent.binary_search_by_key(&number, |entry| entry.number) {
                sent[at].unwritten = false;
            }
        }
    }

    /// The node acknowledged a packet id. Gives the lane.
    pub(in crate::client) fn acked(&mut self, packet_id: u16) -> Option<Lane> {
        let (lane, number) = self.in_flight.remove(&packet_id)?;
        let entry = self.lanes[lane.index()].take_sent(number)?;
        let repeated = entry.repeated;
        self.end(entry, Fate::Acked { repeated });
        Some(lane)
    }

    /// The node refused a packet id for good.
    pub(in crate::client) fn refused(&mut self, packet_id: u16, code: u8) {
        if let Some((lane, number)) = self.in_flight.remove(&packet_id)
            && let Some(entry) = self.lanes[lane.index()].take_sent(number)
        {
            self.end(entry, Fate::Refused(code));
        }
    }

    /// The node refused a packet id for now: it waits again in its old place, under its old number. The node takes
    /// nothing of the lane behind it before it has come again. Gives the lane, which should pause.
    pub(in crate::client) fn refused_for_now(&mut self, packet_id: u16) -> Option<Lane> {
        let (lane, number) = self.in_flight.remove(&packet_id)?;
        let queue = &mut self.lanes[lane.index()];
        let mut entry = queue.take_sent(number)?;
        entry.repeated = false;
        queue.put_back(entry);
        Some(lane)
    }

    /// A lane's connection forgot what it was handed and did not store it: it waits again. What was handed to a
    /// connection with packet ids is not touched by this.
    #[cfg(any(test, feature = "quic"))]
    pub(in crate::client) fn lane_reset(&mut self, lane: Lane) {
        self.lanes[lane.index()].send_again();
    }

    /// The connection ended. Gives how many publishes wait again that may have arrived.
    pub(in crate::client) fn disconnected(&mut self) -> usize {
        self.unwritten.clear();
        self.in_flight.clear();
        let mut repeated = 0;
        for queue in &mut self.lanes {
            for entry in &mut queue.sent {
                entry.repeated |= !entry.unwritten;
                repeated += usize::from(!entry.unwritten);
            }
            queue.send_again();
        }
        while let Some(entry) = self.loose_handed.pop_back() {
            self.lanes[entry.lane.index()].loose.push_front(entry);
        }
        repeated
    }
}
