//! The TCP listener of the MQTT door, and the way in for streams that something else carries.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;

use super::door::Door;
use super::open;

/// How long the listener rests after the system refused a connection (no descriptors left).
const REFUSED_REST: Duration = Duration::from_millis(100);

/// One of the connections that the door has room for; the room is free again when this is dropped.
pub struct Place {
    door: Arc<Door>,
    _permit: OwnedSemaphorePermit,
}

impl Place {
    /// Serves one MQTT connection over a stream of bytes, from the first to the last. `remote` is shown to people.
    pub async fn serve<S: AsyncRead + AsyncWrite + Unpin>(&self, stream: S, remote: String) {
        open::serve(Arc::clone(&self.door), stream, remote).await;
    }
}

impl Door {
    /// Room for one more connection, where there is.
    pub fn try_place(self: &Arc<Self>) -> Option<Place> {
        let permit = Arc::clone(&self.places).try_acquire_owned().ok()?;
        Some(Place { door: Arc::clone(self), _permit: permit })
    }
}

/// Accepts connections until it is dropped.
pub async fn listen(door: Arc<Door>, listener: TcpListener) {
    let ticking = tokio::spawn(Arc::clone(&door).tick());
    let _ticking = AbortOnDrop(ticking);
    while let Some((stream, remote, place)) = accept(&door, &listener).await {
        tokio::spawn(async move { place.serve(stream, remote.to_string()).await });
    }
}

/// The next connection, when there is a place for it; `None` when there never will be.
pub(super) async fn accept(door: &Arc<Door>, listener: &TcpListener) -> Option<(TcpStream, SocketAddr, Place)> {
    let permit = Arc::clone(&door.places).acquire_owned().await.ok()?;
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                // Without it small acknowledgements wait for the client's next packet.
                let _ = stream.set_nodelay(true);
                return Some((stream, remote, Place { door: Arc::clone(door), _permit: permit }));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted; is the limit of open files too low?");
                tokio::time::sleep(REFUSED_REST).await;
            }
        }
    }
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
