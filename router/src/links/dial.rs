//! One link as it runs at the edge: dials, greets, sends, and tries again after each cut.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sled_data::PartitionId;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};

use super::ahead_note;
use super::backoff::{self, Tries};
use super::book::{Shared, State};
use super::class::Priority;
use super::config::LinkConfig;
use super::detail;
use super::down::{ByLink, TakeDown};
use super::down_taker::Taker;
use super::folder::Place;
use super::gate::Gate;
use super::sender::{Ended, Sender, Session};
use super::topics::{Brings, Flow};
use super::upstream::Close;
use super::ways::{Stood, Ways};
use super::wire::{Answer, Hello, Said};
use crate::event_log::EventLog;
use crate::transport::{
    Bounds, Ended as ConnectionEnded, FrameReceiver, FrameSender, LinkIdentity, SiteConnection, StreamError,
};

/// How long a greeting may take.
const HELLO_WAIT: Duration = Duration::from_secs(10);
/// Bytes of a greeting's answer.
const WELCOME_BYTES_MAX: usize = 1 << 10;
/// How often it is noted how far upstream is.
const NOTE_EVERY: Duration = Duration::from_secs(5);
/// How long a link waits that the other side does not want: people must do something first.
const REFUSED_WAIT: Duration = Duration::from_secs(60);
/// How long a connection stands, from its greeting, that was no failure, though it brought nothing over.
const STOOD_FOR: Duration = Duration::from_secs(60);
/// How long what is said when a connection is closed may come after its stream's end.
const LAST_WORDS_WAIT: Duration = Duration::from_millis(200);
/// What the link's reader is called, before its name.
pub const READER: &str = "link:";
/// What upstream may take here.
pub(super) const BOUNDS: Bounds = Bounds {
    two_way_streams_max: detail::REQUESTS_MAX,
    one_way_streams_max: 0,
    stream_bytes_max: 1 << 20,
    unread_bytes_max: 2 << 20,
    unsent_bytes_max: 64 << 20,
    datagram_bytes_max: 0,
    idle_max: Duration::from_secs(60),
    // Sooner than a NAT forgets, and seldom: some 20 MB a month.
    ping_after: Some(Duration::from_secs(20)),
};
/// How long nothing may be heard while what was sent is not said to be stored; longer than until a ping, as upstream may have no room.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How often that is looked at.
const SILENCE_LOOK: Duration = Duration::from_secs(3);

/// What a link's task needs.
pub struct Dialler {
    /// The log that is read.
    pub log: Arc<EventLog>,
    /// What the link is called here.
    pub name: String,
    /// What people call this node.
    pub node: String,
    /// This site.
    pub site: u64,
    /// What the link carries.
    pub config: LinkConfig,
    /// The link's end, which is renewed.
    pub identity: Mutex<Arc<LinkIdentity>>,
    /// Its folder.
    pub place: Arc<Place>,
    /// Where nodes upstream are, `HOST:PORT`.
    pub addresses: Vec<String>,
    /// What is known of the link.
    pub page: Shared,
    /// Who takes commands that come down.
    pub take: Option<Arc<dyn TakeDown>>,
    /// What topics and plugins that come down need.
    pub brings: Brings,
    /// Since when the connection stands, or the last one stood; `None`: none was greeted since it was dialled.
    pub stood_since: Mutex<Option<Instant>>,
    /// What is noted of what lies ahead upstream.
    pub noted_ahead: Mutex<BTreeMap<PartitionId, ahead_note::Parts>>,
    /// Told true when upstream has more of this node's own log than the node has.
    pub outlived: watch::Sender<bool>,
}

/// A stream both ways, and the newest dictionary that upstream knows.
type Greeted = (FrameSender, FrameReceiver, u8);

/// Why a session ended.
enum Cut {
    /// It is tried again.
    Again(String),
    /// The same, at another node: this one does not take it now.
    SentAway(String),
    /// The same, as nothing was heard any more.
    Silent(String),
    /// People must do something.
    Refused(String),
}

impl Dialler {
    /// Dials and keeps trying, until the node stops.
    pub async fn run(self, mut paused: watch::Receiver<bool>) {
        let (mut tries, ways) = (Tries::default(), Mutex::new(Ways::new(self.config.transport)));
        // Stands already, by another way than the last one.
        let mut next = None;
        loop {
            if *paused.borrow_and_update() {
                next = None;
                self.page.lock().set(State::Paused, "people have paused it: `edgeway link resume`");
                if paused.changed().await.is_err() {
                    return;
                }
                continue;
            }
            let before = self.page.lock().events;
            self.stood_since.lock().take();
            let cut = tokio::select! {
                cut = self.session(&ways, &mut next, tries.turn) => cut,
                changed = paused.changed() => if changed.is_err() { return } else { continue },
            };
            if next.is_some() {
                tries.failures = 0;
                continue;
            }
            let stood = self.stood_since.lock().is_some_and(|since| since.elapsed() > STOOD_FOR);
            let brought = self.page.lock().events > before;
            tries.ended(brought || stood, matches!(cut, Cut::SentAway(_)));
            let wait = match &cut {
                Cut::Again(why) | Cut::SentAway(why) | Cut::Silent(why) => {
                    tracing::debug!(link = self.name, why, "a link is cut");
                    self.page.lock().set(State::Cut, why.clone());
                    backoff::wait(tries.failures, getrandom::u64().unwrap_or_default())
                }
                Cut::Refused(why) => {
                    tracing::error!(link = self.name, why, "a link is refused");
                    self.page.lock().set(State::Refused, why.clone());
                    REFUSED_WAIT
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                changed = paused.changed() => if changed.is_err() { return },
            }
        }
    }

    /// One connection, from dialling to its end.
    async fn session(&self, ways: &Mutex<Ways>, next: &mut Option<SiteConnection>, turn: u32) -> Cut {
        let order = ways.lock().order();
        let connection = match next.take() {
            Some(connection) => connection,
            None => match self.reach(order, turn).await {
                Ok(connection) => connection,
                Err(why) => return Cut::Again(why),
            },
        };
        let (way, began) = (connection.way(), Instant::now());
        let so_far = |page: &Shared| {
            let page = page.lock();
            (page.events, page.connections)
        };
        let before = so_far(&self.page);
        ways.lock().stands(way);
        let cut = tokio::select! {
            // First: upstream closes this connection when it has the other one.
            biased;
            by_udp = self.look_for_udp(ways, way, turn) => {
                tracing::info!(link = self.name, "UDP comes through again: the link goes by it");
                *next = Some(by_udp);
                self.note();
                connection.close(Close::Done as u32, "it goes on by UDP");
                Cut::Again("it goes on by UDP".to_owned())
            }
            cut = self.stand(&connection) => cut,
        };
        let after = so_far(&self.page);
        let brought = after.0 > before.0;
        let is_silent = is_silent(&cut, after.1 > before.1);
        ways.lock().ended(Stood { way, lasted: began.elapsed(), brought, is_silent });
        cut
    }

    /// One connection, until it is cut.
    async fn stand(&self, connection: &SiteConnection) -> Cut {
        let _shown = Shown(&self.page);
        let ended = tokio::select! {
            ended = self.talk(connection) => ended,
            () = self.fall_silent(connection) => return Cut::Silent("the other side has fallen silent".to_owned()),
            () = self.keep_notes() => return Cut::Again("the node is stopping".to_owned()),
        };
        self.note();
        match ended {
            Ended::Outlived(text) => {
                self.outlived.send_replace(true);
                Cut::Refused(text)
            }
            Ended::Stream(StreamError::Lost(ConnectionEnded::Here)) if connection.is_cut() => {
                cut_by(&ConnectionEnded::Cut)
            }
            Ended::Stream(StreamError::Lost(ended)) => cut_by(&ended),
            Ended::ByOther | Ended::Stream(_) => {
                // What it said when it closed the connection comes a moment later.
                match timeout(LAST_WORDS_WAIT, connection.ended()).await {
                    Ok(ended) => cut_by(&ended),
                    Err(_) => Cut::Again(ended.to_string()),
                }
            }
            ended => Cut::Again(ended.to_string()),
        }
    }

    /// One stream for each priority; the connection ends with the first of them that ends.
    async fn talk(&self, connection: &SiteConnection) -> Ended {
        let priorities = self.config.priorities();
        let first = priorities.first().copied().unwrap_or_default();
        let (out, from, dictionary) = match self.greet(connection, first, true).await {
            Ok(streams) => streams,
            Err(ended) => return ended,
        };
        self.stands(connection);
        let session = Arc::new(Session {
            log: Arc::clone(&self.log),
            name: self.name.clone(),
            config: self.config.clone(),
            site: self.site,
            page: Arc::clone(&self.page),
            gate: Gate::new(self.log.clock(), connection, self.config.rate()),
            due: watch::Sender::new(None),
            left: Mutex::default(),
            fills: Mutex::default(),
            down: Taker::new(self.by(), self.take.clone()),
            flow: Flow::Up,
        });
        let first = async { Sender::new(&session, first, true, dictionary).run(out, from).await };
        let others = priorities.iter().skip(1).map(|priority| async {
            match self.greet(connection, *priority, false).await {
                Ok((out, from, dictionary)) => Sender::new(&session, *priority, false, dictionary).run(out, from).await,
                Err(ended) => ended,
            }
        });
        let mut others = others;
        // There are three at most.
        let (second, third) = (others.next(), others.next());
        let ended = |other| async move {
            match other {
                Some(other) => other.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = detail::serve(&session, connection) => Ended::ByOther,
            () = self.take_topics(connection, &session) => Ended::ByOther,
            () = self.take_plugins(connection, &session) => Ended::ByOther,
            ended = first => ended,
            () = self.keep_renewed(connection, &session.due) => Ended::Store("the node is stopping".to_owned()),
            ended = ended(second) => ended,
            ended = ended(third) => ended,
        }
    }

    /// The link, as those know it who take what comes down.
    fn by(&self) -> ByLink {
        ByLink { name: self.name.clone(), link: self.identity.lock().peer().link, down: self.config.down.clone() }
    }

    fn stands(&self, connection: &SiteConnection) {
        let mut page = self.page.lock();
        page.set(State::Connected, "");
        page.address = connection.address().to_string();
        page.way = Some(connection.way());
        page.connection = Some(connection.clone());
        page.connections += 1;
        *self.stood_since.lock() = Some(Instant::now());
        page.refusals.clear();
        page.last_contact_ms = Some(self.log.clock().wall_ms());
        tracing::info!(link = self.name, address = %connection.address(), by = connection.way().as_str(), "a link stands");
    }

    async fn greet(&self, connection: &SiteConnection, priority: Priority, is_first: bool) -> Result<Greeted, Ended> {
        let greeted = timeout(HELLO_WAIT, self.exchange_greetings(connection, priority, is_first)).await;
        greeted.unwrap_or_else(|_| Err(Ended::Wrong("nothing to the greeting".to_owned())))
    }

    async fn exchange_greetings(
        &self,
        connection: &SiteConnection,
        priority: Priority,
        is_first: bool,
    ) -> Result<Greeted, Ended> {
        let (mut out, mut from) = connection.open().await?;
        let hello = Hello {
            protocol: super::PROTOCOL,
            program: super::PROGRAM.to_owned(),
            site: self.site,
            name: self.node.clone(),
            priority: priority.place() as u8,
            is_first,
        };
        out.send_frame(&Said::Hello(hello).encode()).await?;
        let Some(frame) = from.receive_frame(WELCOME_BYTES_MAX).await? else { return Err(Ended::ByOther) };
        match Answer::decode(&frame)? {
            Answer::Welcome(_, dictionary) => Ok((out, from, dictionary)),
            _ => Err(Ended::Wrong("something else than welcome".to_owned())),
        }
    }

    /// Ends when nothing was heard for too long while answers are awaited: another address may do.
    async fn fall_silent(&self, connection: &SiteConnection) {
        let mut heard = (0, Instant::now());
        loop {
            tokio::time::sleep(SILENCE_LOOK).await;
            let received = connection.traffic().received;
            if received != heard.0 || self.page.lock().under_way == 0 {
                heard = (received, Instant::now());
            } else if heard.1.elapsed() >= SILENCE_MAX {
                return;
            }
        }
    }

    async fn keep_notes(&self) {
        loop {
            tokio::time::sleep(NOTE_EVERY).await;
            self.note();
        }
    }

    /// Notes how far upstream is, so that it is known after a restart too: a link is a reader with a cursor.
    fn note(&self) {
        let (known, ahead) = {
            let page = self.page.lock();
            (page.stored.clone(), page.ahead.clone())
        };
        ahead_note::note(&self.log, &self.name, (known, &ahead), &mut self.noted_ahead.lock());
    }
}

/// Whether a connection has ended as nothing came through any more (pure). One that did not come to its greeting was let through for the handshake
/// alone, unless it was heard why.
fn is_silent(cut: &Cut, is_greeted: bool) -> bool {
    match cut {
        Cut::Silent(_) => true,
        Cut::Again(_) => !is_greeted,
        Cut::SentAway(_) | Cut::Refused(_) => false,
    }
}

/// What is shown of a connection, which ends with the last that holds it.
struct Shown<'a>(&'a Shared);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        let mut page = self.0.lock();
        page.connection = None;
        page.under_way = 0;
    }
}

fn cut_by(ended: &ConnectionEnded) -> Cut {
    match ended {
        ConnectionEnded::Closed { code, text } if *code == Close::Refused as u32 => Cut::Refused(text.clone()),
        ConnectionEnded::Closed { code, text } if *code == Close::Busy as u32 => Cut::SentAway(text.clone()),
        ConnectionEnded::Closed { text, .. } => Cut::Again(text.clone()),
        ConnectionEnded::Silent => Cut::Silent(ended.to_string()),
        ConnectionEnded::Certificate(_) | ConnectionEnded::CertificateRefused(_) => Cut::Refused(ended.to_string()),
        ended => Cut::Again(ended.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_sent_away_was_heard() {
        let why = || "why".to_owned();
        // why it ended, whether it is silent before its greeting, and after it
        let cases = [
            (Cut::Silent(why()), true, true),
            (Cut::Again(why()), true, false),
            (Cut::SentAway(why()), false, false),
            (Cut::Refused(why()), false, false),
        ];
        for (cut, before, after) in cases {
            assert_eq!((is_silent(&cut, false), is_silent(&cut, true)), (before, after));
        }
    }
}
