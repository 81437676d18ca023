//! A connection's read buffer. Idle connections hold none: buffers are lent by the thread that reads.

use std::cell::RefCell;

/// Size of a lent buffer, bytes.
const LENT_BYTES: usize = 64 << 10;
/// Buffers that a thread keeps for its connections.
const LENT_MAX: usize = 8;

thread_local! {
    static LENT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes read and not yet decoded. The buffer is initialised to its end, so that a read clears nothing first.
#[derive(Debug, Default)]
pub struct Input {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Input {
    /// What was read and not yet decoded.
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Marks bytes as decoded.
    pub fn consume(&mut self, count: usize) {
        self.start = (self.start + count).min(self.end);
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Room to read into: what is left of the buffer, at least half of a lent one.
    pub fn room(&mut self) -> &mut [u8] {
        if self.buffer.is_empty() {
            self.buffer = LENT.with_borrow_mut(Vec::pop).unwrap_or_else(|| vec![0; LENT_BYTES]);
        }
        if self.buffer.len() - self.end < LENT_BYTES / 2 {
            self.buffer.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.buffer.len() - self.end < LENT_BYTES / 2 {
            let grown = self.buffer.len() * 2;
            self.buffer.resize(grown, 0);
        }
        &mut self.buffer[self.end..]
    }

    /// Notes that `count` bytes were read into the room.
    pub fn filled(&mut self, count: usize) {
        self.end = (self.end + count).min(self.buffer.len());
    }

    /// Gives the buffer back when nothing is in it.
    pub fn rest(&mut self) {
        if self.end != 0 || self.buffer.is_empty() {
            return;
        }
        let buffer = std::mem::take(&mut self.buffer);
        if buffer.len() == LENT_BYTES {
            LENT.with_borrow_mut(|lent| {
                if lent.len() < LENT_MAX {
                    lent.push(buffer);
                }
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_what_is_not_decoded_and_grows_for_a_large_packet() {
        let mut input = Input::default();
        let mut written = Vec::new();
        for round in 0..6_u8 {
            let room = input.room();
            room.fill(round);
            let len = room.len();
            input.filled(len);
            written.extend(std::iter::repeat_n(round, len));
        }
        assert_eq!(input.bytes(), written);
        input.consume(10);
        assert_eq!(input.bytes(), &written[10..]);
        input.consume(written.len());
        assert!(input.bytes().is_empty());
        input.rest();
        assert!(input.buffer.is_empty());
    }
}
