//! The edge: keeps a stream by which plugins come down, for as long as the link stands. One is fetched at a time, of all links.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::{Instant, sleep, timeout};

use super::super::class::Priority;
use super::super::dial::Dialler;
use super::super::down::ByLink;
use super::super::sender::Session;
use super::super::topics::link_of;
use super::wire::{FRAME_BYTES_MAX, FromEdge, FromUpstream, Outcome, PART_BYTES_MAX, VERSION, Wanted, WantedComponent};
use super::{PLUGINS, TakePlugins};
use crate::transport::{FrameReceiver, FrameSender, SiteConnection, StreamError};

/// How long it waits when the stream has ended; and when something came that cannot be.
const AGAIN_AFTER: Duration = Duration::from_secs(2);
const WRONG_WAIT: Duration = Duration::from_secs(60);
/// How long a part may take to come.
const PART_WAIT: Duration = Duration::from_secs(300);
/// How long a component may take to come.
const FETCH_MAX: Duration = Duration::from_secs(4 * 3_600);
/// While another link waits for its turn, how long a component may come anyhow, and how many bytes a second of it from then on.
const SLOW_WAIT: Duration = if cfg!(test) { Duration::from_millis(100) } else { Duration::from_secs(60) };
const FETCH_BYTES_PER_S_MIN: u64 = if cfg!(test) { 64 << 20 } else { 16 << 10 };
/// How long is waited before each plugin: an upstream that wants on and on floods neither the audit nor the disk.
const PAUSE: Duration = if cfg!(test) { Duration::from_millis(1) } else { Duration::from_millis(500) };

/// What has come of a component whose link was cut: it goes on from there. One at a time, of all links.
#[derive(Default)]
pub struct Partial {
    come: tokio::sync::Mutex<Come>,
    /// Links that wait for their turn.
    waiting: AtomicUsize,
}

/// A link that waits for its turn, until this is dropped.
struct Waits<'a>(&'a AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Partial {
    fn wait(&self) -> Waits<'_> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        Waits(&self.waiting)
    }

    /// Whether what has brought so many bytes within its turn is to let others have theirs.
    fn yields(&self, bytes: u64, turn: Duration) -> bool {
        let least = turn.as_millis() * u128::from(FETCH_BYTES_PER_S_MIN) / 1_000;
        self.waiting.load(Ordering::Relaxed) > 0 && turn > SLOW_WAIT && u128::from(bytes) < least
    }
}

/// What has come of one component. Only the link that has brought it goes on with it: what another one says counts for nothing here.
#[derive(Debug, Default)]
struct Come {
    link: u64,
    sha256: [u8; 32],
    bytes: Vec<u8>,
    /// Whether some of it came before the link was cut.
    is_resumed: bool,
}

impl Come {
    /// Goes on with a component, or begins with it.
    fn go_on(&mut self, link: u64, sha256: [u8; 32]) {
        match (self.link, self.sha256) == (link, sha256) {
            true => self.is_resumed = !self.bytes.is_empty(),
            false => *self = Self { link, sha256, ..Self::default() },
        }
    }

    /// The component, all of which has come; nothing of it stays here.
    fn end(&mut self) -> Result<Vec<u8>, Outcome> {
        let Self { sha256, bytes, is_resumed, .. } = std::mem::take(self);
        match <[u8; 32]>::from(Sha256::digest(&bytes)) == sha256 {
            true => Ok(bytes),
            // Upstream may have been wrong about a part then, and not now.
            false if is_resumed => Err(Outcome::later("what came before was of another component; it is fetched anew")),
            false => Err(Outcome::refused("digest", "what came is not of the digest that was said")),
        }
    }
}

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error("upstream ended it")]
    ByOther,
    #[error("{0}")]
    Slow(&'static str),
    #[error("upstream said what cannot be: {0}")]
    Wrong(String),
}

/// One stream.
struct Taking<'a> {
    by: ByLink,
    take: &'a Arc<dyn TakePlugins>,
    partial: &'a Partial,
    session: &'a Arc<Session>,
    out: FrameSender,
    from: FrameReceiver,
}

impl Dialler {
    /// Takes what comes down, once upstream has said that it knows how, and again when that ends. Does not end by itself.
    pub(in crate::links) async fn take_plugins(&self, connection: &SiteConnection, session: &Arc<Session>) {
        let by =
            ByLink { name: self.name.clone(), link: link_of(&self.identity.lock()), down: self.config.down.clone() };
        let Some(take) = self.brings.take_plugins.as_ref().filter(|_| by.may_bring(PLUGINS)) else {
            return std::future::pending().await;
        };
        session.down.until_brings(PLUGINS).await;
        loop {
            let ended = async {
                let (mut out, from) = connection.open().await?;
                out.send_frame(&FromEdge::Wish(VERSION, self.config.rate_bytes_max).encode()).await?;
                let partial = &self.brings.partial;
                let mut taking = Taking { by: by.clone(), take, partial, session, out, from };
                taking.serve().await
            };
            let Err(ended) = ended.await;
            let is_wrong = matches!(ended, Ended::Wrong(_));
            if is_wrong && self.page.lock().refuse(&ended.to_string()) {
                tracing::error!(link = self.name, %ended, "what came down cannot be taken");
            }
            tracing::debug!(link = self.name, %ended, "a stream that brings plugins has ended");
            sleep(if is_wrong { WRONG_WAIT } else { AGAIN_AFTER }).await;
        }
    }
}

impl Taking<'_> {
    async fn serve(&mut self) -> Result<std::convert::Infallible, Ended> {
        loop {
            let wanted = match self.hear().await? {
                FromUpstream::Wanted(wanted) => wanted,
                FromUpstream::Part(..) => return Err(Ended::Wrong("a part that nobody asked for".to_owned())),
            };
            sleep(PAUSE).await;
            let outcome = self.settle(&wanted).await?;
            tracing::info!(link = self.by.name, plugin = wanted.name, ?outcome, "upstream wants a plugin here");
            self.session.page.lock().plugins.count(&outcome);
            self.say(&FromEdge::Done(wanted.number, outcome)).await?;
        }
    }

    async fn hear(&mut self) -> Result<FromUpstream, Ended> {
        let frame = self.from.receive_frame(FRAME_BYTES_MAX).await?.ok_or(Ended::ByOther)?;
        FromUpstream::decode(&frame).map_err(|error| Ended::Wrong(error.to_string()))
    }

    async fn say(&mut self, said: &FromEdge) -> Result<(), Ended> {
        Ok(self.session.gate.send(Priority::Low, &mut self.out, &said.encode()).await?)
    }

    async fn settle(&mut self, wanted: &Wanted) -> Result<Outcome, Ended> {
        if let Some(known) = self.take.judge(&self.by, wanted).await {
            return Ok(known);
        }
        let Some(component) = &wanted.component else {
            return Ok(Outcome::later("it is not known whether it is here"));
        };
        let partial = self.partial;
        let mut come = {
            let _waits = partial.wait();
            tokio::select! {
                come = partial.come.lock() => come,
                // Who has gone has no turn.
                said = self.hear() => return Err(said.err().unwrap_or_else(|| Ended::Wrong("what nobody asked for".to_owned()))),
            }
        };
        let wasm = match timeout(FETCH_MAX, self.fetch(wanted.number, component, &mut come)).await {
            Ok(fetched) => fetched?,
            Err(_) => return Err(Ended::Slow("a component did not come in time")),
        };
        let outcome = match wasm {
            Ok(wasm) => self.take.deploy(&self.by, wanted, wasm).await,
            Err(outcome) => outcome,
        };
        // Until then no other link fetches one: each is in memory whole while it waits to be compiled.
        drop(come);
        Ok(outcome)
    }

    /// Fetches a component; or why there is none.
    async fn fetch(
        &mut self,
        number: u64,
        component: &WantedComponent,
        come: &mut Come,
    ) -> Result<Result<Vec<u8>, Outcome>, Ended> {
        come.go_on(self.by.link, component.sha256);
        let (begun, before) = (Instant::now(), come.bytes.len() as u64);
        while (come.bytes.len() as u64) < component.bytes {
            let offset = come.bytes.len() as u64;
            if self.partial.yields(offset - before, begun.elapsed()) {
                return Ok(Err(Outcome::later("it comes slowly, and another link waits for its turn")));
            }
            // After what goes up as `normal`.
            self.session.gate.begin(Priority::Low, PART_BYTES_MAX).await;
            self.session.gate.stored(Priority::Low, PART_BYTES_MAX);
            self.say(&FromEdge::Need(number, offset)).await?;
            let heard = timeout(PART_WAIT, self.hear()).await;
            match heard.map_err(|_| Ended::Slow("a part did not come in time"))?? {
                FromUpstream::Part(at, bytes) if bytes.is_empty() && at == offset => {
                    return Ok(Err(Outcome::later("its component is not upstream any more")));
                }
                FromUpstream::Part(at, bytes) if at == offset && offset + bytes.len() as u64 <= component.bytes => {
                    come.bytes.extend_from_slice(&bytes);
                    self.session.page.lock().plugins.bytes += bytes.len() as u64;
                }
                _ => return Err(Ended::Wrong("another part than was asked for".to_owned())),
            }
        }
        Ok(come.end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_before_the_cut_counts_for_its_link_alone_and_refuses_nothing() {
        let whole = b"component".to_vec();
        let sha256 = Sha256::digest(&whole).into();
        // what came before: by which link, of which component, and what; what came by link 7 then; what comes of it
        let right = |before: (u64, [u8; 32], &[u8])| {
            let mut come = Come::default();
            come.go_on(before.0, before.1);
            come.bytes.extend_from_slice(before.2);
            come.go_on(7, sha256);
            let rest = whole[come.bytes.len()..].to_vec();
            come.bytes.extend(rest);
            (come.end(), come)
        };
        let cases: [(u64, [u8; 32], &[u8]); 4] =
            [(7, sha256, b""), (7, sha256, b"comp"), (8, sha256, b"forg"), (7, [9; 32], b"forg")];
        for before in cases {
            let (ended, come) = right(before);
            assert_eq!(ended, Ok(whole.clone()), "{before:?}");
            assert!(come.bytes.is_empty() && come.sha256 == [0; 32]);
        }
        let (ended, mut come) = right((7, sha256, b"forg"));
        assert!(matches!(&ended, Err(Outcome::Later { text }) if text.contains("anew")), "{ended:?}");
        // Anew: nobody is to blame but this upstream.
        come.go_on(7, sha256);
        come.bytes.extend_from_slice(b"forgotten");
        let ended = come.end();
        assert!(matches!(&ended, Err(Outcome::Refused { code, .. }) if code == "digest"), "{ended:?}");
    }
}
