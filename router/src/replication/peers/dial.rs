//! The side that dials: finds the address, connects, greets.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::lookup_host;
use tokio::time::timeout;

use super::arrival::is_whom_it_should_be;
use super::carry::carry;
use super::hello::{HELLO_BYTES_MAX, Hello};
use super::link::{Link, MODE_HELLO};
use super::stats::count;
use super::table::Failure;
use super::{Close, Member, Shared, agree};
use crate::transport::{SiteConnection, StreamError};

/// How long a node has to answer the first packet, and then to greet, at the least; otherwise as long as a silence may
/// last.
const ANSWER_WAIT_MIN: Duration = Duration::from_secs(1);
/// Addresses of one name that are tried, one an attempt.
const RESOLVED_MAX: usize = 8;

/// One attempt; the connection is carried to its end where it comes about. `turn`: which of the addresses of
/// its name is taken; `is_knock`: it is expected to come to nothing.
pub(super) async fn dial(shared: Arc<Shared>, member: Member, turn: u32, is_knock: bool) {
    count(&shared.stats.dialled);
    match attempt(&shared, &member, turn).await {
        Ok(link) => carry(shared, link).await,
        Err(why) => {
            count(&shared.stats.dials_failed);
            tracing::debug!(node = %member.node, why = why.text, "a node of the site is not reached");
            let now = shared.clock.monotonic();
            let notice = shared.table.lock().dial_failed(member.node, is_knock, &why, now);
            shared.tell(notice);
            shared.wake.notify_one();
        }
    }
}

async fn attempt(shared: &Shared, member: &Member, turn: u32) -> Result<Arc<Link>, Failure> {
    let wait = answer_wait(shared);
    let at = resolve(shared, member, turn).await?;
    let connection = match timeout(wait, shared.endpoint.dial(at, member.node)).await {
        Ok(dialled) => dialled?,
        Err(_) => return Err(Failure::from(format!("no answer from {at}"))),
    };
    let hello = match timeout(wait, greet(shared, &connection)).await {
        Ok(greeted) => greeted?,
        Err(_) => {
            Close::Late.close(&connection, "no greeting came in time");
            return Err(Failure::from(format!("{at} was reached and sent no greeting")));
        }
    };
    let Some(hello) = hello else {
        Close::Garbage.close(&connection, "the greeting cannot be read");
        return Err(Failure::from(format!("{at} was reached, and its greeting cannot be read")));
    };
    let refused = |close: Close, text: String| {
        close.close(&connection, &text);
        Failure::from(text)
    };
    is_whom_it_should_be(&shared.own, member.node, &hello).map_err(|(close, text)| refused(close, text))?;
    let near = shared.hello().speaker();
    let protocol = agree(&near, &hello.speaker()).map_err(|gap| refused(Close::Version, gap.to_string()))?;
    let link = shared.link(member.node, hello, connection.clone(), protocol);
    let before = shared.table.lock().up(&link, shared.clock.monotonic());
    shared.seated(before).map_err(|text| refused(Close::NotMember, text.to_owned()))?;
    Ok(link)
}

/// How long the other side has for its next word.
pub(super) fn answer_wait(shared: &Shared) -> Duration {
    shared.config.lost_after().max(ANSWER_WAIT_MIN)
}

/// Where the member is now: names are looked up at each attempt, and after a failure the next of its addresses is taken.
async fn resolve(shared: &Shared, member: &Member, turn: u32) -> Result<SocketAddr, Failure> {
    let unknown =
        |why: &dyn std::fmt::Display| Failure::from(format!("the address {:?} is not known: {why}", member.address));
    // No limit of time here: a look-up that hangs would be left behind, and the next begun beside it.
    let resolved = lookup_host(member.address.as_str()).await.map_err(|error| unknown(&error))?;
    let is_v4_alone = shared.endpoint.address().is_ok_and(|own| own.is_ipv4());
    let resolved: Vec<_> = resolved.filter(|at| at.is_ipv4() || !is_v4_alone).take(RESOLVED_MAX).collect();
    let turn = turn as usize % resolved.len().max(1);
    resolved.get(turn).copied().ok_or_else(|| unknown(&"it has no address that this node can reach from its own"))
}

/// Greets, and waits to be greeted; `None` where the answer is no greeting.
async fn greet(shared: &Shared, connection: &SiteConnection) -> Result<Option<Hello>, StreamError> {
    let (mut send, mut receive) = connection.open().await?;
    send.send_frame_after(&[MODE_HELLO], &shared.hello().encode()).await?;
    send.finish();
    let bytes = receive.receive_frame(HELLO_BYTES_MAX).await?;
    Ok(bytes.and_then(|bytes| Hello::decode(&bytes)))
}
