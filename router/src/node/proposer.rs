//! Has the site agree on what its leader has decided about work, beside the loop that tells this node's rooms what they have to do: where no
//! majority answers, a change takes seconds to come to nothing, and what this node reads must not wait for that.

use std::future::Future;
use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use crate::catalog::{Change, Class, Refusal};

/// For how long what was seen is gone by; what is left is decided anew.
const LOOK_LASTS: Duration = Duration::from_secs(2);

/// Proposes what was decided at one look, one look at a time. What is under way ends with it.
#[derive(Default)]
pub struct Proposer {
    under_way: JoinSet<()>,
}

impl Proposer {
    /// Whether what was decided before is under way still.
    pub fn is_busy(&mut self) -> bool {
        while self.under_way.try_join_next().is_some() {}
        !self.under_way.is_empty()
    }

    /// Proposes these, one after another, where nothing is under way. It returns at once.
    pub fn begin<F>(&mut self, changes: Vec<Change>, propose: impl Fn(Change) -> F + Send + Sync + 'static)
    where
        F: Future<Output = Result<(), Refusal>> + Send + 'static,
    {
        if !changes.is_empty() && !self.is_busy() {
            self.under_way.spawn(async move { propose_all(changes, propose).await });
        }
    }
}

/// Ends where the site does not answer: what was decided may be wrong when it does.
async fn propose_all<F: Future<Output = Result<(), Refusal>>>(changes: Vec<Change>, propose: impl Fn(Change) -> F) {
    let looked = Instant::now();
    for change in changes {
        if looked.elapsed() >= LOOK_LASTS {
            return;
        }
        tracing::info!(act = change.act(), what = change.what(), "work moves in the site");
        match propose(change).await {
            Ok(()) => {}
            Err(refusal) => {
                tracing::debug!(%refusal, "a decision about work was not taken; it is decided anew");
                if refusal.class() == Class::Unavailable {
                    return;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use parking_lot::Mutex;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::catalog::WorkRefusal;

    fn give_back(origin: u64) -> Change {
        Change::GiveBack { origin, term: 1 }
    }

    #[tokio::test]
    async fn one_look_is_under_way_at_a_time_and_nobody_waits_for_it() {
        let (answers, asked) = (Arc::new(Semaphore::new(0)), Arc::new(Mutex::new(Vec::new())));
        let propose = {
            let (answers, asked) = (Arc::clone(&answers), Arc::clone(&asked));
            move |change: Change| {
                asked.lock().push(change);
                let answers = Arc::clone(&answers);
                async move {
                    answers.acquire().await.unwrap().forget();
                    Ok(())
                }
            }
        };
        let mut proposer = Proposer::default();
        proposer.begin(Vec::new(), propose.clone());
        assert!(!proposer.is_busy());
        proposer.begin(vec![give_back(1), give_back(2)], propose.clone());
        while asked.lock().is_empty() {
            tokio::task::yield_now().await;
        }
        // The site does not answer; what is decided meanwhile is decided anew later.
        assert!(proposer.is_busy());
        proposer.begin(vec![give_back(3)], propose);
        answers.add_permits(2);
        while proposer.is_busy() {
            tokio::task::yield_now().await;
        }
        assert_eq!(*asked.lock(), [give_back(1), give_back(2)]);
    }

    #[tokio::test]
    async fn what_is_left_is_not_proposed_where_the_site_does_not_answer() {
        let none = || Refusal::NoMajority { missing: Vec::new() };
        // what each is answered; how many are asked
        for (answers, asked) in [
            (vec![Ok(()), Ok(()), Ok(())], 3),
            (vec![Err(none()), Ok(()), Ok(())], 1),
            (vec![Ok(()), Err(Refusal::UnknownOutcome), Ok(())], 2),
            // One that cannot be does not keep the others back.
            (vec![Err(WorkRefusal::TooManyTakeOvers(9).into()), Ok(()), Ok(())], 3),
        ] {
            let count = answers.len() as u64;
            let (case, answers) = (format!("{answers:?}"), Mutex::new(answers.into_iter()));
            propose_all((1..=count).map(give_back).collect(), |_| {
                let answer = answers.lock().next().unwrap();
                async move { answer }
            })
            .await;
            assert_eq!(count as usize - answers.lock().len(), asked, "{case}");
        }
    }
}
