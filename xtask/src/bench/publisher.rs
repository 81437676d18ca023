//! One publishing connection of the load: a ring of frames and a window.

use std::net::SocketAddr;

use crate::bench::connection::{open, read_some, write_some};
use crate::bench::error::BenchError;
use crate::bench::frames::{FrameRing, WRITE_FRAMES_MAX};
use crate::bench::inbound::count_pubacks;
use crate::bench::payload::Payload;

/// A publisher; positions count from the start of the connection.
#[derive(Debug)]
pub struct Publisher {
    pub stream: mio::net::TcpStream,
    ring: FrameRing,
    sent_bytes: u64,
    /// Messages acknowledged; at QoS 0 none ever is.
    pub acked: u64,
    /// The start of a PUBACK whose rest has not come yet.
    carry: [u8; 4],
    carry_bytes: usize,
}

impl Publisher {
    pub fn open(address: SocketAddr, number: usize, qos: u8, payload: Payload) -> Result<Publisher, BenchError> {
        Ok(Publisher {
            stream: open(address, &format!("bench-pub-{number}"), None)?,
            ring: FrameRing::new(number, qos, payload),
            sent_bytes: 0,
            acked: 0,
            carry: [0; 4],
            carry_bytes: 0,
        })
    }

    /// Messages whose last byte was handed to the socket.
    pub fn sent(&self) -> u64 {
        self.sent_bytes / self.ring.frame_bytes as u64
    }

    /// Sends until `frames` in all are sent or the socket is full.
    pub fn send_upto(&mut self, frames: u64) -> Result<(), BenchError> {
        let frame_bytes = self.ring.frame_bytes as u64;
        let end = frames * frame_bytes;
        let write_max = WRITE_FRAMES_MAX as u64 * frame_bytes;
        while self.sent_bytes < end {
            let limit = (end - self.sent_bytes).min(write_max);
            let bytes = self.ring.slice(self.sent_bytes, limit);
            let written = write_some(&mut self.stream, bytes)?;
            self.sent_bytes += written as u64;
            if written < bytes.len() {
                break;
            }
        }
        Ok(())
    }

    /// Whether the last frame was sent whole.
    pub fn is_whole(&self) -> bool {
        self.sent_bytes.is_multiple_of(self.ring.frame_bytes as u64)
    }

    /// Sends the rest of a frame that was cut by a full socket.
    pub fn finish_frame(&mut self) -> Result<(), BenchError> {
        match self.is_whole() {
            true => Ok(()),
            false => self.send_upto(self.sent() + 1),
        }
    }

    /// Reads PUBACKs until the socket has no more.
    pub fn receive(&mut self, scratch: &mut [u8]) -> Result<(), BenchError> {
        loop {
            let (carry, rest) = scratch.split_at_mut(self.carry_bytes);
            carry.copy_from_slice(self.carry.get(..self.carry_bytes).unwrap_or_default());
            let read = read_some(&mut self.stream, rest)?;
            let drained = read < rest.len();
            let filled = self.carry_bytes + read;
            let bytes = scratch.get(..filled).unwrap_or_default();
            self.acked += count_pubacks(bytes, self.acked)?;
            let left = bytes.as_chunks::<4>().1;
            self.carry_bytes = left.len();
            for (to, from) in self.carry.iter_mut().zip(left) {
                *to = *from;
            }
            // A short read means that the socket is empty, see epoll(7).
            if drained {
                return Ok(());
            }
        }
    }
}
