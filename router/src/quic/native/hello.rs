//! A connection's first frame: who it is, the session that it gets, and what it is told.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use devices::command::{check_device_name, command_filter};
use devices::native::{Close, LaneState, Open, STREAMS_MAX, ToDevice, encode};
use quinn::{Connection, VarInt};
use tokio::time::{Instant, timeout_at};

use super::way::{Gone, Way};
use super::{Native, Wrong};
use crate::quic::config::UNREAD_BYTES_MAX;
use crate::quic::stats::count;
use crate::sessions::{Admitted, Arrival, Entry, TurnedAway};

/// Bytes of a connection that wait to be read: a lane or two that are held back leave room for the others.
const CONNECTION_UNREAD_BYTES_MAX: u32 = 4 * UNREAD_BYTES_MAX;
/// Bytes of what a client says that it runs.
const AGENT_BYTES_MAX: usize = 128;
/// The control stream goes before all others.
const CONTROL_PRIORITY: i32 = 4;

const NO_STREAM: Wrong = Wrong::new(Close::NoStream, "no first frame came in time");
const NOT_FIRST: Wrong = Wrong::new(Close::OutOfPlace, "the first frame is not Hello");
const NAME: Wrong = Wrong::new(Close::NotAllowed, "the device's name cannot be one");
const AGENT: Wrong = Wrong::new(Close::TooLarge, "the agent's name is over the bound");
/// The sessions count it and tell people.
pub(super) const NOT_ENROLLED: Wrong = Wrong::new(Close::NotAllowed, "the device is not enrolled");
const BUSY: Wrong = Wrong::new(Close::Busy, "there is no room for another session");

impl From<TurnedAway> for Wrong {
    fn from(why: TurnedAway) -> Self {
        match why {
            TurnedAway::NotEnrolled => NOT_ENROLLED,
            TurnedAway::NoRoom | TurnedAway::Leaving => BUSY,
        }
    }
}

/// A connection that was let in.
pub(super) struct Opened {
    pub(super) control: Way,
    pub(super) entry: Arc<Entry>,
    pub(super) takes_commands: bool,
}

/// What of Hello is kept.
struct Guest {
    device: Arc<str>,
    takes_commands: bool,
}

/// Lets a client in; `None` where its connection was lost meanwhile.
///
/// # Errors
/// Why it is not let in.
pub(super) async fn open(native: &Native, connection: &Connection) -> Result<Option<Opened>, Wrong> {
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(STREAMS_MAX));
    connection.set_receive_window(VarInt::from_u32(CONNECTION_UNREAD_BYTES_MAX));
    let until = Instant::now() + native.config.open_wait();
    let Ok(accepted) = timeout_at(until, connection.accept_bi()).await else {
        count(&native.stats.refused_no_stream);
        return Err(NO_STREAM);
    };
    let Ok(stream) = accepted else { return Ok(None) };
    let mut control = Way::new(stream, CONTROL_PRIORITY);
    let Ok(read) = timeout_at(until, read_hello(&mut control)).await else {
        count(&native.stats.refused_no_stream);
        return Err(NO_STREAM);
    };
    let Some(guest) = read? else { return Ok(None) };
    let arrival = Arrival {
        client_id: Arc::clone(&guest.device),
        protocol: "edgeway/1",
        remote: format!("quic://{}", connection.remote_address()),
        clean_start: true,
    };
    let Admitted { entry, .. } = native.sessions.connect(arrival).await?;
    let welcomed = async {
        let lanes = native.ingest.lanes().last(&guest.device).await;
        let lanes = lanes.into_iter().map(|(lane, last)| LaneState { lane: lane.number(), last }).collect();
        welcome(native, lanes, &mut control)
    };
    // What waits is a commit: a store that hangs must not hang the client.
    let welcomed = timeout_at(Instant::now() + native.config.open_wait(), welcomed).await.unwrap_or(Err(BUSY));
    if let Err(wrong) = welcomed {
        native.sessions.disconnect(&entry, None, Vec::new());
        return Err(wrong);
    }
    if guest.takes_commands {
        native.sessions.subscribe(&entry, &command_filter(&guest.device));
    } else {
        entry.mailbox.take_no_commands();
    }
    Ok(Some(Opened { control, entry, takes_commands: guest.takes_commands }))
}

/// Reads up to Hello; `None` where the stream or the connection is gone.
async fn read_hello(control: &mut Way) -> Result<Option<Guest>, Wrong> {
    loop {
        if let Some((open, taken)) = control.frame::<Open<'_>>()? {
            let guest = judge(&open)?;
            control.input.consume(taken);
            return Ok(Some(guest));
        }
        if control.ended {
            return Err(NOT_FIRST);
        }
        let read = poll_fn(|cx| match control.poll_read(cx) {
            Ok(true) => Poll::Ready(Ok(())),
            Ok(false) => Poll::Pending,
            Err(gone) => Poll::Ready(Err(gone)),
        });
        match read.await {
            Ok(()) => {}
            Err(Gone::Stream) => return Err(NOT_FIRST),
            Err(Gone::Connection) => return Ok(None),
        }
    }
}

fn judge(open: &Open<'_>) -> Result<Guest, Wrong> {
    let Open::Hello(hello) = open else { return Err(NOT_FIRST) };
    check_device_name(hello.device).map_err(|_| NAME)?;
    if hello.agent.len() > AGENT_BYTES_MAX {
        return Err(AGENT);
    }
    Ok(Guest { device: hello.device.into(), takes_commands: hello.commands })
}

fn welcome(native: &Native, lanes: Vec<LaneState>, control: &mut Way) -> Result<(), Wrong> {
    let welcome = ToDevice::Welcome {
        node: &native.name,
        origin: native.log.store().origin().0,
        now_ms: native.log.clock().wall_ms(),
        limits: Native::limits(),
        lanes,
    };
    Ok(encode(&welcome, &mut control.out.bytes)?)
}

#[cfg(test)]
mod tests {
    use devices::native::Hello;

    use super::*;

    #[test]
    fn who_is_let_in() {
        let (long, agent) = ("d".repeat(129), "a".repeat(129));
        let hello = |device, agent| Open::Hello(Hello { device, agent, commands: true, token: b"" });
        let cases = [
            (hello("pump-7", "x/1"), None),
            (hello("pump-7", ""), None),
            (hello("", ""), Some(NAME)),
            (hello("a/b", ""), Some(NAME)),
            (hello("a+", ""), Some(NAME)),
            (hello("a\n", ""), Some(NAME)),
            (hello(&long, ""), Some(NAME)),
            (hello("pump-7", &agent), Some(AGENT)),
            (Open::Lane(0), Some(NOT_FIRST)),
            (Open::Events, Some(NOT_FIRST)),
        ];
        for (open, expected) in cases {
            assert_eq!(judge(&open).err(), expected, "{open:?}");
        }
    }
}
