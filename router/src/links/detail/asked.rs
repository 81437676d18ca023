//! Upstream's side: asks gateways of a site for a range, and hands on what the one that has most of it sends.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sled_data::{LinkedPart, Offset, PartitionId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::super::receiver::body_wait;
use super::super::unpack::{Unpacking, is_packed};
use super::super::upstream::Upstream;
use super::super::wire::{FRAME_BYTES_MAX, Parts};
use super::wire::{Ask, End, Span, Told, taken};
use super::{Position, REQUESTS_MAX};
use crate::transport::{FrameReceiver, FrameSender, SiteConnection};

/// Requests of all sites at once.
const ALL_REQUESTS_MAX: usize = 32;
/// Bytes of frames of all requests that are being received.
const BYTES_MAX: usize = 48 << 20;
/// Bytes of records of one frame, uncompressed: one batch alone may have as many.
const RECORD_BYTES_MAX: u64 = 64 << 20;
/// Bytes of what a gateway says first: the range of each partition, or why there is none.
const BEGINS_BYTES_MAX: usize = 64 << 10;
/// Gateways of a site that are asked.
const GATEWAYS_MAX: usize = 8;
/// How long a gateway may take to say what the range is.
const BEGIN_WAIT: Duration = Duration::from_secs(30);
/// How long nothing may come then.
const QUIET_MAX: Duration = Duration::from_secs(120);

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AskError {
    /// No link of that name feeds this site.
    #[error("no site {0} feeds this one")]
    Unknown(String),
    /// No gateway of it is connected to this node.
    #[error("no gateway of {0} is connected to this node")]
    Cut(String),
    /// As many are being answered as may.
    #[error("as many ranges are being asked for as may be at once")]
    Busy,
    /// The site does not give it, or does not have it.
    #[error("{text}")]
    Site {
        /// How it ended.
        end: End,
        /// What the site says.
        text: String,
    },
    /// No gateway answered in time.
    #[error("no gateway of {0} has answered in time; is the link busy, or the program there older?")]
    Silent(String),
}

/// Why nothing more comes of a range that had begun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct CutShort(String);

/// What all requests have together.
pub struct Asks {
    places: Arc<Semaphore>,
    bytes: Arc<Semaphore>,
    of_links: Mutex<BTreeMap<u64, Arc<Semaphore>>>,
}

impl Default for Asks {
    fn default() -> Self {
        let places = Arc::new(Semaphore::new(ALL_REQUESTS_MAX));
        Self { places, bytes: Arc::new(Semaphore::new(BYTES_MAX)), of_links: Mutex::default() }
    }
}

/// A request's place, of its link and of all.
struct Place {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Asks {
    fn place(&self, link: u64) -> Result<Place, AskError> {
        let fresh = || Arc::new(Semaphore::new(REQUESTS_MAX as usize));
        let own = Arc::clone(self.of_links.lock().entry(link).or_insert_with(fresh));
        let own = own.try_acquire_owned().map_err(|_| AskError::Busy)?;
        let all = Arc::clone(&self.places).try_acquire_owned().map_err(|_| AskError::Busy)?;
        Ok(Place { _own: own, _all: all })
    }
}

/// A range as it comes. Dropped, it is asked for no more.
pub struct Detail {
    spans: Vec<Span>,
    out: FrameSender,
    from: FrameReceiver,
    unpacking: Unpacking,
    number: u64,
    /// Where each partition is with what was taken, and with what was given.
    taken: BTreeMap<PartitionId, Offset>,
    given: BTreeMap<PartitionId, Offset>,
    bytes: Arc<Semaphore>,
    place: Option<Place>,
}

impl Upstream {
    /// Asks a site that feeds this one for a range.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn ask(&self, site: &str, mut ask: Ask) -> Result<Detail, AskError> {
        ask.dictionary = super::super::pack::DICTIONARY;
        let (link, gateways) = self.gateways(site).ok_or_else(|| AskError::Unknown(site.to_owned()))?;
        if gateways.is_empty() {
            return Err(AskError::Cut(site.to_owned()));
        }
        let place = self.asks().place(link)?;
        let mut asked = JoinSet::new();
        for connection in gateways.into_iter().take(GATEWAYS_MAX) {
            let (ask, bytes) = (ask.clone(), Arc::clone(&self.asks().bytes));
            asked.spawn(async move { timeout(BEGIN_WAIT, begin(connection, ask, bytes)).await.ok().flatten() });
        }
        let mut best: Option<Result<Detail, AskError>> = None;
        while let Some(answer) = asked.join_next().await {
            let answer = answer.ok().flatten();
            best = match (best, answer) {
                (Some(best), None) => Some(best),
                (best, Some(Ok(detail))) => match best {
                    Some(Ok(before)) if before.events() >= detail.events() => Some(Ok(before)),
                    _ => Some(Ok(detail)),
                },
                (Some(Ok(best)), Some(Err(_))) => Some(Ok(best)),
                (_, Some(Err(error))) => Some(Err(error)),
                (None, None) => None,
            };
        }
        let mut detail = best.unwrap_or_else(|| Err(AskError::Silent(site.to_owned())))?;
        detail.place = Some(place);
        let wanted = detail.out.send_frame(&taken(0)).await;
        wanted.map_err(|_| AskError::Cut(site.to_owned()))?;
        Ok(detail)
    }
}

/// Asks one gateway; `None` where it does not answer.
async fn begin(connection: SiteConnection, ask: Ask, bytes: Arc<Semaphore>) -> Option<Result<Detail, AskError>> {
    let (mut out, mut from) = connection.open().await.ok()?;
    out.send_frame(&ask.encode()).await.ok()?;
    let frame = from.receive_frame(BEGINS_BYTES_MAX).await.ok()??;
    match Told::decode(&frame).ok()? {
        Told::Begins(spans) => {
            let taken: BTreeMap<_, _> = spans.iter().map(|span| (span.id, span.from)).collect();
            let (given, unpacking) = (taken.clone(), Unpacking::default());
            Some(Ok(Detail { spans, out, from, unpacking, number: 0, taken, given, bytes, place: None }))
        }
        Told::Ends(end, text) => Some(Err(AskError::Site { end, text })),
        Told::Parts(_) => None,
    }
}

impl Detail {
    /// The range of each partition.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    fn events(&self) -> u64 {
        self.spans.iter().map(|span| span.to.saturating_sub(span.from)).sum()
    }

    /// What comes next, in the order of offsets in each partition; a batch may begin before what was given of it, and end after
    /// the range. `None` when all has come.
    ///
    /// # Errors
    /// When nothing more comes; [`Self::position`] says from where on.
    pub async fn next(&mut self) -> Result<Option<Vec<LinkedPart>>, CutShort> {
        let cut = |why: &dyn std::fmt::Display| CutShort(format!("the site's answer broke off: {why}"));
        let length = match timeout(QUIET_MAX, self.from.receive_length(FRAME_BYTES_MAX)).await {
            Ok(length) => length.map_err(|error| cut(&error))?.ok_or_else(|| cut(&"it ended early"))?,
            Err(_) => return Err(CutShort(format!("nothing came from the site for {} s", QUIET_MAX.as_secs()))),
        };
        let units = u32::try_from(length).unwrap_or(u32::MAX);
        let held = Arc::clone(&self.bytes).acquire_many_owned(units).await.map_err(|error| cut(&error))?;
        let body = timeout(body_wait(length), self.from.receive_body(length)).await;
        let frame = body.map_err(|_| cut(&"a frame did not come in time"))?.map_err(|error| cut(&error))?;
        let frame = if is_packed(&frame) {
            self.unpacking.plain(frame, held).await.map_err(|error| cut(&error))?.0
        } else {
            frame
        };
        match Told::decode(&frame).map_err(|error| cut(&error))? {
            Told::Parts(parts) => self.take(parts).map(Some).map_err(|why| cut(&why)),
            Told::Ends(End::Done, _) => Ok(None),
            Told::Ends(_, text) => Err(CutShort(text)),
            Told::Begins(_) => Err(cut(&"it began twice")),
        }
    }

    /// Sees that what came is what comes next.
    fn take(&mut self, parts: Parts) -> Result<Vec<LinkedPart>, &'static str> {
        self.number += 1;
        if parts.number != self.number {
            return Err("a frame is missing");
        }
        let mut record_bytes = 0;
        for part in &parts.parts {
            let (from, to) = match part {
                LinkedPart::Batch(batch) => {
                    record_bytes += u64::from(batch.envelope().record_bytes);
                    (batch.base_offset(), batch.next_offset())
                }
                LinkedPart::Hole(_, hole) => (hole.from, hole.to),
            };
            let next = self.given.get_mut(&part.partition()).ok_or("it is of a partition that is not in the range")?;
            if !(from <= *next && *next < to) {
                return Err("it is not what comes next");
            }
            *next = to;
        }
        if record_bytes > RECORD_BYTES_MAX { Err("a frame has too much") } else { Ok(parts.parts) }
    }

    /// Says that all that was given was handed on: more may come. Where the stream is gone, [`Self::next`] tells.
    pub async fn taken(&mut self) {
        self.taken.clone_from(&self.given);
        // The edge hears no more once it has sent all.
        let _ = self.out.send_frame(&taken(self.number)).await;
    }

    /// Up to where all was handed on.
    pub fn position(&self) -> Position {
        let next = |span: &Span| {
            let taken = self.taken.get(&span.id).copied().unwrap_or(span.from);
            ((span.id.origin, span.id.index), taken.min(span.to.max(span.from)))
        };
        self.spans.iter().map(next).collect()
    }
}
