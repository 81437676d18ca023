//! A device that speaks `edgeway/1`: quinn, and frames of [`devices::native`].

use std::net::SocketAddr;
use std::sync::Arc;

use devices::native::{
    ALPN, Event, FromDevice, Hello, LaneReply, LaneState, Open, Publish, ToDevice, Told, Want, decode, encode,
};
use devices::sequence::{Lane, Number};
use parking_lot::{Condvar, Mutex};
use quinn::{Connection, ConnectionError, Endpoint, ReadError, RecvStream, SendStream};
use serde::Serialize;

use super::client::{BOUNDS, soon};
use crate::event_log::{Committed, Observer};
use crate::transport::{self, Bounds, Fingerprint};

/// A frame as it is sent.
pub fn framed(frame: &impl Serialize) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode(frame, &mut bytes).unwrap();
    bytes
}

/// Events of one topic, numbered from `first` on.
pub fn publish(topic: &str, boot: u64, first: u64, payloads: &[&str]) -> Vec<u8> {
    let event = |payload: &&str| Event {
        skipped: 0,
        later_ms: 0,
        payload: payload.as_bytes().to_vec().leak(),
        properties: Vec::new(),
    };
    framed(&Publish { topic, boot, first, timestamp_ms: 7, events: payloads.iter().map(event).collect() })
}

pub fn number(boot: u64, seq: u64) -> Number {
    Number { boot, seq }
}

pub fn acked(boot: u64, seq: u64) -> LaneReply {
    LaneReply::Acked { up_to: number(boot, seq) }
}

/// A two-way stream.
pub struct Stream {
    pub send: SendStream,
    pub receive: RecvStream,
}

impl Stream {
    pub async fn open(connection: &Connection) -> Self {
        let (send, receive) = soon(connection.open_bi()).await.unwrap();
        Self { send, receive }
    }

    pub async fn write(&mut self, bytes: &[u8]) {
        soon(self.send.write_all(bytes)).await.unwrap();
    }

    /// The next frame's postcard bytes; `None` at the stream's end.
    pub async fn frame(&mut self) -> Result<Option<Vec<u8>>, ReadError> {
        let (mut length, mut shift) = (0, 0);
        loop {
            let mut byte = [0];
            let Some(count) = soon(self.receive.read(&mut byte)).await? else { return Ok(None) };
            assert_eq!(count, 1);
            length |= usize::from(byte[0] & 0x7f) << shift;
            shift += 7;
            if byte[0] < 0x80 {
                break;
            }
        }
        let mut frame = vec![0; length];
        match soon(self.receive.read_exact(&mut frame)).await {
            Ok(()) => Ok(Some(frame)),
            Err(quinn::ReadExactError::ReadError(error)) => Err(error),
            Err(quinn::ReadExactError::FinishedEarly(_)) => panic!("a frame is cut off"),
        }
    }

    pub async fn reply(&mut self) -> LaneReply {
        decode(&self.frame().await.unwrap().unwrap()).unwrap()
    }

    /// Reads up to the acknowledgement of a number; what came before it besides acknowledgements.
    pub async fn acked(&mut self, up_to: Number) -> Vec<LaneReply> {
        let mut others = Vec::new();
        loop {
            match self.reply().await {
                LaneReply::Acked { up_to: found } if found == up_to => return others,
                LaneReply::Acked { up_to: found } => assert!(found < up_to, "{found} is past {up_to}"),
                other => others.push(other),
            }
        }
    }

    /// Subscribes; whether it was granted.
    pub async fn subscribe(&mut self, filter: &str) -> bool {
        self.write(&framed(&Want::Subscribe { filter })).await;
        let told = self.frame().await.unwrap().unwrap();
        let Told::Subscribed { refused } = decode(&told).unwrap() else { panic!("{told:?}") };
        refused.is_none()
    }

    /// The next event: topic and payload.
    pub async fn event(&mut self) -> (String, String) {
        let told = self.frame().await.unwrap().unwrap();
        let Told::Event { topic, payload, .. } = decode(&told).unwrap() else { panic!("{told:?}") };
        (topic.to_owned(), String::from_utf8(payload.to_vec()).unwrap())
    }
}

/// A connection that was welcomed.
pub struct Device {
    pub endpoint: Endpoint,
    pub connection: Connection,
    pub control: Stream,
    pub lanes: Vec<LaneState>,
}

pub fn hello(device: &str, commands: bool) -> Vec<u8> {
    framed(&Open::Hello(Hello { device, agent: "test/1", commands, token: b"" }))
}

/// Connects, as far as the TLS handshake.
pub async fn shake_hands(
    to: SocketAddr,
    pin: Fingerprint,
    bounds: Bounds,
) -> Result<(Endpoint, Connection), ConnectionError> {
    let endpoint = transport::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let config = transport::pinned(pin, ALPN, bounds).unwrap();
    let connection = soon(endpoint.connect_with(config, to, "edgeway").unwrap()).await?;
    Ok((endpoint, connection))
}

impl Device {
    pub async fn connect(to: SocketAddr, pin: Fingerprint, name: &str) -> Self {
        Self::connect_with(to, pin, &hello(name, true), BOUNDS).await
    }

    pub async fn connect_with(to: SocketAddr, pin: Fingerprint, hello: &[u8], bounds: Bounds) -> Self {
        let (endpoint, connection) = shake_hands(to, pin, bounds).await.unwrap();
        let mut control = Stream::open(&connection).await;
        control.write(hello).await;
        let welcome = control.frame().await.unwrap().unwrap();
        let ToDevice::Welcome { node, now_ms, lanes, limits, .. } = decode(&welcome).unwrap() else {
            panic!("{welcome:?}")
        };
        assert!(node == "n1" && now_ms > 0 && limits.frames_in_flight_max == 64);
        Self { endpoint, connection, control, lanes }
    }

    /// Opens a lane; the last number that the node has of it.
    pub async fn lane(&self, lane: Lane) -> (Stream, Option<Number>) {
        let mut stream = Stream::open(&self.connection).await;
        stream.write(&framed(&Open::Lane(lane.number()))).await;
        let LaneReply::Opened { last } = stream.reply().await else { panic!("a lane begins with Opened") };
        (stream, last)
    }

    pub async fn events(&self) -> Stream {
        let mut stream = Stream::open(&self.connection).await;
        stream.write(&framed(&Open::Events)).await;
        stream
    }

    pub async fn goodbye(&mut self) {
        self.control.write(&framed(&FromDevice::Goodbye)).await;
        self.control.send.finish().unwrap();
    }

    /// Why the connection was closed.
    pub async fn closed(&self) -> ConnectionError {
        soon(self.connection.closed()).await
    }
}

/// Holds the committer when it has made a commit with events visible, while it is told to.
#[derive(Default)]
pub struct Hold {
    held: Mutex<bool>,
    changed: Condvar,
}

impl Hold {
    pub fn on(log: &crate::event_log::EventLog) -> Arc<Self> {
        let hold = Arc::<Self>::default();
        log.observe(Arc::clone(&hold) as _);
        hold
    }

    pub fn set(&self, held: bool) {
        *self.held.lock() = held;
        self.changed.notify_all();
    }
}

impl Observer for Hold {
    fn committed(&self, _committed: &Arc<Committed>) {
        let mut held = self.held.lock();
        while *held {
            self.changed.wait(&mut held);
        }
    }

    fn is_listening(&self) -> bool {
        true
    }
}

/// A device with twenty publishes under way on its lane, and the hold that keeps them from their acknowledgements.
pub async fn twenty_under_way(node: &super::Node) -> (Arc<Hold>, Device, Stream) {
    let hold = Hold::on(&node.log);
    let device = node.device("d").await;
    let (mut lane, _) = device.lane(Lane::NORMAL).await;
    hold.set(true);
    for n in 0..20 {
        lane.write(&publish("t", 1, n, &["x"])).await;
    }
    (hold, device, lane)
}
