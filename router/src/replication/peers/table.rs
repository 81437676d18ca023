//! The site's other nodes and their connections: one seat each.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use super::arrival::{Present, shows_copy};
use super::close::Close;
use super::link::Link;
use super::plan::{KNOCK_EVERY, Stand, back_off};
use super::serve::Notice;
use super::state::{Known, PeerState};
use super::{MEMBERS_MAX, Member};
use crate::transport::{Ended, NodeId, StreamError};

/// How long a connection has to stand before what failed earlier is forgotten.
const STOOD_AFTER: Duration = Duration::from_secs(5);
/// How long it counts that a node has called this one a copy, where it does not answer since: it may be gone for good.
const CALLED_COPY_MAX: Duration = Duration::from_secs(60);

/// After so many failures in a row nobody answers where the list says that a node is: one that knocks is taken then.
const UNANSWERED_AFTER: u32 = 3;

/// Another process of a node came while it was connected.
#[derive(Debug, Clone, Copy)]
struct Contest {
    at: Duration,
    from: SocketAddr,
}

/// What is known of one node, and its connection.
struct Seat {
    member: Member,
    is_member: bool,
    link: Option<Arc<Link>>,
    /// Where it was when it was connected last.
    was_at: Option<IpAddr>,
    is_dialling: bool,
    failures: u32,
    /// Which of the addresses of its name is tried next.
    turn: u32,
    not_before: Duration,
    since: Duration,
    error: Option<String>,
    /// The code with which the node sent this one away last: the same is told once.
    told: Option<u32>,
    known: Option<Known>,
    contest: Option<Contest>,
    is_copied: bool,
    /// When it sent this node away last as a copy of one that is connected there; `None` where it would take it.
    called_copy: Option<Duration>,
}

/// All seats.
pub(super) struct Table {
    own: NodeId,
    seats: BTreeMap<NodeId, Seat>,
    random: u64,
    left_out: usize,
}

impl Table {
    pub(super) fn new(own: NodeId, seed: u64) -> Self {
        Self { own, seats: BTreeMap::new(), random: seed | 1, left_out: 0 }
    }

    /// Takes over the site's list. Who is not in it any more keeps a seat until it is dropped. How many more are left
    /// out than before, where they are more than can be.
    pub(super) fn sync(&mut self, members: &[Member], now: Duration) -> Option<Notice> {
        for seat in self.seats.values_mut() {
            seat.is_member = false;
        }
        let mut left_out = 0;
        for member in members.iter().filter(|member| member.node != self.own) {
            let is_full = self.seats.len() >= MEMBERS_MAX;
            match self.seats.get_mut(&member.node) {
                Some(seat) => {
                    if seat.member.address != member.address {
                        (seat.failures, seat.not_before) = (0, now);
                    }
                    (seat.member, seat.is_member) = (member.clone(), true);
                }
                None if is_full => left_out += 1,
                None => {
                    self.seats.insert(member.node, Seat::new(member.clone(), now));
                }
            }
        }
        let told = std::mem::replace(&mut self.left_out, left_out);
        (left_out > told).then_some(Notice::TooMany { left_out })
    }

    pub(super) fn stands(&self) -> Vec<Stand> {
        let stand = |(node, seat): (&NodeId, &Seat)| Stand {
            node: *node,
            is_member: seat.is_member,
            is_linked: seat.link.is_some(),
            is_dialling: seat.is_dialling,
            not_before: seat.not_before,
            since: seat.since,
        };
        self.seats.iter().map(stand).collect()
    }

    pub(super) fn is_member(&self, node: NodeId) -> bool {
        self.seats.get(&node).is_some_and(|seat| seat.is_member)
    }

    /// Whether an address is one of a member: the site's list has it so, or it was connected from there last.
    pub(super) fn is_at(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        let mut members = self.seats.values().filter(|seat| seat.is_member);
        members.any(|seat| seat.was_at == Some(address) || seat.listed_at() == Some(address))
    }

    /// Whether the site has no other nodes.
    pub(super) fn is_alone(&self) -> bool {
        !self.seats.values().any(|seat| seat.is_member)
    }

    /// Gives up a node that is no member; its connection, if it has one.
    pub(super) fn drop_seat(&mut self, node: NodeId) -> Option<Arc<Link>> {
        self.seats.remove(&node)?.link
    }

    /// An attempt begins: the member as it is now, and which of its addresses is taken.
    pub(super) fn begin_dial(&mut self, node: NodeId) -> Option<(Member, u32)> {
        let seat = self.seats.get_mut(&node)?;
        seat.is_dialling = true;
        Some((seat.member.clone(), seat.turn))
    }

    /// An attempt came to nothing; what a person should know of it. `is_knock`: it could come to nothing else.
    pub(super) fn dial_failed(&mut self, node: NodeId, is_knock: bool, why: &Failure, now: Duration) -> Option<Notice> {
        let (random, own) = (self.draw(), self.own);
        let seat = self.seats.get_mut(&node)?;
        seat.is_dialling = false;
        // It has come by itself meanwhile.
        if seat.link.is_some() {
            return None;
        }
        seat.turn = seat.turn.wrapping_add(1);
        seat.failures = seat.failures.saturating_add(1);
        seat.not_before = now + if is_knock { KNOCK_EVERY } else { back_off(seat.failures, random) };
        seat.fail(own, why, now)
    }

    /// The connection that a node has.
    pub(super) fn present(&self, node: NodeId) -> Option<Present> {
        let seat = self.seats.get(&node)?;
        let link = seat.link.as_ref()?;
        Some(Present { incarnation: link.hello.incarnation, is_copied: seat.is_copied })
    }

    /// Whether nobody answers where the list says that a node is.
    pub(super) fn is_unanswered(&self, node: NodeId) -> bool {
        self.seats.get(&node).is_some_and(|seat| seat.link.is_none() && seat.failures >= UNANSWERED_AFTER)
    }

    /// Another process of a node came while it is connected.
    pub(super) fn contest(&mut self, node: NodeId, from: SocketAddr, now: Duration) {
        if let Some(seat) = self.seats.get_mut(&node) {
            seat.contest.get_or_insert(Contest { at: now, from });
        }
    }

    /// A node wants to be dialled.
    pub(super) fn poke(&mut self, node: NodeId, now: Duration) {
        if let Some(seat) = self.seats.get_mut(&node) {
            seat.not_before = seat.not_before.min(now);
        }
    }

    /// A connection stands; the one in whose place it comes, if there is one. `Err` where the node is no member.
    pub(super) fn up(&mut self, link: &Arc<Link>, now: Duration) -> Result<Option<Arc<Link>>, ()> {
        let seat = self.seats.get_mut(&link.node).filter(|seat| seat.is_member).ok_or(())?;
        let before = seat.link.replace(Arc::clone(link));
        seat.was_at = Some(link.connection.address().ip().to_canonical());
        if before.is_none() {
            seat.since = now;
        }
        (seat.is_dialling, seat.error, seat.contest, seat.is_copied) = (false, None, None, false);
        seat.called_copy = None;
        Ok(before)
    }

    /// A heartbeat came over a connection; what a person should know of it.
    pub(super) fn heard(&mut self, link: &Link, heartbeat: Duration, now: Duration) -> Option<Notice> {
        let seat = self.seats.get_mut(&link.node)?;
        let contest = seat.contest.filter(|contest| shows_copy(contest.at, now, heartbeat))?;
        let is_this = seat.link.as_ref().is_some_and(|present| present.number == link.number);
        if !is_this || std::mem::replace(&mut seat.is_copied, true) {
            return None;
        }
        let (node, name) = (link.node, seat.member.name.clone());
        Some(Notice::Copied { node, name, here: link.connection.address(), there: contest.from })
    }

    /// A connection ended; what a person should know of it.
    pub(super) fn down(&mut self, link: &Link, why: &Failure, now: Duration) -> Option<Notice> {
        let (random, own) = (self.draw(), self.own);
        let seat = self.seats.get_mut(&link.node)?;
        if seat.link.as_ref().is_none_or(|present| present.number != link.number) {
            return None;
        }
        (seat.link, seat.contest, seat.is_copied) = (None, None, false);
        seat.known = Some(link.known());
        let has_stood = now.saturating_sub(link.began) >= STOOD_AFTER;
        seat.failures = if has_stood { 1 } else { seat.failures.saturating_add(1) };
        if has_stood {
            seat.told = None;
        }
        seat.not_before = now + back_off(seat.failures, random);
        seat.since = now;
        seat.fail(own, why, now)
    }

    /// The connection of a node; why there is none otherwise.
    pub(super) fn link(&self, node: NodeId) -> Result<Arc<Link>, String> {
        let Some(seat) = self.seats.get(&node) else { return Err("it is no other node of this site".to_owned()) };
        let why = || seat.error.clone().unwrap_or_else(|| "not yet".to_owned());
        seat.link.clone().ok_or_else(why)
    }

    pub(super) fn states(&self) -> Vec<PeerState> {
        self.seats.values().map(Seat::state).collect()
    }

    /// A step of xorshift: enough to spread waits.
    fn draw(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random
    }
}

/// What went wrong with a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Failure {
    /// For people.
    pub(super) text: String,
    /// The code with which the other side closed, if it did.
    pub(super) code: Option<u32>,
}

impl From<Ended> for Failure {
    fn from(ended: Ended) -> Self {
        match ended {
            Ended::Closed { code, text } => Self { text, code: Some(code) },
            other => Self { text: other.to_string(), code: None },
        }
    }
}

impl From<StreamError> for Failure {
    fn from(error: StreamError) -> Self {
        match error {
            StreamError::Lost(ended) => ended.into(),
            other => Self { text: other.to_string(), code: None },
        }
    }
}

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self { text, code: None }
    }
}

impl Seat {
    fn new(member: Member, now: Duration) -> Self {
        Self {
            member,
            is_member: true,
            link: None,
            was_at: None,
            is_dialling: false,
            failures: 0,
            turn: 0,
            not_before: now,
            since: now,
            error: None,
            told: None,
            known: None,
            contest: None,
            is_copied: false,
            called_copy: None,
        }
    }

    /// Its address in the site's list, where that is no name.
    fn listed_at(&self) -> Option<IpAddr> {
        self.member.address.parse().ok().map(|at: SocketAddr| at.ip().to_canonical())
    }

    /// Notes why there is no connection; what a person should know of it.
    fn fail(&mut self, own: NodeId, why: &Failure, now: Duration) -> Option<Notice> {
        let close = why.code.and_then(Close::from_number);
        self.error = Some(match close {
            // What it says of this node stands in its own row.
            Some(Close::Removed) => format!("it says that node {own}, which is this one, was removed from the site"),
            _ => why.text.clone(),
        });
        let silent_since = self.called_copy.filter(|at| now.saturating_sub(*at) < CALLED_COPY_MAX);
        self.called_copy = match close {
            Some(Close::Copied) => Some(now),
            // It would take this one.
            Some(Close::WrongWay) => None,
            _ => silent_since,
        };
        self.told_by(why.code, &why.text)
    }

    /// What a person should know of a code, the first time that it is told.
    fn told_by(&mut self, code: Option<u32>, text: &str) -> Option<Notice> {
        if code.is_none() || std::mem::replace(&mut self.told, code) == code {
            return None;
        }
        let (by, name, text) = (self.member.node, self.member.name.clone(), text.to_owned());
        match Close::from_number(code?)? {
            Close::Copied => Some(Notice::CopiedHere { by, name, text }),
            Close::Removed => Some(Notice::Removed { by, name }),
            Close::Version => Some(Notice::Version { node: by, text }),
            _ => None,
        }
    }

    fn state(&self) -> PeerState {
        PeerState {
            node: self.member.node,
            name: self.member.name.clone(),
            address: self.member.address.clone(),
            is_connected: self.link.is_some(),
            since: self.since,
            error: self.error.clone(),
            calls_copy: self.called_copy.is_some(),
            known: self.link.as_ref().map(|link| link.known()).or_else(|| self.known.clone()),
            connection: self.link.as_ref().map(|link| link.state(self.is_copied)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_known_that_the_list_has() {
        let member = |node, address: &str| Member { node: NodeId(node), name: "n".into(), address: address.into() };
        let mut table = Table::new(NodeId(1), 1);
        let members = [member(1, "[2001:db8::1]:1"), member(2, "[2001:db8::2]:1"), member(3, "three:1")];
        table.sync(&members, Duration::ZERO);
        let known = |table: &Table, address: &str| table.is_at(address.parse().unwrap());
        assert!(known(&table, "2001:db8::2") && !known(&table, "2001:db8::1") && !known(&table, "2001:db8::3"));
        table.sync(&[member(2, "10.0.0.2:1")], Duration::ZERO);
        assert!(known(&table, "::ffff:10.0.0.2") && !known(&table, "2001:db8::2"));
        table.sync(&[], Duration::ZERO);
        assert!(!known(&table, "10.0.0.2"), "it is no member any more");
    }
}
