//! The TLS listener of the MQTT door: a handshake, bounded in time and number, before the connection.

use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::door::Door;
use super::listen::accept;

/// Handshakes at once; more wait.
const HANDSHAKES_MAX: usize = 512;

/// Accepts connections until it is dropped. The door's TCP listener looks after what both share.
pub async fn listen_tls(door: Arc<Door>, listener: TcpListener, tls: Arc<ServerConfig>) {
    let acceptor = TlsAcceptor::from(tls);
    let handshakes = Arc::new(Semaphore::new(HANDSHAKES_MAX));
    let within = Duration::from_secs(u64::from(door.config.connect_wait_s));
    loop {
        let Ok(handshake) = Arc::clone(&handshakes).acquire_owned().await else { return };
        let Some((stream, remote, place)) = accept(&door, &listener).await else { return };
        let acceptor = acceptor.clone();
        tokio::spawn(async move {
            match timeout(within, acceptor.accept(stream)).await {
                Ok(Ok(stream)) => {
                    drop(handshake);
                    place.serve(stream, format!("mqtts://{remote}")).await;
                }
                Ok(Err(error)) => tracing::debug!(%remote, %error, "a TLS handshake failed"),
                Err(_) => tracing::debug!(%remote, "a TLS handshake took too long"),
            }
        });
    }
}
