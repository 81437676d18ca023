//! A fast MQTT 3.1.1 publisher that records what was acknowledged.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use super::packet::{Connect, Message, Version};

/// Messages sent and not yet acknowledged.
const WINDOW: u64 = 64;

/// One connection's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The MQTT topic; the payload of message n is `n`.
    pub topic: String,
    /// Messages handed to the socket: numbers 0 to `sent - 1`.
    pub sent: u64,
    /// Messages acknowledged, always the first ones.
    pub acked: u64,
}

/// A connection that publishes QoS 1 as fast as it can until it breaks.
pub struct Publisher {
    thread: JoinHandle<Record>,
    ends: Arc<AtomicBool>,
}

impl Publisher {
    /// Starts one; every acknowledgement is added to `acked`.
    pub fn start(address: SocketAddr, topic: &str, acked: Arc<AtomicU64>) -> Publisher {
        Publisher::start_paced(address, topic, acked, Duration::ZERO)
    }

    /// The same with a pause after each acknowledgement that is read, so that others have a processor too.
    pub fn start_paced(address: SocketAddr, topic: &str, acked: Arc<AtomicU64>, pause: Duration) -> Publisher {
        let (name, ends) = (topic.to_owned(), Arc::new(AtomicBool::new(false)));
        let end = Arc::clone(&ends);
        Publisher { thread: std::thread::spawn(move || run(address, name, &acked, &end, pause)), ends }
    }

    /// Sends no more, and waits until all is acknowledged or the connection has broken.
    pub fn stop(self) -> Record {
        self.ends.store(true, Ordering::Relaxed);
        self.record()
    }

    /// Waits until the connection has broken.
    pub fn record(self) -> Record {
        self.thread.join().unwrap()
    }
}

fn run(address: SocketAddr, topic: String, total: &AtomicU64, ends: &AtomicBool, pause: Duration) -> Record {
    let mut record = Record { topic, sent: 0, acked: 0 };
    let Ok(mut stream) = TcpStream::connect(address) else {
        return record;
    };
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let client_id = record.topic.replace('/', "-");
    let connect = Connect::new(Version::V3, &client_id).encode();
    let mut connack = [0; 4];
    if stream.write_all(&connect).is_err() || stream.read_exact(&mut connack).is_err() {
        return record;
    }
    assert_eq!(connack, [0x20, 2, 0, 0]);
    let mut buffer = Vec::new();
    loop {
        let is_sent = if ends.load(Ordering::Relaxed) {
            record.acked < record.sent
        } else {
            send_window(&mut stream, &mut record)
        };
        if !is_sent || !read_acks(&mut stream, &mut buffer, &mut record, total) {
            break;
        }
        std::thread::sleep(pause);
    }
    let _ = stream.shutdown(Shutdown::Both);
    record
}

/// Fills the window; false when the connection is broken.
fn send_window(stream: &mut TcpStream, record: &mut Record) -> bool {
    let mut out = Vec::new();
    while record.sent < record.acked + WINDOW {
        let mut message = Message::new(&record.topic, record.sent.to_string()).qos(1);
        message.id = packet_id(record.sent);
        out.extend(message.encode(Version::V3));
        record.sent += 1;
    }
    stream.write_all(&out).is_ok()
}

fn packet_id(number: u64) -> u16 {
    u16::try_from(number % 65_535 + 1).unwrap()
}

/// Reads acknowledgements, which must come in order; false when broken.
fn read_acks(stream: &mut TcpStream, buffer: &mut Vec<u8>, record: &mut Record, total: &AtomicU64) -> bool {
    let mut chunk = [0; 4096];
    let count = match stream.read(&mut chunk) {
        Ok(0) | Err(_) => return false,
        Ok(count) => count,
    };
    buffer.extend(&chunk[..count]);
    let whole = buffer.len() / 4 * 4;
    for ack in buffer[..whole].chunks(4) {
        let [high, low] = packet_id(record.acked).to_be_bytes();
        assert_eq!(ack, [0x40, 2, high, low], "acknowledged out of order");
        record.acked += 1;
        total.fetch_add(1, Ordering::Relaxed);
    }
    buffer.drain(..whole);
    true
}
