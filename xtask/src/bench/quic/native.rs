//! `edgeway/1` at full speed: batches on one lane of each connection, cumulative acknowledgements.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use devices::native::{self, Event, Framed, Hello, LaneReply, Open, Publish, ToDevice};
use devices::sequence::Lane;
use quinn::{Connection, RecvStream, SendStream};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::Dial;
use crate::bench::error::BenchError;
use crate::bench::payload::{Numbers, PAYLOAD_BYTES, Payload};
use crate::bench::saturate::CONNECTIONS;

/// Events in one frame.
pub const EVENTS_PER_FRAME: u64 = 256;
/// Frames without an acknowledgement, a connection.
const FRAMES_IN_FLIGHT: u64 = 16;
/// Different readings of one connection.
const READINGS: usize = 4_096;
/// Bytes of one read.
const READ_BYTES: usize = 4 << 10;
/// How long the last acknowledgements may take.
const LAST_MAX: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
struct Position {
    /// Events acknowledged; the first has number 1.
    acked: AtomicU64,
    stop: AtomicBool,
    moved: Notify,
}

fn broke(error: impl std::fmt::Display) -> BenchError {
    BenchError::Program(format!("edgeway/1: {error}"))
}

/// Publishes for `length`, after a warm-up of a third of it; durable events a second.
pub async fn rate(dial: &Dial, length: Duration) -> Result<f64, BenchError> {
    let mut halves = JoinSet::new();
    let mut positions = Vec::new();
    let mut kept = Vec::new();
    for number in 0..CONNECTIONS {
        let (connection, control) = hello(dial, &format!("bench-native-{number}")).await?;
        let (mut send, receive) = connection.open_bi().await.map_err(broke)?;
        send.write_all(&frame(&Open::Lane(Lane::NORMAL.number()))?).await.map_err(broke)?;
        let position = Arc::new(Position::default());
        positions.push(Arc::clone(&position));
        kept.push((connection, control));
        halves.spawn(write(send, number, Arc::clone(&position)));
        halves.spawn(read(receive, position));
    }
    let acked = || positions.iter().map(|position| position.acked.load(Ordering::Relaxed)).sum::<u64>();
    tokio::time::sleep(length / 3).await;
    let (before, started) = (acked(), Instant::now());
    tokio::time::sleep(length).await;
    let rate = (acked() - before) as f64 / started.elapsed().as_secs_f64();
    for position in &positions {
        position.stop.store(true, Ordering::Relaxed);
        position.moved.notify_one();
    }
    while let Some(ended) = tokio::time::timeout(LAST_MAX, halves.join_next()).await.map_err(broke)? {
        ended.map_err(broke)??;
    }
    for (connection, _) in kept {
        connection.close(0u32.into(), b"");
    }
    Ok(rate)
}

/// Connects and is welcomed; gives the control stream's halves, which hold the connection.
pub async fn hello(dial: &Dial, device: &str) -> Result<(Connection, (SendStream, RecvStream)), BenchError> {
    let connection = dial.connect().await?;
    let (mut send, mut receive) = connection.open_bi().await.map_err(broke)?;
    let hello = Hello { device, agent: "bench", commands: false, token: b"" };
    send.write_all(&frame(&Open::Hello(hello))?).await.map_err(broke)?;
    let mut bytes = Vec::new();
    loop {
        if let Framed::Whole { frame, .. } = native::next_frame(&bytes).map_err(broke)? {
            let ToDevice::Welcome { .. } = native::decode(frame).map_err(broke)? else {
                return Err(broke("the first frame is no Welcome"));
            };
            return Ok((connection, (send, receive)));
        }
        let mut buffer = [0; 1_024];
        let read = receive.read(&mut buffer).await.map_err(broke)?.ok_or_else(|| broke("no Welcome"))?;
        bytes.extend_from_slice(buffer.get(..read).unwrap_or_default());
    }
}

fn frame<T: serde::Serialize>(value: &T) -> Result<Vec<u8>, BenchError> {
    let mut bytes = Vec::new();
    native::encode(value, &mut bytes).map_err(broke)?;
    Ok(bytes)
}

async fn write(mut send: SendStream, number: usize, position: Arc<Position>) -> Result<(), BenchError> {
    let device = format!("dev-{number}");
    let (topic, payloads) = (format!("sensors/{device}/temperature"), readings(number, &device));
    let boot = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |now| now.as_millis() as u64);
    let mut sent = 0;
    let mut bytes = Vec::new();
    loop {
        let stopping = position.stop.load(Ordering::Relaxed);
        let acked = position.acked.load(Ordering::Relaxed);
        if stopping && acked == sent {
            return send.finish().map_err(broke);
        }
        if stopping || sent - acked > (FRAMES_IN_FLIGHT - 1) * EVENTS_PER_FRAME {
            position.moved.notified().await;
            continue;
        }
        let at = sent as usize % READINGS;
        let reading = |payload| Event { skipped: 0, later_ms: 0, payload, properties: Vec::new() };
        let events: Vec<Event<'_>> =
            payloads.chunks_exact(PAYLOAD_BYTES).skip(at).take(EVENTS_PER_FRAME as usize).map(reading).collect();
        bytes.clear();
        native::encode(&Publish { topic: &topic, boot, first: sent + 1, timestamp_ms: 0, events }, &mut bytes)
            .map_err(broke)?;
        send.write_all(&bytes).await.map_err(broke)?;
        sent += EVENTS_PER_FRAME;
    }
}

fn readings(number: usize, device: &str) -> Vec<u8> {
    let mut numbers = Numbers::new(number as u64);
    let mut bytes = Vec::with_capacity(READINGS * PAYLOAD_BYTES);
    for seq in 0..READINGS {
        Payload::Reading.write(&mut bytes, device, seq as u64, &mut numbers);
    }
    bytes
}

async fn read(mut receive: RecvStream, position: Arc<Position>) -> Result<(), BenchError> {
    let mut bytes = Vec::with_capacity(READ_BYTES);
    let mut buffer = vec![0; READ_BYTES];
    while let Some(read) = receive.read(&mut buffer).await.map_err(broke)? {
        bytes.extend_from_slice(buffer.get(..read).unwrap_or_default());
        let mut taken_all = 0;
        while let Framed::Whole { frame, taken } = native::next_frame(&bytes[taken_all..]).map_err(broke)? {
            match native::decode(frame).map_err(broke)? {
                LaneReply::Opened { .. } => {}
                LaneReply::Acked { up_to } => position.acked.store(up_to.seq, Ordering::Relaxed),
                LaneReply::Refused(refused) => return Err(broke(format!("{refused:?}"))),
            }
            taken_all += taken;
        }
        bytes.drain(..taken_all);
        position.moved.notify_one();
    }
    Ok(())
}
