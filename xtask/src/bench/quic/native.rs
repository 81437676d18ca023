//! `edgeway/1` at full speed: batches on one lane of each connection, cumulative acknowledgements.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use devices::native::{self, Event, Framed, Hello, LaneReply, Open, Publish, ToDevice};
use devices::sequence::Lane;
use quinn::{Connection, RecvStream, SendStream};

use super::Dial;
use super::load::{Position, Publishers, broke};
use crate::bench::error::BenchError;
use crate::bench::payload::{Numbers, PAYLOAD_BYTES, Payload};
use crate::bench::saturate::CONNECTIONS;

/// Events in one frame.
const EVENTS_PER_FRAME: u64 = 256;
/// Frames without an acknowledgement, a connection.
const FRAMES_IN_FLIGHT: u64 = 16;
/// Different readings of one connection.
const READINGS: usize = 4_096;
/// Bytes of one read.
const READ_BYTES: usize = 4 << 10;

/// Publishes for `length`; durable events a second.
pub async fn rate(dial: &Dial, length: Duration) -> Result<f64, BenchError> {
    let mut publishers = Publishers::default();
    let mut kept = Vec::new();
    for number in 0..CONNECTIONS {
        let (connection, control) = hello(dial, &format!("bench-native-{number}")).await?;
        let (mut send, receive) = connection.open_bi().await.map_err(broke)?;
        send.write_all(&frame(&Open::Lane(Lane::NORMAL.number()))?).await.map_err(broke)?;
        kept.push((connection, control));
        publishers.add((send, receive), |send, position| write(send, number, position), read);
    }
    let rate = publishers.rate(length).await?;
    kept.iter().for_each(|(connection, _)| connection.close(0u32.into(), b""));
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
        let stopping = position.stops();
        let acked = position.acked();
        if stopping && acked == sent {
            return send.finish().map_err(broke);
        }
        if stopping || sent - acked > (FRAMES_IN_FLIGHT - 1) * EVENTS_PER_FRAME {
            position.changed().await;
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
                LaneReply::Acked { up_to } => position.set_acked(up_to.seq),
                LaneReply::Refused(refused) => return Err(broke(format!("{refused:?}"))),
            }
            taken_all += taken;
        }
        bytes.drain(..taken_all);
    }
    Ok(())
}
