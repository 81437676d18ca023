//! The one subscribing connection of the load.

use std::net::SocketAddr;

use crate::bench::connection::{open, read_some, write_some};
use crate::bench::error::BenchError;
use crate::bench::inbound::count_deliveries;

/// The most bytes taken from the socket at once.
const READ_BYTES: usize = 256 * 1024;

/// A subscriber that counts what it gets and acknowledges QoS 1.
#[derive(Debug)]
pub struct Subscriber {
    pub stream: mio::net::TcpStream,
    buffer: Vec<u8>,
    /// Bytes at the buffer's start that begin a packet.
    kept: usize,
    acks: Vec<u8>,
    /// Messages delivered.
    pub delivered: u64,
}

impl Subscriber {
    pub fn open(address: SocketAddr, filter: &str, qos: u8) -> Result<Subscriber, BenchError> {
        Ok(Subscriber {
            stream: open(address, "bench-sub", Some((filter, qos)))?,
            buffer: vec![0; READ_BYTES],
            kept: 0,
            acks: Vec::with_capacity(READ_BYTES / 16),
            delivered: 0,
        })
    }

    /// Reads deliveries until the socket has no more, and acknowledges them.
    pub fn receive(&mut self) -> Result<(), BenchError> {
        loop {
            let space = self.buffer.get_mut(self.kept..).unwrap_or_default();
            if space.is_empty() {
                return Err(BenchError::Protocol("a packet larger than the buffer"));
            }
            let read = read_some(&mut self.stream, space)?;
            let drained = read < space.len();
            let filled = self.kept + read;
            let bytes = self.buffer.get(..filled).unwrap_or_default();
            let got = count_deliveries(bytes, &mut self.acks)?;
            self.delivered += got.count;
            self.buffer.copy_within(got.used..filled, 0);
            self.kept = filled - got.used;
            self.send_acks()?;
            if drained {
                return Ok(());
            }
        }
    }

    /// Sends the acknowledgements that the socket takes.
    pub fn send_acks(&mut self) -> Result<(), BenchError> {
        if !self.acks.is_empty() {
            let written = write_some(&mut self.stream, &self.acks)?;
            self.acks.drain(..written);
        }
        Ok(())
    }
}
