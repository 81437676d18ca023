//! The side that is dialled: takes connections, greets nodes of the site, and brings those that join to the desk.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::arrival::{Verdict, judge};
use super::carry::carry;
use super::dial::answer_wait;
use super::hello::{HELLO_BYTES_MAX, Hello};
use super::line::{self, Line, Place};
use super::link::{Link, MODE_HELLO};
use super::serve::Notice;
use super::stats::count;
use super::{Close, Shared};
use crate::replication::join::Desk;
use crate::transport::{Attempt, FrameReceiver, FrameSender, NodeId, SiteConnection, SiteProtocol, StreamError};

/// How long a handshake may take.
const HANDSHAKE_WAIT: Duration = Duration::from_secs(5);

/// Those who come, until they have shaken hands and greeted.
#[derive(Default)]
struct Arrivals {
    line: Mutex<Line<Attempt>>,
    /// A handshake has ended.
    freed: Notify,
}

/// A place among those who shake hands, until it is dropped.
struct Handshake {
    arrivals: Arc<Arrivals>,
    from: line::Source,
}

impl Drop for Handshake {
    fn drop(&mut self) {
        self.arrivals.line.lock().done(self.from);
        self.arrivals.freed.notify_one();
    }
}

impl Arrivals {
    /// One comes: it waits, or is to prove its address first.
    fn take(&self, shared: &Shared, attempt: Attempt) {
        let address = attempt.address().ip();
        let is_known = shared.table.lock().is_at(address);
        let mut line = self.line.lock();
        let is_proven = attempt.is_proven();
        if !is_proven && line.wants_proof() {
            return attempt.ask_for_proof();
        }
        // An address that may be another one's is not counted as that one's.
        let from = is_proven.then(|| Place::of(address, is_known));
        if let Some(goes) = line.join(from, attempt) {
            goes.refuse();
        }
    }

    /// Who may shake hands now.
    fn next(self: &Arc<Self>) -> Option<(Attempt, Handshake)> {
        let (from, attempt) = self.line.lock().next()?;
        Some((attempt, Handshake { arrivals: Arc::clone(self), from }))
    }
}

/// Takes connections until the endpoint is closed.
pub(super) async fn listen(shared: Arc<Shared>, desk: Option<Arc<Desk>>) {
    let arrivals = Arc::new(Arrivals::default());
    let mut guests = JoinSet::new();
    loop {
        while let Some((attempt, handshake)) = arrivals.next() {
            guests.spawn(receive(Arc::clone(&shared), desk.clone(), attempt, handshake));
        }
        tokio::select! {
            attempt = shared.endpoint.accept() => match attempt {
                Some(attempt) => arrivals.take(&shared, attempt),
                None => return,
            },
            () = arrivals.freed.notified() => {}
            Some(_) = guests.join_next(), if !guests.is_empty() => {}
        }
    }
}

async fn receive(shared: Arc<Shared>, desk: Option<Arc<Desk>>, attempt: Attempt, handshake: Handshake) {
    let from = attempt.address();
    let connection = match timeout(HANDSHAKE_WAIT, attempt.shake_hands()).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(why)) => {
            count(&shared.stats.refused);
            if shared.may_warn() {
                tracing::warn!(%from, %why, "a connection to the site's port failed");
            } else {
                tracing::debug!(%from, %why, "a connection to the site's port failed");
            }
            return;
        }
        Err(_) => return count(&shared.stats.refused),
    };
    match (connection.protocol(), connection.peer()) {
        (SiteProtocol::Site, Some(node)) => {
            if let Some(link) = greet(&shared, node, &connection).await {
                drop(handshake);
                carry(shared, link).await;
            }
        }
        (SiteProtocol::Link | SiteProtocol::LinkJoin, _) => {
            drop(handshake);
            match &shared.guests {
                Some(guests) => guests.receive(connection).await,
                None => Close::Busy.close(&connection, "this node takes no links"),
            }
        }
        (_, _) => {
            drop(handshake);
            match desk {
                Some(desk) => desk.serve(connection).await,
                None => Close::Busy.close(&connection, "this node admits none"),
            }
        }
    }
}

/// Greets a node that has connected; `None` where it was sent away.
async fn greet(shared: &Arc<Shared>, node: NodeId, connection: &SiteConnection) -> Option<Arc<Link>> {
    let refuse = |close: Close, text: &str| {
        count(&shared.stats.refused);
        let from = connection.address();
        if shared.may_warn() {
            tracing::warn!(%node, %from, ?close, why = text, "a node of the site is sent away");
        } else {
            tracing::debug!(%node, %from, ?close, why = text, "a node of the site is sent away");
        }
        close.close(connection, text);
        None
    };
    let (is_member, is_alone) = {
        let table = shared.table.lock();
        (table.is_member(node), table.is_alone())
    };
    if !is_member && shared.serve.was_removed(node) {
        return refuse(Close::Removed, "this node was removed from the site");
    }
    if !is_member {
        // A certificate is given to members alone, once that is agreed on.
        shared.tell(is_alone.then_some(Notice::Stranger { node }));
        let text = format!(
            "node {node} is not among the nodes that node {} knows: if it has just joined, this passes; if it was \
             removed, it stays out",
            shared.own.node
        );
        return refuse(Close::NotMember, &text);
    }
    // Kept until the connection is closed: a stream that is given up first would hide why.
    let mut stream = None;
    let hello = match timeout(answer_wait(shared), hear(connection, &mut stream)).await {
        Ok(Ok(Some(heard))) => heard,
        Ok(Ok(None)) => return refuse(Close::Garbage, "the greeting cannot be read"),
        Ok(Err(StreamError::TooLong { .. })) => return refuse(Close::Garbage, "the greeting is too long"),
        Ok(Err(_)) => return refuse(Close::Garbage, "the greeting was broken off"),
        Err(_) => return refuse(Close::Late, "no greeting came in time"),
    };
    let link = match admit(shared, node, hello, connection) {
        Ok(link) => link,
        Err((close, text)) => return refuse(close, &text),
    };
    count(&shared.stats.taken);
    // What fails is that the node is gone again, which is noticed where the connection is carried.
    if let Some((send, _)) = stream {
        let _ = timeout(answer_wait(shared), reply(send, shared.hello())).await;
    }
    Some(link)
}

/// The greeting, `None` where it is none, and the stream that it came by.
async fn hear(
    connection: &SiteConnection,
    stream: &mut Option<(FrameSender, FrameReceiver)>,
) -> Result<Option<Hello>, StreamError> {
    let (_, receive) = stream.insert(connection.accept().await?);
    if receive.receive_head::<1>().await? != Some([MODE_HELLO]) {
        return Ok(None);
    }
    let bytes = receive.receive_frame(HELLO_BYTES_MAX).await?;
    Ok(bytes.and_then(|bytes| Hello::decode(&bytes)))
}

async fn reply(mut send: FrameSender, hello: Hello) {
    if send.send_frame(&hello.encode()).await.is_ok() {
        send.finish();
    }
}

/// Takes the node, in place of the connection that it has, or says how it is sent away.
fn admit(
    shared: &Arc<Shared>,
    node: NodeId,
    hello: Hello,
    connection: &SiteConnection,
) -> Result<Arc<Link>, (Close, String)> {
    let now = shared.clock.monotonic();
    // One lock for both: of two that come at once, the second finds the first.
    let mut table = shared.table.lock();
    let (present, is_unanswered) = (table.present(node), table.is_unanswered(node));
    let (close, text) = match judge((&shared.own, &shared.spoken), node, &hello, present, is_unanswered) {
        Verdict::Refuse(close, text) => (close, text),
        Verdict::Take(protocol) => {
            let link = shared.link(node, hello, connection.clone(), protocol);
            let before = table.up(&link, now);
            drop(table);
            return shared.seated(before).map(|()| link).map_err(|text| (Close::NotMember, text.to_owned()));
        }
    };
    match close {
        Close::Contested | Close::Copied => table.contest(node, connection.address(), now),
        Close::WrongWay => {
            table.poke(node, now);
            shared.wake.notify_one();
        }
        _ => {}
    }
    Err((close, text))
}
