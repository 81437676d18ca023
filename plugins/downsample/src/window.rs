//! One key's window: pure.

/// So many late events in a row say that the clock was set back: the window then
/// begins anew where they are.
const LATE_IN_A_ROW_MAX: u32 = 16;
/// Version, five fields of eight bytes, two of four.
const ENCODED_BYTES: usize = 1 + 5 * 8 + 2 * 4;

/// The readings of one window so far.
#[derive(Debug, Clone, PartialEq)]
pub struct Window {
    /// Where it begins, in ms since 1970-01-01 UTC.
    pub start_ms: i64,
    /// Readings in it.
    pub count: u64,
    sum: f64,
    /// The least reading.
    pub min: f64,
    /// The greatest reading.
    pub max: f64,
    /// Readings of earlier windows that came while this one was open.
    pub late: u32,
    late_in_a_row: u32,
}

impl Window {
    fn new(start_ms: i64, value: f64) -> Window {
        Window { start_ms, count: 1, sum: value, min: value, max: value, late: 0, late_in_a_row: 0 }
    }

    /// Takes a reading in. Gives back the open window, and the one that this
    /// reading closed.
    pub fn add(window: Option<Window>, at_ms: i64, value: f64, window_ms: i64) -> (Window, Option<Window>) {
        let start_ms = at_ms.saturating_sub(at_ms.rem_euclid(window_ms));
        let Some(mut open) = window else {
            return (Window::new(start_ms, value), None);
        };
        if start_ms > open.start_ms {
            return (Window::new(start_ms, value), Some(open));
        }
        if start_ms < open.start_ms {
            open.late_in_a_row += 1;
            if open.late_in_a_row >= LATE_IN_A_ROW_MAX {
                return (Window::new(start_ms, value), Some(open));
            }
            open.late = open.late.saturating_add(1);
            return (open, None);
        }
        open.late_in_a_row = 0;
        open.count += 1;
        open.sum += value;
        open.min = open.min.min(value);
        open.max = open.max.max(value);
        (open, None)
    }

    /// The mean of its readings.
    #[allow(clippy::cast_precision_loss)] // 2^53 readings do not fit a window
    pub fn mean(&self) -> f64 {
        self.sum / self.count as f64
    }

    /// For the state, big-endian.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(ENCODED_BYTES);
        out.push(1);
        out.extend(self.start_ms.to_be_bytes());
        out.extend(self.count.to_be_bytes());
        for number in [self.sum, self.min, self.max] {
            out.extend(number.to_be_bytes());
        }
        out.extend(self.late.to_be_bytes());
        out.extend(self.late_in_a_row.to_be_bytes());
        out
    }

    /// Reads what `encode` wrote; `None` for anything else.
    pub fn decode(bytes: &[u8]) -> Option<Window> {
        let (version, rest) = bytes.split_first()?;
        if *version != 1 || bytes.len() != ENCODED_BYTES {
            return None;
        }
        let eight = |at: usize| rest.get(at * 8..at * 8 + 8)?.try_into().ok();
        let four = |at: usize| rest.get(at..at + 4)?.try_into().ok();
        let number = |at: usize| Some(f64::from_be_bytes(eight(at)?));
        let window = Window {
            start_ms: i64::from_be_bytes(eight(0)?),
            count: u64::from_be_bytes(eight(1)?),
            sum: number(2)?,
            min: number(3)?,
            max: number(4)?,
            late: u32::from_be_bytes(four(40)?),
            late_in_a_row: u32::from_be_bytes(four(44)?),
        };
        (window.count > 0).then_some(window)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Adds readings (time, value) of windows of 10 ms; tells those closed.
    fn closed(readings: &[(i64, f64)]) -> Vec<(i64, u64, f64, f64, f64, u32)> {
        let mut open = None;
        let mut all = Vec::new();
        for (at_ms, value) in readings {
            let (next, closed) = Window::add(open.take(), *at_ms, *value, 10);
            open = Window::decode(&next.encode());
            assert_eq!(open, Some(next), "state survives encoding");
            all.extend(closed.map(|w| (w.start_ms, w.count, w.mean(), w.min, w.max, w.late)));
        }
        all
    }

    #[test]
    fn windows_close_with_the_next_one() {
        assert_eq!(closed(&[(0, 1.0), (9, 3.0)]), []);
        assert_eq!(closed(&[(0, 1.0), (9, 3.0), (10, 5.0)]), [(0, 2, 2.0, 1.0, 3.0, 0)]);
        assert_eq!(closed(&[(12, 4.0), (35, 1.0), (41, 1.0)]), [(10, 1, 4.0, 4.0, 4.0, 0), (30, 1, 1.0, 1.0, 1.0, 0)]);
        assert_eq!(closed(&[(-5, 2.0), (1, 1.0)]), [(-10, 1, 2.0, 2.0, 2.0, 0)]);
    }

    #[test]
    fn late_readings_are_counted_and_a_clock_set_back_is_followed() {
        assert_eq!(closed(&[(10, 1.0), (3, 9.0), (20, 1.0)]), [(10, 1, 1.0, 1.0, 1.0, 1)]);
        let mut readings = vec![(1_000_000, 1.0)];
        readings.extend([(5, 2.0); LATE_IN_A_ROW_MAX as usize]);
        readings.push((15, 3.0));
        let all = closed(&readings);
        assert_eq!(all[0], (1_000_000, 1, 1.0, 1.0, 1.0, LATE_IN_A_ROW_MAX - 1));
        assert_eq!(all[1], (0, 1, 2.0, 2.0, 2.0, 0));
    }

    #[test]
    fn other_bytes_are_no_window() {
        let whole = Window::new(5, 1.0).encode();
        for cut in 0..whole.len() {
            assert_eq!(Window::decode(&whole[..cut]), None);
        }
        assert_eq!(Window::decode(&[2; ENCODED_BYTES]), None);
        assert_eq!(Window::decode(&[&[1][..], &[0; ENCODED_BYTES - 1]].concat()), None, "no readings");
    }
}
