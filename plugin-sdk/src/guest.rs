//! The plugin inside the node: the host's imports, the instance, panics.

use std::cell::RefCell;

use crate::bindings::edgeway::plugin::{host, state, twins};
use crate::{Action, Batch, Config, Host, Level, Plugin, Setting};

/// The node, reached through the component's imports.
pub struct NodeHost;

impl Host for NodeHost {
    fn log(&mut self, level: Level, text: &str) {
        host::log(level, text);
    }

    fn now_ms(&mut self) -> i64 {
        host::now_ms()
    }

    fn state_get(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        state::get(key)
    }

    fn state_set(&mut self, key: &[u8], value: &[u8]) {
        state::set(key, value);
    }

    fn state_delete(&mut self, key: &[u8]) {
        state::delete(key);
    }

    fn twin_reported(&mut self, device: &str) -> Option<String> {
        twins::reported(device)
    }

    fn twin_desired(&mut self, device: &str) -> Option<String> {
        twins::desired(device)
    }
}

/// Holds the one instance of a plugin in its component.
pub struct Slot<P>(RefCell<Option<P>>);

impl<P: Plugin> Slot<P> {
    /// Empty until `init`.
    #[must_use]
    pub const fn empty() -> Slot<P> {
        Slot(RefCell::new(None))
    }

    /// Makes the instance.
    ///
    /// # Errors
    /// The plugin's own.
    pub fn init(&self, settings: Vec<Setting>) -> Result<(), String> {
        // The node sees a panic as a bare trap; its text is lost unless logged.
        std::panic::set_hook(Box::new(|panic| {
            host::log(Level::Error, &panic.to_string());
        }));
        let plugin = P::init(&Config::from(settings))?;
        self.0.replace(Some(plugin));
        Ok(())
    }

    /// Gives the instance a batch.
    ///
    /// # Errors
    /// The plugin's own, or that `init` was not called.
    pub fn process(&self, batch: &Batch) -> Result<Vec<Action>, String> {
        match self.0.borrow_mut().as_mut() {
            Some(plugin) => plugin.process(batch, &mut NodeHost),
            None => Err("`process` was called before `init`".into()),
        }
    }
}

/// Makes a type that implements [`Plugin`] the component's plugin. Once per
/// crate.
#[macro_export]
macro_rules! export {
    ($plugin:ty) => {
        const _: () = {
            use $crate::bindings::exports::edgeway::plugin::consumer;

            struct Component;

            ::std::thread_local! {
                static SLOT: $crate::Slot<$plugin> = const { $crate::Slot::empty() };
            }

            impl consumer::Guest for Component {
                fn init(config: ::std::vec::Vec<$crate::Setting>) -> Result<(), String> {
                    SLOT.with(|slot| slot.init(config))
                }

                fn process(batch: $crate::Batch) -> Result<::std::vec::Vec<$crate::Action>, String> {
                    SLOT.with(|slot| slot.process(&batch))
                }
            }

            // Native linkers refuse the exports' names; there, the functions
            // are only named, so that they count as used.
            #[cfg(not(target_arch = "wasm32"))]
            let _ = (<Component as consumer::Guest>::init, <Component as consumer::Guest>::process);
            #[cfg(target_arch = "wasm32")]
    $crate::bindings::export_component!(Component with_types_in $crate::bindings);
        };
    };
}
