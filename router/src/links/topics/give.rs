//! Upstream: one stream by which topics go down to a gateway.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::timeout;

use super::super::book::{Page, Shared, State};
use super::super::class::Priority;
use super::super::config::LinkConfig;
use super::super::gate::Gate;
use super::super::greet::Judges;
use super::super::receiver::Receiver;
use super::super::sender::{Ended, Sender, Session};
use super::super::upstream::Close;
use super::super::wire::Answer;
use super::flow::{Flow, Found, Given};
use super::lists::Downlink;
use super::view::Going;
use super::wire::{LIST_BYTES_MAX, Wish, decode_wants, encode_gives};
use crate::transport::{FrameReceiver, FrameSender, LinkPeer, NodeId};

/// How long the edge has to say what it lists.
const WANTS_WAIT: Duration = Duration::from_secs(10);

/// Serves a stream whose first frame is a wish to its end; how the connection is to be closed, if it is.
pub async fn give(
    receiver: &Receiver,
    peer: LinkPeer,
    judges: &Judges,
    wish: &[u8],
    (mut out, mut from): (FrameSender, FrameReceiver),
) -> Option<(Close, String)> {
    let garbage = |text: String| Some((Close::Garbage, text));
    if !judges.entry.is_in() {
        return garbage("topics were asked for before the greeting".to_owned());
    }
    let name = match judges.records.may_stay(peer).and_then(|name| judges.shown.judge().map(|()| name)) {
        Ok(name) => name,
        Err(refusal) => return Some((Close::Refused, refusal.text)),
    };
    let wish = match Wish::decode(wish) {
        Ok(wish) => wish,
        Err(error) => return garbage(error.to_string()),
    };
    out.send_frame(&Answer::Welcome(receiver.site, 0).encode()).await.ok()?;
    let wanted = match timeout(WANTS_WAIT, from.receive_frame(LIST_BYTES_MAX)).await {
        Ok(Ok(Some(frame))) => match decode_wants(&frame) {
            Ok(wanted) => wanted,
            Err(error) => return garbage(error.to_string()),
        },
        Ok(Ok(None) | Err(_)) => return None,
        Err(_) => return garbage("no list of topics came in time".to_owned()),
    };
    let allowed = Downlink::of_site(&judges.downlinks, &name);
    out.send_frame(&encode_gives(&allowed)).await.ok()?;
    let links = judges.records.of(peer.link).map(|record| record.ids).unwrap_or_default();
    let given = Arc::new(Given { wanted, allowed, links, site: wish.site, found: Found::default() });
    let page = show(&receiver.page, peer.node, &given);
    tracing::info!(link = name, node = %peer.node, wanted = ?given.wanted, "topics go down a link");
    let session = Session {
        log: Arc::clone(&receiver.log),
        name,
        config: LinkConfig { rate_bytes_max: wish.rate_bytes_max, ..LinkConfig::default() },
        site: receiver.site,
        page: Arc::clone(&page),
        gate: Gate::new(receiver.log.clock(), &judges.connection, rate(&wish)),
        due: watch::Sender::new(None),
        left: Mutex::default(),
        down: Default::default(),
        fills: Mutex::default(),
        flow: Flow::Down(given),
    };
    let ended = {
        let _shown = Shown(&page);
        Sender::new(&Arc::new(session), Priority::Normal, true, wish.dictionary).run(out, from).await
    };
    match ended {
        Ended::Stream(_) | Ended::ByOther => None,
        Ended::Wrong(text) => garbage(format!("the edge said {text}")),
        Ended::Store(text) | Ended::Outlived(text) => Some((Close::Busy, text)),
    }
}

/// Shows what goes to a gateway from now on. What it was refused by the stream before is known still: one that opens streams on and on is not told, and
/// written down, anew.
fn show(of_link: &Shared, gateway: NodeId, given: &Arc<Given>) -> Shared {
    let mut of_link = of_link.lock();
    let refusals = of_link.going.get(&gateway).map(|before| before.page.lock().refusals.clone()).unwrap_or_default();
    let page: Shared = Arc::new(Mutex::new(Page { state: State::Connected, refusals, ..Page::default() }));
    of_link.going.insert(gateway, Going { page: Arc::clone(&page), given: Arc::clone(given) });
    page
}

fn rate(wish: &Wish) -> Option<u64> {
    (wish.rate_bytes_max > 0).then_some(wish.rate_bytes_max)
}

/// What is shown as going, until it ends.
struct Shown<'a>(&'a Shared);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        self.0.lock().set(State::Cut, "the stream has ended");
    }
}
