//! Connections to the node's QUIC door, its certificate pinned.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use devices::trust::{Fingerprint, Pin};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, TransportConfig};
use rustls::crypto::aws_lc_rs::default_provider;

use crate::bench::error::BenchError;
use crate::bench::node::Node;

/// How long a handshake may take.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// Bytes on their way to the node that it has not confirmed, a connection.
const SEND_WINDOW_BYTES: u64 = 4 << 20;

/// One UDP socket and what is known of the node.
#[derive(Debug, Clone)]
pub struct Dial {
    endpoint: Endpoint,
    config: ClientConfig,
    address: SocketAddr,
}

impl Dial {
    /// A socket for one application protocol. Call it within a runtime.
    pub fn new(node: &Node, alpn: &[u8]) -> Result<Dial, BenchError> {
        let (address, fingerprint) = node.quic()?;
        let wrong = |what: String| BenchError::Program(format!("QUIC: {what}"));
        let fingerprint: Fingerprint = fingerprint.parse().map_err(|error| wrong(format!("{error}")))?;
        let provider = Arc::new(default_provider());
        let mut tls = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| wrong(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pin::new(fingerprint, provider)))
            .with_no_client_auth();
        tls.alpn_protocols = vec![alpn.to_vec()];
        let crypto = QuicClientConfig::try_from(tls).map_err(|error| wrong(error.to_string()))?;
        let mut config = ClientConfig::new(Arc::new(crypto));
        let mut transport = TransportConfig::default();
        transport.send_window(SEND_WINDOW_BYTES);
        config.transport_config(Arc::new(transport));
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let endpoint = Endpoint::client(any).map_err(|error| wrong(error.to_string()))?;
        Ok(Dial { endpoint, config, address })
    }

    /// One more connection.
    pub async fn connect(&self) -> Result<Connection, BenchError> {
        let wrong = |what: String| BenchError::Program(format!("connecting over QUIC: {what}"));
        let connecting = self.endpoint.connect_with(self.config.clone(), self.address, "localhost");
        let connecting = connecting.map_err(|error| wrong(error.to_string()))?;
        match tokio::time::timeout(CONNECT_MAX, connecting).await {
            Ok(connected) => connected.map_err(|error| wrong(error.to_string())),
            Err(_) => Err(BenchError::Timeout { what: "a QUIC handshake".to_owned(), limit: CONNECT_MAX }),
        }
    }
}
