//! One guard at its post: its instance, its time, what is told of it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use super::answer::{Answer, cut};
use super::counters::GuardCounters;
use super::sandbox::{Sandbox, Template};
use super::wants::wants;
use crate::plugin_host::counters::add;
use crate::plugin_host::fault::Fault;
use crate::plugin_host::manifest::Manifest;
use crate::plugin_host::registry::RecordV2;
use crate::plugin_host::status::RunState;
use crate::security::Asked;

/// Why there is no answer.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unanswered {
    /// It is being loaded or compiled.
    #[error("the guard is still being loaded")]
    Loading,
    /// It could not be loaded.
    #[error("the guard cannot be loaded: {0}")]
    Broken(String),
    /// Others' questions took all its time.
    #[error("the guard was busy for {0} ms with other commands")]
    Busy(u32),
    /// It failed.
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// A deployed guard.
pub struct Post {
    /// Its manifest.
    pub manifest: Arc<Manifest>,
    /// Its record in the store.
    pub record: RecordV2,
    /// What it did.
    pub counters: Arc<GuardCounters>,
    /// One question at a time; held during a call, by those alone who ask this guard.
    place: Mutex<Place>,
    loaded: Condvar,
    state: Mutex<RunState>,
}

enum Place {
    Loading,
    Broken(String),
    Ready(Sandbox),
}

impl Post {
    /// A guard that has been started.
    pub fn ready(manifest: Arc<Manifest>, record: RecordV2, counters: Arc<GuardCounters>, sandbox: Sandbox) -> Post {
        Post::new(manifest, record, counters, Place::Ready(sandbox), RunState::Running)
    }

    fn new(
        manifest: Arc<Manifest>,
        record: RecordV2,
        counters: Arc<GuardCounters>,
        place: Place,
        state: RunState,
    ) -> Post {
        let (place, state) = (Mutex::new(place), Mutex::new(state));
        Post { manifest, record, counters, place, loaded: Condvar::new(), state }
    }

    /// A guard whose component is loaded on a thread of its own, as that may take seconds. It is on duty at once, and
    /// fails what it is asked until it is there.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn load(
        manifest: Arc<Manifest>,
        record: RecordV2,
        load: impl FnOnce() -> Result<Template, String> + Send + 'static,
    ) -> std::io::Result<Arc<Post>> {
        let post = Post::new(manifest, record, Arc::default(), Place::Loading, RunState::Starting);
        let post = Arc::new(post);
        let loading = Arc::clone(&post);
        // Linux shows 15 bytes of a thread's name.
        let name = format!("guard-{}", post.manifest.name);
        std::thread::Builder::new().name(name).spawn(move || loading.put(load()))?;
        Ok(post)
    }

    /// The end of loading.
    fn put(&self, loaded: Result<Template, String>) {
        let mut place = self.place.lock();
        *place = match loaded {
            Ok(template) => {
                let mut sandbox = Sandbox::new(Arc::new(template));
                // Where it does not start now, it is tried again with the first command.
                self.tell(sandbox.start(self.until(Instant::now())).err());
                Place::Ready(sandbox)
            }
            Err(reason) => {
                tracing::error!(guard = self.manifest.name, error = reason, "the guard keeps all its commands back");
                *self.state.lock() = RunState::Broken(reason.clone());
                Place::Broken(reason)
            }
        };
        self.loaded.notify_all();
    }

    /// Whether it is to be asked about this command.
    pub fn wants(&self, device: &str, name: &str) -> bool {
        wants(&self.manifest, device, name)
    }

    /// Asks it. Takes its `call_ms` at most, waiting for others' questions included.
    ///
    /// # Errors
    /// [`Unanswered`]; the command must not go.
    pub fn judge(&self, asked: &Asked, payload: &[u8]) -> Result<Answer, Unanswered> {
        let begin = Instant::now();
        let answer = self.ask(asked, payload, self.until(begin));
        let counters = &*self.counters;
        add(&counters.busy_ns, u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX));
        add(&counters.asked, 1);
        let counter = match &answer {
            Ok(Answer::Allow) => &counters.allowed,
            Ok(Answer::Deny(_)) => &counters.denied,
            Ok(Answer::Rewrite(_)) => &counters.rewritten,
            Err(_) => &counters.failed,
        };
        add(counter, 1);
        if asked.urgent && matches!(answer, Ok(Answer::Deny(_)) | Err(_)) {
            add(&counters.overridden, 1);
        }
        answer
    }

    fn until(&self, begin: Instant) -> Instant {
        begin + Duration::from_millis(u64::from(self.manifest.limits.call_ms))
    }

    fn ask(&self, asked: &Asked, payload: &[u8], until: Instant) -> Result<Answer, Unanswered> {
        let busy = || Unanswered::Busy(self.manifest.limits.call_ms);
        let mut place = self.place.try_lock_until(until).ok_or_else(busy)?;
        while matches!(*place, Place::Loading) {
            if self.loaded.wait_until(&mut place, until).timed_out() {
                return Err(Unanswered::Loading);
            }
        }
        match &mut *place {
            Place::Ready(sandbox) => {
                let answer = sandbox.judge(asked, payload, until);
                self.tell(answer.as_ref().err().cloned());
                Ok(answer?)
            }
            Place::Broken(reason) => Err(Unanswered::Broken(reason.clone())),
            Place::Loading => Err(Unanswered::Loading),
        }
    }

    /// What the last call says of the guard.
    fn tell(&self, fault: Option<Fault>) {
        let mut state = self.state.lock();
        match fault {
            None if *state == RunState::Running => {}
            None => *state = RunState::Running,
            Some(fault) => {
                tracing::warn!(guard = self.manifest.name, error = %fault, "the guard failed; it is made anew");
                *state = RunState::BackingOff(cut(fault.to_string()));
            }
        }
    }

    /// Whether it runs.
    pub fn state(&self) -> RunState {
        self.state.lock().clone()
    }
}
