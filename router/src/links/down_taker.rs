//! The edge's part of what a link brings down: hands on what upstream asks, and tells it what has ended.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use super::down::{ByLink, TakeDown, decode_words, encode_words};
use super::wire::Said;

/// Answers that may wait to be sent: an upstream that asks more while they do misses the oldest ones, and asks again.
const ANSWERS_MAX: usize = 16;
/// How often it is looked for ends while there were none.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often upstream is told how far commands are: what happens in between is told together.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// How long it is waited until upstream says that it knows of ends, before it is told again.
const TELL_AGAIN: Duration = Duration::from_secs(30);

/// What one connection of a link brings down.
#[derive(Default)]
pub struct Taker {
    by: ByLink,
    take: Option<Arc<dyn TakeDown>>,
    state: Mutex<State>,
    /// What upstream's program can bring.
    brings: watch::Sender<Vec<String>>,
}

#[derive(Default)]
struct State {
    /// Whether upstream's program knows of what comes down.
    is_greeted: bool,
    answers: VecDeque<Said>,
    /// When it was told of ends that it has not said to know.
    told: Option<Instant>,
    /// The place of the last end that it was told of.
    after: u64,
    /// When it was looked last whether there are more.
    looked: Option<Instant>,
    /// When all began to be told from the first on.
    began: Option<Instant>,
    /// When it was looked last how far commands are.
    progress: Option<Instant>,
}

impl Taker {
    /// Of a link, and the room that takes commands, where there is one.
    pub fn new(by: ByLink, take: Option<Arc<dyn TakeDown>>) -> Self {
        Self { by, take, state: Mutex::default(), brings: watch::Sender::default() }
    }

    /// Upstream asks for something.
    pub(super) async fn asked(&self, number: u64, question: Vec<u8>) {
        let answer = match (&self.take, number) {
            (take, 0) => {
                self.state.lock().is_greeted = true;
                self.brings.send_replace(decode_words(&question));
                encode_words(if take.is_some() { &self.by.down } else { &[] })
            }
            // Once begun it goes on although the link is cut.
            (Some(take), _) => take.take(self.by.clone(), question).await,
            (None, _) => Vec::new(),
        };
        let mut state = self.state.lock();
        // Programs of before ask on when an answer takes long, as behind a large frame on a thin line.
        if state.answers.len() >= ANSWERS_MAX {
            state.answers.pop_front();
        }
        state.answers.push_back(Said::Answered(number, answer));
    }

    /// Ends when upstream has said that its program can bring something.
    pub(super) async fn until_brings(&self, word: &str) {
        // It does not fail while it is held here.
        let _ = self.brings.subscribe().wait_for(|brings| brings.iter().any(|brought| brought == word)).await;
    }

    /// Upstream knows of ends.
    pub(super) fn known(&self, said: Vec<u8>) {
        self.state.lock().told = None;
        if let Some(take) = &self.take {
            take.known(self.by.link, said);
        }
    }

    /// What is to be said now.
    pub(super) async fn to_say(&self) -> Vec<Said> {
        let mut said: Vec<Said> = self.state.lock().answers.drain(..).collect();
        let link = self.by.link;
        let Some(take) = &self.take else { return said };
        let is_due = self.state.lock().look_for_progress(Instant::now());
        if let Some(anew) = is_due {
            said.extend(take.progress(link, anew).await.map(Said::Ended));
        }
        if !take.has_ended(link) {
            return said;
        }
        let Some(after) = self.state.lock().look(Instant::now()) else { return said };
        let ended = take.ended(link, after).await;
        let mut state = self.state.lock();
        if let Some((ended, last)) = ended {
            (state.told, state.looked, state.after) = (Some(Instant::now()), None, last);
            said.push(Said::Ended(ended));
        }
        said
    }
}

impl State {
    /// Whether it is looked now how far commands are, and whether for the first time.
    fn look_for_progress(&mut self, now: Instant) -> Option<bool> {
        let is_over = |at: Instant| now.saturating_duration_since(at) >= PROGRESS_EVERY;
        let is_due = self.is_greeted && self.progress.is_none_or(is_over);
        is_due.then(|| self.progress.replace(now).is_none())
    }

    /// Behind which place it is looked now for ends that are to be told, if it is. Those that upstream has not said to know are told
    /// again after a while, behind those that are new.
    fn look(&mut self, now: Instant) -> Option<u64> {
        let is_over = |at: Option<Instant>, span| at.is_none_or(|at| now.saturating_duration_since(at) >= span);
        if !self.is_greeted || !is_over(self.told, TELL_AGAIN) || !is_over(self.looked, LOOK_EVERY) {
            return None;
        }
        (self.told, self.looked) = (None, Some(now));
        if is_over(self.began, TELL_AGAIN) {
            (self.began, self.after) = (Some(now), 0);
        }
        Some(self.after)
    }
}

#[cfg(test)]
mod tests {
    use super::super::down::{COMMANDS, WORD_BYTES_MAX, WORDS_MAX, decode_words};
    use super::super::within::Pending;
    use super::*;

    /// Answers with what it is asked, and has nothing to tell.
    struct Echo;

    impl TakeDown for Echo {
        fn take(&self, _: ByLink, asked: Vec<u8>) -> Pending<'_, Vec<u8>> {
            Box::pin(async move { asked })
        }

        fn has_ended(&self, _: u64) -> bool {
            false
        }

        fn ended(&self, _: u64, _: u64) -> Pending<'_, Option<(Vec<u8>, u64)>> {
            Box::pin(async { None })
        }

        fn progress(&self, _: u64, _: bool) -> Pending<'_, Option<Vec<u8>>> {
            Box::pin(async { None })
        }

        fn known(&self, _: u64, _: Vec<u8>) {}
    }

    #[tokio::test]
    async fn questions_are_answered_by_their_numbers_and_not_too_many() {
        let by = ByLink { name: "hq".to_owned(), link: 1, down: vec![COMMANDS.to_owned()] };
        let taker = Taker::new(by.clone(), Some(Arc::new(Echo)));
        taker.asked(0, vec![9]).await;
        taker.asked(7, vec![1]).await;
        let said = taker.to_say().await;
        let [Said::Answered(0, words), Said::Answered(7, answer)] = &said[..] else { panic!("{said:?}") };
        assert_eq!((decode_words(words), answer.as_slice()), (vec![COMMANDS.to_owned()], &[1_u8][..]));
        // Nobody takes the answers: the newest are kept.
        for number in 1..=ANSWERS_MAX as u64 + 3 {
            taker.asked(number, Vec::new()).await;
        }
        let said = taker.to_say().await;
        assert_eq!(said.len(), ANSWERS_MAX);
        assert!(matches!(said.first(), Some(Said::Answered(4, _))), "{said:?}");
        // Where no room takes commands, nothing may come down.
        let taker = Taker::new(by, None);
        taker.asked(0, Vec::new()).await;
        taker.asked(1, vec![5]).await;
        let said = taker.to_say().await;
        let [Said::Answered(0, words), Said::Answered(1, answer)] = &said[..] else { panic!("{said:?}") };
        assert!(decode_words(words).is_empty() && answer.is_empty());
        let many = vec!["x".repeat(WORD_BYTES_MAX + 1), "y".to_owned()];
        assert_eq!(decode_words(&encode_words(&many)), ["y"]);
        assert_eq!(decode_words(&encode_words(&vec!["z".to_owned(); WORDS_MAX + 1])).len(), WORDS_MAX);
    }

    #[test]
    fn ends_are_told_at_once_and_again_after_a_while() {
        let begin = Instant::now();
        let at = |ms| begin + Duration::from_millis(ms);
        let mut state = State::default();
        assert_eq!(state.look(at(0)), None, "an older program knows nothing of it");
        assert_eq!(state.look_for_progress(at(0)), None);
        state.is_greeted = true;
        let progress = [0, 999, 1_000, 1_500, 2_000].map(|ms| state.look_for_progress(at(ms)));
        assert_eq!(progress, [Some(true), None, Some(false), None, Some(false)]);
        assert_eq!(state.look(at(0)), Some(0));
        // It is told of some, and says that it knows.
        (state.told, state.looked, state.after) = (Some(at(0)), None, 5);
        assert_eq!(state.look(at(10)), None, "one at a time");
        state.told = None;
        assert_eq!(state.look(at(20)), Some(5));
        // There was nothing.
        assert_eq!(state.look(at(30)), None);
        assert_eq!(state.look(at(270)), Some(5));
        // What is not known is told again.
        (state.told, state.looked, state.after) = (Some(at(280)), None, 9);
        assert_eq!(state.look(at(30_279)), None);
        assert_eq!(state.look(at(30_280)), Some(0));
    }
}
