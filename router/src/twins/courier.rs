//! What devices are to be told, and what is under way to them: pure.
//!
//! Rules: one delta at a time is under way to a session, and when it has arrived the newest follows; a session that
//! has the newest is not told again; a session that let a delta fall rests for a moment. Answers and refusals are
//! offered once: a device that misses one asks again.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use devices::twin::Refusal;

/// Time before a delta is offered again to a device whose session let it fall, in milliseconds; it doubles each time.
const REST_MS: u64 = 200;
/// How often it doubles at most: the longest rest is about a minute.
const REST_DOUBLINGS_MAX: u32 = 8;
/// Questions and refusals of devices that wait to be answered; beyond, they are dropped.
const ANSWERS_MAX: usize = 10_000;

/// What a device may be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// What it has still to do.
    Delta,
    /// The whole twin.
    State,
    /// Why its last report was not taken.
    Refused,
}

/// A message and the session that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Sent {
    session: u64,
    version: u64,
}

/// Everything that is to be told.
#[derive(Debug, Default)]
pub struct Courier {
    waiting: BTreeSet<(Arc<str>, Kind)>,
    under_way: HashMap<(Arc<str>, Kind), Sent>,
    /// Answers that are asked for again while one is under way.
    again: BTreeSet<(Arc<str>, Kind)>,
    /// The delta that a session has, of devices that have one.
    told: HashMap<Arc<str>, Sent>,
    /// Why a device's last report was refused, until it is told so.
    refusals: HashMap<Arc<str>, Refusal>,
    /// The session that let a device's delta fall, and how often in a row.
    fallen: HashMap<Arc<str>, (u64, u32)>,
    /// Devices whose delta fell, and until when they rest.
    resting: BTreeSet<(u64, Arc<str>)>,
}

impl Courier {
    /// The desired half has changed.
    pub fn due(&mut self, device: &str) {
        self.waiting.insert((device.into(), Kind::Delta));
    }

    /// The device asks for its twin.
    pub fn asked(&mut self, device: &str) {
        if self.waiting.len() < ANSWERS_MAX {
            self.waiting.insert((device.into(), Kind::State));
        }
    }

    /// A report was refused; the newest refusal is told.
    pub fn refused(&mut self, device: &str, refusal: Refusal) {
        if self.waiting.len() < ANSWERS_MAX {
            self.waiting.insert((device.into(), Kind::Refused));
            self.refusals.insert(device.into(), refusal);
        }
    }

    /// A device has no delta any more; its version may begin anew.
    pub fn settled(&mut self, device: &str) {
        self.told.remove(device);
        self.fallen.remove(device);
        if let Some(sent) = self.under_way.get_mut(&(device.into(), Kind::Delta)) {
            sent.version = 0;
        }
    }

    /// Takes what is to be told now.
    pub fn take_waiting(&mut self, now_ms: u64) -> BTreeSet<(Arc<str>, Kind)> {
        while self.resting.first().is_some_and(|(until, _)| *until <= now_ms) {
            self.waiting.extend(self.resting.pop_first().map(|(_, device)| (device, Kind::Delta)));
        }
        std::mem::take(&mut self.waiting)
    }

    /// Whether there is a refusal to be told.
    pub fn has_refusal(&self, device: &str) -> bool {
        self.refusals.contains_key(device)
    }

    /// Takes why a device's last report was refused.
    pub fn take_refusal(&mut self, device: &str) -> Option<Refusal> {
        self.refusals.remove(device)
    }

    /// Whether a session is to be offered a message, which is under way from now on. `version` is a delta's.
    pub fn offer(&mut self, device: &Arc<str>, kind: Kind, session: u64, version: u64) -> bool {
        let sent = Sent { session, version };
        let place = (Arc::clone(device), kind);
        if self.under_way.contains_key(&place) {
            // A delta's successor follows by itself.
            if kind != Kind::Delta {
                self.again.insert(place);
            }
            return false;
        }
        if kind == Kind::Delta && self.told.get(device) == Some(&sent) {
            return false;
        }
        self.under_way.insert(place, sent);
        true
    }

    /// A message has arrived.
    pub fn arrived(&mut self, device: &Arc<str>, kind: Kind) {
        let Some(sent) = self.end(device, kind) else { return };
        if kind == Kind::Delta {
            self.fallen.remove(device);
            self.told.insert(Arc::clone(device), sent);
            // There may be a newer one.
            self.due(device);
        }
    }

    /// A message fell, or its session has ended.
    pub fn fell(&mut self, device: &Arc<str>, kind: Kind, now_ms: u64) {
        if let Some(sent) = self.end(device, kind).filter(|_| kind == Kind::Delta) {
            let before = self.fallen.get(device).filter(|(session, _)| *session == sent.session);
            let times = before.map_or(0, |(_, times)| times + 1).min(REST_DOUBLINGS_MAX);
            self.fallen.insert(Arc::clone(device), (sent.session, times));
            self.resting.insert((now_ms + (REST_MS << times), Arc::clone(device)));
        }
    }

    fn end(&mut self, device: &Arc<str>, kind: Kind) -> Option<Sent> {
        let place = (Arc::clone(device), kind);
        let sent = self.under_way.remove(&place)?;
        if self.again.remove(&place) {
            self.waiting.insert(place);
        }
        Some(sent)
    }

    /// When a rest ends next.
    pub fn next_deadline(&self) -> Option<u64> {
        self.resting.first().map(|(until, _)| *until)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(courier: &mut Courier, now_ms: u64) -> Vec<(String, Kind)> {
        courier.take_waiting(now_ms).into_iter().map(|(device, kind)| (device.to_string(), kind)).collect()
    }

    #[test]
    fn one_delta_is_under_way_and_the_newest_follows() {
        let mut courier = Courier::default();
        let device: Arc<str> = "d".into();
        courier.due("d");
        assert_eq!(waiting(&mut courier, 0), [("d".to_owned(), Kind::Delta)]);
        assert!(courier.offer(&device, Kind::Delta, 5, 1));
        for version in 2..9 {
            assert!(!courier.offer(&device, Kind::Delta, 5, version), "one is under way");
        }
        courier.arrived(&device, Kind::Delta);
        assert_eq!(waiting(&mut courier, 0).len(), 1, "there may be a newer one");
        assert!(courier.offer(&device, Kind::Delta, 5, 8));
        courier.arrived(&device, Kind::Delta);
        assert!(!courier.offer(&device, Kind::Delta, 5, 8), "it has the newest");
        assert!(courier.offer(&device, Kind::Delta, 6, 8), "another session does not");
        courier.arrived(&device, Kind::Delta);
        courier.settled("d");
        assert!(courier.told.is_empty());
    }

    #[test]
    fn what_fell_rests_and_is_told_again() {
        let mut courier = Courier::default();
        let device: Arc<str> = "d".into();
        assert!(courier.offer(&device, Kind::Delta, 5, 1));
        courier.fell(&device, Kind::Delta, 1_000);
        courier.fell(&device, Kind::Delta, 1_000);
        assert_eq!(courier.next_deadline(), Some(1_000 + REST_MS));
        assert!(waiting(&mut courier, 1_000).is_empty());
        assert_eq!(waiting(&mut courier, 1_000 + REST_MS).len(), 1);
        assert!(courier.offer(&device, Kind::Delta, 5, 1));
        assert!(courier.offer(&device, Kind::State, 5, 0), "kinds do not wait for each other");
        courier.fell(&device, Kind::State, 0);
        assert_eq!(courier.next_deadline(), None, "an answer is offered once");
    }

    #[test]
    fn a_question_while_the_answer_is_under_way_is_answered_after_it() {
        let mut courier = Courier::default();
        let device: Arc<str> = "d".into();
        assert!(courier.offer(&device, Kind::State, 5, 0));
        assert!(!courier.offer(&device, Kind::State, 5, 0));
        assert!(waiting(&mut courier, 0).is_empty());
        courier.arrived(&device, Kind::State);
        assert_eq!(waiting(&mut courier, 0), [("d".to_owned(), Kind::State)]);
        assert!(courier.offer(&device, Kind::State, 5, 0));
        courier.arrived(&device, Kind::State);
        assert!(waiting(&mut courier, 0).is_empty());
    }

    #[test]
    fn a_twin_that_begins_anew_is_told_anew() {
        let mut courier = Courier::default();
        let device: Arc<str> = "d".into();
        assert!(courier.offer(&device, Kind::Delta, 5, 1));
        courier.settled("d");
        courier.arrived(&device, Kind::Delta);
        assert!(courier.offer(&device, Kind::Delta, 5, 1));
    }

    #[test]
    fn a_session_that_lets_all_fall_is_asked_less_and_less() {
        let mut courier = Courier::default();
        let device: Arc<str> = "d".into();
        let rest = |courier: &mut Courier, session| {
            assert!(courier.offer(&device, Kind::Delta, session, 1));
            courier.fell(&device, Kind::Delta, 0);
            let until = courier.next_deadline().unwrap();
            courier.take_waiting(u64::MAX);
            until
        };
        let rests: Vec<u64> = (0..12).map(|_| rest(&mut courier, 5)).collect();
        assert_eq!(rests[..3], [200, 400, 800]);
        assert_eq!(rests[9..], [51_200; 3]);
        assert_eq!(rest(&mut courier, 6), 200, "another session");
    }

    #[test]
    fn questions_are_bounded() {
        let mut courier = Courier::default();
        for number in 0..ANSWERS_MAX + 10 {
            courier.asked(&number.to_string());
            courier.refused(&number.to_string(), Refusal::NoRoom);
        }
        assert!(courier.waiting.len() <= ANSWERS_MAX + 1);
        assert!(courier.refusals.len() <= ANSWERS_MAX);
    }
}
