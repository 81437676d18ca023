//! From the addresses of a link to a connection, by UDP or TCP; and UDP tried again beside a link that goes by TCP.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::net::lookup_host;
use tokio::time::{sleep, timeout};

use super::dial::{BOUNDS, Dialler};
use super::ways::Ways;
use crate::transport::{Ended, JoinDialError, SiteConnection, Way, dial_link};

/// How long a node upstream has to answer the first packet.
const DIAL_WAIT: Duration = Duration::from_secs(10);
/// How long one way is tried at all addresses before the other one is.
const WAY_WAIT: Duration = Duration::from_secs(20);
/// Addresses of one name that are tried.
const RESOLVED_MAX: usize = 4;

impl Dialler {
    /// Connects by the first of these ways by which a node upstream answers, at each turn at another address first, as a node may
    /// answer and not take the link; why none does, for people.
    pub(super) async fn reach(&self, order: &[Way], turn: u32) -> Result<SiteConnection, String> {
        let mut tried = Vec::new();
        for way in order {
            let all = self.reach_by(*way, turn, &mut tried);
            // The last one has all the time that it takes.
            let connected =
                if order.last() == Some(way) { all.await } else { timeout(WAY_WAIT, all).await.unwrap_or(None) };
            if let Some(connection) = connected {
                return Ok(connection);
            }
        }
        Err(tried.join("; "))
    }

    async fn reach_by(&self, way: Way, turn: u32, tried: &mut Vec<String>) -> Option<SiteConnection> {
        let by = match way {
            Way::Quic => "",
            Way::Tcp => " (by TCP)",
        };
        let from = turn as usize % self.addresses.len().max(1);
        let (before, first) = self.addresses.split_at(from);
        for address in first.iter().chain(before) {
            let resolved: Vec<SocketAddr> = match lookup_host(address.as_str()).await {
                Ok(resolved) => resolved.take(RESOLVED_MAX).collect(),
                Err(error) => {
                    tried.push(format!("{address}{by}: {error}"));
                    continue;
                }
            };
            let identity = Arc::clone(&self.identity.lock());
            for at in resolved {
                match timeout(DIAL_WAIT, dial_link(at, &identity, BOUNDS, self.config.rate(), way)).await {
                    Ok(Ok(connection)) => return Some(connection),
                    Ok(Err(JoinDialError::Ended(Ended::Silent))) | Err(_) => {
                        tried.push(format!("{address}{by}: no answer"));
                    }
                    Ok(Err(error)) => tried.push(format!("{address}{by}: {error}")),
                }
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
