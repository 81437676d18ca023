//! One connection in its turns: settle acknowledgements, deliver, wait, take what came.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};

use super::acks::{AckQueue, PUBACK, PUBCOMP, Refusal, Why};
use super::deliver::Deliverer;
use super::door::Door;
use super::numbered::Numbering;
use super::offers::Offers;
use super::publish::Publisher;
use super::retain::Written;
use super::turn::{Happened, Turn};
use crate::event_log::{CommitFailed, Ticket, Wake};
use crate::mqtt::codec::{Properties, Publish, Qos, Reason, Reply, Settings, Version, encode_disconnect};
use crate::mqtt::retained::Retained;
use crate::mqtt::session::{Close, End, RetainedWanted, Session, rules};
use crate::sessions::{Entry, Order};
use crate::transport::{Input, Outgoing};

/// A wait with nothing to wait for is looked at again after this.
const IDLE_WAIT: Duration = Duration::from_secs(3_600);
/// How often a kept session stores how far it has got: what a crash makes it receive again.
const SAVE_EVERY: Duration = Duration::from_secs(10);
/// Bytes that may wait to be written before nothing more is read.
const BACKLOG_BYTES_MAX: usize = 1 << 20;

/// A connection with its session.
pub(super) struct Connection<S> {
    pub(super) door: Arc<Door>,
    pub(super) entry: Arc<Entry>,
    pub(super) session: Session,
    pub(super) io: S,
    pub(super) input: Input,
    pub(super) outgoing: Outgoing,
    pub(super) settings: Settings,
    pub(super) publisher: Publisher,
    pub(super) deliverer: Deliverer,
    pub(super) acks: AckQueue,
    /// The commit that the newest publish with an acknowledgement went into.
    pub(super) last: Ticket,
    /// The commit that will ring for this connection.
    pub(super) rings: Option<Ticket>,
    /// So much is open that nothing is read until this is settled.
    pub(super) paused: Option<Ticket>,
    /// Offered messages that are not acknowledged.
    pub(super) offers: Offers,
    /// SUBACKs and UNSUBACKs that wait until what they say is stored.
    pub(super) answers: VecDeque<(Ticket, Vec<u8>)>,
    pub(super) saved: Saved,
    /// Searches for retained messages, for each filter one at most; they wait for room in the window.
    pub(super) searches: VecDeque<RetainedSearch>,
}

/// When a kept session was stored last, and whether it has got further since.
pub(super) struct Saved {
    pub(super) at: Instant,
    pub(super) is_current: bool,
}

/// A new subscription's retained messages, taken out a few at a time.
pub(super) struct RetainedSearch {
    pub(super) wanted: RetainedWanted,
    /// The topic that the search has come to.
    pub(super) after: Option<String>,
    pub(super) found: VecDeque<(String, Retained)>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    pub(super) fn new(
        door: Arc<Door>,
        entry: Arc<Entry>,
        session: Session,
        io: S,
        input: Input,
        outgoing: Outgoing,
    ) -> Self {
        let settings =
            Settings { packet_bytes_max: door.config.packet_bytes_max, ..Settings::server(session.version()) };
        let client_id = Arc::clone(&entry.client_id);
        let numbering = Numbering::new(&client_id, session.names_itself());
        let (ingest, fan_out) = (Arc::clone(&door.ingest), Arc::clone(&door.fan_out));
        let written = Written::Now(entry.begun);
        let publisher = Publisher::new(ingest, fan_out, Arc::clone(&client_id), entry.number, Some(numbering), written);
        let deliverer = Deliverer::new(client_id, Arc::clone(&entry.seat.subscriber));
        Self {
            door,
            entry,
            session,
            io,
            input,
            outgoing,
            settings,
            publisher,
            deliverer,
            acks: AckQueue::default(),
            last: Ticket::of(0),
            rings: None,
            paused: None,
            offers: Offers::default(),
            answers: VecDeque::new(),
            saved: Saved { at: Instant::now(), is_current: true },
            searches: VecDeque::new(),
        }
    }

    /// Runs until the connection ends, however it does.
    pub(super) async fn run(mut self) {
        let end = match self.turns().await {
            Ok(end) => end,
            Err(close) => {
                self.door.ingest.stats().refused_protocol.fetch_add(1, Ordering::Relaxed);
                if self.door.complaints.lets_through(self.door.log.clock().wall_ms()) {
                    let (client, rule) = (&self.entry.client_id, close.rule.text);
                    tracing::warn!(%client, reason = ?close.reason, rule, "a connection is closed");
                }
                self.session.farewell(&close, &mut self.outgoing.bytes);
                End::Lost
            }
        };
        self.finish(end).await;
    }

    async fn turns(&mut self) -> Result<End, Close> {
        let deadline = sleep_until(Instant::now());
        tokio::pin!(deadline);
        self.save();
        // What came with CONNECT in one read is there already.
        if let Some(end) = self.take_packets()? {
            return Ok(end);
        }
        loop {
            self.outgoing.borrow();
            self.settle()?;
            self.deliverer.resend(&mut self.session, &self.door.log, &mut self.outgoing.bytes);
            self.send_waiting();
            if self.deliver() {
                self.entry.seat.wake.ring(Wake::DELIVER);
                tokio::task::yield_now().await;
            }
            self.save_now_and_then();
            deadline.as_mut().reset(self.next_deadline());
            let reads = self.paused.is_none()
                && self.outgoing.len() < BACKLOG_BYTES_MAX
                && !(self.session.version() == Version::V311 && self.session.is_inbound_full());
            let wake = Arc::clone(&self.entry.seat.wake);
            let turn = Turn {
                io: &mut self.io,
                input: &mut self.input,
                outgoing: &mut self.outgoing,
                wake: &wake,
                deadline: deadline.as_mut(),
                reads,
            };
            let Ok(happened) = turn.wait().await else { return Ok(End::Lost) };
            if let Some(end) = self.take(&happened)? {
                return Ok(end);
            }
        }
    }

    fn take(&mut self, happened: &Happened) -> Result<Option<End>, Close> {
        if happened.read {
            self.session.heard(self.door.now_ms());
        }
        if happened.deadline {
            self.session.check_silence(self.door.now_ms())?;
        }
        if happened.rung & Wake::DELIVER != 0 {
            self.saved.is_current = false;
        }
        if happened.rung & Wake::MAIL != 0
            && let Some(end) = self.take_order()
        {
            return Ok(Some(end));
        }
        if happened.rung & Wake::SETTLED != 0 {
            self.settle()?;
        }
        let may_go_on = happened.read || happened.rung & Wake::SETTLED != 0;
        if may_go_on && let Some(end) = self.take_packets()? {
            return Ok(Some(end));
        }
        Ok(happened.end.then_some(End::Lost))
    }

    fn next_deadline(&self) -> Instant {
        let wait = match self.session.silent_at_ms() {
            Some(at_ms) => Duration::from_millis(at_ms.saturating_sub(self.door.now_ms()).max(1)),
            None => IDLE_WAIT,
        };
        let wait_to_save = if self.is_unsaved() { SAVE_EVERY.saturating_sub(self.saved.at.elapsed()) } else { wait };
        Instant::now() + wait.min(wait_to_save)
    }

    fn is_unsaved(&self) -> bool {
        !self.saved.is_current && self.session.is_kept()
    }

    fn save_now_and_then(&mut self) {
        if self.is_unsaved() && self.saved.at.elapsed() >= SAVE_EVERY {
            self.save();
        }
    }

    /// Sends the acknowledgements of commits that are durable; answers for those that were refused.
    pub(super) fn settle(&mut self) -> Result<(), Close> {
        let log = Arc::clone(&self.door.log);
        if self.paused.is_some_and(|ticket| log.outcome(ticket).is_some()) {
            self.paused = None;
        }
        // A subscription holds even where it could not be stored; the log says that it was not.
        while let Some((_, frame)) = self.answers.pop_front_if(|(ticket, _)| log.outcome(*ticket).is_some()) {
            self.outgoing.bytes.extend_from_slice(&frame);
        }
        loop {
            let settled = self.acks.settle(|ticket| log.acknowledged(ticket), &mut self.outgoing.bytes);
            self.session.pubacks_sent(settled.pubacks);
            if settled.refusals.is_empty() {
                return Ok(());
            }
            let mut said = Ok(());
            for refusal in settled.refusals {
                said = said.and(self.say_no(&refusal));
            }
            said?;
        }
    }

    /// Words a negative acknowledgement; MQTT 3.1.1 has none, its connection closes instead.
    fn say_no(&mut self, refusal: &Refusal) -> Result<(), Close> {
        let (qos, packet_id) =
            (if refusal.first == PUBACK { Qos::AtLeastOnce } else { Qos::ExactlyOnce }, refusal.packet_id);
        let reply = match &refusal.why {
            Why::AtOnce(reason) if qos == Qos::AtLeastOnce => Some(Reply::PubAck { packet_id, reason: *reason }),
            Why::AtOnce(reason) => Some(Reply::PubRec { packet_id, reason: *reason }),
            Why::Commit(failed) => {
                self.door.ingest.stats().refused_store.fetch_add(1, Ordering::Relaxed);
                let reason = match failed {
                    // It is stored: a negative answer would be wrong, and a resend is recognised.
                    CommitFailed::Unreplicated(_) => {
                        return Err(Close { reason: Reason::UnspecifiedError, rule: rules::NOT_REPLICATED });
                    }
                    // It may be stored, and be there once the node was started again.
                    CommitFailed::Failed(_) => {
                        return Err(Close { reason: Reason::UnspecifiedError, rule: rules::STORE_FAILED });
                    }
                    CommitFailed::Full(_) => Reason::QuotaExceeded,
                    CommitFailed::Refused(_) => Reason::UnspecifiedError,
                };
                if refusal.first == PUBCOMP {
                    // That the id is free again is not stored: only a new connection can say so.
                    return Err(Close { reason, rule: rules::RELEASE_NOT_STORED });
                }
                let properties = Properties::NONE;
                let refused =
                    Publish { topic: "", payload: &[], properties, packet_id, qos, dup: false, retain: false };
                self.session.refuse_publish(&refused, reason)?
            }
        };
        if qos == Qos::AtLeastOnce {
            self.session.pubacks_sent(1);
        }
        if let Some(reply) = reply {
            reply.encode(self.session.version(), &mut self.outgoing.bytes);
        }
        Ok(())
    }

    fn deliver(&mut self) -> bool {
        self.searches.is_empty() && self.deliverer.deliver(&mut self.session, &self.door.log, &mut self.outgoing.bytes)
    }

    /// Sends what waits for room in the window, as far as there is: offers first, then what is retained.
    fn send_waiting(&mut self) {
        // What is retained comes behind its SUBACK.
        while self.answers.is_empty() && self.session.window().free() > 0 && self.outgoing.len() < BACKLOG_BYTES_MAX {
            if let Some(offer) = self.entry.mailbox.take_offer() {
                let out = &mut self.outgoing.bytes;
                match self.deliverer.send_offer(&mut self.session, Box::new(offer), out) {
                    Some((Some(id), offer)) => self.offers.sent(id, offer),
                    Some((None, offer)) => self.offers.sent_unconfirmed(offer),
                    None => {}
                }
            } else if let Some(search) = self.searches.pop_front() {
                self.send_retained(search);
            } else {
                return;
            }
        }
    }

    /// Begins to send what is retained for a subscription; a search for the same filter begins anew.
    pub(super) fn search(&mut self, wanted: RetainedWanted) {
        self.forget_search(&wanted.filter);
        self.searches.push_back(RetainedSearch { wanted, after: None, found: VecDeque::new() });
    }

    /// Ends the search for what is retained for a filter.
    pub(super) fn forget_search(&mut self, filter: &str) {
        self.searches.retain(|search| search.wanted.filter != filter);
    }

    /// Sends the next message of a search, and goes on with it later.
    fn send_retained(&mut self, mut search: RetainedSearch) {
        let now_ms = self.door.now_ms();
        if search.found.is_empty() {
            search.found = self.door.retained.matching(&search.wanted.filter, search.after.as_deref(), now_ms).into();
        }
        let Some((topic, message)) = search.found.pop_front() else { return };
        let out = &mut self.outgoing.bytes;
        self.deliverer.send_retained(&mut self.session, &search.wanted, &topic, &message, out, now_ms);
        search.after = Some(topic);
        self.searches.push_front(search);
    }

    fn take_order(&mut self) -> Option<End> {
        let (reason, end) = match self.entry.mailbox.take_order()? {
            Order::TakenOver { clean_start } => (Reason::SessionTakenOver, End::TakenOver { clean_start }),
            Order::Removed => (Reason::AdministrativeAction, End::Lost),
            Order::Stop => (Reason::ServerShuttingDown, End::Lost),
            Order::Leave => (Reason::ServerMoved, End::Lost),
        };
        encode_disconnect(reason, self.session.version(), &mut self.outgoing.bytes);
        Some(end)
    }
}
