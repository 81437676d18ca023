//! Has a change made: it is handed to the leader until it is judged, and the verdict comes with the state.

use std::sync::Arc;

use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};

use super::change::{Applied, Change};
use super::consensus::{Handed, PROPOSAL_BYTES_MAX, WHO_BYTES_MAX, encode_change};
use super::refusal::Refusal;
use super::{Catalog, level, tell};

/// Bytes of a proposal besides its change, at most.
const HEAD_BYTES: usize = 1 << 10;

/// What is done while no majority is heard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Patience {
    /// It is tried for as long as a change may take.
    Waits,
    /// It is given up.
    Now,
}

/// Why a change was not made, and whether that is in the audit already.
struct NotMade {
    refusal: Refusal,
    is_told: bool,
}

impl From<Refusal> for NotMade {
    fn from(refusal: Refusal) -> Self {
        Self { refusal, is_told: false }
    }
}

impl Catalog {
    /// Has a change made, for `who` (`cli`, `api`; 64 bytes at most). Durable on a majority of the nodes that vote,
    /// durable here, and true for all readers here, on return. Once begun it goes on although the caller goes away.
    ///
    /// # Errors
    /// Why it was refused; nothing was changed then, unless it is [`Refusal::UnknownOutcome`].
    pub async fn propose(self: &Arc<Self>, change: Change, who: &str) -> Result<Applied, Refusal> {
        self.propose_as(change, who, Patience::Waits).await
    }

    /// The same, and it is refused at once where no majority is heard or nobody is known to lead, which is not in the audit: of a decision
    /// that follows from who is heard, and may be another one a moment later.
    ///
    /// # Errors
    /// As [`Self::propose`].
    pub async fn propose_now(self: &Arc<Self>, change: Change, who: &str) -> Result<Applied, Refusal> {
        self.propose_as(change, who, Patience::Now).await
    }

    async fn propose_as(self: &Arc<Self>, change: Change, who: &str, patience: Patience) -> Result<Applied, Refusal> {
        let who = who[..who.floor_char_boundary(WHO_BYTES_MAX)].to_owned();
        let catalog = Arc::clone(self);
        let task = tokio::spawn(async move {
            match catalog.make(&change, &who, patience).await {
                Ok(applied) => Ok(applied),
                Err(NotMade { refusal, is_told }) => {
                    if !is_told {
                        tell::note_refusal(&catalog.book.log, &change, &who, &refusal).await;
                    }
                    Err(refusal)
                }
            }
        });
        // It can only end otherwise where the runtime ends.
        task.await.unwrap_or(Err(Refusal::Stopping))
    }

    async fn make(&self, change: &Change, who: &str, patience: Patience) -> Result<Applied, NotMade> {
        // What the others do not know is not even asked of them.
        self.book.ask(|state| level::check(state, change)).map_err(Refusal::from)?;
        let until = Instant::now() + self.book.timing.propose_wait;
        let Ok(_turn) = timeout_at(until, self.changing.lock()).await else { return Err(self.give_up(false, None)) };
        let bytes = encode_change(change).len();
        if bytes + HEAD_BYTES > PROPOSAL_BYTES_MAX {
            return Err(self.too_large(change, bytes));
        }
        let mut number = self.consensus.draw_number();
        let mut judged = self.consensus.expect(number);
        let (mut is_handed, mut missing) = (false, None);
        loop {
            let handed = tokio::select! {
                biased;
                verdict = &mut judged => return verdict_of(verdict),
                handed = self.consensus.hand_over(number, who, change, until) => handed,
            };
            let is_nobody_there = matches!(handed, Handed::NoMajority(_) | Handed::Again);
            match handed {
                // What was handed over before may be in a log, and is judged yet.
                Handed::Refused(_) if is_handed => return self.wait(judged, until).await,
                Handed::Refused(refusal) => return Err(refusal.into()),
                Handed::Done => return self.wait(judged, until).await,
                Handed::Stale(_) if is_handed => return self.wait(judged, until).await,
                Handed::Stale(newest) => {
                    // The clock has gone back over a crash.
                    number = self.consensus.draw_number().max(newest + 1);
                    judged = self.consensus.expect(number);
                }
                Handed::Lost => is_handed = true,
                Handed::NoMajority(nodes) => missing = Some(nodes),
                Handed::Again => missing = None,
            }
            if Instant::now() >= until {
                return Err(self.give_up(is_handed, missing));
            }
            if is_nobody_there && patience == Patience::Now && !is_handed {
                return Err(NotMade { is_told: true, ..self.give_up(is_handed, missing) });
            }
            tokio::select! {
                biased;
                verdict = &mut judged => return verdict_of(verdict),
                () = self.consensus.pause() => {}
            }
        }
    }

    /// It was judged; the verdict comes with the state.
    async fn wait(
        &self,
        judged: oneshot::Receiver<Result<Applied, Refusal>>,
        until: Instant,
    ) -> Result<Applied, NotMade> {
        match timeout_at(until, judged).await {
            Ok(verdict) => verdict_of(verdict),
            Err(_) => Err(Refusal::UnknownOutcome.into()),
        }
    }

    fn give_up(&self, is_handed: bool, missing: Option<Vec<crate::transport::NodeId>>) -> NotMade {
        if is_handed {
            return Refusal::UnknownOutcome.into();
        }
        let missing = missing.unwrap_or_else(|| self.consensus.missing());
        Refusal::NoMajority { missing: self.consensus.names(&missing) }.into()
    }

    /// Why a change would be refused as things stand here; others may know more.
    pub fn would_refuse(&self, change: &Change) -> Option<Refusal> {
        let terms = super::change::Terms::new(&self.book.config, self.book.log.clock().wall_ms(), 0);
        self.book.ask(|state| change.judge(state, &terms)).err()
    }

    /// What is out of its own bounds is told so rather than that it is too large.
    fn too_large(&self, change: &Change, bytes: usize) -> NotMade {
        let terms = super::change::Terms::new(&self.book.config, self.book.log.clock().wall_ms(), 0);
        let refused = self.book.ask(|state| change.judge(state, &terms));
        refused.err().unwrap_or(Refusal::TooLarge(bytes)).into()
    }
}

/// The verdict, which is in the audit. It comes always, but where the runtime ends.
fn verdict_of(verdict: Result<Result<Applied, Refusal>, oneshot::error::RecvError>) -> Result<Applied, NotMade> {
    let verdict = verdict.unwrap_or(Err(Refusal::Stopping));
    verdict.map_err(|refusal| {
        let is_told = refusal != Refusal::UnknownOutcome;
        NotMade { refusal, is_told }
    })
}
