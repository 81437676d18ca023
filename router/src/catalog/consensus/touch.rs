//! Whether this node follows what is agreed on, and whether it may stand for election (pure).

use std::time::{Duration, Instant};

/// Elections in a row that others may refuse before the next one is put off.
const REFUSED_FREE: u32 = 3;
/// For how many beats a majority is to be heard before a node stands, where some of it cannot be asked whether there is a leader: one that there
/// may be has spoken by then, also to one that it had not reached for long.
const SETTLES_BEATS: u32 = 3;
/// For how many beats one is put off at most: a node that hears the others and not the leader would write some 80,000 votes a day, where
/// they cannot be asked.
const PUT_OFF_BEATS_MAX: u32 = 32;

/// What this node has heard of those who lead.
#[derive(Debug)]
pub(super) struct Touch {
    /// When what a leader said was taken last; at first when this node began.
    spoken: Instant,
    /// Up to which change the state had to come after the last silence; `None`: that is not known yet.
    due: Option<u64>,
    /// The newest term in which others refused to elect this node, when, and in how many terms in a row.
    refused: Option<(u64, Instant, u32)>,
    /// Since when a majority is heard.
    heard_since: Option<Instant>,
    /// When a leader's word was taken last.
    led: Option<Instant>,
    /// When the others were asked last whether they hear a leader.
    asked: Option<Instant>,
    /// When a majority said last that it hears none, and whether all of it knew what it was asked.
    unled: Option<(Instant, bool)>,
}

impl Touch {
    /// A node that begins at `now`.
    pub(super) fn new(now: Instant) -> Self {
        Self { spoken: now, due: None, refused: None, heard_since: None, led: None, asked: None, unled: None }
    }

    /// What the leader of `term` said was taken: that all up to the change `done` (its term, its number) is agreed on. Only what was agreed
    /// on in its own term shows how far it has come: before that it does not know what the leader before it had agreed on last.
    pub(super) fn take(&mut self, (term, done): (u64, Option<(u64, u64)>), fresh: Duration, now: Instant) {
        let was_silent = now.saturating_duration_since(self.spoken) >= fresh;
        if was_silent || self.due.is_none() {
            self.due = done.filter(|(of, _)| *of == term).map(|(_, index)| index);
        }
        (self.spoken, self.refused, self.led, self.unled) = (now, None, Some(now), None);
    }

    /// This node leads, and is followed.
    pub(super) fn lead(&mut self) {
        self.refused = None;
    }

    /// Another node has refused to elect this one in `term`.
    pub(super) fn refuse(&mut self, term: u64, now: Instant) {
        let (before, since, count) = self.refused.unwrap_or((0, now, 0));
        self.refused = Some(if term > before { (term, now, count + 1) } else { (before, since, count) });
    }

    /// Whether a leader was heard within `fresh`, and all is in the state that was agreed on during the silence before it; the state has
    /// come to `applied`.
    pub(super) fn follows(&self, applied: u64, fresh: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.spoken) < fresh && self.due.is_some_and(|due| applied >= due)
    }

    /// A majority is heard by other ways than the leader's word, or is not.
    pub(super) fn hear(&mut self, is_majority: bool, now: Instant) {
        self.heard_since = is_majority.then(|| self.heard_since.unwrap_or(now));
    }

    /// Whether a leader was heard within `within`.
    pub(super) fn is_led(&self, within: Duration, now: Instant) -> bool {
        self.led.is_some_and(|at| now.saturating_duration_since(at) < within)
    }

    /// Whether the others are to be asked now whether they hear a leader, as this node hears none and a majority of them; not again within `every`.
    pub(super) fn begin_asking(
        &mut self,
        is_majority_heard_since: impl FnOnce(Instant) -> bool,
        (beat, every): (Duration, Duration),
        now: Instant,
    ) -> bool {
        let is_soon = self.asked.is_some_and(|at| now.saturating_duration_since(at) < every);
        let is_due = !is_soon && self.is_missed(is_majority_heard_since, beat);
        if is_due {
            self.asked = Some(now);
        }
        is_due
    }

    /// What the others have said: that a majority hears no leader, and whether all of it knew what it was asked; `None`: not a majority.
    pub(super) fn end_asking(&mut self, unled: Option<bool>, now: Instant) {
        self.unled = unled.map(|is_certain| (now, is_certain));
    }

    /// Whether this node may stand for election: where a majority is heard, was after the leader should have spoken again, and has just said that it
    /// hears no leader either. So one that is cut off does not stand, from all or from the leader alone, nor when it is back, and needs not be
    /// followed into a term of its own. Who cannot be asked may hear one: then a majority is to be heard for a while.
    pub(super) fn may_stand(
        &self,
        is_majority_heard_since: impl FnOnce(Instant) -> bool,
        beat: Duration,
        now: Instant,
    ) -> bool {
        let is_put_off = self.refused.is_some_and(|(_, at, count)| now < at + put_off(count, beat));
        let settles = beat * SETTLES_BEATS;
        let has_settled = self.heard_since.is_some_and(|since| now.saturating_duration_since(since) >= settles);
        let is_unled = self
            .unled
            .is_some_and(|(at, is_certain)| now.saturating_duration_since(at) < beat && (is_certain || has_settled));
        is_unled && !is_put_off && self.is_missed(is_majority_heard_since, beat)
    }

    /// Whether a majority was heard after the leader should have spoken again.
    fn is_missed(&self, is_majority_heard_since: impl FnOnce(Instant) -> bool, beat: Duration) -> bool {
        is_majority_heard_since(self.spoken + beat * 3 / 2)
    }
}

/// How long the next election is put off.
fn put_off(refused: u32, beat: Duration) -> Duration {
    match refused.checked_sub(REFUSED_FREE + 1) {
        Some(doubled) => beat * 2_u32.saturating_pow(doubled + 1).min(PUT_OFF_BEATS_MAX),
        None => Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEAT: Duration = Duration::from_secs(1);
    const FRESH: Duration = Duration::from_secs(3);

    #[test]
    fn after_a_silence_it_follows_once_it_has_what_was_agreed_on_meanwhile() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let mut touch = Touch::new(began);
        assert!(!touch.follows(9, FRESH, began), "nobody has spoken yet");
        // A new leader has agreed on nothing in its own term.
        touch.take((4, Some((3, 5))), FRESH, at(500));
        assert!(!touch.follows(9, FRESH, at(500)));
        touch.take((4, None), FRESH, at(600));
        assert!(!touch.follows(9, FRESH, at(600)));
        touch.take((4, Some((4, 8))), FRESH, at(1_000));
        assert!(!touch.follows(7, FRESH, at(1_000)) && touch.follows(8, FRESH, at(1_000)));
        // While it is spoken to, what is on its way changes nothing.
        touch.take((4, Some((4, 12))), FRESH, at(3_900));
        touch.take((5, Some((4, 12))), FRESH, at(6_800));
        assert!(touch.follows(8, FRESH, at(9_799)) && !touch.follows(99, FRESH, at(9_800)));
        // The silence may pass unseen.
        touch.take((5, Some((5, 20))), FRESH, at(9_800));
        assert!(!touch.follows(19, FRESH, at(9_801)) && touch.follows(20, FRESH, at(9_801)));
    }

    #[test]
    fn who_is_cut_off_does_not_stand() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let mut touch = Touch::new(began);
        touch.take((1, Some((1, 1))), FRESH, at(1_000));
        touch.hear(true, at(1_000));
        touch.end_asking(Some(true), at(4_000));
        // heard last, may stand
        for (heard, may) in [(0, false), (2_000, false), (2_499, false), (2_500, true), (4_000, true)] {
            let is_heard_since = |since| at(heard) >= since;
            assert_eq!(touch.may_stand(is_heard_since, BEAT, at(4_000)), may, "{heard}");
            let asks = (0..2).filter(|_| touch.begin_asking(is_heard_since, (BEAT, BEAT), at(4_000 + heard))).count();
            assert_eq!(asks, usize::from(may), "{heard}: once, and again a beat later");
        }
    }

    #[test]
    fn who_stands_has_just_been_told_that_a_majority_hears_no_leader() {
        let began = Instant::now();
        let at = |ms| began + Duration::from_millis(ms);
        let may_stand = |touch: &Touch, ms| touch.may_stand(|_| true, BEAT, at(ms));
        let mut touch = Touch::new(began);
        touch.hear(true, at(4_900));
        assert!(!may_stand(&touch, 5_000), "nobody was asked");
        // All are switched on at once: nobody waits for a leader that nobody has.
        touch.end_asking(Some(true), at(5_000));
        assert!(may_stand(&touch, 5_000) && may_stand(&touch, 5_999) && !may_stand(&touch, 6_000));
        touch.end_asking(None, at(5_100));
        assert!(!may_stand(&touch, 5_100), "others hear one");
        // One that cannot be asked: who leads speaks first to one that is back.
        touch.end_asking(Some(false), at(7_500));
        assert!(!may_stand(&touch, 7_899) && may_stand(&touch, 7_900));
        touch.hear(false, at(7_950));
        touch.hear(true, at(8_000));
        assert!(!may_stand(&touch, 8_000));
        // A leader has spoken meanwhile.
        touch.end_asking(Some(true), at(8_000));
        assert!(may_stand(&touch, 8_000) && !touch.is_led(BEAT, at(8_000)));
        touch.take((2, None), FRESH, at(8_100));
        assert!(!may_stand(&touch, 8_200) && touch.is_led(BEAT, at(8_200)) && !touch.is_led(BEAT, at(9_100)));
    }

    #[test]
    fn who_is_refused_again_and_again_stands_seldom() {
        let began = Instant::now();
        let at = |s| began + BEAT * s;
        let mut touch = Touch::new(began);
        let may_stand = |touch: &mut Touch, beats| {
            touch.end_asking(Some(true), at(beats));
            touch.may_stand(|_| true, BEAT, at(beats))
        };
        // refused in so many terms, put off for so many beats
        for (count, beats) in [(1, 0), (3, 0), (4, 2), (5, 4), (6, 8), (8, 32), (9, 32), (40, 32)] {
            (1..=count).for_each(|term| touch.refuse(term, began));
            assert!(may_stand(&mut touch, beats), "{count}");
            assert!(beats == 0 || !may_stand(&mut touch, beats - 1), "{count}");
            // Each of several voters says so.
            touch.refuse(u64::from(count as u32), at(100));
            assert!(may_stand(&mut touch, beats));
            touch.lead();
        }
        (1..=9).for_each(|term| touch.refuse(term, began));
        assert!(!may_stand(&mut touch, 0));
        touch.take((10, None), FRESH, began);
        assert!(may_stand(&mut touch, 0), "it has heard a leader");
    }
}
