//! Those who have come to join and have not said yet what they want (pure but for its lock).
//!
//! Anybody may come and say nothing. So one who comes always has a place: where all are taken, the one who has been silent for longest, of the
//! network that has most of them, yields.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::replication::peers::network;

/// Those who have not said yet what they want; each may have 64 KiB unread.
const SILENT_MAX: usize = 32;

/// The places.
#[derive(Debug, Default)]
pub(super) struct Lobby {
    silent: Mutex<Silent>,
}

#[derive(Debug, Default)]
struct Silent {
    /// The oldest first: its network, and what is told when it is to yield.
    all: BTreeMap<u64, (IpAddr, oneshot::Sender<()>)>,
    next: u64,
}

/// One place, until it is dropped.
#[derive(Debug)]
pub(super) struct Place {
    lobby: Arc<Lobby>,
    number: u64,
}

impl Lobby {
    /// A place for one who comes from there, and what is told when it is to yield.
    pub(super) fn enter(self: &Arc<Self>, from: IpAddr) -> (Place, oneshot::Receiver<()>) {
        let mut silent = self.silent.lock();
        if silent.all.len() >= SILENT_MAX
            && let Some((_, out)) = silent.who_yields().and_then(|number| silent.all.remove(&number))
        {
            // It fails where that one is gone already.
            let _ = out.send(());
        }
        let (out, yields) = oneshot::channel();
        let number = silent.next;
        silent.next += 1;
        silent.all.insert(number, (network(from), out));
        drop(silent);
        (Place { lobby: Arc::clone(self), number }, yields)
    }
}

impl Silent {
    fn who_yields(&self) -> Option<u64> {
        let mut counts: BTreeMap<IpAddr, usize> = BTreeMap::new();
        self.all.values().for_each(|(from, _)| *counts.entry(*from).or_default() += 1);
        let most = counts.values().max().copied();
        self.all.iter().find(|(_, (from, _))| counts.get(from).copied() == most).map(|(number, _)| *number)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.lobby.silent.lock().all.remove(&self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_been_silent_for_longest_of_the_most_yields() {
        let lobby = Arc::new(Lobby::default());
        let at = |n: u8| IpAddr::from([10, 0, 0, n]);
        let mut honest = lobby.enter(at(2));
        let mut many: Vec<_> = (1..SILENT_MAX).map(|_| lobby.enter(at(1))).collect();
        let later = lobby.enter(at(3));
        many.push(lobby.enter(at(1)));
        let is_out = |(_, yields): &mut (Place, oneshot::Receiver<()>)| yields.try_recv().is_ok();
        let out: Vec<bool> = many.iter_mut().map(is_out).collect();
        assert!(out[..2] == [true; 2] && !out[2..].contains(&true), "{out:?}");
        assert!(!is_out(&mut honest));
        // Who yielded and goes frees nobody's place but its own.
        many.drain(..2);
        assert_eq!(lobby.silent.lock().all.len(), SILENT_MAX);
        drop((many, honest, later));
        assert!(lobby.silent.lock().all.is_empty());
    }
}
