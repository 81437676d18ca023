//! Upstream's side: asks gateways of a site for a range, and hands on of each partition what the one that has most of it sends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use sled_data::{LinkedPart, Offset, PartitionId};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::super::book::Shared;
use super::super::budget::{Budget, Budgets};
use super::super::pack::DICTIONARY;
use super::super::upstream::Upstream;
use super::super::wire::Parts;
use super::share::share;
use super::stream::{AskError, BEGIN_WAIT, Came, CutShort, Missing, Stream, begin, begin_all};
use super::wire::{Ask, Span, taken};
use super::{Position, REQUESTS_MAX};
use crate::transport::SiteConnection;

/// Requests of all sites at once.
pub const ALL_REQUESTS_MAX: usize = 32;
/// Bytes of records of one frame, uncompressed, unless it is one event alone: lines are made of them all, several times as large.
const RECORD_BYTES_MAX: u64 = 1 << 20;

/// What all requests have together.
pub struct Asks {
    places: Arc<Semaphore>,
    /// Memory that frames may take that are being received.
    budgets: Budgets,
    of_links: Mutex<BTreeMap<u64, Arc<Semaphore>>>,
}

impl Default for Asks {
    fn default() -> Self {
        let places = Arc::new(Semaphore::new(ALL_REQUESTS_MAX));
        Self { places, budgets: Budgets::of_detail(), of_links: Mutex::default() }
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
    ask: Ask,
    page: Shared,
    spans: Vec<Span>,
    /// The gateway that sends now, and those that are asked when it has ended.
    now: Option<(Gateway, Stream)>,
    next: VecDeque<Gateway>,
    missing: Vec<Missing>,
    /// Where each partition is with what was taken, and with what was given.
    taken: BTreeMap<PartitionId, Offset>,
    given: BTreeMap<PartitionId, Offset>,
    budget: Budget,
    _place: Place,
}

/// A gateway that sends some of a range.
struct Gateway {
    connection: SiteConnection,
    /// The partitions that it has, and those that it is to send.
    has: Vec<PartitionId>,
    sends: BTreeSet<PartitionId>,
}

impl Upstream {
    /// Asks a site that feeds this one for a range.
    ///
    /// # Errors
    /// Why there is no answer.
    pub async fn ask(&self, site: &str, mut ask: Ask) -> Result<Detail, AskError> {
        let (link, page, gateways) = self.gateways(site).ok_or_else(|| AskError::Unknown(site.to_owned()))?;
        if gateways.is_empty() {
            return Err(AskError::Cut(site.to_owned()));
        }
        ask.dictionary = if page.lock().takes_plain { 0 } else { DICTIONARY };
        let place = self.asks().place(link)?;
        let (begun, missing, failed) = begin_all(gateways, &ask).await;
        if begun.is_empty() {
            return Err(failed.unwrap_or_else(|| AskError::Silent(site.to_owned())));
        }
        let shares = share(&begun.iter().map(|(_, _, spans)| spans.clone()).collect::<Vec<_>>());
        let spans: Vec<Span> = shares.iter().flatten().copied().collect();
        let (now, next) = turns(begun, &shares);
        let at: BTreeMap<_, _> = spans.iter().map(|span| (span.id, span.from)).collect();
        let mut detail = Detail {
            ask,
            page,
            spans,
            now,
            next,
            missing,
            given: at.clone(),
            taken: at,
            budget: self.asks().budgets.of(link),
            _place: place,
        };
        if let Some((_, stream)) = &mut detail.now {
            let wanted = stream.out.send_frame(&taken(0)).await;
            wanted.map_err(|_| AskError::Cut(site.to_owned()))?;
        }
        Ok(detail)
    }
}

/// Who sends first, on the stream that it has begun where it has nothing else to send, and who goes on when that has ended. The one with
/// most is the first.
fn turns(
    begun: Vec<(SiteConnection, Stream, Vec<Span>)>,
    shares: &[Vec<Span>],
) -> (Option<(Gateway, Stream)>, VecDeque<Gateway>) {
    let mut turns = Vec::new();
    for ((connection, stream, spans), share) in begun.into_iter().zip(shares) {
        let events: u64 = share.iter().map(|span| span.to.saturating_sub(span.from)).sum();
        let sends: BTreeSet<_> = share.iter().filter(|span| span.from < span.to).map(|span| span.id).collect();
        let is_whole = spans.iter().all(|span| span.from >= span.to || sends.contains(&span.id));
        let has = spans.iter().map(|span| span.id).collect();
        turns.push((events, Gateway { connection, has, sends }, is_whole.then_some(stream)));
    }
    turns.sort_by_key(|(events, ..)| std::cmp::Reverse(*events));
    let mut turns = turns.into_iter();
    // Where there is nothing at all, one says so.
    let Some((_, first, stream)) = turns.next() else { return (None, VecDeque::new()) };
    let mut next: VecDeque<_> = turns.filter(|(events, ..)| *events > 0).map(|(_, gateway, _)| gateway).collect();
    match stream {
        Some(stream) => (Some((first, stream)), next),
        None => {
            next.push_front(first);
            (None, next)
        }
    }
}

impl Detail {
    /// The range of each partition.
    pub fn spans(&self) -> &[Span] {
        &self.spans
    }

    /// The gateways whose events may be missing.
    pub fn missing(&self) -> &[Missing] {
        &self.missing
    }

    /// What comes next, in the order of offsets in each partition; a batch may begin before what was given of it, and end after
    /// the range. Where several gateways send some of it, one after the other. `None` when all has come.
    ///
    /// # Errors
    /// When nothing more comes; [`Self::position`] says from where on.
    pub async fn next(&mut self) -> Result<Option<Vec<LinkedPart>>, CutShort> {
        loop {
            let Some((_, stream)) = &mut self.now else {
                let Some(gateway) = self.next.pop_front() else { return Ok(None) };
                self.go_on_with(gateway).await?;
                continue;
            };
            match stream.receive(&self.budget).await? {
                Came::Parts(parts, _held) => {
                    let cut = |why| CutShort(format!("the site's answer broke off: {why}"));
                    return self.take(parts).map(Some).map_err(cut);
                }
                Came::End => self.now = None,
                Came::Differs => {
                    self.page.lock().takes_plain = true;
                    if self.ask.dictionary == 0 {
                        return Err(CutShort("the site packs what it was asked not to pack".to_owned()));
                    }
                    self.ask.dictionary = 0;
                    if let Some((gateway, _)) = self.now.take() {
                        self.next.push_front(gateway);
                    }
                }
            }
        }
    }

    /// Asks a gateway for what it is to send and was not given yet.
    async fn go_on_with(&mut self, gateway: Gateway) -> Result<(), CutShort> {
        let next = |id: &PartitionId| match gateway.sends.contains(id) {
            true => self.given.get(id).copied().unwrap_or(Offset::MAX),
            // Nothing of it.
            false => Offset::MAX,
        };
        let after = gateway.has.iter().map(|id| ((id.origin, id.index), next(id))).collect();
        let ask = Ask { after, ..self.ask.clone() };
        let mut stream = match timeout(BEGIN_WAIT, begin(gateway.connection.clone(), &ask)).await {
            Ok(Some(Ok((_, stream, _)))) => stream,
            Ok(Some(Err(error))) => return Err(CutShort(format!("a gateway of the site does not go on: {error}"))),
            Ok(None) | Err(_) => return Err(CutShort("a gateway of the site does not answer any more".to_owned())),
        };
        let wanted = stream.out.send_frame(&taken(0)).await;
        wanted.map_err(|error| CutShort(format!("a gateway of the site is gone: {error}")))?;
        self.now = Some((gateway, stream));
        Ok(())
    }

    /// Sees that what came is what comes next. What another gateway is to send is left out.
    fn take(&mut self, parts: Parts) -> Result<Vec<LinkedPart>, &'static str> {
        let Parts { mut parts, .. } = parts;
        let bytes = |part: &LinkedPart| match part {
            LinkedPart::Batch(batch) => u64::from(batch.envelope().record_bytes),
            LinkedPart::Hole(..) => 0,
        };
        if parts.iter().map(bytes).sum::<u64>() > RECORD_BYTES_MAX && !is_one_event(&parts) {
            return Err("a frame has too much");
        }
        if let Some((gateway, _)) = &self.now {
            parts.retain(|part| gateway.sends.contains(&part.partition()));
        }
        for part in &parts {
            let (from, to) = match part {
                LinkedPart::Batch(batch) => (batch.base_offset(), batch.next_offset()),
                LinkedPart::Hole(_, hole) => (hole.from, hole.to),
            };
            let next = self.given.get_mut(&part.partition()).ok_or("it is of a partition that is not in the range")?;
            if !(from <= *next && *next < to) {
                return Err("it is not what comes next");
            }
            *next = to;
        }
        Ok(parts)
    }

    /// Says that all that was given was handed on: more may come. Where the stream is gone, [`Self::next`] tells.
    pub async fn taken(&mut self) {
        self.taken.clone_from(&self.given);
        if let Some((_, stream)) = &mut self.now {
            // The edge hears no more once it has sent all.
            let _ = stream.out.send_frame(&taken(stream.number)).await;
        }
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

/// Whether it is one event alone, which may be large.
fn is_one_event(parts: &[LinkedPart]) -> bool {
    matches!(parts, [LinkedPart::Batch(batch)] if batch.envelope().count == 1)
}
