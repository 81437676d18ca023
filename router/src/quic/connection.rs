//! One connection: its handshake, what it speaks, its stream, and an end at which nothing is lost.

use std::sync::Arc;
use std::time::Duration;

use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, ConnectionError, Incoming, TransportErrorCode, VarInt};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::timeout;

use devices::native::{ALPN, Close};

use super::Stats;
use super::native::Native;
use super::stats::count;
use crate::mqtt::task::Place;

/// MQTT over one two-way stream that the client opens.
pub const MQTT: &[u8] = b"mqtt";

/// How long the last bytes may take to be confirmed.
const LAST_WORDS_WAIT: Duration = Duration::from_secs(5);
/// TLS's alert that no application protocol is known to both sides.
const ALERT_NO_PROTOCOL: u8 = 120;

/// A connection that the node closes says why.
pub(super) fn close(connection: &Connection, code: Close, words: &str, stats: &Stats) {
    count(&stats.closed[code as usize]);
    crate::transport::close(connection, code as u32, words.as_bytes());
}

/// Serves one connection from its first packet to its last.
pub(super) async fn serve(incoming: Incoming, native: Arc<Native>, handshake: OwnedSemaphorePermit, place: Place) {
    let (stats, open_wait) = (Arc::clone(&native.stats), native.config.open_wait());
    let connection = match timeout(open_wait, shake_hands(incoming)).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            count(if is_wrong_protocol(&error) { &stats.refused_protocol } else { &stats.refused_handshake });
            tracing::debug!(%error, "a QUIC handshake failed");
            return;
        }
        Err(_) => return count(&stats.refused_handshake),
    };
    drop(handshake);
    count(&stats.connected);
    match protocol(&connection).as_deref() {
        Some(MQTT) => carry_mqtt(&connection, open_wait, &place, &stats).await,
        Some(ALPN) => native.serve(connection.clone(), place).await,
        _ => close(&connection, Close::UnknownProtocol, "this protocol is not spoken here", &stats),
    }
    count(&stats.ended);
}

async fn shake_hands(incoming: Incoming) -> Result<Connection, ConnectionError> {
    incoming.accept()?.await
}

fn is_wrong_protocol(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::TransportError(error) if error.code == TransportErrorCode::crypto(ALERT_NO_PROTOCOL))
}

fn protocol(connection: &Connection) -> Option<Vec<u8>> {
    connection.handshake_data()?.downcast::<HandshakeData>().ok()?.protocol
}

/// Gives the client's one stream to the MQTT session. Further streams are beyond what QUIC allows the client.
async fn carry_mqtt(connection: &Connection, open_wait: Duration, place: &Place, stats: &Stats) {
    let (send, receive) = match timeout(open_wait, connection.accept_bi()).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(_)) => return,
        Err(_) => {
            count(&stats.refused_no_stream);
            return close(connection, Close::NoStream, "no stream was opened", stats);
        }
    };
    // When the stream ends, no room for another is granted.
    connection.set_max_concurrent_bi_streams(VarInt::from_u32(0));
    let mut stream = tokio::io::join(receive, send);
    place.serve(&mut stream, format!("quic://{}", connection.remote_address())).await;
    let (_receive, mut send) = stream.into_inner();
    // The session may have closed its side already. Closing the connection now would take its last words back.
    let _ = send.finish();
    let _ = timeout(LAST_WORDS_WAIT, send.stopped()).await;
    close(connection, Close::Ended, "", stats);
}
