//! A pipe, live commits, and a stream that catches up.

use std::collections::VecDeque;
use std::time::Duration;

use edgeway::replication::{CatchUp, Counted};
use sled_data::HLC_LOGICAL_BITS;

use super::bug::Bug;
use super::history::History;
use crate::seeded::random::Random;

/// How long live commits may take while a follower catches up, in percent of what they take by themselves.
pub const LIVE_PERCENT: u32 = 150;
/// Microseconds for which live commits go by themselves first.
const ALONE_US: u64 = 1_000_000;
/// Microseconds after which it has not come up.
const LONG_US: u64 = 120_000_000;
/// Milliseconds since 1970 when the stream begins.
const BEGIN_MS: u64 = 1_700_000_000_000;
/// The least pace of the product, bytes a second, whatever goes.
const LEAST: f64 = 16e6;
/// What goes at once where nothing is paced.
const CHUNK_BYTES: usize = 1 << 20;
/// Microseconds without a live commit that are quiet, for a planted bug.
const QUIET_US: u64 = 100_000;

/// Something goes through it after what came before.
struct Pipe {
    bandwidth: f64,
    free_at: u64,
}

impl Pipe {
    /// When bytes that come now are through.
    fn take(&mut self, now: u64, bytes: f64) -> u64 {
        self.free_at = self.free_at.max(now) + (bytes / self.bandwidth * 1e6).ceil() as u64;
        self.free_at
    }
}

/// Commits of the node itself.
struct Live {
    bytes: f64,
    /// What a commit takes besides the pipe.
    base_us: u64,
    next_at: u64,
    /// When it ends, and what it took: those that are on their way.
    under_way: VecDeque<(u64, u64)>,
    counted: Counted,
}

/// A run's state.
struct World {
    random: Random,
    history: History,
    pipe: Pipe,
    live: Live,
    now: u64,
}

/// The stream.
struct Stream {
    catch_up: CatchUp,
    /// Bytes that have gone.
    has: f64,
    /// When they are through, and how many.
    under_way: VecDeque<(u64, usize)>,
    next_at: u64,
}

/// Runs one seed to its end.
pub fn run(seed: u64, bug: Option<Bug>) -> History {
    let mut world = World::new(seed);
    world.live_until(ALONE_US);
    world.history.alone = std::mem::take(&mut world.history.beside);
    world.history.longest = 0;
    world.catch_up(bug);
    world.history
}

impl World {
    fn new(seed: u64) -> World {
        let mut random = Random::new(seed);
        let live_a_second = if random.chance(150) { 0 } else { random.between(100, 2_000) };
        let bytes = random.between(100, 8_000) as f64;
        let written_a_second = random.between(100_000, 40_000_000) as f64;
        let least = (2.0 * written_a_second).max(2.0 * bytes * live_a_second as f64).max(LEAST);
        let bandwidth = least * random.between(6, 40) as f64;
        let seconds = random.between(4, 60) as f64;
        let history = History {
            bandwidth,
            live_a_second,
            written_a_second,
            least,
            backlog: written_a_second * seconds,
            ahead_bytes: [0, 256 << 10, 4 << 20][random.place(3)],
            ..History::default()
        };
        let base_us = random.between(150, 2_000);
        let live = Live { bytes, base_us, next_at: 0, under_way: VecDeque::new(), counted: Counted::default() };
        World { random, history, pipe: Pipe { bandwidth, free_at: 0 }, live, now: 0 }
    }

    /// Live commits up to a time.
    fn live_until(&mut self, until: u64) {
        while self.history.live_a_second > 0 && self.live.next_at <= until {
            let at = self.live.next_at;
            let end = self.pipe.take(at, self.live.bytes) + self.live.base_us;
            self.live.under_way.push_back((end, end - at));
            let every = 1_000_000 / self.history.live_a_second;
            self.live.next_at += self.random.between(every / 2, every + every / 2).max(1);
        }
        self.now = until;
        let beside = &mut self.history.beside;
        while let Some((_, took)) = self.live.under_way.pop_front_if(|(end, _)| *end <= until) {
            *beside = (beside.0 + took, beside.1 + 1);
            self.history.longest = self.history.longest.max(took);
            self.live.counted.commits += 1;
            self.live.counted.took_us += took;
            self.live.counted.bytes += self.live.bytes as u64;
        }
        self.live.counted.at = Duration::from_micros(until);
    }

    /// Bytes that the log's writer has written, and when it wrote what lies at a place of them, Unix milliseconds.
    fn written(&self) -> f64 {
        self.history.backlog + (self.now - ALONE_US) as f64 / 1e6 * self.history.written_a_second
    }

    fn written_ms(&self, place: f64) -> u64 {
        let since_s = (place - self.history.backlog) / self.history.written_a_second;
        BEGIN_MS.saturating_add_signed((since_s * 1e3) as i64)
    }

    fn catch_up(&mut self, bug: Option<Bug>) {
        let catch_up = CatchUp::new(LIVE_PERCENT);
        let mut stream = Stream { catch_up, has: 0.0, under_way: VecDeque::new(), next_at: ALONE_US };
        while stream.next_at < ALONE_US + LONG_US {
            self.live_until(stream.next_at);
            if self.written_ms(stream.has) + 2_000 >= self.wall_ms() {
                self.history.came_up = Some(self.now - ALONE_US);
                return;
            }
            self.send(&mut stream, bug);
        }
    }

    fn wall_ms(&self) -> u64 {
        BEGIN_MS + (self.now - ALONE_US) / 1_000
    }

    /// The next chunk goes, and it is known when the one after it may.
    fn send(&mut self, stream: &mut Stream, bug: Option<Bug>) {
        if bug == Some(Bug::WaitsForQuiet) && self.live.next_at < self.now + QUIET_US && self.history.live_a_second > 0
        {
            stream.next_at += QUIET_US;
            return;
        }
        let chunk = if bug == Some(Bug::NoPacing) { CHUNK_BYTES } else { stream.catch_up.chunk_bytes() };
        let bytes = (self.written() - stream.has).min(chunk as f64);
        self.history.chunks.insert(chunk);
        stream.has += bytes;
        let through = self.pipe.take(self.now, bytes);
        stream.under_way.push_back((through, bytes as usize));
        // What is on its way bounds it, however fast it may go.
        let mut ahead: usize = stream.under_way.iter().map(|(_, bytes)| bytes).sum();
        let mut at = self.now;
        while ahead > self.history.ahead_bytes
            && let Some((through, bytes)) = stream.under_way.pop_front()
        {
            (at, ahead) = (at.max(through), ahead - bytes);
        }
        self.live_until(at);
        let hlc = self.written_ms(stream.has) << HLC_LOGICAL_BITS;
        let wall_ms = i64::try_from(self.wall_ms()).unwrap();
        let wait = stream.catch_up.went(bytes as usize, hlc, wall_ms, self.live.counted);
        let wait = match bug {
            Some(Bug::NoPacing) => Duration::ZERO,
            Some(Bug::AlwaysSlow) => wait.max(Duration::from_secs_f64(bytes / LEAST)),
            _ => wait,
        };
        stream.next_at = self.now + u64::try_from(wait.as_micros()).unwrap() + 20;
    }
}
