//! A plain blocking MQTT client that hides nothing.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use super::packet::{self, Connect, Message, Packet, Version};
use super::properties::Properties;

/// How long a test waits for a packet before it fails.
const WAIT_MAX: Duration = Duration::from_secs(20);

/// How waiting for a packet ended otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The node closed the connection.
    Closed,
    /// Nothing came in time.
    Timeout,
}

/// One connection.
pub struct Client {
    stream: TcpStream,
    version: Version,
    buffer: Vec<u8>,
    /// Received while waiting for something else.
    pending: VecDeque<Packet>,
    last_id: u16,
    /// Whether `message` answers QoS 1 and 2 by itself.
    pub acknowledges: bool,
    /// From CONNACK.
    pub session_present: bool,
    /// From CONNACK.
    pub properties: Properties,
}

impl Client {
    /// Opens a connection and sends nothing.
    pub fn open(address: SocketAddr, version: Version) -> Client {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        Client {
            stream,
            version,
            buffer: Vec::new(),
            pending: VecDeque::new(),
            last_id: 0,
            acknowledges: true,
            session_present: false,
            properties: Properties::default(),
        }
    }

    /// Connects; the node must accept.
    pub fn connect(address: SocketAddr, connect: &Connect) -> Client {
        match Client::try_connect(address, connect) {
            Ok(client) => client,
            Err(code) => panic!("CONNECT was refused with {code:#04x}"),
        }
    }

    /// Connects; gives the reason code where the node refuses.
    pub fn try_connect(address: SocketAddr, connect: &Connect) -> Result<Client, u8> {
        let mut client = Client::open(address, connect.version);
        client.send(&connect.encode());
        match client.receive() {
            Ok(Packet::Connack { session_present, code: 0, properties }) => {
                client.session_present = session_present;
                client.properties = properties;
                Ok(client)
            }
            Ok(Packet::Connack { code, .. }) => Err(code),
            other => panic!("no CONNACK but {other:?}"),
        }
    }

    /// A clean session without more.
    pub fn simple(address: SocketAddr, version: Version, client_id: &str) -> Client {
        Client::connect(address, &Connect::new(version, client_id))
    }

    /// Sends bytes; a closed connection is found when receiving.
    pub fn send(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes);
    }

    /// The next packet in the order they came.
    pub fn receive(&mut self) -> Result<Packet, End> {
        match self.pending.pop_front() {
            Some(packet) => Ok(packet),
            None => self.read(Instant::now() + WAIT_MAX),
        }
    }

    /// The next packet, if one comes within `wait`.
    pub fn receive_within(&mut self, wait: Duration) -> Result<Packet, End> {
        match self.pending.pop_front() {
            Some(packet) => Ok(packet),
            None => self.read(Instant::now() + wait),
        }
    }

    fn read(&mut self, until: Instant) -> Result<Packet, End> {
        loop {
            if let Some((packet, length)) = Packet::decode(self.version, &self.buffer) {
                self.buffer.drain(..length);
                return Ok(packet);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(End::Timeout);
            }
            self.stream.set_read_timeout(Some(left)).unwrap();
            let mut chunk = [0; 16 * 1024];
            match self.stream.read(&mut chunk) {
                Ok(0) => return Err(End::Closed),
                Ok(count) => self.buffer.extend(&chunk[..count]),
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock | ErrorKind::TimedOut => return Err(End::Timeout),
                    ErrorKind::Interrupted => {}
                    _ => return Err(End::Closed),
                },
            }
        }
    }

    /// Waits for the packet that `wanted` knows; others are kept for later.
    pub fn wait_for<T>(&mut self, what: &str, wanted: impl Fn(&Packet) -> Option<T>) -> T {
        if let Some(at) = self.pending.iter().position(|p| wanted(p).is_some()) {
            return wanted(&self.pending.remove(at).unwrap()).unwrap();
        }
        let until = Instant::now() + WAIT_MAX;
        loop {
            match self.read(until) {
                Ok(packet) => match wanted(&packet) {
                    Some(found) => return found,
                    None => self.pending.push_back(packet),
                },
                Err(end) => panic!("no {what}: {end:?}; before it {:?}", self.pending),
            }
        }
    }

    /// A packet identifier not used for a while.
    pub fn next_id(&mut self) -> u16 {
        self.last_id = self.last_id % 60_000 + 1;
        self.last_id
    }

    /// Publishes and waits for the last acknowledgement; gives its reason code.
    pub fn publish(&mut self, message: &Message) -> u8 {
        let mut message = message.clone();
        if message.qos > 0 && message.id == 0 {
            message.id = self.next_id();
        }
        self.send(&message.encode(self.version));
        match message.qos {
            0 => 0,
            1 => self.wait_ack(4, message.id),
            _ => {
                let code = self.wait_ack(5, message.id);
                if code >= 0x80 {
                    return code;
                }
                self.send(&packet::ack(0x62, message.id));
                self.wait_ack(7, message.id)
            }
        }
    }

    /// Publishes at QoS 1, some dozens at a time; all must be taken.
    pub fn publish_all(&mut self, messages: &[Message]) {
        for chunk in messages.chunks(100) {
            let mut bytes = Vec::new();
            let mut ids = Vec::new();
            for message in chunk {
                let message = Message { id: self.next_id(), qos: 1, ..message.clone() };
                ids.push(message.id);
                bytes.extend(message.encode(self.version));
            }
            self.send(&bytes);
            for id in ids {
                assert_eq!(self.wait_ack(4, id), 0);
            }
        }
    }

    /// Waits for an acknowledgement by packet type and identifier.
    pub fn wait_ack(&mut self, wanted_kind: u8, wanted_id: u16) -> u8 {
        self.wait_for("acknowledgement", |packet| match packet {
            Packet::Ack { kind, id, code } if (*kind, *id) == (wanted_kind, wanted_id) => Some(*code),
            _ => None,
        })
    }

    /// Subscribes to one filter; gives the reason code.
    pub fn subscribe(&mut self, filter: &str, options: u8) -> u8 {
        self.subscribe_with(&[(filter, options)], &Properties::default())[0]
    }

    /// Subscribes to filters; gives their reason codes.
    pub fn subscribe_with(&mut self, filters: &[(&str, u8)], properties: &Properties) -> Vec<u8> {
        let sent = self.next_id();
        self.send(&packet::subscribe(self.version, sent, properties, filters));
        self.wait_for("SUBACK", |packet| match packet {
            Packet::Suback { id, codes } if *id == sent => Some(codes.clone()),
            _ => None,
        })
    }

    /// Unsubscribes from a filter.
    pub fn unsubscribe(&mut self, filter: &str) -> Vec<u8> {
        let sent = self.next_id();
        self.send(&packet::unsubscribe(self.version, sent, &[filter]));
        self.wait_for("UNSUBACK", |packet| match packet {
            Packet::Unsuback { id, codes } if *id == sent => Some(codes.clone()),
            _ => None,
        })
    }

    /// The next message, acknowledged unless told otherwise.
    pub fn message(&mut self) -> Message {
        let message = self.wait_for("message", |packet| match packet {
            Packet::Publish(message) => Some(message.clone()),
            _ => None,
        });
        if self.acknowledges {
            self.acknowledge(&message);
        }
        message
    }

    /// Answers a message as its QoS asks.
    pub fn acknowledge(&mut self, message: &Message) {
        match message.qos {
            1 => self.send(&packet::ack(0x40, message.id)),
            2 => {
                self.send(&packet::ack(0x50, message.id));
                self.wait_ack(6, message.id);
                self.send(&packet::ack(0x70, message.id));
            }
            _ => {}
        }
    }

    /// The next `count` messages as (MQTT topic, payload).
    pub fn messages(&mut self, count: usize) -> Vec<(String, String)> {
        let received = (0..count).map(|_| self.message());
        received.map(|m| (m.topic.clone(), m.text())).collect()
    }

    /// Sends PINGREQ and waits for its answer.
    pub fn ping(&mut self) {
        self.send(&[0xc0, 0]);
        self.wait_for("PINGRESP", |packet| matches!(packet, Packet::Pingresp).then_some(()));
    }

    /// Waits until the node closes; gives the DISCONNECT's reason code if any.
    pub fn closed(&mut self) -> Option<u8> {
        let until = Instant::now() + WAIT_MAX;
        let mut reason = None;
        loop {
            let packet = match self.pending.pop_front() {
                Some(packet) => Ok(packet),
                None => self.read(until),
            };
            match packet {
                Ok(Packet::Disconnect { code } | Packet::Connack { code, .. }) => {
                    reason = Some(code);
                }
                Ok(_) => {}
                Err(End::Closed) => return reason,
                Err(End::Timeout) => panic!("the node did not close the connection"),
            }
        }
    }

    /// Leaves with DISCONNECT.
    pub fn disconnect(mut self) {
        self.send(&[0xe0, 0]);
        let until = Instant::now() + WAIT_MAX;
        while self.read(until).is_ok() {}
    }
}
