//! Takes what another node of the site sends of what links have brought there: for each link as from its edge.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use sled_data::{LinkedPart, OriginId, PartitionId, Store};

use super::Within;
use super::tell::{Out, Told, give};
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
            let frame = receiver::receive_body(from, length).await?;
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
                    self.hear(from_node, (receiver, open), said, &frame).await?
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
        frame: &[u8],
    ) -> Result<Vec<Answer>, Ended> {
        let origin = match &said {
            Said::Parts(parts) => parts.origin,
            Said::Offer(origin, _) if self.is_removed(receiver.link, *origin) => {
                let text = format!("origin {origin} is of a link that was removed, and nothing of it is here any more");
                return Ok(vec![Answer::Refused(Refused::new(origin.0, 0, "removed", text))]);
            }
            _ => return answers(receiver.hear(open, said, frame).await),
        };
        let differs = match &said {
            Said::Parts(parts) => differs(self.log.store(), &parts.parts),
            _ => None,
        };
        let heard = match differs {
            Some(id) => Err(Ended::Again(format!("{id} is not the same here"))),
            None => receiver.hear(open, said, frame).await,
        };
        let (code, text) = match heard {
            Err(Ended::Again(text)) => (AGAIN, text),
            Err(Ended::Wrong(text)) => (WRONG, text),
            heard => {
                self.note_came(from, origin);
                return answers(heard);
            }
        };
        // What was under way behind it comes still, and is refused as well.
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

    /// Whether an origin is not here, and its link was removed: what was forgotten of it does not come back from a node that has some of it.
    fn is_removed(&self, link: u64, origin: OriginId) -> bool {
        let is_new = self.log.store().linked_origin(origin).is_none();
        is_new && self.records.of(link).is_some_and(|record| record.is_revoked)
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
            takes_ahead: false,
        }
    }
}

fn answers(heard: Result<Vec<Told>, Ended>) -> Result<Vec<Answer>, Ended> {
    Ok(heard?.into_iter().map(|told| told.answer).collect())
}

/// A partition of which a batch that is here already is another one than what comes. An edge that was restored may have gone on here while what it
/// had before was on its way from another node: what is behind that is not to be put behind the other. When the stream begins anew it is judged.
fn differs(store: &Store, parts: &[LinkedPart]) -> Option<PartitionId> {
    let is_other = |part: &&LinkedPart| match part {
        LinkedPart::Batch(batch) => {
            let (id, next) = (batch.envelope().partition, batch.next_offset());
            // Few are here already: those that two nodes have sent.
            let here = if next <= store.end_offset(id) { store.hlc_before(id, next) } else { None };
            here.is_some_and(|hlc| hlc != batch.envelope().hlc)
        }
        LinkedPart::Hole(..) => false,
    };
    parts.iter().find(is_other).map(LinkedPart::partition)
}

#[cfg(test)]
mod tests {
    use sled_data::{Linked, MemoryBackend, Options, OriginId, TopicId};

    use super::*;
    use crate::event_log::rubbish::sound;

    #[test]
    fn what_is_here_already_must_be_the_same() {
        let options = Options { seed: Some(1), ..Options::default() };
        let (store, _) = Store::on(Arc::new(MemoryBackend::new()), options).unwrap();
        let id = PartitionId { origin: OriginId(50), topic: TopicId(1), index: 0 };
        let part = |base, hlc, events: &[&str]| vec![LinkedPart::Batch(sound(id, base, hlc, events).into())];
        let linked = Linked { link: 5, hlc: 0, path: vec![1] };
        store.take_linked(id.origin, &linked, &part(0, 70, &["a", "b"])).unwrap();
        store.take_linked(id.origin, &linked, &part(2, 71, &["c"])).unwrap();
        // what comes, whether it is something else
        let cases = [
            (part(0, 70, &["a", "b"]), false),
            (part(2, 71, &["c"]), false),
            (part(2, 72, &["x"]), true),
            (part(0, 69, &["x", "y"]), true),
            (part(3, 90, &["d"]), false),
            // It ends within a batch that is here; its place says nothing.
            (part(0, 60, &["x"]), false),
        ];
        for (parts, expected) in cases {
            assert_eq!(differs(&store, &parts).is_some(), expected, "{parts:?}");
        }
    }
}
