//! Whose turn it is on a link: `high` before all others, then `normal` and `low` by their weights (pure).

use super::class::Priority;

/// Bytes of `normal` for each byte of `low`, while both wait.
const NORMAL_FOR_LOW: i64 = 4;
/// Bytes that one of the two may be behind: what was missed before is not made up for.
const BEHIND_BYTES_MAX: i64 = 1 << 20;
/// The same where whole frames take turns: what those of `low` that are out may take, times the weight.
const BEHIND_FRAMES_BYTES_MAX: i64 = 4 << 20;
/// Frames of `low` that may be out while `normal` is busy.
const LOW_FRAMES_MAX: usize = 2;
/// Bytes under way up to which `normal` is not busy: a little may always be, on a long way, and the line have room.
const NORMAL_IDLE_BYTES_MAX: usize = 512 << 10;

/// Who waits, and who has had how much.
#[derive(Debug)]
pub struct Turns {
    waiting: [usize; Priority::ALL.len()],
    /// Frames of `low`, and bytes of those of `normal`, that are under way: begun, and not said to be stored.
    low_frames: usize,
    normal_bytes: usize,
    behind_bytes_max: i64,
    /// Bytes by which `low` is ahead of its part, times the weight.
    low_ahead: i64,
}

impl Turns {
    /// Turns of pieces, as a rate has them.
    pub fn of_pieces() -> Self {
        let waiting = [0; Priority::ALL.len()];
        Self { waiting, low_frames: 0, normal_bytes: 0, behind_bytes_max: BEHIND_BYTES_MAX, low_ahead: 0 }
    }

    /// Turns of whole frames, where QUIC alone knows what goes when.
    pub fn of_frames() -> Self {
        Self { behind_bytes_max: BEHIND_FRAMES_BYTES_MAX, ..Self::of_pieces() }
    }

    /// Begins a frame of so many bytes, unless `low` has to wait: for its turn, while `normal` is busy.
    pub fn try_begin(&mut self, priority: Priority, bytes: usize) -> bool {
        let is_free = self.normal_bytes <= NORMAL_IDLE_BYTES_MAX;
        match priority {
            Priority::High => true,
            Priority::Normal => {
                self.normal_bytes += bytes;
                true
            }
            Priority::Low => {
                let may = is_free || self.is_low_behind() && self.low_frames < LOW_FRAMES_MAX;
                self.low_frames += usize::from(may);
                may
            }
        }
    }

    /// Notes that a frame of so many bytes is stored: that is what its priority has had.
    pub fn stored(&mut self, priority: Priority, bytes: usize) {
        match priority {
            Priority::High => {}
            Priority::Normal => self.normal_bytes = self.normal_bytes.saturating_sub(bytes),
            Priority::Low => self.low_frames = self.low_frames.saturating_sub(1),
        }
        self.took(priority, bytes);
    }

    /// One more of a priority waits.
    pub fn come(&mut self, priority: Priority) {
        self.waiting[priority.place()] += 1;
    }

    /// One less waits.
    pub fn go(&mut self, priority: Priority) {
        self.waiting[priority.place()] -= 1;
    }

    /// Whether one of a priority that waits is the next.
    pub fn is_next(&self, priority: Priority) -> bool {
        let waits = |other: Priority| self.waiting[other.place()] > 0;
        match priority {
            Priority::High => true,
            _ if waits(Priority::High) => false,
            Priority::Normal => !waits(Priority::Low) || !self.is_low_behind(),
            Priority::Low => !waits(Priority::Normal) || self.is_low_behind(),
        }
    }

    /// Whether `low` has had less than its part beside `normal`.
    pub fn is_low_behind(&self) -> bool {
        self.low_ahead < 0
    }

    /// Notes that so many bytes went.
    pub fn took(&mut self, priority: Priority, bytes: usize) {
        let most = self.behind_bytes_max;
        let bytes = i64::try_from(bytes).unwrap_or(most);
        let change = match priority {
            Priority::High => 0,
            Priority::Normal => -bytes,
            Priority::Low => bytes.saturating_mul(NORMAL_FOR_LOW),
        };
        self.low_ahead = self.low_ahead.saturating_add(change).clamp(-most, most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(turns: &Turns, waiting: &[Priority]) -> Vec<Priority> {
        waiting.iter().copied().filter(|priority| turns.is_next(*priority)).collect()
    }

    #[test]
    fn high_goes_first_and_the_others_by_their_weights() {
        let mut turns = Turns::of_pieces();
        let waiting = Priority::ALL;
        waiting.iter().for_each(|priority| turns.come(*priority));
        for _ in 0..100 {
            assert_eq!(next(&turns, &waiting), [Priority::High]);
            turns.took(Priority::High, 1_000);
        }
        turns.go(Priority::High);
        let mut bytes = [0_usize; 3];
        for _ in 0..1_000 {
            let [one] = next(&turns, &waiting[1..])[..] else { panic!("one is next") };
            turns.took(one, 1_000);
            bytes[one.place()] += 1_000;
        }
        assert_eq!(bytes, [0, 800_000, 200_000]);
    }

    /// Both have frames for ever; a line that knows no priorities carries them, so many bytes of each in turn.
    #[test]
    fn whole_frames_keep_the_weights_and_low_never_starves() {
        for (frame, under_way) in [(16 << 10, 8 << 20), (512 << 10, 8 << 20), (512 << 10, 2 << 20)] {
            let mut turns = Turns::of_frames();
            let mut out = [0_usize; 3];
            let mut bytes = [0_usize; 3];
            for _ in 0..20_000 {
                for priority in [Priority::Normal, Priority::Low] {
                    while out[priority.place()] < under_way && turns.try_begin(priority, frame) {
                        out[priority.place()] += frame;
                    }
                    assert!(priority == Priority::Normal || out[priority.place()] <= LOW_FRAMES_MAX * frame);
                    if out[priority.place()] > 0 {
                        out[priority.place()] -= frame;
                        bytes[priority.place()] += frame;
                        turns.stored(priority, frame);
                    }
                }
            }
            let part = bytes[2] as f64 / (bytes[1] + bytes[2]) as f64;
            assert!((0.19..=0.21).contains(&part), "{frame} {under_way}: {part}");
        }
    }

    #[test]
    fn low_waits_for_nothing_where_normal_is_not_busy() {
        let mut turns = Turns::of_frames();
        assert!((0..100).all(|_| turns.try_begin(Priority::Low, 16 << 10)));
        (0..100).for_each(|_| turns.stored(Priority::Low, 16 << 10));
        assert!(turns.try_begin(Priority::Normal, 16 << 10) && turns.try_begin(Priority::High, 16 << 10));
        assert!(turns.try_begin(Priority::Low, 16 << 10), "a little is always under way on a long line");
        assert!(turns.try_begin(Priority::Normal, NORMAL_IDLE_BYTES_MAX));
        assert!(!turns.try_begin(Priority::Low, 16 << 10), "it is ahead");
        turns.stored(Priority::Normal, 16 << 10);
        assert!(turns.try_begin(Priority::Low, 16 << 10), "normal has little under way again");
    }

    #[test]
    fn one_that_waits_alone_has_all_and_owes_little_for_it() {
        let mut turns = Turns::of_pieces();
        turns.come(Priority::Low);
        for _ in 0..10_000 {
            assert_eq!(next(&turns, &[Priority::Low]), [Priority::Low]);
            turns.took(Priority::Low, 100_000);
        }
        turns.come(Priority::Normal);
        let mut waited = 0;
        while next(&turns, &[Priority::Normal, Priority::Low]) == [Priority::Normal] {
            turns.took(Priority::Normal, 10_000);
            waited += 10_000;
        }
        assert!(waited <= BEHIND_BYTES_MAX + 10_000, "{waited}");
    }
}
