//! Upstream: greets one stream of a link's connection, and serves it to its end.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;

use super::book::State;
use super::came::Came;
use super::certificates::Shown;
use super::connected::{Connected, Entry};
use super::down_desk::Desk;
use super::knows_ahead::KnowsAhead;
use super::newest::Newest;
use super::pack::DICTIONARY;
use super::plugins::{self, GivePlugins};
use super::receiver::{Ended, Receiver};
use super::records::Records;
use super::topics::{self, Downlink};
use super::upstream::{Close, LAST_WORDS_WAIT};
use super::wire::{Answer, Hello, Said};
use crate::transport::{FrameReceiver, FrameSender, LinkPeer, SiteConnection, StreamError};

/// How long an edge has to say what it wants.
const HELLO_WAIT: Duration = Duration::from_secs(10);
/// Bytes of a greeting.
const HELLO_BYTES_MAX: usize = 1 << 10;

/// What a stream's greeting is judged by.
pub(super) struct Judges {
    pub(super) records: Arc<Records>,
    pub(super) connected: Arc<Connected>,
    pub(super) shown: Arc<Shown>,
    pub(super) newest: Arc<Newest>,
    pub(super) came: Arc<Came>,
    pub(super) entry: Arc<Entry>,
    pub(super) connection: SiteConnection,
    pub(super) desk: Arc<Desk>,
    pub(super) downlinks: Arc<Vec<Downlink>>,
    pub(super) plugins: Option<Arc<dyn GivePlugins>>,
}

/// Greets a stream and serves it to its end; how the connection is to be closed, if it is.
pub(super) async fn stream_of(
    mut receiver: Receiver,
    peer: LinkPeer,
    judges: Judges,
    mut out: FrameSender,
    mut from: FrameReceiver,
) -> Option<(Close, String)> {
    let garbage = |text: &str| Some((Close::Garbage, text.to_owned()));
    let frame = match timeout(HELLO_WAIT, from.receive_frame(HELLO_BYTES_MAX)).await {
        Ok(Ok(Some(frame))) => frame,
        Ok(Ok(None) | Err(_)) => return None,
        Err(_) => return garbage("no greeting came in time"),
    };
    if topics::is_wish(&frame) {
        return topics::give(&receiver, peer, &judges, &frame, (out, from)).await;
    }
    if plugins::is_wish(&frame) {
        return plugins::give(&receiver, peer, &judges, &frame, (out, from)).await;
    }
    let hello = match Said::decode(&frame) {
        Ok(Said::Hello(hello)) => hello,
        Ok(Said::Renew(public_key)) => return renew(&receiver, peer, &judges, &public_key, out).await,
        _ => return garbage("the greeting cannot be read"),
    };
    match judges.records.judge(peer, &hello).and_then(|name| judges.shown.judge().map(|()| name)) {
        Ok(name) => receiver.name = name,
        Err(refusal) => {
            tracing::warn!(node = %peer.node, name = hello.name, why = %refusal, "a link is refused");
            return Some((Close::Refused, refusal.text));
        }
    }
    if judges.came.has_gone(peer.link) && !give_up(&judges.came).await {
        let text = "what was to come by the link that had this name before cannot be given up now; try again";
        return Some((Close::Busy, text.to_owned()));
    }
    judges.came.note(peer);
    receiver.knows_ahead = KnowsAhead::of(hello.protocol);
    receiver.drops = Arc::clone(&judges.entry.drops);
    greeted(&receiver, &hello, &judges);
    let dictionary = if receiver.page.lock().takes_plain { 0 } else { DICTIONARY };
    if out.send_frame(&Answer::Welcome(receiver.site, dictionary).encode()).await.is_err() {
        return None;
    }
    if hello.is_first && hello.protocol >= super::PROTOCOL_RENEWS {
        let due = Answer::Due(judges.shown.due().as_secs());
        if out.send_frame(&due.encode()).await.is_err() {
            return None;
        }
    }
    let is_told = hello.is_first && hello.protocol >= super::PROTOCOL_DOWN;
    let asks = if is_told { judges.desk.open(&receiver.name, peer.node, &receiver.page) } else { None };
    match receiver.run(out, from, asks).await {
        Ended::ByEdge | Ended::Stream(StreamError::Lost(_) | StreamError::GivenUp(_) | StreamError::Closed) => None,
        Ended::Again(text) => Some((Close::Again, text)),
        Ended::Store(text) => Some((Close::Busy, text)),
        ended => {
            tracing::error!(link = receiver.name, %ended, "a link brought what cannot be");
            Some((Close::Garbage, ended.to_string()))
        }
    }
}

/// Gives up what will not come by a link that was removed, before one that has its name now brings the like; whether that is done.
async fn give_up(came: &Arc<Came>) -> bool {
    let came = Arc::clone(came);
    match tokio::task::spawn_blocking(move || came.close_ahead()).await {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            tracing::error!(%error, "what will not come by a removed link is not given up");
            false
        }
        Err(_) => false,
    }
}

/// Gives a gateway a new certificate, where its link stands and it is due.
async fn renew(
    receiver: &Receiver,
    peer: LinkPeer,
    judges: &Judges,
    public_key: &[u8],
    mut out: FrameSender,
) -> Option<(Close, String)> {
    if !judges.entry.is_in() {
        return Some((Close::Garbage, "a new certificate was asked for before the greeting".to_owned()));
    }
    let name = match judges.records.may_stay(peer) {
        Ok(name) => name,
        Err(refusal) => return Some((Close::Refused, refusal.text)),
    };
    let answer = match judges.shown.renew(&name, public_key) {
        Ok(Some(renewed)) => {
            tracing::info!(link = name, node = %peer.node, "a gateway of a link has a new certificate");
            receiver.page.lock().certificate_until_s = renewed.until_s;
            Answer::Renewed(renewed.certificate, renewed.due.as_secs())
        }
        Ok(None) => Answer::Due(judges.shown.due().as_secs()),
        Err(error) => return Some((Close::Garbage, error.to_string())),
    };
    let last_words = async {
        if out.send_frame(&answer.encode()).await.is_ok() {
            out.finish();
            out.stopped().await;
        }
    };
    let _ = timeout(LAST_WORDS_WAIT, last_words).await;
    None
}

fn greeted(receiver: &Receiver, hello: &Hello, judges: &Judges) {
    let peer = LinkPeer { node: receiver.node, link: receiver.link };
    let is_new = judges.entry.enter(|| {
        if !judges.newest.shown(peer, &receiver.name, judges.connection.certificate_until_s()) {
            judges.shown.set_older();
        }
    });
    let connected = judges.connected.nodes();
    let mut page = receiver.page.lock();
    if is_new {
        let connection = &judges.connection;
        page.keep_connected(|node| connected.contains(&node));
        page.connections += 1;
        page.address = connection.address().to_string();
        page.way = Some(connection.way());
        page.certificate_until_s = connection.certificate_until_s();
    }
    page.set(State::Connected, "");
    page.last_contact_ms = Some(receiver.log.clock().wall_ms());
    if !hello.is_first {
        return;
    }
    page.refusals.clear();
    tracing::info!(link = receiver.name, node = hello.name, program = hello.program, "a site is linked");
}
