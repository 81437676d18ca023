//! The one Wasm engine of the process, and the clock that ends long calls.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use wasmtime::{Config, Engine};

/// How often running calls are looked at.
pub const TICK_MS: u32 = 10;
/// Stack of a guest, in bytes.
const STACK_BYTES_MAX: usize = 512 << 10;

/// The engine with its ticking thread. The thread sleeps while no guest runs.
pub struct Ticking {
    engine: Engine,
    beat: Arc<Beat>,
    thread: Option<JoinHandle<()>>,
}

struct Beat {
    running: AtomicUsize,
    stop: AtomicBool,
}

/// While it lives, time passes for guests.
pub struct Running<'a>(&'a Beat);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Ticking {
    /// Makes the engine.
    ///
    /// # Errors
    /// What the engine or the system says; not to be expected.
    pub fn start() -> Result<Ticking, wasmtime::Error> {
        let engine = Engine::new(&config())?;
        let beat = Arc::new(Beat { running: AtomicUsize::new(0), stop: AtomicBool::new(false) });
        let thread = std::thread::Builder::new().name("plugin-tick".into()).spawn({
            let (engine, beat) = (engine.clone(), Arc::clone(&beat));
            move || tick(&engine, &beat)
        })?;
        Ok(Ticking { engine, beat, thread: Some(thread) })
    }

    /// The engine itself.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// To be held during a call of a guest.
    #[must_use]
    pub fn running(&self) -> Running<'_> {
        if self.beat.running.fetch_add(1, Ordering::AcqRel) == 0
            && let Some(thread) = &self.thread
        {
            thread.thread().unpark();
        }
        Running(&self.beat)
    }
}

impl Drop for Ticking {
    fn drop(&mut self) {
        self.beat.stop.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join(); // it does not panic, and there is nothing to save
        }
    }
}

fn tick(engine: &Engine, beat: &Beat) {
    while !beat.stop.load(Ordering::Acquire) {
        if beat.running.load(Ordering::Acquire) == 0 {
            // A call that begins between the look and the parking has left its
            // token, and park returns at once.
            std::thread::park();
        } else {
            std::thread::sleep(Duration::from_millis(u64::from(TICK_MS)));
            engine.increment_epoch();
        }
    }
}

fn config() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(STACK_BYTES_MAX)
        .memory_reservation(4 << 30);
    config
}
