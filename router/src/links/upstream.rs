//! Upstream's side of links: lets invited sites in, takes their connections, and stores what they bring.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::book::{Direction, Gap, LinkView, Page, Shared, State};
use super::budget::Budgets;
use super::down::DOWN_PROTOCOL;
use super::down_desk::Desk;
use super::invite::{self, Answer as Invited, REQUEST_BYTES_MAX, Refusal, Request, Welcome};
use super::pack::DICTIONARY;
use super::receiver::{Ended, Receiver};
use super::records::Records;
use super::wire::{Answer, Hello, Said};
use crate::catalog::Refusal as Refused;
use crate::event_log::EventLog;
use crate::security::JoinTokenHash;
use crate::transport::{
    FrameReceiver, FrameSender, LinkPeer, NodeId, SiteConnection, SiteIdentity, SiteProtocol, StreamError,
};

/// Edges that accept an invitation at once; more are told to come again.
const INVITED_MAX: usize = 4;
/// Connections of links at once.
const CONNECTIONS_MAX: usize = 1_024;
/// Streams of one connection.
const STREAMS_MAX: usize = 8;
/// How long an edge has to say what it wants.
const HELLO_WAIT: Duration = Duration::from_secs(10);
/// How long last words may take.
const LAST_WORDS_WAIT: Duration = Duration::from_secs(5);
/// Bytes of a greeting.
const HELLO_BYTES_MAX: usize = 1 << 10;
/// Gaps that are shown of one link.
const GAPS_SHOWN_MAX: usize = 1_000;

/// Why a connection is closed: numbers that both sides know, never used again for something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Close {
    /// All was said.
    Done = 0,
    /// There is no place right now.
    Busy = 1,
    /// What was sent cannot be read.
    Garbage = 2,
    /// The link is not known, was removed, or cannot be spoken with: people must do something.
    Refused = 3,
    /// Another connection of the same gateway has come.
    Replaced = 4,
    /// The edge is to begin anew.
    Again = 5,
}

/// Upstream's side.
pub struct Upstream {
    log: Arc<EventLog>,
    identity: Arc<SiteIdentity>,
    records: Arc<Records>,
    pages: Mutex<BTreeMap<u64, Shared>>,
    connected: Mutex<BTreeMap<(u64, NodeId), SiteConnection>>,
    invited: Semaphore,
    places: Semaphore,
    budgets: Budgets,
    desk: Arc<Desk>,
}

impl Upstream {
    /// Takes links into the site of this identity.
    pub fn new(log: Arc<EventLog>, identity: Arc<SiteIdentity>, records: Arc<Records>) -> Arc<Self> {
        Arc::new(Self {
            log,
            identity,
            records,
            pages: Mutex::default(),
            connected: Mutex::default(),
            invited: Semaphore::new(INVITED_MAX),
            places: Semaphore::new(CONNECTIONS_MAX),
            budgets: Budgets::default(),
            desk: Arc::default(),
        })
    }

    /// Who asks gateways for what is to come down.
    pub fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    /// Whether a site of this name feeds this one.
    pub fn has_site(&self, name: &str) -> bool {
        self.records.all().iter().any(|record| record.name == name && !record.is_revoked)
    }

    /// Makes an invitation known, by the hash of its secret; until when it serves.
    ///
    /// # Errors
    /// As those of [`Records::invite`].
    pub async fn invite(&self, name: &str, hash: JoinTokenHash, who: &str) -> Result<i64, Refused> {
        self.records.invite(name, hash, who).await
    }

    /// Removes a link. Its connections end, at every node of the site.
    ///
    /// # Errors
    /// As those of [`Records::revoke`].
    pub async fn remove(&self, name: &str, who: &str) -> Result<(), Refused> {
        self.records.revoke(name, who).await
    }

    /// Brings what an earlier program kept of links into the catalog; ends when it is there.
    pub async fn import(&self) {
        self.records.import().await;
    }

    /// Forgets origins of removed links of which nothing is kept any more, one a call; whether there was one. Blocks on the disk.
    ///
    /// # Errors
    /// The store's.
    pub fn forget_one(&self) -> Result<bool, sled_data::StoreFailed> {
        for (origin, linked) in self.log.store().linked() {
            // Of one that nobody knows it is not certain that it was removed.
            let is_removed = self.records.of(linked.link).is_some_and(|record| record.is_revoked);
            if is_removed && self.log.forget_linked(origin)? {
                tracing::info!(%origin, "an origin of a removed link is forgotten: nothing of it is kept any more");
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The links, as people see them. Reads the store.
    pub fn views(&self) -> Vec<LinkView> {
        let mut gaps = self.gaps();
        let view = |record: super::LinkRecord| {
            let gaps = record.ids.iter().flat_map(|id| gaps.remove(id).unwrap_or_default()).collect();
            let page = self.page(record.ids.first().copied().unwrap_or_default());
            let mut page = page.lock();
            if record.is_revoked {
                page.set(State::Revoked, "it was removed here");
            }
            page.view(&record.name, Direction::Down, gaps, self.log.clock().monotonic())
        };
        self.records.all().into_iter().map(view).collect()
    }

    /// What never came by each link, the newest news first.
    fn gaps(&self) -> BTreeMap<u64, Vec<Gap>> {
        let store = self.log.store();
        let links: BTreeMap<_, u64> = store.linked().into_iter().map(|(origin, from)| (origin, from.link)).collect();
        let mut gaps: BTreeMap<u64, Vec<Gap>> = BTreeMap::new();
        for partition in self.log.all_partitions() {
            let id = partition.id();
            let (Some(link), holes) = (links.get(&id.origin), store.holes(id)) else { continue };
            if !holes.is_empty() {
                let of_link = gaps.entry(*link).or_default();
                of_link.extend(holes.into_iter().map(|hole| gap(partition.topic(), id, hole)));
            }
        }
        for of_link in gaps.values_mut() {
            of_link.sort_by_key(|gap| std::cmp::Reverse(gap.at_ms));
            of_link.truncate(GAPS_SHOWN_MAX);
        }
        gaps
    }

    fn page(&self, link: u64) -> Shared {
        let fresh = || Arc::new(Mutex::new(Page { state: State::Cut, ..Page::default() }));
        Arc::clone(self.pages.lock().entry(link).or_insert_with(fresh))
    }

    /// The page of the link that certificates of this id are of.
    fn page_of(&self, id: u64) -> Shared {
        let first = self.records.of(id).and_then(|record| record.ids.first().copied());
        self.page(first.unwrap_or(id))
    }

    /// Serves one connection to its end. Its protocol is that of a link, or of one who accepts an invitation.
    pub async fn serve(&self, connection: SiteConnection) {
        match (connection.protocol(), connection.link()) {
            (SiteProtocol::LinkJoin, _) => {
                let Ok(_place) = self.invited.try_acquire() else {
                    return connection
                        .close(Close::Busy as u32, "others accept invitations right now: try again in a moment");
                };
                if timeout(HELLO_WAIT, self.let_in(&connection)).await.is_err() {
                    connection.close(Close::Garbage as u32, "no request came in time");
                }
            }
            (_, Some(peer)) => {
                let Ok(_place) = self.places.try_acquire() else {
                    return connection
                        .close(Close::Busy as u32, "there are as many connections of links as there may be");
                };
                self.carry(peer, &connection).await;
            }
            (_, None) => connection.close(Close::Garbage as u32, "no certificate of a link was shown"),
        }
    }

    /// Answers one that accepts an invitation.
    async fn let_in(&self, connection: &SiteConnection) {
        let from = connection.address();
        let asked = async {
            let (send, mut receive) = connection.accept().await?;
            Ok::<_, StreamError>((send, receive.receive_frame(REQUEST_BYTES_MAX).await?))
        };
        let Ok((mut send, Some(bytes))) = asked.await else {
            return connection.close(Close::Garbage as u32, "the request cannot be read");
        };
        let answer = match self.admit(&bytes).await {
            Ok(welcome) => {
                tracing::info!(%from, site = welcome.name, node = %welcome.node, "a site feeds this one from now on");
                Invited::Welcome(welcome)
            }
            Err(refusal) => {
                tracing::warn!(%from, why = %refusal, "a site may not feed this one");
                Invited::Refusal(refusal)
            }
        };
        let last_words = async {
            if send.send_frame(&invite::encode(&answer)).await.is_ok() {
                send.finish();
                send.stopped().await;
            }
        };
        let _ = timeout(LAST_WORDS_WAIT, last_words).await;
        connection.close(Close::Done as u32, "");
    }

    async fn admit(&self, bytes: &[u8]) -> Result<Welcome, Refusal> {
        let request = invite::decode::<Request>(bytes).filter(Request::is_sound);
        let request =
            request.ok_or_else(|| Refusal::new("invalid", "the request cannot be read: is one side newer?"))?;
        if request.protocol < super::PROTOCOL_MIN {
            return Err(Refusal::new("version", "the edge speaks an older version of links: upgrade it"));
        }
        if request.site == self.identity.site() {
            return Err(Refusal::new("own-site", "the edge is of this site itself"));
        }
        let node = id_of(&request.public_key);
        let (name, peer) = self.records.admit(&request, node).await?;
        let made = self.identity.admit_link(peer, &name, &request.public_key);
        let (certificate, ca) = made.map_err(|error| Refusal::new("invalid", error.to_string()))?;
        Ok(Welcome { name, link: peer.link, node, site: self.identity.site(), certificate, ca })
    }

    /// Serves the streams of a link's connection until it ends.
    async fn carry(&self, peer: LinkPeer, connection: &SiteConnection) {
        let key = (peer.link, peer.node);
        if let Some(before) = self.connected.lock().insert(key, connection.clone()) {
            before.close(Close::Replaced as u32, "the same gateway has connected anew");
        }
        let page = self.page_of(peer.link);
        let mut changed = self.records.watch();
        {
            let mut page = page.lock();
            page.connections += 1;
            page.address = connection.address().to_string();
        }
        let mut streams = JoinSet::new();
        let ended = loop {
            tokio::select! {
                stream = connection.accept(), if streams.len() < STREAMS_MAX => {
                    let Ok((out, from)) = stream else { break String::new() };
                    streams.spawn(stream_of(self.receiver(peer), peer, (Arc::clone(&self.records), Arc::clone(&self.desk)), out, from));
                }
                Ok(()) = changed.changed() => {
                    if let Err(refusal) = self.records.may_stay(peer) {
                        connection.close(Close::Refused as u32, &refusal.text);
                        break refusal.text;
                    }
                }
                Some(ended) = streams.join_next(), if !streams.is_empty() => match ended {
                    Ok(Some((close, text))) => {
                        connection.close(close as u32, &text);
                        break text;
                    }
                    Ok(None) => {}
                    Err(_) => break "the node is stopping".to_owned(),
                },
            }
        };
        let mut connected = self.connected.lock();
        let is_last = connected.get(&key).is_some_and(|last| last.is_same(connection));
        if is_last {
            connected.remove(&key);
            let why = if ended.is_empty() { "the connection ended".to_owned() } else { ended };
            tracing::info!(node = %peer.node, address = %connection.address(), why, "a link is cut");
            // Other gateways of the site may feed it still.
            if !connected.keys().any(|(link, _)| *link == peer.link) {
                page.lock().set(State::Cut, why);
            }
        }
    }

    fn receiver(&self, peer: LinkPeer) -> Receiver {
        Receiver {
            log: Arc::clone(&self.log),
            link: peer.link,
            name: String::new(),
            site: self.identity.site(),
            page: self.page_of(peer.link),
            budget: self.budgets.of(peer.link),
        }
    }
}

/// Greets a stream and serves it to its end; how the connection is to be closed, if it is.
async fn stream_of(
    mut receiver: Receiver,
    peer: LinkPeer,
    (records, desk): (Arc<Records>, Arc<Desk>),
    mut out: FrameSender,
    mut from: FrameReceiver,
) -> Option<(Close, String)> {
    let garbage = |text: &str| Some((Close::Garbage, text.to_owned()));
    let frame = match timeout(HELLO_WAIT, from.receive_frame(HELLO_BYTES_MAX)).await {
        Ok(Ok(Some(frame))) => frame,
        Ok(Ok(None) | Err(_)) => return None,
        Err(_) => return garbage("no greeting came in time"),
    };
    let Ok(Said::Hello(hello)) = Said::decode(&frame) else { return garbage("the greeting cannot be read") };
    match records.judge(peer, &hello) {
        Ok(name) => receiver.name = name,
        Err(refusal) => {
            tracing::warn!(node = %peer.node, name = hello.name, why = %refusal, "a link is refused");
            return Some((Close::Refused, refusal.text));
        }
    }
    greeted(&receiver, &hello);
    let dictionary = if receiver.page.lock().takes_plain { 0 } else { DICTIONARY };
    if out.send_frame(&Answer::Welcome(receiver.site, dictionary).encode()).await.is_err() {
        return None;
    }
    let is_told = hello.is_first && hello.protocol >= DOWN_PROTOCOL;
    let down = if is_told { desk.open(&receiver.name, peer.node, &receiver.page) } else { None };
    match receiver.run(out, from, down).await {
        Ended::ByEdge | Ended::Stream(StreamError::Lost(_) | StreamError::GivenUp(_) | StreamError::Closed) => None,
        Ended::Again(text) => Some((Close::Again, text)),
        Ended::Store(text) => Some((Close::Busy, text)),
        ended => {
            tracing::error!(link = receiver.name, %ended, "a link brought what cannot be");
            Some((Close::Garbage, ended.to_string()))
        }
    }
}

fn greeted(receiver: &Receiver, hello: &Hello) {
    let mut page = receiver.page.lock();
    page.set(State::Connected, "");
    page.last_contact_ms = Some(receiver.log.clock().wall_ms());
    if !hello.is_first {
        return;
    }
    page.refusals.clear();
    tracing::info!(link = receiver.name, node = hello.name, program = hello.program, "a site is linked");
}

fn gap(topic: &str, partition: sled_data::PartitionId, hole: sled_data::Hole) -> Gap {
    let sled_data::Hole { from, to, why, at_ms } = hole;
    let why = match why {
        sled_data::HoleWhy::Retention => "retention",
        sled_data::HoleWhy::Damage => "damage",
    };
    Gap { topic: topic.to_owned(), partition, from, to, why, at_ms }
}

/// The id of an edge's node: one that asks again with the same key is the same.
fn id_of(public_key: &[u8]) -> NodeId {
    let digest = Sha256::digest(public_key);
    let id = digest.iter().take(8).fold(0_u64, |id, byte| id << 8 | u64::from(*byte));
    NodeId(id.max(1))
}
