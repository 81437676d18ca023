//! From a decision to the message that a session gets, and what comes of it.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use devices::command::{Repeat, asks_for, command_topic, refused_topic};

use super::mail::{Fate, Report};
use super::read::Refused;
use super::table::{Effect, Now, Table};
use super::{Commands, Entry};
use crate::sessions::{Offer, SessionHandle, Terms};

impl Commands {
    /// The messages to sessions. What follows from them is reported to the next round.
    pub(super) fn offers(
        &self,
        table: &Table,
        effects: &[Effect],
        handles: &HashMap<u64, SessionHandle>,
        now: Now,
    ) -> Vec<(SessionHandle, Offer)> {
        let mut offers = Vec::new();
        for effect in effects {
            let Effect::Offer(id, session) = *effect else { continue };
            let (Some(entry), Some(handle)) = (table.get(id), handles.get(&session)) else { continue };
            offers.push((handle.clone(), self.offer(entry, session, now)));
        }
        offers
    }

    fn offer(&self, entry: &Entry, session: u64, now: Now) -> Offer {
        let (id, mail, mut written) = (entry.id, Arc::clone(&self.mail), false);
        let topic = command_topic(&entry.device, id, &entry.queued.name);
        let mut offer = Offer::new(topic.into(), entry.queued.payload.0.as_slice().into(), move |delivery| {
            if let Some(fate) = Fate::of(delivery, &mut written) {
                mail.report(Report { id, session, fate });
            }
        });
        let left = Duration::from_millis(entry.deliver_by.saturating_sub(now.steady));
        offer.expires = Some(std::time::Instant::now() + left);
        offer.urgent = entry.queued.urgent;
        offer.terms = Some(Terms {
            id: *id.as_bytes(),
            deliver_by_ms: entry.queued.deliver_by_ms,
            execution_timeout_ms: entry.execution_timeout_ms(),
            attempt: entry.progress.attempts(),
            never_repeat: entry.queued.repeat == Repeat::Never,
        });
        offer
    }

    /// Hands commands to their sessions. A session that takes one not takes none of those behind it, so that none
    /// overtakes it; dropping an offer reports it.
    pub(super) fn hand_over(&self, offers: Vec<(SessionHandle, Offer)>) {
        let mut full = HashSet::new();
        for (handle, offer) in offers {
            if full.contains(&handle.number()) {
                continue;
            }
            self.stats.sent.fetch_add(1, Relaxed);
            if let Err(offer) = handle.offer(offer) {
                full.insert(handle.number());
                drop(offer);
            }
        }
    }

    /// Tells whoever listens for a device that an answer does not count; nothing waits for it.
    pub(super) fn tell(&self, refused: &Refused) {
        let topic = refused_topic(&refused.device, refused.id, refused.code);
        if let Some(handle) = self.sessions.find_receiver(&topic, |filter| asks_for(filter, &topic)) {
            let _ = handle.offer(Offer::new(topic.into(), refused.code.as_bytes().into(), |_| {}));
        }
    }
}
