//! Waiting for the end of a command or a job, although the node goes away for a while.

use std::thread;
use std::time::{Duration, Instant};

use serde::de::DeserializeOwned;

use crate::cli::api::Api;
use crate::cli::locate::NodeArgs;
use crate::cli::{Exit, Failure};

/// Time between two tries of a node that does not answer.
const TRY_EVERY: Duration = Duration::from_millis(250);
/// What is added to the time in which the end must come, for the node's start.
const GRACE: Duration = Duration::from_secs(30);

/// Calls of a node that may be gone and come again.
pub struct Patience<'a> {
    node: &'a NodeArgs,
    api: Option<Api>,
    /// How long it may be gone: as long as what is waited for can live.
    patience: Duration,
}

impl<'a> Patience<'a> {
    /// Calls through `api`; what is waited for ends within `lives`, whatever happens.
    pub fn new(node: &'a NodeArgs, api: Api, lives: Duration) -> Self {
        Self { node, api: Some(api), patience: lives.saturating_add(GRACE) }
    }

    /// GET, tried again quietly while no node answers.
    ///
    /// # Errors
    /// When the node refuses, or none has answered for too long.
    pub fn get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, Failure> {
        let begun = Instant::now();
        loop {
            let told = self.try_get(path);
            let is_gone = matches!(told, Err(Failure::Told { exit: Exit::Unreachable, .. }));
            if !is_gone || begun.elapsed() >= self.patience {
                return told;
            }
            // It may come again at another address.
            self.api = None;
            thread::sleep(TRY_EVERY);
        }
    }

    fn try_get<T: DeserializeOwned>(&mut self, path: &str) -> Result<T, Failure> {
        let api = match self.api.take() {
            Some(api) => api,
            None => Api::to(self.node)?,
        };
        self.api.insert(api).get(path)
    }
}

/// What is told when the wait is given up: what was waited for goes on.
pub fn goes_on(failure: Failure, what: &str, id: &str) -> Failure {
    match failure {
        Failure::Told { exit: Exit::Unreachable, what: why, .. } => {
            let text = format!("{why}; {what} {id} is stored and goes on");
            Failure::new(Exit::Unreachable, text).hint(format!("edgeway {what} watch {id}")).about(id)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_that_is_given_up_names_what_goes_on() {
        let failure = goes_on(Failure::new(Exit::Unreachable, "gone"), "command", "i");
        let Failure::Told { exit, what, hint, id, .. } = failure else { panic!("told") };
        assert_eq!((exit, what.as_str()), (Exit::Unreachable, "gone; command i is stored and goes on"));
        assert_eq!((hint.as_str(), id.as_str()), ("edgeway command watch i", "i"));
        assert!(matches!(
            goes_on(Failure::new(Exit::NotFound, "no"), "job", "i"),
            Failure::Told { exit: Exit::NotFound, .. }
        ));
    }
}
