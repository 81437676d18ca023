//! Upstream: one stream by which plugins go to a gateway, one at a time.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout};

use super::super::book::Shared;
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
/// How long it is left alone what a gateway could not do now, or whose answer could not be kept.
const LATER_WAIT: Duration = if cfg!(test) { Duration::from_millis(100) } else { Duration::from_secs(60) };
/// How often it is looked whether something may be tried again.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// One stream.
struct Giving {
    giver: Arc<dyn GivePlugins>,
    site: String,
    gateway: NodeId,
    page: Shared,
    gate: Gate,
    out: FrameSender,
    from: FrameReceiver,
    looks: Looks,
}

/// When what is wanted is to be read, which costs the store something (pure).
#[derive(Debug, Default)]
struct Looks {
    /// What could not be done, and until when it is left alone.
    later: BTreeMap<(String, u64), Instant>,
    /// Whether it was read since something changed, and nothing was found to do.
    is_idle: bool,
}

impl Looks {
    /// Whether there may be something to do: something has changed, or may be tried again.
    fn are_due(&mut self, now: Instant) -> bool {
        let before = self.later.len();
        self.later.retain(|_, until| *until > now);
        !self.is_idle || self.later.len() < before
    }

    /// What is to be handed over, of what was read.
    fn choose(&mut self, wanted: Vec<Wanted>) -> Option<Wanted> {
        let is_left_alone = |wanted: &Wanted| self.later.contains_key(&(wanted.name.clone(), wanted.number));
        let found = wanted.into_iter().find(|wanted| !is_left_alone(wanted));
        self.is_idle = found.is_none();
        found
    }
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
    let page = Arc::clone(&receiver.page);
    let mut giving = Giving { giver, site, gateway: peer.node, page, gate, out, from, looks: Looks::default() };
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
                changed = changed.changed() => {
                    changed.map_err(|_| None)?;
                    self.looks.is_idle = false;
                }
                () = sleep_until(Instant::now() + LOOK_EVERY) => {}
                said = self.from.receive_frame(FRAME_BYTES_MAX) => match said {
                    Ok(Some(_)) => return Err(Some("the edge answers what nobody has asked".to_owned())),
                    Ok(None) | Err(_) => return Err(None),
                },
            }
        }
    }

    async fn next(&mut self) -> Option<Wanted> {
        if !self.looks.are_due(Instant::now()) {
            return None;
        }
        // What cannot be read now is read at the next look.
        self.looks.is_idle = false;
        let wanted = self.giver.wanted(&self.site, self.gateway).await?;
        self.looks.choose(wanted)
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
                    let bytes = part.len() as u64;
                    self.say(&FromUpstream::Part(offset, part)).await?;
                    self.page.lock().plugins.bytes += bytes;
                }
                FromEdge::Done(number, outcome) if number == wanted.number => {
                    self.page.lock().plugins.count(&outcome);
                    let is_later = matches!(outcome, Outcome::Later { .. });
                    let is_kept = self.giver.answered(&self.site, self.gateway, &wanted, outcome).await;
                    // What is not kept is wanted still: at once it would be fetched and judged again, and again not kept.
                    if is_later || !is_kept {
                        self.looks.later.insert((wanted.name, number), Instant::now() + LATER_WAIT);
                    }
                    return Ok(());
                }
                _ => return Err(Some("the edge speaks of a plugin that was not said".to_owned())),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wanted_is_read_only_when_there_may_be_something_to_do() {
        let wanted = |number| Wanted { name: "p".to_owned(), number, component: None };
        let (mut looks, now) = (Looks::default(), Instant::now());
        let second = Duration::from_secs(1);
        assert!(looks.are_due(now), "nothing was read yet");
        assert_eq!(looks.choose(vec![wanted(1), wanted(2)]), Some(wanted(1)));
        looks.later.insert(("p".to_owned(), 1), now + second);
        assert!(looks.are_due(now), "one was handed over");
        assert_eq!(looks.choose(vec![wanted(1), wanted(2)]), Some(wanted(2)));
        assert_eq!(looks.choose(vec![wanted(1)]), None, "it is left alone for now");
        assert!(!looks.are_due(now), "nothing has changed");
        assert!(looks.are_due(now + second), "it may be tried again");
        assert_eq!(looks.choose(vec![wanted(1)]), Some(wanted(1)));
        assert_eq!(looks.choose(vec![]), None);
        assert!(!looks.are_due(now + second * 99));
    }
}
