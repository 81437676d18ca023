//! A client of the QUIC door: quinn, and packets made by hand.

use std::net::SocketAddr;
use std::time::Duration;

use quinn::{Connection, ConnectionError, Endpoint, RecvStream, SendStream};

use crate::transport::{self, Bounds, Fingerprint};

/// The longest wait for anything.
const WAIT_MAX: Duration = Duration::from_secs(20);

pub const PINGREQ: &[u8] = &[0xc0, 0];
pub const PINGRESP: (u8, Vec<u8>) = (0xd0, Vec::new());

pub const BOUNDS: Bounds = Bounds {
    two_way_streams_max: 0,
    one_way_streams_max: 0,
    stream_bytes_max: 1 << 20,
    unread_bytes_max: 1 << 20,
    unsent_bytes_max: 1 << 20,
    datagram_bytes_max: 64 << 10,
    idle_max: Duration::from_secs(30),
    ping_after: None,
};

/// Waits, but not for ever.
pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    tokio::time::timeout(WAIT_MAX, what).await.expect("waited too long")
}

/// Connects, as far as the TLS handshake.
pub async fn shake_hands(
    to: SocketAddr,
    pin: Fingerprint,
    alpn: &[u8],
) -> Result<(Endpoint, Connection), ConnectionError> {
    let endpoint = transport::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let config = transport::pinned(pin, alpn, BOUNDS).unwrap();
    let connection = soon(endpoint.connect_with(config, to, "edgeway").unwrap()).await?;
    Ok((endpoint, connection))
}

/// A connection with its stream open.
pub struct Client {
    pub endpoint: Endpoint,
    pub connection: Connection,
    pub send: SendStream,
    pub receive: RecvStream,
}

impl Client {
    /// Connects with MQTT 5, and has the CONNACK behind it.
    pub async fn connect(to: SocketAddr, pin: Fingerprint, id: &str) -> Client {
        let (endpoint, connection) = shake_hands(to, pin, super::MQTT).await.unwrap();
        let (send, receive) = soon(connection.open_bi()).await.unwrap();
        let mut client = Client { endpoint, connection, send, receive };
        client.write(&connect(id)).await;
        let (kind, body) = client.packet().await.unwrap();
        assert_eq!((kind, &body[..2]), (0x20, &[0, 0][..]), "CONNACK: no session, success");
        client
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        soon(self.send.write_all(bytes)).await.unwrap();
    }

    /// The next packet: its first byte, and what follows its length. `None` at the stream's end.
    pub async fn packet(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut first = [0];
        soon(self.receive.read(&mut first)).await.unwrap()?;
        let (mut len, mut shift) = (0, 0);
        loop {
            let mut byte = [0];
            soon(self.receive.read_exact(&mut byte)).await.unwrap();
            len |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] < 0x80 {
                break;
            }
        }
        let mut body = vec![0; len];
        soon(self.receive.read_exact(&mut body)).await.unwrap();
        Some((first[0], body))
    }

    /// Why the connection was closed.
    pub async fn closed(&self) -> ConnectionError {
        soon(self.connection.closed()).await
    }
}

fn packet(first: u8, body: &[&[u8]]) -> Vec<u8> {
    let body = body.concat();
    let mut packet = vec![first];
    let mut rest = body.len();
    loop {
        let more = rest >= 0x80;
        packet.push((rest & 0x7f) as u8 | if more { 0x80 } else { 0 });
        rest >>= 7;
        if !more {
            break;
        }
    }
    packet.extend(body);
    packet
}

fn text(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes(), text.as_bytes()].concat()
}

/// MQTT 5, clean start, no keep-alive.
pub fn connect(id: &str) -> Vec<u8> {
    packet(0x10, &[&text("MQTT"), &[5, 2, 0, 0, 0], &text(id)])
}

/// QoS 1, no properties.
pub fn publish(topic: &str, id: u16, payload: &[u8]) -> Vec<u8> {
    packet(0x32, &[&text(topic), &id.to_be_bytes(), &[0], payload])
}

/// One filter at QoS 1.
pub fn subscribe(id: u16, filter: &str) -> Vec<u8> {
    packet(0x82, &[&id.to_be_bytes(), &[0], &text(filter), &[1]])
}

/// The end, with no reason.
pub const DISCONNECT: &[u8] = &[0xe0, 0];

/// The packet id of a PUBACK that says yes.
pub fn acknowledged((kind, body): &(u8, Vec<u8>)) -> Option<u16> {
    let id = u16::from_be_bytes(*body.first_chunk()?);
    (*kind == 0x40 && body.get(2).is_none_or(|reason| *reason < 0x80)).then_some(id)
}
