//! MQTT over QUIC at full speed: the same frames and window as over TCP, on one two-way stream a connection.

use std::sync::Arc;
use std::time::Duration;

use quinn::{Connection, RecvStream, SendStream};

use super::Dial;
use super::load::{Position, Publishers, broke};
use crate::bench::error::BenchError;
use crate::bench::frames::{FrameRing, WRITE_FRAMES_MAX, connect};
use crate::bench::inbound::count_pubacks;
use crate::bench::payload::Payload;
use crate::bench::saturate::{CONNECTIONS, IN_FLIGHT};

/// Room in a window before it is filled again, as over TCP.
const REFILL: u64 = IN_FLIGHT / 4;
/// A CONNACK of MQTT 3.1.1 that says yes.
const CONNACK: [u8; 4] = [0x20, 2, 0, 0];
/// Bytes of one read.
const READ_BYTES: usize = 16 << 10;

/// Publishes for `length`; acknowledged messages a second.
pub async fn rate(dial: &Dial, length: Duration) -> Result<f64, BenchError> {
    let mut publishers = Publishers::default();
    let mut connections = Vec::new();
    for number in 0..CONNECTIONS {
        let (connection, stream) = open(dial, number).await?;
        connections.push(connection);
        publishers.add(stream, |send, position| write(send, number, position), read);
    }
    let rate = publishers.rate(length).await?;
    connections.iter().for_each(|connection| connection.close(0u32.into(), b""));
    Ok(rate)
}

async fn open(dial: &Dial, number: usize) -> Result<(Connection, (SendStream, RecvStream)), BenchError> {
    let connection = dial.connect().await?;
    let (mut send, mut receive) = connection.open_bi().await.map_err(broke)?;
    send.write_all(&connect(&format!("bench-quic-{number}"))).await.map_err(broke)?;
    let mut connack = [0; 4];
    receive.read_exact(&mut connack).await.map_err(broke)?;
    if connack == CONNACK { Ok((connection, (send, receive))) } else { Err(broke(format!("CONNACK {connack:?}"))) }
}

/// Keeps the window full. What was begun is acknowledged before it ends.
async fn write(mut send: SendStream, number: usize, position: Arc<Position>) -> Result<(), BenchError> {
    let ring = FrameRing::new(number, 1, Payload::Reading);
    let frame_bytes = ring.frame_bytes as u64;
    let mut sent = 0;
    loop {
        let stopping = position.stops();
        let acked = position.acked();
        let room = acked + IN_FLIGHT - sent;
        if stopping && acked == sent {
            return send.finish().map_err(broke);
        }
        if stopping || room < REFILL {
            position.changed().await;
            continue;
        }
        let frames = room.min(WRITE_FRAMES_MAX as u64);
        let bytes = ring.slice(sent * frame_bytes, frames * frame_bytes);
        send.write_all(bytes).await.map_err(broke)?;
        sent += bytes.len() as u64 / frame_bytes;
    }
}

async fn read(mut receive: RecvStream, position: Arc<Position>) -> Result<(), BenchError> {
    let mut buffer = vec![0; READ_BYTES];
    let mut filled = 0;
    while let Some(read) = receive.read(&mut buffer[filled..]).await.map_err(broke)? {
        filled += read;
        let acked = position.acked();
        let came = count_pubacks(&buffer[..filled], acked)?;
        let whole = came as usize * 4;
        buffer.copy_within(whole..filled, 0);
        filled -= whole;
        position.set_acked(acked + came);
    }
    Ok(())
}
