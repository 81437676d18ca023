//! The thread of one plugin.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use parking_lot::{Mutex, RwLock};

use super::charge_index::ChargeIndex;
use super::counters::PluginCounters;
use super::duties::Duties;
use super::fault::Fault;
use super::round::PluginReader;
use super::sandbox::Sandbox;
use super::status::RunState;
use crate::event_log::EventLog;

/// How long the thread waits for new events before it looks whether it is to stop.
const IDLE_WAIT: Duration = Duration::from_millis(250);
/// The first pause after a failure that no event caused; each one is twice as long.
const BACKOFF_MIN: Duration = Duration::from_millis(100);
/// The longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// What the node's plugins share.
#[derive(Clone)]
pub struct Work {
    /// What the node is to read.
    pub duties: Arc<RwLock<Arc<Duties>>>,
    /// What is known of charges.
    pub index: Arc<ChargeIndex>,
}

/// What the thread and its owner share.
#[derive(Debug)]
pub struct Shared {
    /// Told by the thread.
    pub state: Mutex<RunState>,
    /// Counted by the thread.
    pub counters: Arc<PluginCounters>,
    stop: AtomicBool,
}

impl Shared {
    /// For a thread not yet started. `state`: whether the guest is still to be loaded, or has started once already.
    pub fn new(counters: Arc<PluginCounters>, state: RunState) -> Arc<Shared> {
        Arc::new(Shared { state: Mutex::new(state), counters, stop: AtomicBool::new(false) })
    }
}

/// A running plugin's thread; stops when dropped.
pub struct Task {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Task {
    /// Starts the thread. `load` runs on it: it may compile for seconds.
    ///
    /// # Errors
    /// The system refuses a thread.
    pub fn start(
        log: Arc<EventLog>,
        work: Work,
        name: &str,
        shared: Arc<Shared>,
        load: impl FnOnce() -> Result<Sandbox, String> + Send + 'static,
    ) -> std::io::Result<Task> {
        // Linux shows 15 bytes of a thread's name.
        let thread = std::thread::Builder::new().name(format!("plugin-{name}")).spawn({
            let shared = Arc::clone(&shared);
            move || {
                let ended = match load() {
                    Ok(sandbox) => {
                        read_on(log, &work, sandbox, &shared);
                        RunState::Stopped
                    }
                    Err(reason) => RunState::Broken(reason),
                };
                *shared.state.lock() = ended;
            }
        })?;
        Ok(Task { shared, thread: Some(thread) })
    }

    /// What the thread tells.
    pub fn shared(&self) -> &Arc<Shared> {
        &self.shared
    }

    /// Asks the thread to stop; [`drop`] waits for it.
    pub fn ask_to_stop(&self) {
        self.shared.stop.store(true, Ordering::Release);
        if let Some(thread) = &self.thread {
            thread.thread().unpark();
        }
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.ask_to_stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("a plugin's thread had panicked");
        }
    }
}

fn read_on(log: Arc<EventLog>, work: &Work, mut sandbox: Sandbox, shared: &Shared) {
    let manifest = Arc::clone(sandbox.template().manifest());
    let mut reader = PluginReader::new(Arc::clone(&log), Arc::clone(&manifest), Arc::clone(&work.index));
    let visible = log.watch();
    let mut pause = BACKOFF_MIN;
    while !shared.stop.load(Ordering::Acquire) {
        let seen = *visible.borrow();
        reader.set_duties(&work.duties.read());
        let round = sandbox.start().and_then(|()| {
            // The first round may be a long one.
            started(shared);
            reader.round(&mut sandbox, &shared.counters, &shared.stop)
        });
        match round {
            Ok(worked) => {
                pause = BACKOFF_MIN;
                set(shared, if reader.is_paused() { RunState::Paused } else { RunState::Running });
                if !worked {
                    log.wait_visible_blocking(seen, IDLE_WAIT);
                }
            }
            Err(Fault::Stopped) => return,
            Err(fault) => {
                shared.counters.count_fault(&fault);
                tracing::error!(plugin = manifest.name, error = %fault, ?pause, "the plugin pauses");
                set(shared, RunState::BackingOff(fault.to_string()));
                std::thread::park_timeout(pause);
                pause = (pause * 2).min(BACKOFF_MAX);
            }
        }
    }
}

/// The guest is there. A failure before is shown until a round has gone well.
fn started(shared: &Shared) {
    let mut current = shared.state.lock();
    if *current == RunState::Starting {
        *current = RunState::Running;
    }
}

fn set(shared: &Shared, state: RunState) {
    let mut current = shared.state.lock();
    if *current != state {
        *current = state;
    }
}
