//! Takes what another node of the site sends of what links have brought there: for each link as from its edge.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

use super::Within;
use super::tell::give;
use crate::links::receiver::{self, Ended, Receiver};
use crate::links::wire::{Answer, FRAME_BYTES_MAX, Said};
use crate::links::{PROTOCOL, book};
use crate::transport::{FrameReceiver, FrameSender, NodeId, StreamError};

/// Links that one stream speaks of; as many as may feed a site, each with several ids.
const LINKS_MAX: usize = 4_096;

/// What was said of each link: its receiver, and what was offered and taken.
type Links = BTreeMap<(u64, String), (Receiver, receiver::Open)>;

impl Within {
    /// Serves a stream of another node to its end.
    pub async fn serve(self: &Arc<Self>, from: NodeId, mut out: FrameSender, mut receive: FrameReceiver) {
        match self.take(&mut out, &mut receive).await {
            Ok(()) | Err(Ended::Stream(StreamError::Lost(_) | StreamError::GivenUp(_) | StreamError::Closed)) => {}
            Err(ended @ Ended::Wrong(_)) => {
                tracing::error!(node = %from, %ended, "a node sent what cannot be of what links brought there");
            }
            Err(ended) => tracing::debug!(node = %from, %ended, "a stream of what links brought has ended"),
        }
    }

    async fn take(self: &Arc<Self>, out: &mut FrameSender, from: &mut FrameReceiver) -> Result<(), Ended> {
        let wrong = |what: &str| Err(Ended::Wrong(what.to_owned()));
        let (mut links, mut whose, mut is_greeted) = (Links::new(), None, false);
        while let Some(length) = from.receive_length(FRAME_BYTES_MAX).await? {
            let Some(held) = self.budget.take(length).await else { return Ok(()) };
            let frame = receiver::receive_body(from, length).await?;
            let answers = match (Said::decode(&frame)?, &whose) {
                (Said::Hello(hello), None) if !is_greeted && hello.protocol >= PROTOCOL && hello.site == self.site => {
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
                    receiver.hear(open, said, &frame).await?.into_iter().map(|told| told.answer).collect()
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

    fn receiver(self: &Arc<Self>, (link, name): &(u64, String)) -> Receiver {
        Receiver {
            log: Arc::clone(&self.log),
            link: *link,
            name: name.clone(),
            site: self.site,
            // What comes within the site is not what the link brings here.
            page: Arc::new(Mutex::new(book::Page::default())),
            budget: self.budget.clone(),
            within: None,
        }
    }
}
