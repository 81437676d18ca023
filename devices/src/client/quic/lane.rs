//! One lane on its streams: batches out, acknowledgements in, and another stream after a reset.

use std::convert::Infallible;

use quinn::{Connection, WriteError};
use tokio::sync::mpsc::error::SendError;

use super::Say;
use super::frames::{Frames, NoFrame};
use super::line::Line;
use crate::client::link::{Broke, Heard};
use crate::native::{LaneReply, Limits, Open, decode, encode};
use crate::sequence::Lane;

/// Why a stream has ended.
enum Ended {
    /// The node reset it: another may be opened.
    Reset,
    /// The connection is lost, or of no use any more.
    Broke(Broke),
}

impl<E: Into<Broke>> From<E> for Ended {
    fn from(error: E) -> Self {
        Self::Broke(error.into())
    }
}

/// Carries a lane for as long as the connection lasts.
pub(super) async fn run(line: &Line, connection: &Connection, limits: Limits, say: &Say) -> Result<Infallible, Broke> {
    loop {
        let Ended::Broke(broke) = stream(line, connection, &limits, say).await else {
            line.halt();
            say.send(Ok(Heard::LaneReset { lane: line.lane })).await?;
            continue;
        };
        return Err(broke);
    }
}

/// One stream, opened when there is something to send.
async fn stream(line: &Line, connection: &Connection, limits: &Limits, say: &Say) -> Ended {
    let mut bytes = Vec::new();
    if let Err(error) = encode(&Open::Lane(line.lane.number()), &mut bytes) {
        return error.into();
    }
    next_batch(line, connection, limits, &mut bytes).await;
    let (mut send, receive) = match connection.open_bi().await {
        Ok(stream) => stream,
        Err(error) => return error.into(),
    };
    // It is open: what fails shows when it is written to.
    let _ = send.set_priority(priority(line.lane));
    let sending = async {
        loop {
            match send.write_all(&bytes).await {
                Ok(()) => {}
                Err(WriteError::Stopped(_)) => return Ended::Reset,
                Err(error) => return error.into(),
            }
            bytes.clear();
            next_batch(line, connection, limits, &mut bytes).await;
        }
    };
    tokio::select! {
        ended = sending => ended,
        Err(ended) = hear(line, Frames::new(receive), say) => ended,
    }
}

/// Urgent lanes first.
fn priority(lane: Lane) -> i32 {
    -i32::from(lane.number())
}

/// Waits for a batch that may be sent, and writes it down.
async fn next_batch(line: &Line, connection: &Connection, limits: &Limits, bytes: &mut Vec<u8>) {
    loop {
        let Some(batch) = line.take(limits, || connection.stats().path.cwnd) else {
            line.changed.notified().await;
            continue;
        };
        match batch.encode(bytes) {
            Ok(()) => return,
            // It was measured before; what cannot be is not sent, and shows as unacknowledged.
            Err(error) => tracing::error!(%error, "a batch cannot be written down"),
        }
    }
}

/// Passes on what the node says of the lane.
async fn hear(line: &Line, mut frames: Frames, say: &Say) -> Result<Infallible, Ended> {
    let lane = line.lane;
    loop {
        let frame = match frames.next().await {
            Ok(frame) => frame,
            Err(NoFrame::Ended) => return Err(Ended::Reset),
            Err(error) => return Err(error.into()),
        };
        let heard = match decode::<LaneReply>(frame)? {
            LaneReply::Opened { last: None } => continue,
            LaneReply::Opened { last: Some(number) } | LaneReply::Acked { up_to: number } => {
                line.acked(number);
                Heard::AckedUpTo { lane, number }
            }
            LaneReply::Refused(refused) => {
                let (boot, first, last, why) = (refused.boot, refused.first, refused.last, refused.why);
                Heard::RefusedRange { lane, boot, first, last, why }
            }
        };
        say.send(Ok(heard)).await.map_err(|_: SendError<_>| Ended::Broke("nobody listens".into()))?;
    }
}
