//! A connection between two nodes, or between a node and one that joins.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use quinn::crypto::rustls::HandshakeData;
use quinn::{Connection, ConnectionError, TransportErrorCode};
use rustls::pki_types::CertificateDer;

use super::tunnel::{BESIDES_BYTES, Tunnel};
use super::{JOIN_ALPN, LINK_ALPN, LINK_JOIN_ALPN, LinkPeer, SITE_ALPN, names, validity};
use crate::transport::{FrameReceiver, FrameSender, NodeId, StreamError, close};

/// TLS's alerts of certificates: from `bad_certificate` to `access_denied`.
const ALERTS_OF_CERTIFICATES: std::ops::RangeInclusive<u8> = 42..=49;
/// TLS's alert that a certificate was not shown.
const ALERT_CERTIFICATE_REQUIRED: u8 = 116;
/// TLS's alert that no application protocol is known to both sides.
const ALERT_NO_PROTOCOL: u8 = 120;
/// What rustls puts before the reason for which a certificate is not taken.
const CERTIFICATE_PREFIX: &str = "invalid peer certificate: ";
/// What it puts around a reason of ours.
const OURS: (&str, &str) = ("Other(OtherError(", "))");
/// Longest text with which a connection is closed, in bytes.
const TEXT_BYTES_MAX: usize = 512;

/// What a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SiteProtocol {
    /// Both sides are nodes of the site.
    Site,
    /// One side joins.
    Join,
    /// One side is the edge's end of a link.
    Link,
    /// One side accepts the invitation to a link.
    LinkJoin,
}

/// By what a connection goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Way {
    /// QUIC over UDP.
    #[default]
    Quic,
    /// QUIC over one TCP connection with TLS, where no UDP comes through.
    Tcp,
}

impl Way {
    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Quic => "quic",
            Self::Tcp => "tcp",
        }
    }
}

/// Why a connection is no more, or never was.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Ended {
    /// The other side closed it, with a code of the protocol above.
    #[error("{text} (code {code})")]
    Closed {
        /// The code.
        code: u32,
        /// What it said.
        text: String,
    },
    /// This side does not take the other's certificate.
    #[error("{0}")]
    Certificate(String),
    /// The other side does not take this node's certificate.
    #[error("the other side does not take this node's certificate: {0}")]
    CertificateRefused(String),
    /// The other side speaks something else.
    #[error("the other side does not speak this protocol; is the address that of a node's [site] listen?")]
    Protocol,
    /// The other side fell silent, or never answered.
    #[error("no answer")]
    Silent,
    /// The other side does not know the connection any more.
    #[error("the other side was restarted")]
    Restarted,
    /// It was closed here.
    #[error("closed here")]
    Here,
    /// The TCP connection that it went by is gone.
    #[error("the TCP connection was cut")]
    Cut,
    /// Something else.
    #[error("{0}")]
    Other(String),
}

impl Ended {
    /// This side does not take the other's certificate, as TLS says.
    pub(super) fn of_certificate(text: &str) -> Self {
        Self::Certificate(reason(text))
    }
}

impl From<ConnectionError> for Ended {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => Self::Closed {
                code: u32::try_from(close.error_code.into_inner()).unwrap_or(u32::MAX),
                text: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            ConnectionError::TransportError(error) => match alert(error.code) {
                Some(ALERT_NO_PROTOCOL) => Self::Protocol,
                Some(alert) if is_of_certificate(alert) => Self::of_certificate(&error.reason),
                _ => Self::Other(error.to_string()),
            },
            ConnectionError::ConnectionClosed(close) => match alert(close.error_code) {
                Some(ALERT_NO_PROTOCOL) => Self::Protocol,
                Some(alert) if is_of_certificate(alert) => {
                    Self::CertificateRefused(reason(&String::from_utf8_lossy(&close.reason)))
                }
                _ => Self::Other(close.to_string()),
            },
            ConnectionError::TimedOut => Self::Silent,
            ConnectionError::Reset => Self::Restarted,
            ConnectionError::LocallyClosed => Self::Here,
            other => Self::Other(other.to_string()),
        }
    }
}

/// The alert within a code, if it is one of TLS's.
fn alert(code: TransportErrorCode) -> Option<u8> {
    (0..=u8::MAX).find(|alert| TransportErrorCode::crypto(*alert) == code)
}

fn is_of_certificate(alert: u8) -> bool {
    ALERTS_OF_CERTIFICATES.contains(&alert) || alert == ALERT_CERTIFICATE_REQUIRED
}

/// The reason alone.
fn reason(text: &str) -> String {
    let text = text.split_once(CERTIFICATE_PREFIX).map_or(text, |(_, reason)| reason);
    text.strip_prefix(OURS.0).and_then(|text| text.strip_suffix(OURS.1)).unwrap_or(text).to_owned()
}

/// What a connection has sent and received by now, without the headers of IP, UDP and TCP.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Datagrams sent.
    pub sent: u64,
    /// Their bytes.
    pub sent_bytes: u64,
    /// Datagrams received.
    pub received: u64,
    /// Their bytes.
    pub received_bytes: u64,
    /// Packets that were lost on their way out.
    pub lost: u64,
    /// The time there and back, as it is estimated now.
    pub rtt: Duration,
}

/// A connection whose handshake has ended. It is closed when the last clone and the last stream are dropped.
#[derive(Debug, Clone)]
pub struct SiteConnection {
    inner: Connection,
    protocol: SiteProtocol,
    peer: Option<NodeId>,
    link: Option<LinkPeer>,
    tunnel: Option<Arc<Tunnel>>,
}

impl SiteConnection {
    /// `None` where neither protocol is spoken. `tunnel`: what it goes through, if not UDP.
    pub(super) fn new(inner: Connection, tunnel: Option<Arc<Tunnel>>) -> Option<Self> {
        let spoken = inner.handshake_data()?.downcast::<HandshakeData>().ok()?.protocol?;
        let protocol = match spoken.as_slice() {
            SITE_ALPN => SiteProtocol::Site,
            JOIN_ALPN => SiteProtocol::Join,
            LINK_ALPN => SiteProtocol::Link,
            LINK_JOIN_ALPN => SiteProtocol::LinkJoin,
            _ => return None,
        };
        let chain = inner.peer_identity().and_then(|chain| chain.downcast::<Vec<CertificateDer<'static>>>().ok());
        let shown = chain.as_ref().and_then(|chain| chain.first());
        let peer = shown.and_then(names::of).map(|(node, _)| node);
        let link = shown.and_then(names::link_of).map(|(link, _)| link);
        Some(Self { inner, protocol, peer, link, tunnel })
    }

    pub(super) fn inner(&self) -> &Connection {
        &self.inner
    }

    /// What is spoken.
    pub fn protocol(&self) -> SiteProtocol {
        self.protocol
    }

    /// The other node, from its certificate, which was verified; `None` where it showed none.
    pub fn peer(&self) -> Option<NodeId> {
        self.peer
    }

    /// The edge's end of a link, from its certificate, which was verified; `None` where it showed none of a link.
    pub fn link(&self) -> Option<LinkPeer> {
        self.link
    }

    /// By what it goes.
    pub fn way(&self) -> Way {
        if self.tunnel.is_some() { Way::Tcp } else { Way::Quic }
    }

    /// Whether it goes by TCP, and that connection is gone.
    pub fn is_cut(&self) -> bool {
        self.tunnel.as_ref().is_some_and(|tunnel| tunnel.is_cut())
    }

    /// Until when the certificate is good that the other side has shown, seconds since 1970; `None`: for ever, or it has shown none.
    pub fn certificate_until_s(&self) -> Option<u64> {
        let chain = self.inner.peer_identity()?.downcast::<Vec<CertificateDer<'static>>>().ok()?;
        validity::until_s(chain.first()?)
    }

    /// Whether two are clones of one connection.
    pub fn is_same(&self, other: &Self) -> bool {
        self.inner.stable_id() == other.inner.stable_id()
    }

    /// Where the other side is now.
    pub fn address(&self) -> SocketAddr {
        self.inner.remote_address()
    }

    /// The time there and back, as it is estimated now.
    pub fn rtt(&self) -> Duration {
        self.inner.rtt()
    }

    /// What was sent and received.
    pub fn traffic(&self) -> Traffic {
        let stats = self.inner.stats();
        let besides = if self.tunnel.is_some() { BESIDES_BYTES } else { 0 };
        Traffic {
            sent: stats.udp_tx.datagrams,
            sent_bytes: stats.udp_tx.bytes + stats.udp_tx.datagrams * besides,
            received: stats.udp_rx.datagrams,
            received_bytes: stats.udp_rx.bytes + stats.udp_rx.datagrams * besides,
            lost: stats.path.lost_packets,
            rtt: stats.path.rtt,
        }
    }

    /// Opens a stream; waits while the other side grants none.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn open(&self) -> Result<(FrameSender, FrameReceiver), StreamError> {
        let (send, receive) = self.inner.open_bi().await.map_err(Ended::from)?;
        Ok((FrameSender::new(send), FrameReceiver::new(receive)))
    }

    /// The next stream that the other side opens. May be broken off and asked again.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn accept(&self) -> Result<(FrameSender, FrameReceiver), StreamError> {
        let (send, receive) = self.inner.accept_bi().await.map_err(Ended::from)?;
        Ok((FrameSender::new(send), FrameReceiver::new(receive)))
    }

    /// Sends a datagram, which may be lost; the oldest that waits is dropped where there is no room.
    pub fn send_datagram(&self, bytes: Vec<u8>) {
        // What fails is that the connection is gone, which its owner learns otherwise, or that the path takes none.
        let _ = self.inner.send_datagram(Bytes::from(bytes));
    }

    /// The next datagram. May be broken off and asked again.
    ///
    /// # Errors
    /// When the connection is gone.
    pub async fn receive_datagram(&self) -> Result<Bytes, Ended> {
        Ok(self.inner.read_datagram().await?)
    }

    /// Closes the connection and says why; what is under way is dropped.
    pub fn close(&self, code: u32, text: &str) {
        let end = text.floor_char_boundary(TEXT_BYTES_MAX);
        close(&self.inner, code, &text.as_bytes()[..end]);
    }

    /// Waits until the connection is gone.
    pub async fn ended(&self) -> Ended {
        match self.inner.closed().await.into() {
            Ended::Here if self.is_cut() => Ended::Cut,
            ended => ended,
        }
    }
}
