//! Connections to the upstream node, each from a socket of its own, and frames on their streams.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use devices::trust::{Fingerprint, Pin};
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, Endpoint, IdleTimeout, RecvStream, SendStream, TransportConfig};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::wire::ANSWER_BYTES_MAX;
use crate::bench::error::{BenchError, io};

/// How long the node may take to answer the first packet, as at an edge.
const DIAL_WAIT: Duration = Duration::from_secs(10);
/// The silence after which a connection is lost, and after which it is asked for a sign of life, as at an edge.
const IDLE_MAX: Duration = Duration::from_secs(60);
const PING_AFTER: Duration = Duration::from_secs(20);
/// Bytes on their way that the node has not confirmed, a connection.
const SEND_WINDOW_BYTES: u64 = 8 << 20;

/// A certificate with those that it is signed by, and its key.
#[derive(Debug)]
pub struct Shown {
    pub chain: Vec<CertificateDer<'static>>,
    pub key: PrivateKeyDer<'static>,
}

/// The node that all dial, known by its certificate: it was started here.
#[derive(Debug, Clone)]
pub struct Upstream {
    address: SocketAddr,
    pin: Fingerprint,
}

/// A connection and its socket.
#[derive(Debug)]
pub struct Dialled {
    pub connection: Connection,
    _endpoint: Endpoint,
}

/// The way out on a stream.
#[derive(Debug)]
pub struct Out(SendStream);

/// The way in.
#[derive(Debug)]
pub struct In(RecvStream);

/// Reads a certificate in PEM form.
pub fn certificate(pem: &str) -> Result<CertificateDer<'static>, String> {
    CertificateDer::from_pem_slice(pem.as_bytes()).map_err(|error| format!("a certificate: {error}"))
}

impl Upstream {
    /// The node whose store is in `data`.
    pub fn of(address: SocketAddr, data: &Path) -> Result<Upstream, BenchError> {
        let path = data.join("site").join("node.crt");
        let pem = std::fs::read_to_string(&path).map_err(io(format!("reading {}", path.display())))?;
        let certificate = certificate(&pem).map_err(BenchError::Program)?;
        Ok(Upstream { address, pin: Fingerprint::of(&certificate) })
    }

    /// One more connection for an application protocol, by a certificate or by none.
    pub async fn dial(&self, alpn: &[u8], shown: Option<&Shown>) -> Result<Dialled, String> {
        let endpoint = Endpoint::client(SocketAddr::from(([127, 0, 0, 1], 0))).map_err(text)?;
        let connecting = endpoint.connect_with(self.config(alpn, shown)?, self.address, "localhost").map_err(text)?;
        match tokio::time::timeout(DIAL_WAIT, connecting).await {
            Ok(connected) => Ok(Dialled { connection: connected.map_err(text)?, _endpoint: endpoint }),
            Err(_) => Err("no answer".to_owned()),
        }
    }

    fn config(&self, alpn: &[u8], shown: Option<&Shown>) -> Result<ClientConfig, String> {
        let provider = Arc::new(default_provider());
        let tls = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(text)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Pin::new(self.pin, provider)));
        let mut tls = match shown {
            Some(shown) => tls.with_client_auth_cert(shown.chain.clone(), shown.key.clone_key()).map_err(text)?,
            None => tls.with_no_client_auth(),
        };
        tls.alpn_protocols = vec![alpn.to_vec()];
        tls.enable_sni = false;
        let mut transport = TransportConfig::default();
        transport
            .send_window(SEND_WINDOW_BYTES)
            .keep_alive_interval(Some(PING_AFTER))
            .max_idle_timeout(Some(IdleTimeout::try_from(IDLE_MAX).map_err(text)?));
        let mut config = ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).map_err(text)?));
        config.transport_config(Arc::new(transport));
        Ok(config)
    }
}

impl Dialled {
    /// A stream both ways.
    pub async fn open(&self) -> Result<(Out, In), String> {
        let (send, receive) = self.connection.open_bi().await.map_err(text)?;
        Ok((Out(send), In(receive)))
    }
}

impl Out {
    /// Sends a frame: its length, and so many bytes.
    pub async fn send(&mut self, frame: &[u8]) -> Result<(), String> {
        let length = u32::try_from(frame.len()).map_err(text)?;
        self.0.write_all(&length.to_le_bytes()).await.map_err(text)?;
        self.0.write_all(frame).await.map_err(text)
    }

    /// Nothing more comes.
    pub fn finish(&mut self) {
        // It is gone already where that fails.
        let _ = self.0.finish();
    }
}

impl In {
    /// The next frame.
    pub async fn receive(&mut self) -> Result<Vec<u8>, String> {
        let mut length = [0; 4];
        self.0.read_exact(&mut length).await.map_err(text)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > ANSWER_BYTES_MAX {
            return Err(format!("an answer of {length} bytes"));
        }
        let mut frame = vec![0; length];
        self.0.read_exact(&mut frame).await.map_err(text)?;
        Ok(frame)
    }
}

/// What went wrong, with what it comes of.
pub fn text(error: impl std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(&format!(": {error}"));
        source = error.source();
    }
    text
}
