//! Many connected devices on one thread: each acknowledges and answers every command at once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};
use parking_lot::Mutex;

use crate::bench::connection::{open, read_some, write_some};
use crate::bench::error::{BenchError, io};
use crate::bench::frames;
use crate::bench::inbound::{Frame, next_frame};

/// Threads that make the connections.
const OPENERS: usize = 8;
/// How long the thread waits for sockets at once.
const POLL_MAX: Duration = Duration::from_millis(50);

/// What the devices have seen.
#[derive(Debug, Default)]
pub struct Seen {
    /// Commands received.
    pub received: AtomicU64,
    /// Answers that the node has acknowledged: they are durable.
    pub answered: AtomicU64,
    /// Numbers in commands' payloads, and when they came.
    arrivals: Mutex<Vec<(u64, Instant)>>,
}

impl Seen {
    /// Takes the numbers that have come since the last call.
    pub fn take_arrivals(&self) -> Vec<(u64, Instant)> {
        std::mem::take(&mut *self.arrivals.lock())
    }
}

/// Connected devices; they go when this is dropped.
#[derive(Debug)]
pub struct Devices {
    pub seen: Arc<Seen>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Result<(), BenchError>>>,
}

impl Devices {
    /// Connects `prefix-0` and so on.
    pub fn connect(address: SocketAddr, prefix: &str, count: usize) -> Result<Devices, BenchError> {
        let connections = std::thread::scope(|scope| {
            let part = count.div_ceil(OPENERS);
            let numbers: Vec<usize> = (0..count).collect();
            let parts: Vec<_> = numbers.chunks(part).map(<[usize]>::to_vec).collect();
            let openers: Vec<_> =
                parts.into_iter().map(|part| scope.spawn(move || open_all(address, prefix, &part))).collect();
            let opened = openers.into_iter().map(|opener| {
                opener.join().unwrap_or_else(|_| Err(BenchError::Program("a connecting thread panicked".to_owned())))
            });
            opened.collect::<Result<Vec<_>, _>>()
        })?;
        let connections = connections.into_iter().flatten().collect();
        let (seen, stop) = (Arc::new(Seen::default()), Arc::new(AtomicBool::new(false)));
        let thread = std::thread::spawn({
            let (seen, stop) = (Arc::clone(&seen), Arc::clone(&stop));
            move || serve(connections, &seen, &stop)
        });
        Ok(Devices { seen, stop, thread: Some(thread) })
    }

    /// Disconnects them, and says what went wrong.
    pub fn leave(mut self) -> Result<(), BenchError> {
        self.stop.store(true, Relaxed);
        let ended = self.thread.take().map(JoinHandle::join);
        ended
            .unwrap_or(Ok(Ok(())))
            .unwrap_or_else(|_| Err(BenchError::Program("the devices' thread panicked".to_owned())))
    }
}

impl Drop for Devices {
    fn drop(&mut self) {
        self.stop.store(true, Relaxed);
    }
}

fn open_all(address: SocketAddr, prefix: &str, numbers: &[usize]) -> Result<Vec<Device>, BenchError> {
    let device = |number: &usize| {
        let name = format!("{prefix}-{number}");
        let stream = open(address, &name, Some((&format!("edgeway/command/{name}/#"), 1)))?;
        Ok(Device { stream, inbound: Vec::new(), outbound: Vec::new(), next_id: 1 })
    };
    numbers.iter().map(device).collect()
}

fn serve(mut devices: Vec<Device>, seen: &Seen, stop: &AtomicBool) -> Result<(), BenchError> {
    let mut poll = Poll::new().map_err(io("making a poll"))?;
    for (number, device) in devices.iter_mut().enumerate() {
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = poll.registry().register(&mut device.stream, Token(number), interest);
        registered.map_err(io("polling a socket"))?;
    }
    let mut events = Events::with_capacity(1_024);
    let mut buffer = vec![0; 64 << 10];
    let mut arrivals = Vec::new();
    while !stop.load(Relaxed) {
        match poll.poll(&mut events, Some(POLL_MAX)) {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            polled => polled.map_err(io("polling sockets"))?,
        }
        for event in &events {
            if let Some(device) = devices.get_mut(event.token().0) {
                device.take_turn(&mut buffer, seen, &mut arrivals)?;
            }
        }
        if !arrivals.is_empty() {
            seen.arrivals.lock().append(&mut arrivals);
        }
    }
    Ok(())
}

#[derive(Debug)]
struct Device {
    stream: mio::net::TcpStream,
    /// Bytes that begin a packet.
    inbound: Vec<u8>,
    /// What the socket has not taken yet.
    outbound: Vec<u8>,
    next_id: u16,
}

impl Device {
    /// Reads what is there, answers it, writes what the socket takes.
    fn take_turn(
        &mut self,
        buffer: &mut [u8],
        seen: &Seen,
        arrivals: &mut Vec<(u64, Instant)>,
    ) -> Result<(), BenchError> {
        loop {
            let read = read_some(&mut self.stream, buffer)?;
            self.inbound.extend_from_slice(buffer.get(..read).unwrap_or_default());
            self.take_frames(seen, arrivals)?;
            // A socket that gave less than there was room for is empty.
            if read < buffer.len() {
                break;
            }
        }
        let written = write_some(&mut self.stream, &self.outbound)?;
        self.outbound.drain(..written);
        Ok(())
    }

    fn take_frames(&mut self, seen: &Seen, arrivals: &mut Vec<(u64, Instant)>) -> Result<(), BenchError> {
        let mut used = 0;
        while let Some((frame, length)) = next_frame(self.inbound.get(used..).unwrap_or_default())? {
            match frame {
                Frame::Publish(command) => {
                    seen.received.fetch_add(1, Relaxed);
                    let number = std::str::from_utf8(command.payload).ok().and_then(|text| text.parse().ok());
                    arrivals.extend(number.map(|number: u64| (number, Instant::now())));
                    let [high, low] = command.packet_id.to_be_bytes();
                    self.outbound.extend_from_slice(&[0x40, 0x02, high, low]);
                    let topic = answer_topic(command.topic)?;
                    frames::publish(&mut self.outbound, &topic, 1, self.next_id, b"");
                    self.next_id = self.next_id.checked_add(1).unwrap_or(1);
                }
                Frame::Other(0x40, _) => {
                    seen.answered.fetch_add(1, Relaxed);
                }
                Frame::Other(..) => return Err(BenchError::Protocol("a packet that no device expects")),
            }
            used += length;
        }
        self.inbound.drain(..used);
        Ok(())
    }
}

/// Where a command is answered that it succeeded.
fn answer_topic(command: &[u8]) -> Result<String, BenchError> {
    let topic = std::str::from_utf8(command).unwrap_or_default();
    let mut levels = topic.split('/').skip(2);
    match (levels.next(), levels.next()) {
        (Some(device), Some(id)) => Ok(format!("edgeway/answer/{device}/{id}/succeeded")),
        _ => Err(BenchError::Protocol("a command on an unknown topic")),
    }
}
