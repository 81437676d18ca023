//! How fast a stream that is far behind goes, so that live traffic is served first (pure but for [`Throttle`]). `tests/pace` runs it on a pipe.
//!
//! What live traffic feels is the time of the node's own commits. It is measured while the stream goes at its least pace; then the pace
//! rises step by step while commits take little longer than that, and falls by a fifth when they do. Where nobody commits there is
//! no bound. Every few seconds the measure is taken anew, as live traffic changes.

use std::time::Duration;

use sled_data::hlc_ms;

use crate::event_log::{EventLog, Stats};

/// Commits older than this are caught up with; newer ones are live traffic themselves, and wait for nothing.
const BEHIND_MS: i64 = 2_000;
/// A look at live commits takes so long at least, and at most.
const LOOK_MIN: Duration = Duration::from_millis(100);
const LOOK_MAX: Duration = Duration::from_millis(500);
/// Live commits in one look from which on their time says something; after the longest look, and before it.
const COMMITS_MIN: u64 = 2;
const COMMITS_SOON: u64 = 5;
/// Bytes a second at which a stream goes at least.
const RATE_MIN: f64 = 16e6;
/// The same, in times of what live traffic stores here, and of what the writer of the log stored when it wrote what goes now: a follower
/// catches up whatever comes.
const GROWTH_TIMES: f64 = 2.0;
/// The writer's rate is measured over so much time of its clock at least.
const WRITTEN_MS_MIN: i64 = 500;
/// Bytes a second at which a stream goes where live traffic was measured.
const RATE_BEGIN: f64 = 48e6;
/// Bytes a second at which it goes at most.
const RATE_MAX: f64 = 4e9;
/// Bytes a second that are added each look.
const RATE_STEP: f64 = 8e6;
/// What is left of the pace when live traffic feels it.
const RATE_CUT: f64 = 0.8;
/// For how long the pace is the least one, to measure what live commits take by themselves; and how often.
const MEASURE: Duration = Duration::from_millis(200);
const MEASURE_EVERY: Duration = Duration::from_secs(5);
/// A chunk is what goes in this time, seconds, within these bounds: a live commit may wait for one.
const CHUNK_SECONDS: f64 = 0.001;
const CHUNK_BYTES_MIN: f64 = 65_536.0;
const CHUNK_BYTES_MAX: f64 = 1_048_576.0;
/// The same for what is stored at once: the more of it, the fewer syncs, and the less is written for each byte.
const STORED_SECONDS: f64 = 0.005;
const STORED_BYTES_MAX: f64 = 2_097_152.0;

/// The counters of a node's own commits at one moment.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counted {
    /// Monotonic time.
    pub at: Duration,
    /// Commits so far.
    pub commits: u64,
    /// Microseconds that they took together.
    pub took_us: u64,
    /// Bytes of records in them.
    pub bytes: u64,
}

impl Counted {
    /// The counters as they are at `at`.
    pub fn now(at: Duration, stats: &Stats) -> Self {
        use std::sync::atomic::Ordering::Relaxed;
        let (commits, took_us, bytes) = (&stats.commits, &stats.commit_us, &stats.record_bytes);
        Self { at, commits: commits.load(Relaxed), took_us: took_us.load(Relaxed), bytes: bytes.load(Relaxed) }
    }
}

/// What the pace goes by.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    /// Live commits are measured, at the least pace, until this time; what they took when they were measured before.
    Measure(Duration, Option<f64>),
    /// Live commits take so many microseconds by themselves; measured anew at this time.
    Follow(f64, Duration),
    /// Nobody commits.
    Free,
}

/// How fast the writer of a log wrote what goes, by the clock of its commits.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
struct Written {
    /// Bytes a second.
    rate: f64,
    /// Where the measure began, on that clock; and what went since.
    since: Option<(i64, f64)>,
}

impl Written {
    /// So many bytes went, the last of them written at this time.
    fn took(&mut self, bytes: usize, at_ms: i64) {
        let (began_ms, before) = *self.since.get_or_insert((at_ms, 0.0));
        let (bytes, ms) = (before + bytes as f64, at_ms.saturating_sub(began_ms));
        if ms >= WRITTEN_MS_MIN {
            (self.rate, self.since) = (bytes * 1e3 / ms as f64, Some((at_ms, 0.0)));
        } else {
            self.since = Some((began_ms, bytes));
        }
    }
}

/// The pace of one stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Pace {
    /// How many times as long as by themselves live commits may take.
    slows_times: f64,
    phase: Phase,
    /// Bytes a second while live traffic is followed.
    rate: f64,
    /// What live traffic stores, bytes a second.
    growth: f64,
    written: Written,
    /// Where the look began.
    look: Counted,
    /// When the next chunk is due.
    due: Duration,
}

impl Pace {
    /// The pace of a stream that begins.
    pub fn new(slows_times: f64, now: Counted) -> Self {
        let phase = Phase::Measure(now.at + MEASURE, None);
        let written = Written::default();
        Self { slows_times, phase, rate: RATE_BEGIN, growth: 0.0, written, look: now, due: now.at }
    }

    /// Bytes a second.
    pub fn rate(&self) -> f64 {
        let least = (self.growth.max(self.written.rate) * GROWTH_TIMES).clamp(RATE_MIN, RATE_MAX);
        match self.phase {
            Phase::Measure(..) => least,
            Phase::Follow(..) => self.rate.max(least),
            Phase::Free => RATE_MAX,
        }
    }

    /// Bytes that go at once.
    pub fn chunk_bytes(&self) -> usize {
        (self.rate() * CHUNK_SECONDS).clamp(CHUNK_BYTES_MIN, CHUNK_BYTES_MAX) as usize
    }

    /// Bytes that are stored at once.
    pub fn stored_bytes(&self) -> usize {
        (self.rate() * STORED_SECONDS).clamp(CHUNK_BYTES_MIN, STORED_BYTES_MAX) as usize
    }

    /// The bytes that go were written by this time of the log's writer, Unix milliseconds.
    pub fn wrote(&mut self, bytes: usize, at_ms: i64) {
        self.written.took(bytes, at_ms);
    }

    /// So many bytes went; how long the next ones wait.
    pub fn went(&mut self, bytes: usize, now: Counted) -> Duration {
        self.take_look(now);
        // No burst makes up for a pause.
        self.due = self.due.max(now.at.saturating_sub(LOOK_MIN)) + Duration::from_secs_f64(bytes as f64 / self.rate());
        self.due.saturating_sub(now.at)
    }

    fn take_look(&mut self, now: Counted) {
        let elapsed = now.at.saturating_sub(self.look.at);
        let commits = now.commits.saturating_sub(self.look.commits);
        let is_long = elapsed >= LOOK_MAX || (elapsed >= LOOK_MIN && commits >= COMMITS_SOON);
        if !is_long || matches!(self.phase, Phase::Measure(until, _) if now.at < until) {
            return;
        }
        let took_us = now.took_us.saturating_sub(self.look.took_us) as f64 / commits.max(1) as f64;
        self.growth = now.bytes.saturating_sub(self.look.bytes) as f64 / elapsed.as_secs_f64();
        self.look = now;
        self.phase = match self.phase {
            _ if commits < COMMITS_MIN => Phase::Free,
            Phase::Measure(_, before) => {
                // One measure alone may have met a quiet moment.
                let alone_us = before.map_or(took_us, |before| (before + took_us) / 2.0);
                Phase::Follow(alone_us, now.at + MEASURE_EVERY)
            }
            Phase::Follow(_, until) if now.at < until => {
                self.turn(took_us);
                self.phase
            }
            Phase::Follow(alone_us, _) => Phase::Measure(now.at + MEASURE, Some(alone_us)),
            Phase::Free => Phase::Measure(now.at + MEASURE, None),
        };
    }

    /// Faster, or slower where live commits take too long.
    fn turn(&mut self, took_us: f64) {
        let Phase::Follow(alone_us, _) = self.phase else { return };
        let is_felt = took_us > alone_us * self.slows_times;
        self.rate = if is_felt { self.rate() * RATE_CUT } else { self.rate() + RATE_STEP }.min(RATE_MAX);
    }
}

/// How fast one end of a stream goes: as fast as it can where what goes is new.
#[derive(Debug, Clone, PartialEq)]
pub struct CatchUp {
    slows_times: f64,
    /// Whether what went last was new. What goes first may be old: a large chunk of it would be in the first measure of live commits, and what
    /// they take by themselves would seem to be more than it is for five seconds.
    is_live: bool,
    /// While what goes is caught up with.
    pace: Option<Pace>,
}

impl CatchUp {
    /// A stream that begins; live commits may take so many percent of what they take by themselves.
    pub fn new(live_percent: u32) -> Self {
        Self { slows_times: f64::from(live_percent) / 100.0, is_live: false, pace: None }
    }

    /// Bytes that go at once.
    pub fn chunk_bytes(&self) -> usize {
        self.pace.as_ref().map_or_else(|| self.unpaced_bytes(), Pace::chunk_bytes)
    }

    /// Bytes that are stored at once.
    pub fn stored_bytes(&self) -> usize {
        self.pace.as_ref().map_or_else(|| self.unpaced_bytes(), Pace::stored_bytes)
    }

    fn unpaced_bytes(&self) -> usize {
        if self.is_live { CHUNK_BYTES_MAX as usize } else { CHUNK_BYTES_MIN as usize }
    }

    /// Whether what went last is caught up with.
    pub fn is_behind(&self) -> bool {
        self.pace.is_some()
    }

    /// So many bytes of commits went, the last with this hybrid clock, and it is `wall_ms`; how long the next ones wait.
    pub fn went(&mut self, bytes: usize, hlc: u64, wall_ms: i64, now: Counted) -> Duration {
        self.is_live = wall_ms - hlc_ms(hlc) <= BEHIND_MS;
        if self.is_live {
            self.pace = None;
            return Duration::ZERO;
        }
        self.pace(now).wrote(bytes, hlc_ms(hlc));
        self.caught_up(bytes, now)
    }

    /// So many bytes of what is caught up with went; how long the next ones wait.
    pub fn caught_up(&mut self, bytes: usize, now: Counted) -> Duration {
        self.pace(now).went(bytes, now)
    }

    fn pace(&mut self, now: Counted) -> &mut Pace {
        self.pace.get_or_insert_with(|| Pace::new(self.slows_times, now))
    }
}

/// The pace of a stream at one end of it, by the log there.
pub struct Throttle<'a> {
    log: &'a EventLog,
    catch_up: CatchUp,
}

impl<'a> Throttle<'a> {
    /// A stream that begins.
    pub fn new(log: &'a EventLog, live_percent: u32) -> Self {
        Self { log, catch_up: CatchUp::new(live_percent) }
    }

    /// Bytes that go at once.
    pub fn chunk_bytes(&self) -> usize {
        self.catch_up.chunk_bytes()
    }

    /// Bytes that are stored at once.
    pub fn stored_bytes(&self) -> usize {
        self.catch_up.stored_bytes()
    }

    /// Whether what went last is caught up with.
    pub fn is_behind(&self) -> bool {
        self.catch_up.is_behind()
    }

    /// So many bytes of commits went, the last with this hybrid clock; waits where they were old.
    pub async fn went(&mut self, bytes: usize, hlc: u64) {
        let wait = self.catch_up.went(bytes, hlc, self.log.clock().wall_ms(), self.now());
        self.sleep(wait).await;
    }

    /// So many bytes of what is caught up with went; waits for the next.
    pub async fn caught_up(&mut self, bytes: usize) {
        let wait = self.catch_up.caught_up(bytes, self.now());
        self.sleep(wait).await;
    }

    async fn sleep(&self, wait: Duration) {
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
    }

    fn now(&self) -> Counted {
        Counted::now(self.log.clock().monotonic(), self.log.stats())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Live traffic that commits so often, and what a commit takes at a pace; how fast the stream goes after `seconds`, and the mean time of
    /// a commit in the last second.
    fn run(seconds: f64, commits_a_second: f64, bytes: f64, took_us: impl Fn(f64) -> f64) -> (f64, f64) {
        let mut now = Counted::default();
        let (mut commits, mut took, mut last) = (0.0, 0.0, (0.0, 0.0));
        let mut pace = Pace::new(1.5, now);
        let mut sent = (0.0, 0.0);
        while now.at.as_secs_f64() < seconds {
            let chunk = pace.chunk_bytes();
            let step = pace.went(chunk, now).max(Duration::from_micros(100));
            now.at += step;
            commits += step.as_secs_f64() * commits_a_second;
            took += step.as_secs_f64() * commits_a_second * took_us(pace.rate());
            (now.commits, now.took_us, now.bytes) = (commits as u64, took as u64, (commits * bytes) as u64);
            if now.at.as_secs_f64() > seconds - 1.0 {
                if sent.0 == 0.0 {
                    (sent.0, last) = (now.at.as_secs_f64(), (commits, took));
                }
                sent.1 += chunk as f64;
            }
        }
        (sent.1 / (now.at.as_secs_f64() - sent.0), (took - last.1) / (commits - last.0).max(1.0))
    }

    #[test]
    fn the_pace_is_what_live_traffic_bears() {
        // A commit takes 400 us, and twice that at so many bytes a second.
        for bears in [50e6, 100e6, 400e6] {
            let (rate, took) = run(4.9, 1_000.0, 100.0, |rate| 400.0 * (1.0 + rate / bears));
            assert!(rate > bears * 0.4 && rate < bears * 1.1, "{rate:.0} of {bears:.0}");
            assert!(took < 1.7 * 400.0 * (1.0 + RATE_MIN / bears), "{took:.0} us");
        }
    }

    #[test]
    fn chunks_are_small_until_it_is_known_that_what_goes_is_new() {
        let (mut catch_up, now, wall_ms) = (CatchUp::new(150), Counted::default(), 1_700_000_000_000);
        let hlc = |ms: i64| (ms as u64) << sled_data::HLC_LOGICAL_BITS;
        assert_eq!(catch_up.chunk_bytes(), CHUNK_BYTES_MIN as usize);
        assert_eq!(catch_up.went(1_000, hlc(wall_ms - 2_000), wall_ms, now), Duration::ZERO);
        assert_eq!(catch_up.chunk_bytes(), CHUNK_BYTES_MAX as usize);
        assert!(catch_up.went(1_000_000, hlc(wall_ms - 2_001), wall_ms, now) > Duration::ZERO);
        assert!(catch_up.chunk_bytes() < CHUNK_BYTES_MAX as usize / 2);
    }

    #[test]
    fn nobody_waits_where_nobody_commits() {
        let (rate, _) = run(3.0, 0.5, 100.0, |_| 400.0);
        assert!(rate > 1e9, "{rate:.0}");
    }

    #[test]
    fn it_goes_on_whatever_live_traffic_feels() {
        let (rate, _) = run(5.0, 1_000.0, 100.0, |rate| if rate > RATE_MIN { 9_000.0 } else { 400.0 });
        assert!((RATE_MIN * 0.9..RATE_MIN * 2.0).contains(&rate), "{rate:.0}");
        // And faster than live traffic adds to it.
        let (rate, _) = run(5.0, 1_000.0, 30_000.0, |rate| if rate > RATE_MIN { 9_000.0 } else { 400.0 });
        assert!(rate > 55e6, "{rate:.0}");
    }

    #[test]
    fn a_follower_comes_up_to_a_writer_that_writes_faster_than_the_least_pace() {
        for written in [4e6, 40e6, 150e6] {
            let mut now = Counted::default();
            let mut pace = Pace::new(1.5, now);
            // Ten seconds behind, and whatever goes is felt here.
            let (mut has, mut seconds) = (0.0, 10.0);
            while has < written * seconds {
                let chunk = pace.chunk_bytes();
                has += chunk as f64;
                pace.wrote(chunk, (has / written * 1e3) as i64);
                let wait = pace.went(chunk, now).max(Duration::from_micros(100));
                now.at += wait;
                seconds += wait.as_secs_f64();
                now.commits = (now.at.as_secs_f64() * 1_000.0) as u64;
                now.took_us = now.commits * if pace.rate() > RATE_MIN { 9_000 } else { 400 };
                assert!(seconds < 30.0, "{written:.0} B/s: {:.0} behind", written * seconds - has);
            }
        }
    }

    #[test]
    fn the_writers_rate_is_that_of_its_clock() {
        let mut written = Written::default();
        // A second of the writer, in chunks of 100 ms; then nothing for an hour; then as before, with a clock that stands still for a while.
        (0..=10).for_each(|n| written.took(1_000_000, n * 100));
        assert!((9e6..13e6).contains(&written.rate), "{}", written.rate);
        written.took(1_000_000, 3_600_000);
        assert!(written.rate < 1e3, "{}", written.rate);
        (0..5).for_each(|_| written.took(1_000_000, 3_600_000));
        (1..=5).for_each(|n| written.took(1_000_000, 3_600_000 + n * 100));
        assert!((9e6..25e6).contains(&written.rate), "{}", written.rate);
        written.took(1, i64::MIN);
        written.took(1, i64::MAX);
        assert!(written.rate.is_finite());
    }

    #[test]
    fn what_live_traffic_takes_by_itself_is_measured_anew() {
        let mut now = Counted::default();
        let mut pace = Pace::new(1.5, now);
        let mut least = 0;
        for ms in 0..20_000_u64 {
            now = Counted { at: Duration::from_millis(ms), commits: ms, took_us: ms * 400, bytes: 0 };
            least += u64::from(pace.rate() <= RATE_MIN);
            let _ = pace.went(1, now);
        }
        assert!((600..=1_200).contains(&least), "a measure takes 200 ms, each five seconds: {least} ms");
    }
}
