//! One connection in its turns: settle acknowledgements, deliver, wait, take what came.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};

use super::acks::{AckQueue, PUBACK, PUBCOMP, Refusal, Why};
use super::deliver::Deliverer;
use super::door::Door;
use super::input::Input;
use super::publish::Publisher;
use super::turn::{Happened, Outgoing, Turn};
use crate::event_log::{CommitFailed, Ticket, Wake};
use crate::mqtt::codec::{Properties, Publish, Qos, Reason, Reply, Settings, Version, encode_disconnect};
use crate::mqtt::retained::Retained;
use crate::mqtt::session::{Close, End, RetainedWanted, Session, rules};
use crate::sessions::{Entry, Mail, Offer};

/// A wait with nothing to wait for is looked at again after this.
const IDLE_WAIT: Duration = Duration::from_secs(3_600);
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
    /// Offered messages in flight, by packet id.
    pub(super) offers: HashMap<u16, Box<Offer>>,
    /// Messages that wait for room in the window.
    pub(super) waiting: VecDeque<Waiting>,
}

/// Messages outside the queues of the subscriptions.
pub(super) enum Waiting {
    Offer(Box<Offer>),
    Retained(RetainedSearch),
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
        let publisher =
            Publisher::new(Arc::clone(&door.ingest), Arc::clone(&door.fan_out), Arc::clone(&client_id), entry.number);
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
            last: Ticket(0),
            rings: None,
            paused: None,
            offers: HashMap::new(),
            waiting: VecDeque::new(),
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
        // What came with CONNECT in one read is there already.
        if let Some(end) = self.take_packets()? {
            return Ok(end);
        }
        loop {
            self.settle()?;
            self.deliverer.resend(&mut self.session, &self.door.log, &mut self.outgoing.bytes);
            self.send_waiting();
            self.deliver();
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
        if happened.rung & Wake::MAIL != 0
            && let Some(end) = self.take_mail()
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
        Instant::now() + wait
    }

    /// Sends the acknowledgements of commits that are durable; answers for those that were refused.
    pub(super) fn settle(&mut self) -> Result<(), Close> {
        let log = Arc::clone(&self.door.log);
        if self.paused.is_some_and(|ticket| log.outcome(ticket).is_some()) {
            self.paused = None;
        }
        loop {
            let settled = self.acks.settle(|ticket| log.outcome(ticket), &mut self.outgoing.bytes);
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
                    CommitFailed::Full(_) => Reason::QuotaExceeded,
                    CommitFailed::Failed(_) | CommitFailed::Refused(_) => Reason::ImplementationSpecificError,
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

    fn deliver(&mut self) {
        if self.waiting.is_empty() {
            self.deliverer.deliver(&mut self.session, &self.door.log, &mut self.outgoing.bytes);
        }
    }

    /// Sends what waits for room in the window, as far as there is.
    pub(super) fn send_waiting(&mut self) {
        while self.session.window().free() > 0 && self.outgoing.len() < BACKLOG_BYTES_MAX {
            match self.waiting.pop_front() {
                None => return,
                Some(Waiting::Retained(search)) => self.send_retained(search),
                Some(Waiting::Offer(offer)) => {
                    let sent = self.deliverer.send_offer(&mut self.session, offer, &mut self.outgoing.bytes);
                    if let Some((id, offer)) = sent {
                        self.offers.insert(id, offer);
                    }
                }
            }
        }
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
        self.waiting.push_front(Waiting::Retained(search));
    }

    fn take_mail(&mut self) -> Option<End> {
        while let Some(mail) = self.entry.seat.mailbox.take() {
            let (reason, end) = match mail {
                Mail::Offer(offer) => {
                    self.waiting.push_back(Waiting::Offer(Box::new(offer)));
                    continue;
                }
                Mail::TakenOver { clean_start } => (Reason::SessionTakenOver, End::TakenOver { clean_start }),
                Mail::Stop => (Reason::ServerShuttingDown, End::Lost),
            };
            encode_disconnect(reason, self.session.version(), &mut self.outgoing.bytes);
            return Some(end);
        }
        None
    }
}
