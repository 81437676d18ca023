//! Takes what another node of the site sends of what links have brought there: for each link as from its edge.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use sled_data::{OriginId, PartitionId};

use super::tell::{Out, Told, give};
use super::{WANTED_MAX, Within};
use crate::event_log::{Comes, Held};
use crate::links::begin::Stand;
use crate::links::knows_ahead::KnowsAhead;
use crate::links::receiver::{self, Ended, Receiver};
use crate::links::wire::{Answer, FRAME_BYTES_MAX, Refused, Said};
use crate::links::{PROTOCOL_MIN, book};
use crate::transport::{FrameReceiver, FrameSender, NodeId, StreamError};

/// Links that one stream speaks of; as many as may feed a site, each with several ids.
const LINKS_MAX: usize = 4_096;

/// The code of an origin that is to be asked for anew at once: its partitions are not where they were.
pub(super) const AGAIN: &str = "again";
/// The code of what cannot be taken.
const WRONG: &str = "wrong";

/// What was said of each link: its receiver, and what was offered and taken.
type Links = BTreeMap<(u64, String), (Receiver, receiver::Open)>;

impl Within {
    /// Serves a stream of another node to its end.
    pub async fn serve(self: &Arc<Self>, from: NodeId, out: FrameSender, mut receive: FrameReceiver) {
        match self.take(from, &Out::new(out), &mut receive).await {
            Ok(()) | Err(Ended::Stream(StreamError::Lost(_) | StreamError::GivenUp(_) | StreamError::Closed)) => {}
            Err(ended @ Ended::Wrong(_)) => {
                tracing::error!(node = %from, %ended, "a node sent what cannot be of what links brought there");
            }
            Err(ended) => tracing::debug!(node = %from, %ended, "a stream of what links brought has ended"),
        }
    }

    async fn take(self: &Arc<Self>, from_node: NodeId, out: &Out, from: &mut FrameReceiver) -> Result<(), Ended> {
        let wrong = |what: &str| Err(Ended::Wrong(what.to_owned()));
        let (mut links, mut whose, mut is_greeted) = (Links::new(), None, false);
        while let Some(length) = from.receive_length(FRAME_BYTES_MAX).await? {
            let Some(held) = self.budget.take(length).await else { return Ok(()) };
            let held: Held = Arc::new(held);
            let frame = receiver::receive_body(from, length, &self.budget).await?;
            let answers = match (Said::decode(&frame)?, &whose) {
                (Said::Hello(hello), None)
                    if !is_greeted && hello.protocol >= PROTOCOL_MIN && hello.site == self.site =>
                {
                    is_greeted = true;
                    vec![Answer::Welcome(self.site, 0)]
                }
                (Said::Whose(link, name), _) if is_greeted => {
                    whose = Some((link, name));
                    Vec::new()
                }
                (said, Some(whose)) => {
                    if links.len() >= LINKS_MAX && !links.contains_key(whose) {
                        return wrong("too many links");
                    }
                    let fresh = || (self.receiver(whose), receiver::Open::default());
                    let (receiver, open) = links.entry(whose.clone()).or_insert_with(fresh);
                    self.hear(from_node, (receiver, open), said, (&frame, &held)).await?
                }
                _ => return wrong("no greeting, or what belongs to no link"),
            };
            drop((frame, held));
            for answer in answers {
                give(out, &answer).await?;
            }
        }
        Ok(())
    }

    /// Does what was said of a link; what is to be answered. What is wrong with one origin ends nothing for the others, which share the stream:
    /// it is refused, and taken again when it is offered anew.
    async fn hear(
        &self,
        from: NodeId,
        (receiver, open): (&Receiver, &mut receiver::Open),
        said: Said,
        (frame, held): (&[u8], &Held),
    ) -> Result<Vec<Answer>, Ended> {
        let origin = match &said {
            // It was refused, and this was on its way. What is wrong with it was said then.
            Said::Parts(parts) if !open.has(parts.origin) => {
                let text =
                    format!("origin {} is to be offered anew: what was under way of it is not taken", parts.origin);
                return Ok(vec![Answer::Refused(Refused::new(parts.origin.0, 0, AGAIN, text))]);
            }
            Said::Parts(parts) => parts.origin,
            Said::Offer(origin, _) if self.is_removed(receiver.link, *origin) => {
                let text = format!(
                    "origin {origin} is of a link that was removed, and nothing of what was here of it is kept any more"
                );
                return Ok(vec![Answer::Refused(Refused::new(origin.0, 0, "removed", text))]);
            }
            _ => return answers(receiver.hear(open, said, frame, held).await),
        };
        let (code, text) = match receiver.hear(open, said, frame, held).await {
            Err(Ended::Again(text)) => (AGAIN, text),
            Err(Ended::Wrong(text)) => (WRONG, text),
            heard => {
                self.note_came(from, origin);
                return answers(heard);
            }
        };
        // What was under way behind it comes still, and is refused as well: above.
        if open.forget(origin) {
            match code {
                AGAIN => tracing::debug!(node = %from, link = receiver.name, %origin, "{text}"),
                _ => {
                    tracing::error!(node = %from, link = receiver.name, %origin, "a node sent what cannot be of a link: {text}")
                }
            }
        }
        Ok(vec![Answer::Refused(Refused::new(origin.0, 0, code, text))])
    }

    /// Whether an origin was here, of a link that was removed, and is forgotten: it does not come back from a node that has some of it. What this
    /// node never had it takes, or nobody but the one who has it would, and that one could not leave.
    fn is_removed(&self, link: u64, origin: OriginId) -> bool {
        self.log.store().forgotten_linked(origin).is_some()
            && self.is_revoked(link)
            && !self.comes_again.lock().contains(&origin)
    }

    pub(super) fn is_revoked(&self, link: u64) -> bool {
        self.records.of(link).is_some_and(|record| record.is_revoked)
    }

    /// Whether this node had all of a partition that ends so at another one, and has forgotten it. Where it had not, as when it was away for
    /// very long, what the other one has is taken from now on.
    pub(super) fn had(&self, id: PartitionId, stand: &Stand) -> bool {
        let forgotten =
            self.log.store().forgotten_linked(id.origin).filter(|forgotten| self.is_revoked(forgotten.link));
        let Some(forgotten) = forgotten else { return false };
        let had = stand.hlc <= forgotten.hlc;
        let mut comes_again = self.comes_again.lock();
        if !had && comes_again.len() < WANTED_MAX {
            comes_again.insert(id.origin);
        }
        had
    }

    fn receiver(self: &Arc<Self>, (link, name): &(u64, String)) -> Receiver {
        Receiver {
            log: Arc::clone(&self.log),
            link: *link,
            // No gateway's: its page is nobody's.
            node: NodeId(0),
            name: name.clone(),
            site: self.site,
            // What comes within the site is not what the link brings here.
            page: Arc::new(Mutex::new(book::Page::default())),
            budget: self.budget.clone(),
            within: None,
            listed: None,
            knows_ahead: KnowsAhead::Nothing,
            drops: Arc::default(),
            comes: Comes::WithinSite,
        }
    }
}

fn answers(heard: Result<Vec<Told>, Ended>) -> Result<Vec<Answer>, Ended> {
    Ok(heard?.into_iter().map(|told| told.answer).collect())
}
