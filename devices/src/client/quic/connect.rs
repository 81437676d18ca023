//! From an address to a connection that the node has welcomed, and the way out of it.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn::congestion::ControllerFactory;
use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, IdleTimeout, MtuDiscoveryConfig, TransportConfig};
use thiserror::Error;
use tokio::net::lookup_host;
use tokio::time::{Instant, sleep, timeout};

use super::control::Control;
use super::frames::Frames;
use super::window::ShortQueue;
use super::{SharedEndpoint, Target, endpoint};
use crate::client::config::Config;
use crate::client::link::Broke;
use crate::client::tls::Tls;
use crate::congestion::Paths;
use crate::native::{ALPN, Close, Hello, Limits, Open, ToDevice, decode, encode};
use crate::sequence::{Lane, Number};
use crate::twin::subscriptions_of;

/// Addresses of a host that are tried.
const ADDRESSES_MAX: usize = 4;
/// The longest that one attempt takes. A first packet that is lost in a storm is sent again by the next attempt.
const ATTEMPT_MAX: Duration = Duration::from_secs(3);
/// Pings without an answer after which a connection is lost.
const PINGS_MISSED_MAX: u32 = 2;
/// How long the node may say nothing while acknowledgements are awaited.
const SILENCE_MAX: Duration = Duration::from_secs(12);
/// How often that is looked at.
const SILENCE_LOOK: Duration = Duration::from_secs(3);
/// Largest packet that is tried, in bytes of UDP payload: Ethernet's, less IPv6's and UDP's headers.
const PACKET_BYTES_MAX: u16 = 1_452;
/// Bytes of one stream, and of all, that the node may send unread.
const STREAM_UNREAD_BYTES_MAX: u32 = 256 << 10;
const UNREAD_BYTES_MAX: u32 = 1 << 20;
/// Bytes that are kept until the node has confirmed them. More than the lanes that are not urgent hold together.
const UNCONFIRMED_BYTES_MAX: u64 = 64 << 20;
/// Bytes of datagrams that wait to be sent.
const DATAGRAMS_BYTES_MAX: usize = 256 << 10;
/// Bytes of datagrams that the node may send unread; none are expected, but without any quinn sends none either.
const DATAGRAMS_UNREAD_BYTES_MAX: usize = 1_200;
/// How long the last packet may take on its way out of this process.
const LAST_PACKET_WITHIN: Duration = Duration::from_millis(100);
/// What runs here, for people.
const AGENT: &str = concat!("edgeway-devices/", env!("CARGO_PKG_VERSION"));

/// What is wished for, with nothing borrowed.
pub(super) struct Wish {
    host: String,
    port: u16,
    tls: Tls,
    endpoint: Option<SharedEndpoint>,
    device: String,
    token: Vec<u8>,
    commands: bool,
    /// The filter of the device's twin, where it listens for it.
    twin: Option<String>,
    within: Duration,
    ping_after: Duration,
}

/// A connection that stands.
pub(super) struct Ready {
    /// Its endpoint, where that is its own.
    pub(super) endpoint: Option<Endpoint>,
    pub(super) connection: Connection,
    pub(super) control: Control,
    pub(super) limits: Limits,
    pub(super) known: Vec<(Lane, Number)>,
    /// What is to be subscribed to.
    pub(super) twin: Option<String>,
}

impl Wish {
    pub(super) fn new(config: &Config, target: Target<'_>, commands: bool) -> Self {
        Self {
            host: target.host.to_owned(),
            port: target.port,
            tls: target.tls.clone(),
            endpoint: target.endpoint.cloned(),
            device: config.device.clone(),
            token: config.login.as_ref().map(|login| login.password.clone().into_bytes()).unwrap_or_default(),
            commands,
            twin: config.twin.as_ref().map(|_| subscriptions_of(&config.device)),
            within: config.connect_within.min(ATTEMPT_MAX),
            ping_after: config.keep_alive,
        }
    }

    fn to_config(&self) -> Result<ClientConfig, Broke> {
        let crypto = QuicClientConfig::try_from(self.tls.for_protocol(ALPN))?;
        let idle = IdleTimeout::try_from(self.ping_after * (PINGS_MISSED_MAX + 1))?;
        let mut packets = MtuDiscoveryConfig::default();
        packets.upper_bound(PACKET_BYTES_MAX);
        let congestion: Arc<dyn ControllerFactory + Send + Sync> =
            Arc::new(Paths(|packet_bytes| ShortQueue::new(Duration::ZERO, packet_bytes)));
        let mut transport = TransportConfig::default();
        transport
            .max_concurrent_bidi_streams(0_u32.into())
            .max_concurrent_uni_streams(0_u32.into())
            .stream_receive_window(STREAM_UNREAD_BYTES_MAX.into())
            .receive_window(UNREAD_BYTES_MAX.into())
            .send_window(UNCONFIRMED_BYTES_MAX)
            .datagram_receive_buffer_size(Some(DATAGRAMS_UNREAD_BYTES_MAX))
            .datagram_send_buffer_size(DATAGRAMS_BYTES_MAX)
            .keep_alive_interval(Some(self.ping_after))
            .max_idle_timeout(Some(idle))
            .mtu_discovery_config(Some(packets))
            .congestion_controller_factory(congestion);
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(Arc::new(transport));
        Ok(config)
    }
}

/// Connects to the first address of the host that answers.
pub(super) async fn connect(wish: &Wish) -> Result<Ready, Broke> {
    let config = wish.to_config()?;
    let looked_up = timeout(wish.within, lookup_host((wish.host.as_str(), wish.port))).await;
    let addresses: Vec<SocketAddr> = looked_up.map_err(|_| "the host's address was not found in time")??.collect();
    let mut last: Broke = "the host has no address".into();
    for address in addresses.into_iter().take(ADDRESSES_MAX) {
        match timeout(wish.within, reach(wish, address, config.clone())).await {
            Ok(Ok(ready)) => return Ok(ready),
            Ok(Err(error)) => last = error,
            Err(_) => last = format!("{address} does not answer").into(),
        }
    }
    Err(last)
}

async fn reach(wish: &Wish, address: SocketAddr, config: ClientConfig) -> Result<Ready, Broke> {
    let own = match &wish.endpoint {
        Some(_) => None,
        None => Some(endpoint::own(address)?),
    };
    let shared = wish.endpoint.as_ref().map(SharedEndpoint::endpoint);
    let endpoint = shared.or(own.as_ref()).ok_or("no endpoint")?;
    let connection = endpoint.connect_with(config, address, &wish.host)?.await?;
    match greet(wish, &connection).await {
        Ok((control, limits, known)) => {
            Ok(Ready { endpoint: own, connection, control, limits, known, twin: wish.twin.clone() })
        }
        Err(error) => Err(connection.close_reason().map_or(error, |reason| explain(&reason))),
    }
}

type Welcomed = (Control, Limits, Vec<(Lane, Number)>);

/// Says who connects, and hears what the node has.
async fn greet(wish: &Wish, connection: &Connection) -> Result<Welcomed, Broke> {
    let (mut send, receive) = connection.open_bi().await?;
    // Above every lane: it carries little.
    send.set_priority(1)?;
    let hello = Hello { device: &wish.device, agent: AGENT, commands: wish.commands, token: &wish.token };
    let mut bytes = Vec::new();
    encode(&Open::Hello(hello), &mut bytes)?;
    send.write_all(&bytes).await?;
    let mut frames = Frames::new(receive);
    let ToDevice::Welcome { node, limits, lanes, .. } = decode(frames.next().await?)? else {
        return Err("the node does not welcome".into());
    };
    tracing::debug!(node, device = wish.device, "welcome");
    let known = lanes.iter().filter_map(|state| Some((Lane::new(state.lane)?, state.last))).collect();
    Ok((Control { send, frames, device: wish.device.clone() }, limits, known))
}

/// Ends when nothing has come for too long while something is awaited: the node may be gone without a word, and the
/// next attempt finds out sooner than the longest silence between pings.
pub(super) async fn fall_silent(connection: &Connection, awaits: impl Fn() -> bool) -> Broke {
    let mut heard = (0, Instant::now());
    loop {
        sleep(SILENCE_LOOK).await;
        let packets = connection.stats().udp_rx.datagrams;
        if packets != heard.0 || !awaits() {
            heard = (packets, Instant::now());
        } else if heard.1.elapsed() >= SILENCE_MAX {
            return "the node has fallen silent".into();
        }
    }
}

/// Closes a connection on which everything is said, and sees the last packet off.
pub(super) async fn leave(connection: &Connection, own: Option<&Endpoint>) {
    connection.close((Close::Ended as u32).into(), b"");
    if let Some(endpoint) = own {
        // The node hears of it later where this is too short.
        let _ = timeout(LAST_PACKET_WITHIN, endpoint.wait_idle()).await;
    }
}

/// The node closed the connection, and said why.
#[derive(Debug, Error)]
#[error("the node closed the connection ({code:?}): {text}")]
pub(in crate::client) struct Closed {
    code: Close,
    text: String,
}

impl Closed {
    /// Whether connecting again soon would end the same, or close the connection of another that has this name.
    pub(in crate::client) fn is_for_long(&self) -> bool {
        self.code.is_final() || self.code == Close::TakenOver
    }
}

/// Why the connection ended, with the node's reason in words.
pub(super) fn explain(error: &ConnectionError) -> Broke {
    if let ConnectionError::ApplicationClosed(closed) = error {
        let text = String::from_utf8_lossy(&closed.reason).into_owned();
        return match Close::from_number(closed.error_code.into_inner()) {
            Some(code) => Closed { code, text }.into(),
            None => format!("the node closed the connection (code {}): {text}", closed.error_code).into(),
        };
    }
    error.to_string().into()
}
