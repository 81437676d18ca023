//! Latency at a steady rate: one message each millisecond, round the
//! connections, whatever has been acknowledged.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use crate::bench::connection::{open, read_some};
use crate::bench::error::{BenchError, io};
use crate::bench::frames::FrameRing;
use crate::bench::inbound::count_pubacks;
use crate::bench::payload::Payload;
use crate::bench::quantile::Latencies;
use crate::bench::saturate::CONNECTIONS;

/// Between two messages: 1,000 a second.
pub const INTERVAL: Duration = Duration::from_millis(1);
/// How long the last acknowledgements may take.
const LAST_MAX: Duration = Duration::from_secs(10);

/// Sends for `length` and returns the time from each write to its PUBACK.
pub fn puback_latency(address: SocketAddr, length: Duration) -> Result<Latencies, BenchError> {
    puback_latency_below("sensors", address, length)
}

/// The same with MQTT topics below another first level.
pub fn puback_latency_below(root: &str, address: SocketAddr, length: Duration) -> Result<Latencies, BenchError> {
    let total = (length.as_micros() / INTERVAL.as_micros()) as usize;
    let mut streams = Vec::new();
    for number in 0..CONNECTIONS {
        streams.push(open(address, &format!("bench-paced-{number}"), None)?);
    }
    let sent_us: Vec<AtomicU64> = (0..total).map(|_| AtomicU64::new(0)).collect();
    let start = Instant::now();
    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let senders: Result<Vec<_>, _> = streams.iter_mut().map(duplicate).collect();
        let senders = senders?;
        let sender = scope.spawn(|| {
            let sent = send_all(root, senders, &sent_us, start);
            failed.store(sent.is_err(), Ordering::Relaxed);
            sent
        });
        let samples = receive_all(&mut streams, &sent_us, start, &failed);
        match sender.join() {
            Ok(sent) => sent.and(samples).map(Latencies::new),
            Err(_) => Err(BenchError::Program("the sending thread panicked".to_owned())),
        }
    })
}

/// A second handle on the same socket, for the sending thread.
fn duplicate(stream: &mut mio::net::TcpStream) -> Result<std::net::TcpStream, BenchError> {
    use std::os::fd::AsFd;
    let duplicate = stream.as_fd().try_clone_to_owned().map_err(io("duplicating a socket"))?;
    Ok(std::net::TcpStream::from(duplicate))
}

/// Sends each message at its time; a late one does not move the next.
fn send_all(
    root: &str,
    mut streams: Vec<std::net::TcpStream>,
    sent_us: &[AtomicU64],
    start: Instant,
) -> Result<(), BenchError> {
    let rings: Vec<FrameRing> = (0..streams.len()).map(|n| FrameRing::below(root, n, 1, Payload::Reading)).collect();
    let count = streams.len();
    for (index, sent) in sent_us.iter().enumerate() {
        let due = start + INTERVAL * index as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let (Some(stream), Some(ring)) = (streams.get_mut(index % count), rings.get(index % count)) else {
            continue;
        };
        let position = (index / count * ring.frame_bytes) as u64;
        sent.store(start.elapsed().as_micros() as u64, Ordering::Relaxed);
        stream.write_all(ring.slice(position, ring.frame_bytes as u64)).map_err(io("writing to the broker"))?;
    }
    Ok(())
}

fn receive_all(
    streams: &mut [mio::net::TcpStream],
    sent_us: &[AtomicU64],
    start: Instant,
    failed: &AtomicBool,
) -> Result<Vec<Duration>, BenchError> {
    let mut poll = Poll::new().map_err(io("making a poll"))?;
    for (number, stream) in streams.iter_mut().enumerate() {
        let registered = poll.registry().register(stream, Token(number), Interest::READABLE);
        registered.map_err(io("polling a socket"))?;
    }
    let end = start + INTERVAL * sent_us.len() as u32 + LAST_MAX;
    let count = streams.len();
    let mut acked = vec![0u64; count];
    let mut samples = Vec::with_capacity(sent_us.len());
    let mut events = Events::with_capacity(64);
    let mut buffer = [0u8; 4096];
    while samples.len() < sent_us.len() && !failed.load(Ordering::Relaxed) {
        if Instant::now() > end {
            return Err(BenchError::Timeout { what: "the last PUBACK".to_owned(), limit: LAST_MAX });
        }
        poll.poll(&mut events, Some(Duration::from_millis(100))).map_err(io("polling sockets"))?;
        for event in &events {
            let number = event.token().0;
            let (Some(stream), Some(acked)) = (streams.get_mut(number), acked.get_mut(number)) else {
                continue;
            };
            let read = read_some(stream, &mut buffer)?;
            let now = start.elapsed().as_micros() as u64;
            let came = count_pubacks(buffer.get(..read).unwrap_or_default(), *acked)?;
            for ack in *acked..*acked + came {
                let index = ack as usize * count + number;
                let sent = sent_us.get(index).map_or(now, |sent| sent.load(Ordering::Relaxed));
                samples.push(Duration::from_micros(now.saturating_sub(sent)));
            }
            *acked += came;
        }
    }
    Ok(samples)
}
