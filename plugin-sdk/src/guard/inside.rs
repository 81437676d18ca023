//! The guard inside the node: the host's imports, the instance, panics.

use std::cell::RefCell;

use super::{AskedCommand, Guard, GuardHost, Verdict};
use crate::bindings::command_guard::edgeway::plugin::plugin_state;
use crate::bindings::edgeway::plugin::host;
use crate::{Config, Level, Setting};

/// The node, reached through the component's imports.
pub struct NodeGuardHost;

impl GuardHost for NodeGuardHost {
    fn log(&mut self, level: Level, text: &str) {
        host::log(level, text);
    }

    fn now_ms(&mut self) -> i64 {
        host::now_ms()
    }

    fn kept(&mut self, plugin: &str, key: &[u8]) -> Vec<Vec<u8>> {
        plugin_state::read(plugin, key)
    }
}

/// Holds the one instance of a guard in its component.
pub struct Slot<G>(RefCell<Option<G>>);

impl<G: Guard> Slot<G> {
    /// Empty until `init`.
    #[must_use]
    pub const fn empty() -> Slot<G> {
        Slot(RefCell::new(None))
    }

    /// Makes the instance.
    ///
    /// # Errors
    /// The guard's own.
    pub fn init(&self, settings: Vec<Setting>) -> Result<(), String> {
        // The node sees a panic as a bare trap; its text is lost unless logged.
        std::panic::set_hook(Box::new(|panic| {
            host::log(Level::Error, &panic.to_string());
        }));
        let guard = G::init(&Config::from(settings))?;
        self.0.replace(Some(guard));
        Ok(())
    }

    /// Asks the instance.
    pub fn judge(&self, command: &AskedCommand) -> Verdict {
        match self.0.borrow_mut().as_mut() {
            Some(guard) => guard.judge(command, &mut NodeGuardHost),
            None => Verdict::Deny("`judge` was called before `init`".into()),
        }
    }
}

/// Makes a type that implements [`Guard`] the component's guard. Once per crate,
/// and not beside `export!`.
#[macro_export]
macro_rules! export_guard {
    ($guard:ty) => {
        const _: () = {
            use $crate::bindings::command_guard::exports::edgeway::plugin::guard;

            struct Component;

            ::std::thread_local! {
                static SLOT: $crate::guard::Slot<$guard> = const { $crate::guard::Slot::empty() };
            }

            impl guard::Guest for Component {
                fn init(config: ::std::vec::Vec<$crate::Setting>) -> Result<(), String> {
                    SLOT.with(|slot| slot.init(config))
                }

                fn judge(command: $crate::guard::AskedCommand) -> $crate::guard::Verdict {
                    SLOT.with(|slot| slot.judge(&command))
                }
            }

            // Native linkers refuse the exports' names; there, the functions
            // are only named, so that they count as used.
            #[cfg(not(target_arch = "wasm32"))]
            let _ = (<Component as guard::Guest>::init, <Component as guard::Guest>::judge);
            #[cfg(target_arch = "wasm32")]
            $crate::bindings::command_guard::export_guard_component!(
                Component with_types_in $crate::bindings::command_guard
            );
        };
    };
}
