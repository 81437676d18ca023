//! The TCP listener of the MQTT door.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::door::Door;
use super::open;

/// How long the listener rests after the system refused a connection (no descriptors left).
const REFUSED_REST: Duration = Duration::from_millis(100);

/// Accepts connections until it is dropped.
pub async fn listen(door: Arc<Door>, listener: TcpListener) {
    let ticking = tokio::spawn(Arc::clone(&door).tick());
    let places = Arc::new(Semaphore::new(door.config.connections_max));
    let _ticking = AbortOnDrop(ticking);
    loop {
        let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, remote)) => {
                let door = Arc::clone(&door);
                // Without it small acknowledgements wait for the client's next packet.
                let _ = stream.set_nodelay(true);
                tokio::spawn(async move {
                    open::serve(door, stream, remote.to_string()).await;
                    drop(place);
                });
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
