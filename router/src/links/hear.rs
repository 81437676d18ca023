//! What upstream answers on one stream of a link: where partitions end, what is stored, what is not taken.

use std::time::Duration;

use sled_data::{Offset, OriginId, PARTS_AHEAD_MAX, PartitionId};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::later::HeardAhead;
use super::sender::{Ended, Open, Sender};
use super::wire::{Answer, OURS_TOPIC, Refused};
use crate::event_log::{Act, Outliver};
use crate::transport::FrameReceiver;

/// How long it holds still before what was refused, or is further upstream, is asked again.
pub(super) const ASK_AGAIN: Duration = Duration::from_secs(60);
/// Bytes of a frame from upstream.
const ANSWER_BYTES_MAX: usize = 512 << 10;

impl Sender {
    /// Hears until upstream ends the stream.
    pub(super) async fn hear_all(&self, from: &mut FrameReceiver, heard: &Notify) -> Result<(), Ended> {
        while let Some(frame) = from.receive_frame(ANSWER_BYTES_MAX).await? {
            self.hear(Answer::decode(&frame)?).await?;
            heard.notify_one();
        }
        Ok(())
    }

    /// Hears one answer.
    pub(super) async fn hear(&self, answer: Answer) -> Result<(), Ended> {
        self.check_answer(&answer)?;
        let session = &self.session;
        session.page.lock().last_contact_ms = Some(session.log.clock().wall_ms());
        match answer {
            Answer::Welcome(..) => Err(Ended::Wrong("welcome twice".to_owned())),
            Answer::Stored(number) => self.stored(number),
            Answer::Refused(refused) => {
                self.refused(&mut self.open.lock(), &refused);
                Ok(())
            }
            Answer::Ahead(aheads) => {
                let parts = aheads.into_iter().map(|(id, last)| (id, vec![last])).collect();
                self.open.lock().aheads = Some(HeardAhead { parts, parts_max: 1 });
                Ok(())
            }
            Answer::AllAhead(aheads) => {
                let parts = aheads.into_iter().collect();
                self.open.lock().aheads = Some(HeardAhead { parts, parts_max: PARTS_AHEAD_MAX });
                Ok(())
            }
            Answer::Stands(stands) => self.go_on(stands).await,
            Answer::Asked(number, question) => {
                session.down.asked(number, question).await;
                Ok(())
            }
            Answer::Known(said) => {
                session.down.known(said);
                Ok(())
            }
            Answer::Due(after_s) => {
                session.due.send_replace(Some(after_s));
                Ok(())
            }
            Answer::Renewed(..) => Err(Ended::Wrong("a certificate that nobody asked for".to_owned())),
        }
    }

    fn stored(&self, number: u64) -> Result<(), Ended> {
        let session = &self.session;
        let mut open = self.open.lock();
        if number > open.number {
            return Err(Ended::Wrong("that it has stored what was not sent".to_owned()));
        }
        while let Some(done) = open.done(number, Instant::now()) {
            session.gate.stored(self.priority, done.brought.sent_bytes as usize);
            let mut page = session.page.lock();
            page.stored(self.priority, done.brought, session.log.clock().monotonic());
            drop(page);
            for (id, end) in done.ends {
                match self.fills(id) {
                    true => self.filled(&mut open, id, end),
                    // Of a life that has ended what is told as gone may lie behind all that is here.
                    false => session.page.lock().stored_up_to(id, end.min(session.log.visible_end(id))),
                }
            }
        }
        Ok(())
    }

    /// What is not taken is asked again later.
    fn refused(&self, open: &mut Open, refused: &Refused) {
        if refused.code != OURS_TOPIC && self.session.page.lock().refuse(&refused.text) {
            tracing::warn!(link = self.session.name, code = refused.code, "upstream: {}", refused.text);
        }
        let is_of = |id: &PartitionId| match refused.topic {
            0 => id.origin.0 == refused.origin,
            topic => id.topic.0 == topic,
        };
        let again = Instant::now() + ASK_AGAIN;
        open.asked.iter_mut().filter(|(id, _)| is_of(id)).for_each(|(_, ask)| ask.until = Some(again));
        open.offered.remove(&OriginId(refused.origin));
        open.topics.remove(&refused.topic);
        self.lanes.lock().keep(|id| !is_of(&id));
    }

    /// Upstream has more of this life: it ends, unless a link has ended one lately. An edge's word ends none.
    pub(super) async fn end_life(&self, id: PartitionId, end: Offset) -> Result<(), Ended> {
        let session = &self.session;
        if session.is_down() {
            self.is_otherwise_below(id, end);
            return Ok(());
        }
        let store = |error: &dyn std::fmt::Display| Ended::Store(error.to_string());
        if session.log.may_end_life(Outliver::Link).map_err(|error| store(&error))? {
            session.log.note_end_of_life(Outliver::Link).await.map_err(|error| store(&error))?;
            return Err(self.outlived(id, end));
        }
        let text = format!(
            "{id} ends at {end} upstream of link {}, and is not that here; a link has ended a life of this store within a \
             day, so this one goes on, and nothing of this partition is sent: was the store restored again, or is upstream \
             not to be trusted?",
            session.name
        );
        if session.page.lock().refuse(&text) {
            self.tell("link.outlived-again", &text);
        }
        Ok(())
    }

    fn outlived(&self, id: PartitionId, end: Offset) -> Ended {
        let text = format!(
            "{id} ends at {end} upstream of link {}, and is not that here: this node's store was restored or copied. The \
             node ends its life and begins a new one when it is started again; what it had before is kept upstream",
            self.session.name
        );
        self.tell("link.outlived", &text);
        Ended::Outlived(text)
    }

    pub(super) fn forked(&self, id: PartitionId, end: Offset) {
        let text = format!(
            "{id} of an earlier life is not the same here as upstream of link {}, which has it up to {end}: a store was \
             restored or copied. What is here alone is not sent; read it here with `edgeway tail`",
            self.session.name
        );
        if self.session.page.lock().refuse(&text) {
            self.tell("link.forked", &text);
        }
    }

    /// Nothing is told where there is nothing more to send.
    pub(super) fn doubtful(&self, id: PartitionId, end: Offset) {
        let log = &self.session.log;
        if !log.partition(id).is_ok_and(|partition| partition.visible_end() > end) {
            return;
        }
        let text = format!(
            "{id} is of a life that is not the same here as upstream of link {}, which has it up to {end}, and nothing is \
             left that shows whether this part of it is; what is here alone is not sent; read it here with `edgeway tail`",
            self.session.name
        );
        if self.session.page.lock().refuse(&text) {
            self.tell("link.doubtful", &text);
        }
    }

    /// Says it loudly and writes it down.
    fn tell(&self, act: &'static str, text: &str) {
        tracing::error!(link = self.session.name, "{text}");
        let act = Act { who: "node", act, what: &self.session.name, outcome: act, detail: text.into() };
        if let Err(error) = self.session.log.audit(act) {
            tracing::warn!(%error, "it is not in the audit");
        }
    }
}
