//! One plugin in its sandbox: makes instances, calls them, throws them away.

use std::sync::Arc;

use parking_lot::Mutex;
use wasmtime::component::{Component, HasSelf, Linker};
use wasmtime::{Store, Trap};

use super::batch::Batch;
use super::bindings::edgeway::plugin::types::{Action, Batch as GuestBatch, Event, HeaderParam, Setting};
use super::bindings::{Plugin, PluginPre};
use super::engine::{TICK_MS, Ticking};
use super::fault::{Fault, other_types};
use super::guest::{Guest, MemoryBound, WallClock};
use super::manifest::{Limits, Manifest, TwinGrant};
use super::state::PendingState;

/// Everything instances of one plugin are made from.
pub struct Template {
    ticking: Arc<Ticking>,
    code: PluginPre<Guest>,
    plugin: Arc<str>,
    settings: Arc<[(String, String)]>,
    now_ms: WallClock,
    manifest: Arc<Manifest>,
}

impl Template {
    /// Links a component to the contract.
    ///
    /// # Errors
    /// The component asks for what the contract does not have, or lacks what it
    /// asks for.
    pub fn new(
        ticking: Arc<Ticking>,
        component: &Component,
        manifest: Arc<Manifest>,
        now_ms: WallClock,
    ) -> wasmtime::Result<Template> {
        let mut linker = Linker::new(ticking.engine());
        Plugin::add_to_linker::<Guest, HasSelf<Guest>>(&mut linker, |guest| guest)?;
        let code = PluginPre::new(linker.instantiate_pre(component)?)?;
        let settings = manifest.settings();
        Ok(Template {
            code,
            ticking,
            plugin: manifest.name.as_str().into(),
            settings: settings.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect(),
            now_ms,
            manifest,
        })
    }

    /// The plugin's manifest.
    #[must_use]
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// The plugin's name.
    #[must_use]
    pub fn plugin(&self) -> &Arc<str> {
        &self.plugin
    }

    /// Now, in ms since 1970-01-01 UTC.
    #[must_use]
    pub fn now_ms(&self) -> i64 {
        (self.now_ms)()
    }

    fn deadline_ticks(&self) -> u64 {
        // One more, as the first tick may come at once.
        u64::from(self.manifest.limits.call_ms.div_ceil(TICK_MS)) + 1
    }

    fn output_bytes_max(&self) -> usize {
        self.manifest.limits.output_kib as usize * 1024
    }
}

struct Live {
    store: Store<Guest>,
    instance: Plugin,
}

/// A plugin that can be called.
pub struct Sandbox {
    template: Arc<Template>,
    state: Arc<Mutex<PendingState>>,
    live: Option<Live>,
}

impl Sandbox {
    /// Nothing runs until the first call.
    #[must_use]
    pub fn new(template: Arc<Template>, state: PendingState) -> Sandbox {
        Sandbox { template, state: Arc::new(Mutex::new(state)), live: None }
    }

    /// What instances are made from.
    #[must_use]
    pub fn template(&self) -> &Arc<Template> {
        &self.template
    }

    /// The plugin's state between commits.
    #[must_use]
    pub fn state(&self) -> &Mutex<PendingState> {
        &self.state
    }

    /// Throws the instance and the running call's writes away.
    pub fn discard(&mut self) {
        self.live = None;
        self.state.lock().drop_call();
    }

    /// Makes an instance, unless there is one.
    ///
    /// # Errors
    /// [`Fault::Start`].
    pub fn start(&mut self) -> Result<(), Fault> {
        if self.live.is_none() {
            self.live = Some(self.instantiate()?);
        }
        Ok(())
    }

    fn instantiate(&self) -> Result<Live, Fault> {
        let template = &*self.template;
        let limits = &template.manifest.limits;
        let guest = Guest {
            plugin: Arc::clone(&template.plugin),
            settings: Arc::clone(&template.settings),
            state: template.manifest.grants.state.then(|| Arc::clone(&self.state)),
            twins: (template.manifest.grants.twins != TwinGrant::None).then(|| Arc::clone(&self.state)),
            starting: true,
            now_ms: Arc::clone(&template.now_ms),
            memory: MemoryBound::new(limits.memory_mib as usize * (1 << 20)),
            last_error: None,
            store_error: None,
            log_lines: 0,
        };
        let mut store = Store::new(template.ticking.engine(), guest);
        store.limiter(|guest| &mut guest.memory);
        store.set_hostcall_fuel(template.output_bytes_max());
        store.set_epoch_deadline(template.deadline_ticks());
        let settings: Vec<Setting<'_>> =
            template.settings.iter().map(|(name, value)| Setting { name, value }).collect();
        let running = template.ticking.running();
        let started = template.code.instantiate(&mut store).and_then(|instance| {
            let answer = instance.edgeway_plugin_consumer().call_init(&mut store, &settings)?;
            Ok((instance, answer))
        });
        drop(running);
        match started {
            Ok((instance, Ok(()))) => {
                store.data_mut().starting = false;
                Ok(Live { store, instance })
            }
            Ok((_, Err(reason))) => Err(Fault::Start(reason)),
            Err(error) => Err(match other_types(&error) {
                Some(types) => Fault::Interface(types),
                None => Fault::Start(explain(&error, store.data(), limits).to_string()),
            }),
        }
    }

    /// Gives the guest a batch. State writes of the call are neither accepted
    /// nor dropped: the caller judges the answer first.
    ///
    /// # Errors
    /// [`Fault`]; the instance is gone then, and so are the call's writes.
    pub fn call(&mut self, batch: &Batch<'_>) -> Result<Vec<Action>, Fault> {
        self.start()?;
        let Some(live) = &mut self.live else {
            return Err(Fault::Start("no instance".into()));
        };
        let template = &*self.template;
        self.state.lock().begin_call(batch.place());
        live.store.data_mut().begin_call();
        live.store.set_epoch_deadline(template.deadline_ticks());
        let headers = headers(batch, template.manifest.grants.headers);
        let events = events(batch, &headers);
        let guest_batch =
            GuestBatch { topic: batch.topic, partition: batch.partition, origin: batch.origin, events: &events };
        let running = template.ticking.running();
        let consumer = live.instance.edgeway_plugin_consumer();
        let answer = consumer.call_process(&mut live.store, guest_batch);
        drop(running);
        let fault = match answer {
            Ok(Ok(actions)) => return Ok(actions),
            Ok(Err(reason)) => Fault::Failed(reason),
            Err(error) => explain(&error, live.store.data(), &template.manifest.limits),
        };
        self.discard();
        Err(fault)
    }
}

/// All headers of the batch, one event's after the other's.
fn headers<'a>(batch: &Batch<'a>, granted: bool) -> Vec<HeaderParam<'a>> {
    if !granted {
        return Vec::new();
    }
    let headers = batch.events.iter().flat_map(super::batch::EventRef::shown_headers);
    headers.map(|(name, value)| HeaderParam { name, value }).collect()
}

fn events<'a>(batch: &Batch<'a>, headers: &'a [HeaderParam<'a>]) -> Vec<Event<'a>> {
    let mut rest = headers;
    let mut own = |event: &super::batch::EventRef<'_>| {
        let count = if rest.is_empty() { 0 } else { event.shown_headers().count() };
        let (own, after) = rest.split_at_checked(count).unwrap_or((&[], rest));
        rest = after;
        own
    };
    batch
        .events
        .iter()
        .map(|event| Event {
            offset: event.offset,
            timestamp_ms: event.timestamp_ms,
            key: event.key,
            value: event.value.unwrap_or_default(),
            headers: own(event),
        })
        .collect()
}

/// What a failed call means.
pub fn explain(error: &wasmtime::Error, guest: &Guest, limits: &Limits) -> Fault {
    if let Some(error) = &guest.store_error {
        return Fault::Store(error.clone());
    }
    let trap = error.downcast_ref::<Trap>();
    if trap == Some(&Trap::Interrupt) {
        return Fault::Deadline(limits.call_ms);
    }
    let mut text = match trap {
        Some(trap) => trap.to_string(),
        None => error.root_cause().to_string(),
    };
    if let Some(said) = &guest.last_error {
        text = format!("{text}: {said}");
    }
    if guest.memory.refused {
        return Fault::Memory(limits.memory_mib, text);
    }
    Fault::Trap(text)
}
