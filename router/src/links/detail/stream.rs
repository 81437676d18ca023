//! Upstream's side: the stream of one request to one gateway, and what it brings.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::super::receiver::body_wait;
use super::super::unpack::{Unpacking, is_packed};
use super::super::wire::{FRAME_BYTES_MAX, Parts, WireError};
use super::wire::{Ask, End, Span, Told};
use crate::transport::{FrameReceiver, FrameSender, SiteConnection};

/// Bytes of what a gateway says first: the range of each partition, or why there is none.
const BEGINS_BYTES_MAX: usize = 64 << 10;
/// Gateways of a site that are asked.
const GATEWAYS_MAX: usize = 8;
/// How long a gateway may take to say what the range is.
pub(super) const BEGIN_WAIT: Duration = Duration::from_secs(30);
/// How long the others are waited for when the first one has said it: those behind slow lines, not those that never answer.
const OTHERS_WAIT: Duration = Duration::from_secs(5);
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
pub struct CutShort(pub(super) String);

/// A gateway whose events may be missing in a range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missing {
    /// Its name.
    pub gateway: String,
    /// Why, for people.
    pub reason: String,
}

/// What a gateway sends.
pub(super) struct Stream {
    pub(super) out: FrameSender,
    from: FrameReceiver,
    unpacking: Unpacking,
    pub(super) number: u64,
}

/// What a gateway says first.
pub(super) type Begun = Result<(SiteConnection, Stream, Vec<Span>), AskError>;

/// Asks all of them, by name; what those say who answer, whose events may be missing, and why where nobody has any.
pub(super) async fn begin_all(
    gateways: Vec<(String, SiteConnection)>,
    ask: &Ask,
) -> (Vec<(SiteConnection, Stream, Vec<Span>)>, Vec<Missing>, Option<AskError>) {
    let mut unheard: BTreeMap<usize, String> = gateways.iter().map(|(name, _)| name.clone()).enumerate().collect();
    let mut asked = JoinSet::new();
    for (at, (_, connection)) in gateways.into_iter().enumerate().take(GATEWAYS_MAX) {
        let ask = ask.clone();
        asked.spawn(async move { (at, timeout(BEGIN_WAIT, begin(connection, &ask)).await.ok().flatten()) });
    }
    let (mut begun, mut missing, mut failed) = (Vec::new(), Vec::new(), None);
    let mut until = Instant::now() + BEGIN_WAIT * 2;
    while let Ok(Some(answer)) = timeout_at(until, asked.join_next()).await {
        let Ok((at, Some(answer))) = answer else { continue };
        let gateway = unheard.remove(&at).unwrap_or_default();
        match answer {
            Ok(of_gateway) => {
                if begun.is_empty() {
                    until = until.min(Instant::now() + OTHERS_WAIT);
                }
                begun.push(of_gateway);
            }
            Err(error) => {
                // One that has no such topic lacks nothing of it.
                if !matches!(error, AskError::Site { end: End::NoTopic, .. }) {
                    missing.push(Missing { gateway, reason: error.to_string() });
                }
                failed = Some(error);
            }
        }
    }
    let reason = "it has not answered in time".to_owned();
    missing.extend(unheard.into_values().map(|gateway| Missing { gateway, reason: reason.clone() }));
    (begun, missing, failed)
}

/// Asks one gateway; `None` where it does not answer.
pub(super) async fn begin(connection: SiteConnection, ask: &Ask) -> Option<Begun> {
    let (mut out, mut from) = connection.open().await.ok()?;
    out.send_frame(&ask.encode()).await.ok()?;
    let frame = from.receive_frame(BEGINS_BYTES_MAX).await.ok()??;
    match Told::decode(&frame).ok()? {
        Told::Begins(spans) => {
            let stream = Stream { out, from, unpacking: Unpacking::default(), number: 0 };
            Some(Ok((connection, stream, spans)))
        }
        Told::Ends(end, text) => Some(Err(AskError::Site { end, text })),
        Told::Parts(_) => None,
    }
}

/// What came, or why nothing more does.
pub(super) enum Came {
    Parts(Parts),
    End,
    /// It was packed, and is not the same here again.
    Differs,
}

impl Stream {
    /// What comes next.
    pub(super) async fn receive(&mut self, bytes: &Arc<Semaphore>) -> Result<Came, CutShort> {
        let cut = |why: &dyn std::fmt::Display| CutShort(format!("the site's answer broke off: {why}"));
        let length = match timeout(QUIET_MAX, self.from.receive_length(FRAME_BYTES_MAX)).await {
            Ok(length) => length.map_err(|error| cut(&error))?.ok_or_else(|| cut(&"it ended early"))?,
            Err(_) => return Err(CutShort(format!("nothing came from the site for {} s", QUIET_MAX.as_secs()))),
        };
        let units = u32::try_from(length).unwrap_or(u32::MAX);
        let held = Arc::clone(bytes).acquire_many_owned(units).await.map_err(|error| cut(&error))?;
        let body = timeout(body_wait(length), self.from.receive_body(length)).await;
        let frame = body.map_err(|_| cut(&"a frame did not come in time"))?.map_err(|error| cut(&error))?;
        let frame = if is_packed(&frame) {
            match self.unpacking.plain(frame, held).await {
                Ok((frame, _)) => frame,
                Err(WireError::Differs) => return Ok(Came::Differs),
                Err(error) => return Err(cut(&error)),
            }
        } else {
            frame
        };
        match Told::decode(&frame).map_err(|error| cut(&error))? {
            Told::Parts(parts) if parts.number != self.number + 1 => Err(cut(&"a frame is missing")),
            Told::Parts(parts) => {
                self.number += 1;
                Ok(Came::Parts(parts))
            }
            Told::Ends(End::Done, _) => Ok(Came::End),
            Told::Ends(_, text) => Err(CutShort(text)),
            Told::Begins(_) => Err(cut(&"it began twice")),
        }
    }
}
