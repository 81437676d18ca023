//! Upstream: one stream by which plugins go to a gateway, one at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::super::class::Priority;
use super::super::gate::Gate;
use super::super::greet::Judges;
use super::super::receiver::Receiver;
use super::super::upstream::Close;
use super::GivePlugins;
use super::wire::{FRAME_BYTES_MAX, FromEdge, FromUpstream, Outcome, Wanted};
use crate::transport::{FrameReceiver, FrameSender, LinkPeer, NodeId};

/// How long nothing may be heard while a gateway has something to do: it may wait for others, fetch slowly, or compile.
const QUIET_MAX: Duration = Duration::from_secs(1_800);
/// How long it is left alone what a gateway could not do now.
const LATER_WAIT: Duration = if cfg!(test) { Duration::from_millis(100) } else { Duration::from_secs(60) };
/// How often it is looked whether something may be tried again.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// One stream.
struct Giving {
    giver: Arc<dyn GivePlugins>,
    site: String,
    gateway: NodeId,
    gate: Gate,
    out: FrameSender,
    from: FrameReceiver,
    /// What could not be done, and until when it is left alone.
    later: BTreeMap<(String, u64), Instant>,
}

/// Why a stream ended, where the edge is to be told.
type Wrong = Option<String>;

/// Serves a stream whose first frame is of plugins to its end; how the connection is to be closed, if it is.
pub async fn give(
    receiver: &Receiver,
    peer: LinkPeer,
    judges: &Judges,
    wish: &[u8],
    (out, from): (FrameSender, FrameReceiver),
) -> Option<(Close, String)> {
    let garbage = |text: String| Some((Close::Garbage, text));
    if !judges.entry.is_in() {
        return garbage("plugins were asked for before the greeting".to_owned());
    }
    let site = match judges.records.may_stay(peer).and_then(|name| judges.shown.judge().map(|()| name)) {
        Ok(name) => name,
        Err(refusal) => return Some((Close::Refused, refusal.text)),
    };
    let rate = match FromEdge::decode(wish) {
        Ok(FromEdge::Wish(_, rate)) => (rate > 0).then_some(rate),
        Ok(_) => return garbage("plugins are not asked for so".to_owned()),
        Err(error) => return garbage(error.to_string()),
    };
    let giver = judges.plugins.clone()?;
    let gate = Gate::new(receiver.log.clock(), &judges.connection, rate);
    let mut giving = Giving { giver, site, gateway: peer.node, gate, out, from, later: BTreeMap::new() };
    giving.serve().await.err().flatten().and_then(garbage)
}

impl Giving {
    async fn serve(&mut self) -> Result<(), Wrong> {
        let mut changed = self.giver.watch();
        loop {
            changed.borrow_and_update();
            if let Some(wanted) = self.next().await {
                self.hand_over(wanted).await?;
                continue;
            }
            tokio::select! {
                changed = changed.changed() => changed.map_err(|_| None)?,
                () = sleep_until(Instant::now() + LOOK_EVERY) => {}
                said = self.from.receive_frame(FRAME_BYTES_MAX) => match said {
                    Ok(Some(_)) => return Err(Some("the edge answers what nobody has asked".to_owned())),
                    Ok(None) | Err(_) => return Err(None),
                },
            }
        }
    }

    async fn next(&mut self) -> Option<Wanted> {
        let now = Instant::now();
        self.later.retain(|_, until| *until > now);
        let wanted = self.giver.wanted(&self.site, self.gateway).await;
        wanted.into_iter().find(|wanted| !self.later.contains_key(&(wanted.name.clone(), wanted.number)))
    }

    async fn say(&mut self, said: &FromUpstream) -> Result<(), Wrong> {
        self.gate.send(Priority::Low, &mut self.out, &said.encode()).await.map_err(|_| None)
    }

    /// Hands one over, until the gateway says what has come of it.
    async fn hand_over(&mut self, wanted: Wanted) -> Result<(), Wrong> {
        tracing::info!(link = self.site, plugin = wanted.name, gateway = %self.gateway, "a plugin goes down a link");
        self.say(&FromUpstream::Wanted(wanted.clone())).await?;
        loop {
            let heard = timeout(QUIET_MAX, self.from.receive_frame(FRAME_BYTES_MAX)).await;
            let frame = heard.map_err(|_| None)?.map_err(|_| None)?.ok_or(None)?;
            match FromEdge::decode(&frame).map_err(|error| Some(error.to_string()))? {
                FromEdge::Need(number, offset) if number == wanted.number => {
                    let Some(component) = &wanted.component else {
                        return Err(Some("the edge asks for a component where none is wanted".to_owned()));
                    };
                    let part = self.giver.part(component.sha256, offset).await.unwrap_or_default();
                    self.say(&FromUpstream::Part(offset, part)).await?;
                }
                FromEdge::Done(number, outcome) if number == wanted.number => {
                    if matches!(outcome, Outcome::Later { .. }) {
                        self.later.insert((wanted.name.clone(), number), Instant::now() + LATER_WAIT);
                    }
                    self.giver.answered(&self.site, self.gateway, &wanted, outcome).await;
                    return Ok(());
                }
                _ => return Err(Some("the edge speaks of a plugin that was not said".to_owned())),
            }
        }
    }
}
