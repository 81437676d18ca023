//! One direction of a link: rate, queue, delay, loss (pure).

use std::time::{Duration, Instant};

use crate::client::backoff::splitmix;

/// What a direction of a link is like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LineConfig {
    /// Bytes a second; `None`: as fast as they come.
    pub bytes_per_s: Option<u64>,
    /// Bytes that may wait for their turn; what comes beyond is dropped.
    pub queue_bytes_max: u64,
    /// The way's own time, after the queue.
    pub delay: Duration,
    /// The share of datagrams that are lost, 0 to 1.
    pub loss: f64,
}

impl Default for LineConfig {
    fn default() -> Self {
        Self { bytes_per_s: None, queue_bytes_max: 1_500_000, delay: Duration::ZERO, loss: 0.0 }
    }
}

impl LineConfig {
    /// A line of a rate in bits a second and a delay, with the queue of a thousand full packets that modems have.
    pub fn modem(bits_per_s: u64, delay: Duration) -> Self {
        Self { bytes_per_s: Some(bits_per_s / 8), delay, ..Self::default() }
    }

    /// The same with a share of datagrams lost.
    #[must_use]
    pub fn losing(self, loss: f64) -> Self {
        Self { loss, ..self }
    }
}

/// What becomes of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Passage {
    /// It arrives then.
    At(Instant),
    /// It is lost on the way.
    Lost,
    /// The queue has no room for it.
    Overflown,
}

/// One direction of a link.
#[derive(Debug)]
pub struct Line {
    config: LineConfig,
    random: u64,
    /// When what is queued will have left.
    free_at: Option<Instant>,
    latest: Option<Instant>,
}

impl Line {
    /// A line that draws its losses from `seed`.
    pub fn new(config: LineConfig, seed: u64) -> Self {
        Self { config, random: seed, free_at: None, latest: None }
    }

    /// Changes what it is like; what is under way arrives as it was told.
    pub fn set(&mut self, config: LineConfig) {
        self.config = config;
    }

    /// Takes a datagram of `bytes` that came at `now`. Order is kept.
    pub fn pass(&mut self, now: Instant, bytes: usize) -> Passage {
        let begin = self.free_at.map_or(now, |free_at| free_at.max(now));
        let mut left_at = begin;
        if let Some(rate) = self.config.bytes_per_s {
            let rate = rate.max(1) as f64;
            let queued = begin.duration_since(now).as_secs_f64() * rate;
            if queued + bytes as f64 > self.config.queue_bytes_max as f64 {
                return Passage::Overflown;
            }
            left_at = begin + Duration::from_secs_f64(bytes as f64 / rate);
            self.free_at = Some(left_at);
        }
        // Lost behind the queue: it has used the line.
        let draw = (splitmix(&mut self.random) >> 11) as f64 / (1_u64 << 53) as f64;
        if draw < self.config.loss {
            return Passage::Lost;
        }
        let at = left_at + self.config.delay;
        let at = self.latest.map_or(at, |latest| latest.max(at));
        self.latest = Some(at);
        Passage::At(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn a_rate_queues_and_a_full_queue_drops() {
        let config = LineConfig { queue_bytes_max: 3_000, ..LineConfig::modem(8_000_000, ms(50)) };
        let mut line = Line::new(config, 1);
        let now = Instant::now();
        let expected = [Some(51), Some(52), Some(53), None, None];
        for (number, at_ms) in expected.into_iter().enumerate() {
            let passage = at_ms.map_or(Passage::Overflown, |at_ms| Passage::At(now + ms(at_ms)));
            assert_eq!(line.pass(now, 1_000), passage, "datagram {number}");
        }
        assert_eq!(line.pass(now + ms(3), 1_000), Passage::At(now + ms(54)), "there is room again");
        assert_eq!(line.pass(now + ms(100), 1_000), Passage::At(now + ms(151)), "an idle line takes it at once");
    }

    #[test]
    fn loss_is_the_share_that_was_asked_for_and_the_same_for_a_seed() {
        let run = |seed| -> Vec<bool> {
            let mut line = Line::new(LineConfig::default().losing(0.2), seed);
            let now = Instant::now();
            (0..10_000).map(|_| line.pass(now, 100) == Passage::Lost).collect()
        };
        let lost = run(7).iter().filter(|lost| **lost).count();
        assert!((1_800..2_200).contains(&lost), "{lost}");
        assert_eq!(run(7), run(7));
        assert_ne!(run(7), run(8));
    }

    #[test]
    fn order_is_kept_when_the_delay_shrinks() {
        let mut line = Line::new(LineConfig { delay: ms(100), ..LineConfig::default() }, 1);
        let now = Instant::now();
        assert_eq!(line.pass(now, 1), Passage::At(now + ms(100)));
        line.set(LineConfig::default());
        assert_eq!(line.pass(now + ms(1), 1), Passage::At(now + ms(100)));
        assert_eq!(line.pass(now + ms(200), 1), Passage::At(now + ms(200)));
    }
}
