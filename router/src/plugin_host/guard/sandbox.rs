//! One guard in its sandbox: makes an instance, asks it, throws it away when it fails.

use std::sync::Arc;
use std::time::{Duration, Instant};

use wasmtime::Store;
use wasmtime::component::{Component, HasSelf, Linker};

use super::answer::Answer;
use super::bindings::edgeway::plugin::plugin_state;
use super::bindings::exports::edgeway::plugin::guard::AskedCommand;
use super::bindings::{CommandGuard, CommandGuardPre};
use super::guest::GuardGuest;
use super::kept::Kept;
use crate::plugin_host::bindings::edgeway::plugin::host;
use crate::plugin_host::bindings::edgeway::plugin::types::Setting;
use crate::plugin_host::engine::{TICK_MS, Ticking};
use crate::plugin_host::fault::{Fault, other_types};
use crate::plugin_host::guest::{Guest, MemoryBound, WallClock};
use crate::plugin_host::manifest::Manifest;
use crate::plugin_host::sandbox::explain;
use crate::security::Asked;

/// Everything instances of one guard are made from.
pub struct Template {
    ticking: Arc<Ticking>,
    code: CommandGuardPre<GuardGuest>,
    plugin: Arc<str>,
    settings: Arc<[(String, String)]>,
    may_read: Arc<[String]>,
    now_ms: WallClock,
    kept: Arc<dyn Kept>,
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
        kept: Arc<dyn Kept>,
    ) -> wasmtime::Result<Template> {
        let mut linker = Linker::new(ticking.engine());
        host::add_to_linker::<GuardGuest, HasSelf<Guest>>(&mut linker, |guest| &mut guest.base)?;
        plugin_state::add_to_linker::<GuardGuest, HasSelf<GuardGuest>>(&mut linker, |guest| guest)?;
        let code = CommandGuardPre::new(linker.instantiate_pre(component)?)?;
        let settings = manifest.settings();
        Ok(Template {
            code,
            ticking,
            plugin: manifest.name.as_str().into(),
            settings: settings.filter_map(|(name, value)| Some((name.to_owned(), value?))).collect(),
            may_read: manifest.grants.read_state.as_slice().into(),
            now_ms,
            kept,
            manifest,
        })
    }

    fn guest(&self) -> GuardGuest {
        let base = Guest {
            plugin: Arc::clone(&self.plugin),
            settings: Arc::clone(&self.settings),
            state: None,
            twins: None,
            starting: true,
            now_ms: Arc::clone(&self.now_ms),
            memory: MemoryBound::new(self.manifest.limits.memory_mib as usize * (1 << 20)),
            last_error: None,
            store_error: None,
            log_lines: 0,
        };
        GuardGuest { base, may_read: Arc::clone(&self.may_read), kept: Arc::clone(&self.kept) }
    }
}

struct Live {
    store: Store<GuardGuest>,
    instance: CommandGuard,
}

/// A guard that can be asked.
pub struct Sandbox {
    template: Arc<Template>,
    live: Option<Live>,
}

impl Sandbox {
    /// Nothing runs until the first call.
    #[must_use]
    pub fn new(template: Arc<Template>) -> Sandbox {
        Sandbox { template, live: None }
    }

    /// Makes an instance, unless there is one.
    ///
    /// # Errors
    /// [`Fault::Start`]; it may be tried again.
    pub fn start(&mut self, until: Instant) -> Result<(), Fault> {
        if self.live.is_none() {
            self.live = Some(self.instantiate(until)?);
        }
        Ok(())
    }

    fn instantiate(&self, until: Instant) -> Result<Live, Fault> {
        let template = &*self.template;
        let limits = &template.manifest.limits;
        let mut store = Store::new(template.ticking.engine(), template.guest());
        store.limiter(|guest| &mut guest.base.memory);
        store.set_hostcall_fuel(limits.output_kib as usize * 1024);
        store.set_epoch_deadline(ticks(until));
        let settings: Vec<Setting<'_>> =
            template.settings.iter().map(|(name, value)| Setting { name, value }).collect();
        let running = template.ticking.running();
        let started = template.code.instantiate(&mut store).and_then(|instance| {
            let answer = instance.edgeway_plugin_guard().call_init(&mut store, &settings)?;
            Ok((instance, answer))
        });
        drop(running);
        match started {
            Ok((instance, Ok(()))) => {
                store.data_mut().base.starting = false;
                Ok(Live { store, instance })
            }
            Ok((_, Err(reason))) => Err(Fault::Start(reason)),
            Err(error) => Err(match other_types(&error) {
                Some(types) => Fault::Interface(types),
                None => Fault::Start(explain(&error, &store.data().base, limits).to_string()),
            }),
        }
    }

    /// Asks about a command, with its payload as guards before this one left it.
    ///
    /// # Errors
    /// [`Fault`]; the instance is gone then, and the next call makes a new one.
    pub fn judge(&mut self, asked: &Asked, payload: &[u8], until: Instant) -> Result<Answer, Fault> {
        self.start(until)?;
        let Some(live) = &mut self.live else {
            return Err(Fault::Start("no instance".into()));
        };
        let template = &*self.template;
        live.store.data_mut().base.begin_call();
        live.store.set_epoch_deadline(ticks(until));
        let id = asked.id.to_string();
        let command = AskedCommand {
            id: &id,
            device: &asked.device,
            name: &asked.name,
            payload,
            issued_by: &asked.issued_by,
            urgent: asked.urgent,
        };
        let running = template.ticking.running();
        let verdict = live.instance.edgeway_plugin_guard().call_judge(&mut live.store, command);
        drop(running);
        let fault = match verdict {
            Ok(verdict) => match Answer::of(verdict) {
                Ok(answer) => return Ok(answer),
                Err(bytes) => Fault::Denied(format!(
                    "it gives a payload of {bytes} bytes; {} can be",
                    devices::command::PAYLOAD_BYTES_MAX
                )),
            },
            Err(error) => explain(&error, &live.store.data().base, &template.manifest.limits),
        };
        self.live = None;
        Err(fault)
    }
}

/// Ticks of the engine until then; one more, as the first may come at once.
fn ticks(until: Instant) -> u64 {
    let left = until.saturating_duration_since(Instant::now());
    let ticks = left.as_nanos().div_ceil(Duration::from_millis(u64::from(TICK_MS)).as_nanos());
    u64::try_from(ticks).unwrap_or(u64::MAX) + 1
}
