//! From a reading to the command it causes, at 1,000 readings a second.

use std::collections::VecDeque;
use std::io::Write;
use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use mio::{Events, Interest, Poll, Token};

use crate::bench::connection::{open, read_some, write_some};
use crate::bench::error::{BenchError, io};
use crate::bench::frames;
use crate::bench::groups::Context;
use crate::bench::inbound::{Frame, Publish, next_frame};
use crate::bench::node::Node;
use crate::bench::options::REPETITIONS;
use crate::bench::paced::INTERVAL;
use crate::bench::plugins;
use crate::bench::quantile::Latencies;
use crate::bench::report::{Goal, Row, Spread, Unit};

/// Devices that send readings in turn and get commands.
const DEVICES: usize = 20;
/// Readings of a device between two crossings of the limit: one reading in
/// five causes a command, on and off in turn.
const READINGS_PER_CROSSING: usize = 5;
/// How long the last commands may take.
const LAST_MAX: Duration = Duration::from_secs(10);

/// Deploys threshold-alarm and measures each window.
pub fn run(context: &Context) -> Result<Vec<Row>, BenchError> {
    let component = plugins::threshold_component(context)?;
    let data = context.store("command")?;
    let node = Node::start(&context.binary, &data)?;
    let manifest = format!("topics = ['telemetry']\nfrom = 'start'\n{}", plugins::threshold_settings(1));
    plugins::deploy(&node, "threshold-alarm", &component, &manifest)?;
    window(node.mqtt, Duration::from_secs(1))?;
    let (mut p50, mut p99) = (Vec::new(), Vec::new());
    for _ in 0..REPETITIONS {
        let latencies = window(node.mqtt, context.window)?;
        p50.extend(latencies.quantile_ms(0.5));
        p99.extend(latencies.quantile_ms(0.99));
    }
    node.stop()?;
    context.remove(&data)?;
    Ok(vec![
        Row::new("reading to command at 1,000/s, p50", Unit::Milliseconds, Spread::of(p50)),
        Row::new("reading to command at 1,000/s, p99", Unit::Milliseconds, Spread::of(p99)).goal(Goal::AtMost(10.0)),
    ])
}

/// One window: readings on one connection, commands on one for each device.
fn window(address: SocketAddr, length: Duration) -> Result<Latencies, BenchError> {
    let whole_round = DEVICES * READINGS_PER_CROSSING * 2;
    let rounds = (length.as_micros() / INTERVAL.as_micros()) as usize / whole_round;
    let readings = rounds.max(1) * whole_round;
    let crossings = readings / READINGS_PER_CROSSING;
    let sent_us: Vec<AtomicU64> = (0..crossings).map(|_| AtomicU64::new(0)).collect();
    let mut devices = Devices::open(address, &sent_us)?;
    let gateway = open(address, "bench-readings", None)?;
    let gateway = gateway.as_fd().try_clone_to_owned().map_err(io("duplicating a socket"))?;
    let gateway = std::net::TcpStream::from(gateway);
    gateway.set_nonblocking(false).map_err(io("setting up a socket"))?;
    let start = devices.start;
    let failed = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| {
            let sent = send_readings(&gateway, readings, &sent_us, start);
            failed.store(sent.is_err(), Ordering::Relaxed);
            sent
        });
        // Its PUBACKs are read and thrown away, so that its socket does not fill.
        let acks = scope.spawn(|| std::io::copy(&mut &gateway, &mut std::io::sink()));
        let received = devices.receive(start + INTERVAL * readings as u32 + LAST_MAX, &failed);
        // The last readings cross nothing: the sender may still be at them.
        let sent = sender.join().map_err(|_| BenchError::Program("the sending thread panicked".to_owned()));
        let closed = gateway.shutdown(std::net::Shutdown::Both).map_err(io("closing a socket"));
        // It ends with the connection, in whichever way.
        let _ = acks.join();
        sent?.and(received).and(closed)
    })?;
    Ok(Latencies::new(devices.samples))
}

/// Sends each reading at its time. The device's readings are above and below
/// the limit in turn, [`READINGS_PER_CROSSING`] at a time.
fn send_readings(
    mut gateway: &std::net::TcpStream,
    readings: usize,
    sent_us: &[AtomicU64],
    start: Instant,
) -> Result<(), BenchError> {
    let mut frame = Vec::new();
    for index in 0..readings {
        let due = start + INTERVAL * index as u32;
        std::thread::sleep(due.saturating_duration_since(Instant::now()));
        let (device, round) = (index % DEVICES, index / DEVICES);
        let crossing = round / READINGS_PER_CROSSING;
        frame.clear();
        reading_frame(&mut frame, device, index, crossing.is_multiple_of(2));
        if round.is_multiple_of(READINGS_PER_CROSSING)
            && let Some(sent) = sent_us.get(crossing * DEVICES + device)
        {
            sent.store(start.elapsed().as_micros() as u64, Ordering::Relaxed);
        }
        gateway.write_all(&frame).map_err(io("writing to the broker"))?;
    }
    Ok(())
}

fn reading_frame(frame: &mut Vec<u8>, device: usize, index: usize, hot: bool) {
    let temperature = if hot { 90.0 } else { 20.0 } + (index % 97) as f64 / 100.0;
    let payload = format!(r#"{{"device":"hot-{device:02}","seq":{index},"temperature":{temperature:.2}}}"#);
    let topic = format!("sensors/hot-{device:02}/temperature");
    frames::publish(frame, &topic, 1, frames::packet_id(index as u64), payload.as_bytes());
}

/// The devices' connections, and what came on them.
struct Devices<'a> {
    poll: Poll,
    connections: Vec<Device>,
    sent_us: &'a [AtomicU64],
    start: Instant,
    samples: Vec<Duration>,
}

struct Device {
    stream: mio::net::TcpStream,
    /// Bytes that begin a packet.
    inbound: VecDeque<u8>,
    /// Commands received.
    commands: usize,
}

impl<'a> Devices<'a> {
    fn open(address: SocketAddr, sent_us: &'a [AtomicU64]) -> Result<Devices<'a>, BenchError> {
        let poll = Poll::new().map_err(io("making a poll"))?;
        let mut connections = Vec::new();
        for number in 0..DEVICES {
            let name = format!("hot-{number:02}");
            let mut stream = open(address, &name, Some((&format!("edgeway/command/{name}/#"), 1)))?;
            let registered = poll.registry().register(&mut stream, Token(number), Interest::READABLE);
            registered.map_err(io("polling a socket"))?;
            connections.push(Device { stream, inbound: VecDeque::new(), commands: 0 });
        }
        Ok(Devices { poll, connections, sent_us, start: Instant::now(), samples: Vec::new() })
    }

    /// Receives until every crossing's command has come.
    fn receive(&mut self, end: Instant, failed: &AtomicBool) -> Result<(), BenchError> {
        let mut events = Events::with_capacity(64);
        while self.samples.len() < self.sent_us.len() && !failed.load(Ordering::Relaxed) {
            if Instant::now() > end {
                let what = format!("the last command ({} of {} came)", self.samples.len(), self.sent_us.len());
                return Err(BenchError::Timeout { what, limit: LAST_MAX });
            }
            self.poll.poll(&mut events, Some(Duration::from_millis(100))).map_err(io("polling sockets"))?;
            for event in &events {
                let number = event.token().0;
                let Some(device) = self.connections.get_mut(number) else {
                    continue;
                };
                let first = device.commands;
                device.receive()?;
                let now = self.start.elapsed().as_micros() as u64;
                for crossing in first..device.commands {
                    let sent = self.sent_us.get(crossing * DEVICES + number).map(|sent| sent.load(Ordering::Relaxed));
                    let sent = sent.ok_or(BenchError::Protocol("a command that no reading caused"))?;
                    self.samples.push(Duration::from_micros(now.saturating_sub(sent)));
                }
            }
        }
        Ok(())
    }
}

impl Device {
    /// Takes what came; acknowledges and answers each command.
    fn receive(&mut self) -> Result<(), BenchError> {
        let mut buffer = [0u8; 16 * 1024];
        let read = read_some(&mut self.stream, &mut buffer)?;
        self.inbound.extend(buffer.iter().take(read));
        let bytes = self.inbound.make_contiguous();
        let (mut used, mut answers) = (0, Vec::new());
        while let Some((frame, length)) = next_frame(bytes.get(used..).unwrap_or_default())? {
            if let Frame::Publish(command) = frame {
                answer(&mut answers, &command, self.commands)?;
                self.commands += 1;
            }
            used += length;
        }
        self.inbound.drain(..used);
        match write_some(&mut self.stream, &answers)? == answers.len() {
            true => Ok(()),
            false => Err(BenchError::Protocol("nothing, while a device's answers wait")),
        }
    }
}

/// A PUBACK and the answer that the command succeeded. Commands must come in
/// order, on and off in turn.
fn answer(out: &mut Vec<u8>, command: &Publish<'_>, number: usize) -> Result<(), BenchError> {
    let expected: &[u8] = if number.is_multiple_of(2) { b"on" } else { b"off" };
    if command.payload != expected {
        return Err(BenchError::Protocol("a command out of order"));
    }
    let topic = std::str::from_utf8(command.topic).unwrap_or_default();
    let mut levels = topic.split('/').skip(2);
    let (Some(device), Some(id)) = (levels.next(), levels.next()) else {
        return Err(BenchError::Protocol("a command on an unknown topic"));
    };
    let [high, low] = command.packet_id.to_be_bytes();
    out.extend_from_slice(&[0x40, 0x02, high, low]);
    let topic = format!("edgeway/answer/{device}/{id}/succeeded");
    frames::publish(out, &topic, 1, frames::packet_id(number as u64), b"");
    Ok(())
}
