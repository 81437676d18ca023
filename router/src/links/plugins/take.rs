//! The edge: keeps a stream by which plugins come down, for as long as the link stands. One is fetched at a time, of all links.

use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest, Sha256};
use tokio::time::{sleep, timeout};

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
/// How long a component may take to come: others wait for it.
const FETCH_MAX: Duration = Duration::from_secs(4 * 3_600);

/// What has come of a component whose link was cut: it goes on from there. One at a time, of all links.
#[derive(Default)]
pub struct Partial(tokio::sync::Mutex<([u8; 32], Vec<u8>)>);

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
            let outcome = self.settle(&wanted).await?;
            tracing::info!(link = self.by.name, plugin = wanted.name, ?outcome, "upstream wants a plugin here");
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
        let wasm = match timeout(FETCH_MAX, self.fetch(wanted.number, component)).await {
            Ok(fetched) => fetched?,
            Err(_) => return Err(Ended::Slow("a component did not come in time")),
        };
        match wasm {
            Ok(wasm) => Ok(self.take.deploy(&self.by, wanted, wasm).await),
            Err(outcome) => Ok(outcome),
        }
    }

    /// Fetches a component; or why there is none.
    async fn fetch(&mut self, number: u64, component: &WantedComponent) -> Result<Result<Vec<u8>, Outcome>, Ended> {
        let mut partial = self.partial.0.lock().await;
        if partial.0 != component.sha256 {
            *partial = (component.sha256, Vec::new());
        }
        while (partial.1.len() as u64) < component.bytes {
            let offset = partial.1.len() as u64;
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
                    partial.1.extend_from_slice(&bytes);
                }
                _ => return Err(Ended::Wrong("another part than was asked for".to_owned())),
            }
        }
        let (sha256, wasm) = std::mem::take(&mut *partial);
        if <[u8; 32]>::from(Sha256::digest(&wasm)) != sha256 {
            return Ok(Err(Outcome::refused("digest", "what came is not of the digest that was said")));
        }
        Ok(Ok(wasm))
    }
}
