//! From the addresses of a link to a connection, by UDP or TCP; and UDP tried again beside a link that goes by TCP.

use std::collections::BTreeSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::lookup_host;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::dial::{BOUNDS, Dialler};
use super::ways::Ways;
use crate::transport::{Ended, JoinDialError, SiteConnection, Way, dial_link};

/// How long a name may take to be resolved; all of them are at once.
const RESOLVE_WAIT: Duration = Duration::from_secs(5);
/// How long a node upstream has to answer the first packet.
const DIAL_WAIT: Duration = Duration::from_secs(10);
/// How long UDP is tried at all addresses before TCP is; each of them has an equal part of it.
const WAY_WAIT: Duration = Duration::from_secs(20);
/// The least part.
const DIAL_WAIT_MIN: Duration = Duration::from_secs(3);
/// Addresses of one name that are tried: a site has five nodes, each of which may have one of either kind.
const RESOLVED_MAX: usize = 10;
/// Addresses that are tried at one turn.
const TRIED_MAX: usize = 64;

/// One address, and the name that it is of.
type Target = (String, SocketAddr);

impl Dialler {
    /// Connects by the first of these ways by which a node upstream answers, at each turn at another address first, as a node may
    /// answer and not take the link; why none does, for people.
    pub(super) async fn reach(&self, order: &[Way], turn: u32) -> Result<SiteConnection, String> {
        let mut tried = Vec::new();
        let node = self.identity.lock().peer().node.0;
        let targets = targets(self.resolve(&mut tried).await, node, turn);
        for way in order {
            // UDP that does not answer is to leave time; TCP takes more round trips, and the last one has all the time that it takes.
            let is_short = *way == Way::Quic && order.last() != Some(way);
            let each = if is_short { dial_wait(targets.len()) } else { DIAL_WAIT };
            if let Some(connection) = self.reach_by(*way, &targets, each, &mut tried).await {
                return Ok(connection);
            }
        }
        Err(tried.join("; "))
    }

    /// The addresses of each name, in the order of the names.
    async fn resolve(&self, tried: &mut Vec<String>) -> Vec<(String, Vec<SocketAddr>)> {
        let mut asked = JoinSet::new();
        for (place, name) in self.addresses.iter().cloned().enumerate() {
            asked.spawn(async move {
                let found =
                    timeout(RESOLVE_WAIT, lookup_host(name.as_str())).await.map(|found| found.map(Vec::from_iter));
                (place, name, found)
            });
        }
        let mut all = asked.join_all().await;
        all.sort_by_key(|(place, ..)| *place);
        let mut resolved = Vec::new();
        for (_, name, found) in all {
            match found {
                Ok(Ok(found)) => resolved.push((name, found)),
                Ok(Err(error)) => tried.push(format!("{name}: {error}")),
                Err(_) => tried.push(format!("{name}: its name is not resolved in time")),
            }
        }
        resolved
    }

    async fn reach_by(
        &self,
        way: Way,
        targets: &[Target],
        each: Duration,
        tried: &mut Vec<String>,
    ) -> Option<SiteConnection> {
        let by = match way {
            Way::Quic => "",
            Way::Tcp => " (by TCP)",
        };
        for (name, at) in targets {
            let identity = Arc::clone(&self.identity.lock());
            match timeout(each, dial_link(*at, &identity, BOUNDS, self.config.rate(), way)).await {
                Ok(Ok(connection)) => return Some(connection),
                Ok(Err(JoinDialError::Ended(Ended::Silent))) | Err(_) => tried.push(format!("{name}{by}: no answer")),
                Ok(Err(error)) => tried.push(format!("{name}{by}: {error}")),
            }
        }
        None
    }

    /// Tries UDP now and then while a link goes by TCP, at the address first whose turn it was; ends with a connection by it.
    pub(super) async fn look_for_udp(&self, ways: &Mutex<Ways>, way: Way, turn: u32) -> SiteConnection {
        loop {
            let Some(wait) = ways.lock().look_after(way) else { return std::future::pending().await };
            sleep(wait).await;
            match self.reach(&[Way::Quic], turn).await {
                Ok(connection) => return connection,
                Err(why) => {
                    tracing::debug!(link = self.name, why, "UDP is blocked still");
                    ways.lock().in_vain();
                }
            }
        }
    }
}

/// What is tried in this turn, in order: all addresses of all names, each once, from another one on at each turn. Name servers give the
/// addresses of one name in another order each time; so they are put into one that is a gateway's own, and gateways begin at different ones
/// (pure).
fn targets(resolved: Vec<(String, Vec<SocketAddr>)>, node: u64, turn: u32) -> Vec<Target> {
    let (mut all, mut known) = (Vec::new(), BTreeSet::new());
    for (name, mut found) in resolved {
        // The kind that the system prefers first.
        let prefers_six = found.first().is_some_and(SocketAddr::is_ipv6);
        found.sort_by_key(|at| (at.is_ipv6() != prefers_six, place(node, at), *at));
        found.dedup();
        all.extend(found.into_iter().take(RESOLVED_MAX).filter(|at| known.insert(*at)).map(|at| (name.clone(), at)));
    }
    let from = turn as usize % all.len().max(1);
    all.rotate_left(from);
    all.truncate(TRIED_MAX);
    all
}

/// Where a gateway puts an address among others: the same each time.
fn place(node: u64, at: &SocketAddr) -> u64 {
    let mut hasher = DefaultHasher::new();
    (node, at).hash(&mut hasher);
    hasher.finish()
}

/// How long each of so many addresses is tried by UDP where TCP is left.
fn dial_wait(addresses: usize) -> Duration {
    let part = WAY_WAIT / u32::try_from(addresses.max(1)).unwrap_or(u32::MAX);
    part.clamp(DIAL_WAIT_MIN, DIAL_WAIT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_turn_begins_at_another_address_also_where_they_are_of_one_name() {
        let at = |n: u8| SocketAddr::from(([10, 0, 0, n], 7));
        let six = |n: u16| SocketAddr::from(([0x2001, 0, 0, 0, 0, 0, 0, n], 7));
        let all = |turn, found: &[SocketAddr]| -> Vec<SocketAddr> {
            targets(vec![("hq:7".to_owned(), found.to_vec())], 5, turn).into_iter().map(|(_, at)| at).collect()
        };
        // However the name server turns them.
        let orders = [[at(1), at(2), at(3)], [at(2), at(3), at(1)], [at(3), at(1), at(2)]];
        let firsts: BTreeSet<_> = (0..3).map(|turn| all(turn, &orders[turn as usize % 3])[0]).collect();
        assert_eq!(firsts, BTreeSet::from(orders[0]));
        for turn in 0..6 {
            let tried = all(turn, &orders[0]);
            assert_eq!((tried.len(), BTreeSet::from_iter(tried.iter().copied()).len()), (3, 3), "{turn}");
            assert_eq!(tried, all(turn, &orders[2]), "{turn}");
        }
        // The kind that the system prefers goes first, and what a gateway begins at is its own.
        assert!(all(0, &[six(1), at(1), six(2)])[..2].iter().all(SocketAddr::is_ipv6));
        assert!(all(0, &[at(1), six(1), six(2)])[0].is_ipv4());
        let first = |node| targets(vec![("hq:7".to_owned(), orders[0].to_vec())], node, 0)[0].1;
        assert_eq!((0..100).map(first).collect::<BTreeSet<_>>().len(), 3);
        // Of several names the first one goes first, and what two of them lead to is tried once.
        let names = |turn| {
            let resolved = vec![("a:7".to_owned(), vec![at(9)]), ("b:7".to_owned(), vec![at(8), at(9)])];
            targets(resolved, 5, turn).into_iter().map(|(name, at)| format!("{name} {at}")).collect::<Vec<_>>()
        };
        assert_eq!(names(0), ["a:7 10.0.0.9:7", "b:7 10.0.0.8:7"]);
        assert_eq!(names(3), ["b:7 10.0.0.8:7", "a:7 10.0.0.9:7"]);
        let many = (0..40).map(|n| (format!("{n}"), (0..20).map(|m| at(n * 6 + m % 6)).collect())).collect();
        assert_eq!((targets(many, 5, 70).len(), targets(Vec::new(), 5, 3).len()), (TRIED_MAX, 0));
    }

    #[test]
    fn each_address_has_its_part_of_the_time() {
        for (addresses, seconds) in [(0, 10), (1, 10), (2, 10), (4, 5), (5, 4), (7, 3), (64, 3)] {
            let each = dial_wait(addresses);
            assert!(each.as_secs() == seconds || each == DIAL_WAIT_MIN, "{addresses}: {each:?}");
            assert!(addresses > 6 || each * addresses as u32 <= WAY_WAIT, "{addresses}: the last one has its turn");
        }
    }
}
