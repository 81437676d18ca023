//! One site of many: joins, connects, and sends as much as it means to.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::backlog::{Batch, Maker};
use super::dial::{Dialled, Shown, Upstream, text};
use super::stream::{Card, Stream};
use super::tally::Board;
use super::window::{Manner, Stored};

/// What is spoken on a link.
const ALPN: &[u8] = b"edgeway-link/1";
/// Partitions of the topic of a site that is greedy, each with a stream of its own: as many as upstream takes of a connection.
const GREEDY_STREAMS: u32 = 8;
/// Between two events of a site that trickles.
pub const TRICKLE_EVERY: Duration = Duration::from_millis(250);
/// Moments within that at which one or another begins.
const TRICKLE_PHASES: u32 = 25;
/// How often it is tried to connect, and how long it waits in between.
const TRIES_MAX: u32 = 100;
const TRY_EVERY: Duration = Duration::from_millis(250);

/// What a site asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Demand {
    /// A backlog as large as that of the others of its kind, by one stream, as a node's link sends it.
    Equal,
    /// A larger backlog, by eight streams of large frames, without a bound of its own.
    Greedy,
    /// An event now and then.
    Trickle,
}

/// A site that has what it needs.
pub struct Site {
    pub place: usize,
    demand: Demand,
    card: Card,
    /// What waits, by partition; of one that trickles its events, one in each batch.
    backlog: Vec<Vec<Batch>>,
}

/// A site whose streams stand.
pub struct Standing {
    site: Site,
    dialled: Dialled,
    streams: Vec<Stream>,
    /// How often it was sent away before.
    pub refused: u64,
}

/// How the drain stands, for those that trickle: until it has ended.
pub type Ended = watch::Receiver<bool>;

impl Site {
    /// The site at a place, with what waits there. One that trickles has `events` at the most.
    pub fn new(place: usize, demand: Demand, events: u64, maker: &mut Maker) -> Site {
        let number = place as u64 + 1;
        let partitions = if demand == Demand::Greedy { GREEDY_STREAMS } else { 1 };
        let card = Card {
            site: Self::id(place),
            name: Self::node_name(place),
            origin: 0x0e16_0000_0000 + number,
            topic: 0x70c0_0000_0000 + number,
            topic_name: super::TOPIC,
            partitions,
        };
        let of = |index| match demand {
            Demand::Trickle => (0..events).map(|offset| maker.batch(card.partition(index), offset, 1)).collect(),
            _ => maker.backlog(card.partition(index), events / u64::from(partitions)),
        };
        let backlog = (0..partitions).map(of).collect();
        Site { place, demand, card, backlog }
    }

    /// What the site is called upstream.
    pub fn name(place: usize) -> String {
        format!("site-{:03}", place + 1)
    }

    /// The id of the site at a place, and what its node is called.
    pub fn id(place: usize) -> u64 {
        0x5173_0000 + place as u64
    }

    pub fn node_name(place: usize) -> String {
        format!("gateway-{:03}", place + 1)
    }

    /// Connects and opens its streams; tries again where it is sent away.
    pub async fn connect(self, upstream: &Upstream, shown: &Shown) -> Result<Standing, String> {
        let mut why = String::new();
        for refused in 0..TRIES_MAX {
            match self.stand(upstream, shown).await {
                Ok((dialled, streams)) => {
                    return Ok(Standing { site: self, dialled, streams, refused: u64::from(refused) });
                }
                Err(error) => why = error,
            }
            tokio::time::sleep(TRY_EVERY).await;
        }
        Err(format!("{} does not come in: {why}", Site::name(self.place)))
    }

    async fn stand(&self, upstream: &Upstream, shown: &Shown) -> Result<(Dialled, Vec<Stream>), String> {
        let dialled = upstream.dial(ALPN, Some(shown)).await?;
        let mut streams = Vec::new();
        for index in 0..self.card.partitions {
            streams.push(Stream::open(&dialled, &self.card, index).await?);
        }
        Ok((dialled, streams))
    }
}

impl Standing {
    /// What it asks for.
    pub fn demand(&self) -> Demand {
        self.site.demand
    }

    /// Sends what it has: all of its backlog, or an event now and then until the others have `ended`. How long each of those took.
    pub async fn run(self, board: Arc<Board>, ended: Ended) -> Result<Vec<Duration>, String> {
        let Standing { site: Site { place, demand, backlog, .. }, dialled, streams, .. } = self;
        let done = match demand {
            Demand::Trickle => trickle(streams, &backlog, place, &board, ended).await,
            Demand::Equal => drain(streams, backlog, Manner::MODEST, place, &board).await,
            Demand::Greedy => drain(streams, backlog, Manner::GREEDY, place, &board).await,
        };
        if demand == Demand::Equal && done.is_ok() {
            board.note_first();
        }
        dialled.connection.close(0_u32.into(), b"");
        done.map_err(|why| format!("{}: {why}", Site::name(place)))
    }
}

/// Drains each partition by its stream, all at once.
async fn drain(
    streams: Vec<Stream>,
    backlog: Vec<Vec<Batch>>,
    manner: Manner,
    place: usize,
    board: &Arc<Board>,
) -> Result<Vec<Duration>, String> {
    let mut draining = JoinSet::new();
    for (stream, batches) in streams.into_iter().zip(backlog) {
        let board = Arc::clone(board);
        draining.spawn(async move { stream.drain(&batches, manner, board.tally(place)).await });
    }
    while let Some(drained) = draining.join_next().await {
        drained.map_err(text)??;
    }
    Ok(Vec::new())
}

async fn trickle(
    mut streams: Vec<Stream>,
    backlog: &[Vec<Batch>],
    place: usize,
    board: &Board,
    ended: Ended,
) -> Result<Vec<Duration>, String> {
    let (Some(stream), Some(events)) = (streams.first_mut(), backlog.first()) else { return Ok(Vec::new()) };
    let mut took = Vec::new();
    let tally = board.tally(place);
    // Not all at the same moment.
    let mut due = Instant::now() + TRICKLE_EVERY * (place as u32 % TRICKLE_PHASES) / TRICKLE_PHASES;
    for (number, batch) in (1..).zip(events) {
        if *ended.borrow() {
            break;
        }
        tokio::time::sleep_until(due.into()).await;
        stream.store(number, batch).await?;
        tally.add(Stored { events: batch.events, bytes: batch.bytes.len() as u64 });
        // From when it was measured: one that had to wait for the one before waits as well.
        took.push(due.elapsed());
        due += TRICKLE_EVERY;
    }
    Ok(took)
}
