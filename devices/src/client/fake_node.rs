//! A node for the client's tests: it records publishes and can withhold, refuse, kick and command.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{broadcast, mpsc};

use crate::sequence::{MQTT_PROPERTY, Sequence};

#[derive(Clone)]
enum Order {
    Kick,
    Deliver(Vec<u8>, Vec<u8>),
}

/// What the tests steer and see.
pub(crate) struct FakeNode {
    pub(crate) port: u16,
    /// Publishes are recorded but not acknowledged.
    pub(crate) withhold: AtomicBool,
    /// The reason code of acknowledgements (MQTT 5), as long as there are refusals left.
    pub(crate) reason: AtomicU8,
    pub(crate) refusals_left: AtomicUsize,
    /// New connections are closed at once.
    pub(crate) closed: AtomicBool,
    pub(crate) subscribed: AtomicUsize,
    pub(crate) device_acks: AtomicUsize,
    pub(crate) farewells: AtomicUsize,
    published: Mutex<Vec<(String, Vec<u8>)>>,
    /// The user properties of each publish.
    properties: Mutex<Vec<Vec<(String, String)>>>,
    orders: broadcast::Sender<Order>,
}

impl FakeNode {
    pub(crate) async fn start() -> Arc<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let node = Arc::new(Self {
            port: listener.local_addr().unwrap().port(),
            withhold: AtomicBool::new(false),
            reason: AtomicU8::new(0),
            refusals_left: AtomicUsize::new(usize::MAX),
            closed: AtomicBool::new(false),
            subscribed: AtomicUsize::new(0),
            device_acks: AtomicUsize::new(0),
            farewells: AtomicUsize::new(0),
            published: Mutex::default(),
            properties: Mutex::default(),
            orders: broadcast::channel(1_024).0,
        });
        let accepting = node.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                if !accepting.closed.load(SeqCst) {
                    tokio::spawn(accepting.clone().serve(stream));
                }
            }
        });
        node
    }

    pub(crate) fn kick(&self) {
        let _ = self.orders.send(Order::Kick);
    }

    pub(crate) fn deliver(&self, topic: &str, payload: &[u8]) {
        let _ = self.orders.send(Order::Deliver(topic.into(), payload.into()));
    }

    pub(crate) fn published(&self) -> Vec<(String, String)> {
        let published = self.published.lock().unwrap();
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        published.iter().map(|(t, p)| (t.clone(), text(p))).collect()
    }

    pub(crate) fn payloads(&self) -> Vec<String> {
        self.published().into_iter().map(|(_, p)| p).collect()
    }

    pub(crate) fn properties(&self) -> Vec<Vec<(String, String)>> {
        self.properties.lock().unwrap().clone()
    }

    /// The lane and number of each publish, in the order of arrival.
    pub(crate) fn sequences(&self) -> Vec<Sequence> {
        let number = |properties: Vec<(String, String)>| {
            properties.iter().find(|(name, _)| name == MQTT_PROPERTY).map(|(_, value)| value.parse().unwrap())
        };
        self.properties().into_iter().filter_map(number).collect()
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let (mut reader, mut writer) = stream.into_split();
        let mut orders = self.orders.subscribe();
        let mut v5 = false;
        let (sender, mut packets) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Some(packet) = read_packet(&mut reader).await {
                if sender.send(packet).await.is_err() {
                    return;
                }
            }
        });
        loop {
            tokio::select! {
                packet = packets.recv() => {
                    let Some((first, body)) = packet else { return };
                    if first >> 4 == 1 {
                        v5 = body[6] == 5;
                    }
                    if !self.answer(&mut writer, first, &body, v5).await {
                        return;
                    }
                }
                order = orders.recv() => match order {
                    Ok(Order::Deliver(topic, payload)) => {
                        let bytes = publish(&topic, &payload, v5);
                        writer.write_all(&bytes).await.unwrap();
                    }
                    Ok(Order::Kick) | Err(_) => return,
                }
            }
        }
    }

    async fn answer(&self, writer: &mut OwnedWriteHalf, first: u8, body: &[u8], v5: bool) -> bool {
        let reply: Vec<u8> = match first >> 4 {
            1 if v5 => vec![0x20, 3, 0, 0, 0],
            1 => vec![0x20, 2, 0, 0],
            3 => self.record(first, body, v5),
            4 => {
                self.device_acks.fetch_add(1, SeqCst);
                vec![]
            }
            8 => {
                self.subscribed.fetch_add(1, SeqCst);
                match v5 {
                    true => vec![0x90, 4, body[0], body[1], 0, 1],
                    false => vec![0x90, 3, body[0], body[1], 1],
                }
            }
            12 => vec![0xd0, 0],
            14 => {
                self.farewells.fetch_add(1, SeqCst);
                return false;
            }
            _ => vec![],
        };
        writer.write_all(&reply).await.is_ok()
    }

    fn refuses(&self) -> bool {
        self.refusals_left.fetch_update(SeqCst, SeqCst, |left| left.checked_sub(1)).is_ok()
    }

    fn record(&self, first: u8, body: &[u8], v5: bool) -> Vec<u8> {
        let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
        let topic = String::from_utf8(body[2..2 + length].to_vec()).unwrap();
        let mut rest = &body[2 + length..];
        let qos = (first >> 1) & 3;
        let id = [rest[0], rest[1]];
        if qos > 0 {
            rest = &rest[2..];
        }
        let mut properties = Vec::new();
        if v5 {
            let length = usize::from(rest[0]);
            assert!(length < 128, "a length of one byte");
            properties = user_properties(&rest[1..1 + length]);
            rest = &rest[1 + length..];
        }
        self.properties.lock().unwrap().push(properties);
        self.published.lock().unwrap().push((topic, rest.to_vec()));
        let reason = self.reason.load(SeqCst);
        match (qos, self.withhold.load(SeqCst)) {
            (0, _) | (_, true) => vec![],
            _ if v5 && reason != 0 && self.refuses() => vec![0x40, 3, id[0], id[1], reason],
            _ => vec![0x40, 2, id[0], id[1]],
        }
    }
}

fn user_properties(mut bytes: &[u8]) -> Vec<(String, String)> {
    let mut properties = Vec::new();
    let text = |bytes: &mut &[u8]| {
        let (text, rest) = bytes[2..].split_at(usize::from(u16::from_be_bytes([bytes[0], bytes[1]])));
        *bytes = rest;
        String::from_utf8(text.to_vec()).unwrap()
    };
    while let Some((0x26, rest)) = bytes.split_first() {
        bytes = rest;
        properties.push((text(&mut bytes), text(&mut bytes)));
    }
    assert!(bytes.is_empty(), "no other properties");
    properties
}

fn publish(topic: &[u8], payload: &[u8], v5: bool) -> Vec<u8> {
    let mut body = (topic.len() as u16).to_be_bytes().to_vec();
    body.extend_from_slice(topic);
    body.extend_from_slice(&[0, 1]);
    if v5 {
        body.push(0);
    }
    body.extend_from_slice(payload);
    assert!(body.len() < 16_384);
    let mut packet = vec![0x32, (body.len() % 128) as u8 | 0x80, (body.len() / 128) as u8];
    packet.extend(body);
    packet
}

async fn read_packet(reader: &mut OwnedReadHalf) -> Option<(u8, Vec<u8>)> {
    let first = reader.read_u8().await.ok()?;
    let (mut length, mut shift) = (0usize, 0);
    loop {
        let byte = reader.read_u8().await.ok()?;
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            break;
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).await.ok()?;
    Some((first, body))
}
