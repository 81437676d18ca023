//! All sites at once: each joins, each connects, each sends.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::dial::{Shown, Upstream, text};
use super::join::join;
use super::site::{Demand, Site, Standing};
use super::tally::Board;
use crate::bench::error::BenchError;

/// What all do at one node.
#[derive(Debug)]
pub struct Crowd {
    upstream: Arc<Upstream>,
}

/// What each has come to, by its place; how often one was sent away; and how long it took until the last had done it.
pub struct Came<T> {
    pub each: Vec<T>,
    pub refused: u64,
    pub took: Duration,
}

/// What has drained.
pub struct Drained {
    pub board: Arc<Board>,
    /// From the beginning until the last backlog was stored.
    pub took: Duration,
    /// How long each event took of the sites that trickle.
    pub trickled: Vec<Duration>,
    /// Why some did not come to an end.
    pub failures: Vec<String>,
}

impl Crowd {
    pub fn new(upstream: Upstream) -> Crowd {
        Crowd { upstream: Arc::new(upstream) }
    }

    /// Each joins with its token.
    pub async fn join(&self, tokens: Vec<String>) -> Result<Came<Shown>, BenchError> {
        let mut joining = JoinSet::new();
        let began = Instant::now();
        for (place, token) in tokens.into_iter().enumerate() {
            let upstream = Arc::clone(&self.upstream);
            joining.spawn(async move {
                let (site, name) = (Site::id(place), Site::node_name(place));
                let joined = join(&upstream, &token, site, &name).await?;
                Ok((place, joined.shown, joined.refused))
            });
        }
        gather(joining, began).await
    }

    /// Each connects by its certificate and opens its streams.
    pub async fn connect(&self, sites: Vec<Site>, shown: Vec<Shown>) -> Result<Came<Standing>, BenchError> {
        let mut connecting = JoinSet::new();
        let began = Instant::now();
        for (site, shown) in sites.into_iter().zip(shown) {
            let upstream = Arc::clone(&self.upstream);
            connecting.spawn(async move {
                let place = site.place;
                let standing = site.connect(&upstream, &shown).await?;
                let refused = standing.refused;
                Ok((place, standing, refused))
            });
        }
        gather(connecting, began).await
    }

    /// Each sends what it has; those that trickle go on until the others have ended.
    pub async fn drain(&self, sites: Vec<Standing>, count: usize) -> Drained {
        let board = Arc::new(Board::of(count));
        let (ended, ends) = watch::channel(false);
        let (mut draining, mut trickling) = (JoinSet::new(), JoinSet::new());
        let began = Instant::now();
        for site in sites {
            let run = if site.demand() == Demand::Trickle { &mut trickling } else { &mut draining };
            run.spawn(site.run(Arc::clone(&board), ends.clone()));
        }
        let mut failures = Vec::new();
        while let Some(done) = draining.join_next().await {
            failures.extend(done.map_err(text).and_then(|done| done).err());
        }
        let took = began.elapsed();
        // Where nobody hears it, nobody trickles.
        let _ = ended.send(true);
        let mut trickled = Vec::new();
        while let Some(done) = trickling.join_next().await {
            match done.map_err(text).and_then(|done| done) {
                Ok(latencies) => trickled.extend(latencies),
                Err(why) => failures.push(why),
            }
        }
        Drained { board, took, trickled, failures }
    }
}

async fn gather<T: Send + 'static>(
    mut tasks: JoinSet<Result<(usize, T, u64), String>>,
    began: Instant,
) -> Result<Came<T>, BenchError> {
    let (mut each, mut refused) = (Vec::new(), 0);
    while let Some(done) = tasks.join_next().await {
        let (place, one, times) = done.map_err(text).and_then(|done| done).map_err(BenchError::Program)?;
        each.push((place, one));
        refused += times;
    }
    let took = began.elapsed();
    each.sort_by_key(|(place, _)| *place);
    Ok(Came { each: each.into_iter().map(|(_, one)| one).collect(), refused, took })
}
