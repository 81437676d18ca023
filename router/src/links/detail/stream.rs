//! Upstream's side: the stream of one request to one gateway, and what it brings.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::super::budget::{Budget, Held};
use super::super::receiver::{Ended, receive_body};
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
/// How long a large or a packed frame may wait for room: longer than one may keep others waiting that is as large as may be.
const ROOM_WAIT: Duration = Duration::from_secs(600);

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
    let mut gateways = gateways;
    let unasked = gateways.split_off(GATEWAYS_MAX.min(gateways.len()));
    let mut unheard: BTreeMap<usize, String> = gateways.iter().map(|(name, _)| name.clone()).enumerate().collect();
    let mut asked = JoinSet::new();
    for (at, (_, connection)) in gateways.into_iter().enumerate() {
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
    let reason = format!("it was not asked: {GATEWAYS_MAX} gateways are asked at once");
    missing.extend(unasked.into_iter().map(|(gateway, _)| Missing { gateway, reason: reason.clone() }));
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

/// What a frame may take: as it came, and where it was packed as it is then.
pub(super) type Room = (Held, Option<Held>);

/// What came, or why nothing more does.
pub(super) enum Came {
    /// With the memory that they may take, to be held until they are judged.
    Parts(Parts, Room),
    End,
    /// It was packed, and is not the same here again.
    Differs,
}

impl Stream {
    /// What comes next.
    pub(super) async fn receive(&mut self, budget: &Budget) -> Result<Came, CutShort> {
        let cut = |why: &dyn std::fmt::Display| CutShort(format!("the site's answer broke off: {why}"));
        let length = match timeout(QUIET_MAX, self.from.receive_length(FRAME_BYTES_MAX)).await {
            Ok(length) => length.map_err(|error| cut(&error))?.ok_or_else(|| cut(&"it ended early"))?,
            Err(_) => return Err(CutShort(format!("nothing came from the site for {} s", QUIET_MAX.as_secs()))),
        };
        let no_room = || CutShort("there was no room for what came: others take what there is; ask again".to_owned());
        let held = timeout(ROOM_WAIT, budget.take(length)).await.ok().flatten().ok_or_else(no_room)?;
        let frame = receive_body(&mut self.from, length, budget).await.map_err(|ended| match ended {
            // It is asked for again from there, not sent by itself.
            Ended::Again(why) => cut(&why),
            ended => cut(&ended),
        })?;
        // A few bytes may become millions.
        let unpacked = match is_packed(&frame) {
            true => Some(timeout(ROOM_WAIT, budget.unpack()).await.ok().flatten().ok_or_else(no_room)?),
            false => None,
        };
        let (frame, room) = match self.unpacking.plain(frame, (held, unpacked)).await {
            Ok(plain) => plain,
            Err(WireError::Differs) => return Ok(Came::Differs),
            Err(error) => return Err(cut(&error)),
        };
        match Told::decode(&frame).map_err(|error| cut(&error))? {
            Told::Parts(parts) if parts.number != self.number + 1 => Err(cut(&"a frame is missing")),
            Told::Parts(parts) => {
                self.number += 1;
                Ok(Came::Parts(parts, room))
            }
            Told::Ends(End::Done, _) => Ok(Came::End),
            Told::Ends(_, text) => Err(CutShort(text)),
            Told::Begins(_) => Err(cut(&"it began twice")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::budget::Budgets;
    use super::super::wire::From;
    use super::*;
    use crate::transport::NodeId;
    use crate::transport::pair::{Pair, pair};

    fn ask() -> Ask {
        let (topic, after) = ("telemetry".to_owned(), Default::default());
        Ask { topic, from: From::Start, to_ms: None, partition: None, events_max: 1, after, dictionary: 0 }
    }

    /// Asks a gateway, which then says that a frame of so many bytes comes.
    async fn asked(pair: &Pair, bytes: usize) -> (Stream, FrameSender, FrameReceiver) {
        let gateway = async {
            let (mut out, mut from) = pair.taken.accept().await.unwrap();
            from.receive_frame(1 << 10).await.unwrap().unwrap();
            out.send_frame(&Told::Begins(Vec::new()).encode()).await.unwrap();
            out.send_head(&u32::try_from(bytes).unwrap().to_le_bytes()).await.unwrap();
            (out, from)
        };
        let ask = ask();
        let (begun, (out, from)) = tokio::join!(begin(pair.dialled.clone(), &ask), gateway);
        let Some(Ok((_, stream, _))) = begun else { panic!("it did not begin") };
        (stream, out, from)
    }

    #[tokio::test]
    async fn a_site_that_says_large_frames_and_sends_none_keeps_no_room_from_others() {
        let budgets = Budgets::of_detail();
        let (greedy, honest) = (pair(NodeId(1), NodeId(2)).await, pair(NodeId(3), NodeId(4)).await);
        let (mut first, _out, _from) = asked(&greedy, FRAME_BYTES_MAX).await;
        let (mut second, _out, _from) = asked(&greedy, FRAME_BYTES_MAX).await;
        // More than is left beside what the greedy one has.
        let large = 10 << 20;
        let (mut third, mut out, _from) = asked(&honest, large).await;
        let cut = |came: Result<Came, CutShort>| match came {
            Err(CutShort(why)) => why,
            Ok(_) => panic!("it came"),
        };
        let (of_greedy, of_honest) = (budgets.of(1), budgets.of(2));
        let takes = async {
            // Both of the greedy one are there first.
            while of_greedy.free_large() > 0 {
                tokio::task::yield_now().await;
            }
            third.receive(&of_honest).await
        };
        let sends = async { out.send_head(&vec![0; large]).await.unwrap() };
        let both = async { tokio::join!(first.receive(&of_greedy), second.receive(&of_greedy)) };
        let (came, ()) = tokio::select! {
            done = async { tokio::join!(takes, sends) } => done,
            (one, other) = both => panic!("{} {}", cut(one), cut(other)),
        };
        // All of it has come: it is no frame that could be read.
        let why = cut(came);
        assert!(why.starts_with("the site's answer broke off") && !why.contains("time"), "{why}");
    }

    #[tokio::test]
    async fn a_packed_frame_waits_until_it_may_be_unpacked() {
        let budgets = Budgets::of_detail();
        let of_site = budgets.of(1);
        let site = pair(NodeId(1), NodeId(2)).await;
        let (mut stream, mut out, _from) = asked(&site, 4).await;
        out.send_head(&[super::super::super::wire::PACKED, 1, 2, 3]).await.unwrap();
        let others = (of_site.unpack().await.unwrap(), of_site.unpack().await.unwrap());
        let mut receiving = std::pin::pin!(stream.receive(&of_site));
        let early = timeout(Duration::from_millis(300), &mut receiving).await;
        assert!(early.is_err(), "it is unpacked beside as many as may be");
        drop(others);
        let Err(CutShort(why)) = receiving.await else { panic!("it cannot be read") };
        assert!(why.starts_with("the site's answer broke off"), "{why}");
    }

    #[tokio::test]
    async fn gateways_that_were_not_asked_are_told_as_such() {
        let mut pairs = Vec::new();
        for n in 0..=GATEWAYS_MAX as u64 {
            let one = pair(NodeId(2 * n + 1), NodeId(2 * n + 2)).await;
            // Those that are asked are gone.
            one.taken.close(0, "gone");
            pairs.push(one);
        }
        let gateways = pairs.iter().enumerate().map(|(n, one)| (format!("gw{n}"), one.dialled.clone())).collect();
        let (begun, missing, failed) = begin_all(gateways, &ask()).await;
        assert!(begun.is_empty() && failed.is_none());
        let of_reason = |words: &str| {
            let of = missing.iter().filter(|missing| missing.reason.contains(words));
            of.map(|missing| missing.gateway.clone()).collect::<Vec<_>>()
        };
        assert_eq!(of_reason("not answered in time").len(), GATEWAYS_MAX);
        assert_eq!(of_reason("was not asked: 8 gateways"), ["gw8"]);
    }
}
