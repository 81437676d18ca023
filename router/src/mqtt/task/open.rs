//! A connection's first packet: CONNECT within its time, the session taken over or resumed, CONNACK.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep_until};

use super::connection::Connection;
use super::door::Door;
use super::turn::Turn;
use crate::event_log::Wake;
use crate::mqtt::codec::{Decoded, Packet, Reason, Settings, Version, decode_first};
use crate::mqtt::session::{Accepted, KeptSession, Opening, refuse};
use crate::sessions::{Admitted, Arrival, TurnedAway};
use crate::transport::{Input, Outgoing};

/// How long a refusal may take to be written.
const REFUSAL_WAIT: Duration = Duration::from_secs(5);

/// Serves one connection from its first byte to its last.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Unpin>(door: Arc<Door>, mut io: S, remote: String) {
    let mut input = Input::default();
    let mut outgoing = Outgoing::default();
    let Some(opening) = read_connect(&door, &mut io, &mut input, &mut outgoing).await else {
        let _ = tokio::time::timeout(REFUSAL_WAIT, super::end::write_and_close(&mut io, &mut outgoing)).await;
        return;
    };
    let version = opening.version();
    let arrival = Arrival {
        client_id: Arc::clone(opening.client_id()),
        protocol: if version == Version::V5 { "mqtt-5" } else { "mqtt-3.1.1" },
        remote,
        clean_start: opening.is_clean_start(),
    };
    let admitted = match door.sessions.connect(arrival).await {
        Ok(admitted) => admitted,
        Err(why) => {
            let reason = match why {
                TurnedAway::NotEnrolled => Reason::NotAuthorized,
                TurnedAway::NoRoom => Reason::ServerBusy,
                TurnedAway::Leaving => Reason::ServerMoved,
            };
            refuse(reason, version, &mut outgoing.bytes);
            let _ = tokio::time::timeout(REFUSAL_WAIT, super::end::write_and_close(&mut io, &mut outgoing)).await;
            return;
        }
    };
    let Admitted { entry, kept, may_lag, ahead_ms, .. } = admitted;
    let goes_on = kept.is_some();
    let kept = kept.and_then(|bytes| match KeptSession::from_bytes(&bytes) {
        // Which QoS 2 messages it has sent its node knows, and may not have told yet.
        Ok(kept) if may_lag && !kept.qos2_held.is_empty() => None,
        Ok(kept) => Some(match ahead_ms {
            Some(ahead_ms) => kept.by_clock_behind(ahead_ms),
            None => kept,
        }),
        Err(error) => {
            tracing::warn!(client = %entry.client_id, %error, "a kept session begins anew");
            None
        }
    });
    match opening.accept(kept, door.now_ms()) {
        Ok(Accepted { session, connack, session_present }) => {
            if goes_on && !session_present {
                door.sessions.begin_anew(&entry);
            }
            door.call_off_will(&entry.client_id, session_present);
            if session_present && !session.is_kept() {
                door.sessions.forget_stored(&entry);
            }
            outgoing.bytes.extend_from_slice(&connack);
            Connection::new(door, entry, session, io, input, outgoing).run().await;
        }
        Err(error) => {
            tracing::warn!(client = %entry.client_id, %error, "CONNACK could not be encoded");
            door.sessions.disconnect(&entry, None, Vec::new());
        }
    }
}

/// Reads up to CONNECT; what is wrong with it is answered into `outgoing`.
async fn read_connect<S: AsyncRead + AsyncWrite + Unpin>(
    door: &Door,
    io: &mut S,
    input: &mut Input,
    outgoing: &mut Outgoing,
) -> Option<Opening> {
    let wait = Duration::from_secs(u64::from(door.config.connect_wait_s.max(1)));
    let deadline = sleep_until(Instant::now() + wait);
    tokio::pin!(deadline);
    let wake = Wake::default();
    let settings = Settings { packet_bytes_max: door.config.packet_bytes_max, ..Settings::server(Version::V5) };
    loop {
        let turn =
            Turn { io: &mut *io, input: &mut *input, outgoing, wake: &wake, deadline: deadline.as_mut(), reads: true };
        let happened = turn.wait().await.ok()?;
        if happened.end || happened.deadline {
            return None;
        }
        match decode_first(input.bytes(), &settings) {
            Ok(Decoded::More { .. }) => {}
            Ok(Decoded::Packet { packet: Packet::Connect(connect), len }) => {
                let judged = Opening::new(&connect, &door.limits, &door.assigned_id());
                let version = connect.version;
                input.consume(len);
                return judged.map_err(|close| refuse(close.reason, version, &mut outgoing.bytes)).ok();
            }
            Ok(Decoded::Packet { .. }) => return None,
            Err(error) => {
                door.ingest.stats().refused_protocol.fetch_add(1, Ordering::Relaxed);
                if let Some(version) = error.connack {
                    refuse(error.reason(), version, &mut outgoing.bytes);
                }
                return None;
            }
        }
    }
}
