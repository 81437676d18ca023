//! From bytes somebody sent to a plugin that can run, or the reason why not.

use std::sync::Arc;

use wasmtime::component::Component;

use super::DeployError;
use super::compiled::CompileCache;
use super::engine::Ticking;
use super::fault::{Fault, other_types};
use super::guard::{self, Kept};
use super::guest::WallClock;
use super::loops::{Edge, find_loop};
use super::manifest::{Manifest, TwinGrant};
use super::sandbox::{Sandbox, Template};
use super::state::{PendingState, Place, StateSource};

/// A component's file has at most this many bytes (Python's have 18 MB).
pub const WASM_BYTES_MAX: usize = 64 << 20;
/// What a component's file begins with.
const COMPONENT_MAGIC: &[u8] = b"\0asm\x0d\0\x01\0";
/// What a core module's file begins with.
const MODULE_MAGIC: &[u8] = b"\0asm\x01\0\0\0";
/// What the names of the interfaces between node and plugins begin with.
const INTERFACES: &str = "edgeway:plugin/";
/// Their version.
const INTERFACE_VERSION: &str = "1.1.0";
/// What the import begins with that needs the grant `state`.
const STATE_IMPORT: &str = "edgeway:plugin/state@1.";
/// What the import begins with that needs the grant `twins`.
const TWINS_IMPORT: &str = "edgeway:plugin/twins@1.";
/// What the import begins with that needs the grant `read_state`.
const PLUGIN_STATE_IMPORT: &str = "edgeway:plugin/plugin-state@1.";

/// Everything that makes templates of components.
pub struct Workshop {
    pub ticking: Arc<Ticking>,
    pub cache: CompileCache,
    pub now_ms: WallClock,
}

impl Workshop {
    /// Compiles a component, or takes it from the cache, and links it.
    ///
    /// # Errors
    /// The component is broken, of another world, or needs a grant it lacks.
    pub fn template(&self, wasm: &[u8], manifest: Manifest) -> Result<Template, DeployError> {
        let engine = self.ticking.engine();
        let component =
            self.cache.component(engine, wasm).map_err(|error| DeployError::Broken(error.root_cause().to_string()))?;
        let wants = |import| component.component_type().imports(engine).any(|(name, _)| name.starts_with(import));
        if wants(STATE_IMPORT) && !manifest.grants.state {
            return Err(DeployError::MissingGrant("it keeps state: set `grants.state = true`".to_owned()));
        }
        if wants(TWINS_IMPORT) && manifest.grants.twins == TwinGrant::None {
            return Err(DeployError::MissingGrant("it reads twins: set `grants.twins = \"read\"`".to_owned()));
        }
        let ticking = Arc::clone(&self.ticking);
        Template::new(ticking, &component, Arc::new(manifest), Arc::clone(&self.now_ms))
            .map_err(|error| self.misfit(&component, &error, DeployError::WrongWorld))
    }

    /// The same for a guard; `kept` is what other plugins keep.
    ///
    /// # Errors
    /// The component is broken, of another world, or needs a grant it lacks.
    pub fn guard_template(
        &self,
        wasm: &[u8],
        manifest: Arc<Manifest>,
        kept: Arc<dyn Kept>,
    ) -> Result<guard::Template, DeployError> {
        let engine = self.ticking.engine();
        let component =
            self.cache.component(engine, wasm).map_err(|error| DeployError::Broken(error.root_cause().to_string()))?;
        let reads = component.component_type().imports(engine).any(|(name, _)| name.starts_with(PLUGIN_STATE_IMPORT));
        if reads && manifest.grants.read_state.is_empty() {
            let text = "it reads the state of other plugins: name them in `grants.read_state`";
            return Err(DeployError::MissingGrant(text.to_owned()));
        }
        let ticking = Arc::clone(&self.ticking);
        guard::Template::new(ticking, &component, manifest, Arc::clone(&self.now_ms), kept)
            .map_err(|error| self.misfit(&component, &error, DeployError::NoGuard))
    }

    /// Why a component does not fit: it was built for another version of the interface, or is of another world.
    fn misfit(
        &self,
        component: &Component,
        error: &wasmtime::Error,
        other_world: impl FnOnce(String) -> DeployError,
    ) -> DeployError {
        let (of, engine) = (component.component_type(), self.ticking.engine());
        let names = of.imports(engine).map(|(name, _)| name.to_owned());
        let mut names = names.chain(of.exports(engine).map(|(name, _)| name.to_owned()));
        let version = names.find_map(|name| other_version(&name));
        let differs = version.map(|version| format!("it has {version}, this node has {INTERFACE_VERSION}"));
        match differs.or_else(|| other_types(error)) {
            Some(differs) => DeployError::OtherVersion(differs),
            None => other_world(format!("{error:#}")),
        }
    }
}

/// The version in the name of one of our interfaces, where it is not the node's.
fn other_version(name: &str) -> Option<String> {
    let (_, version) = name.strip_prefix(INTERFACES)?.split_once('@')?;
    (version != INTERFACE_VERSION).then(|| version.to_owned())
}

/// What can be said without compiling.
///
/// # Errors
/// Too large, a core module, or no Wasm at all.
pub fn check_bytes(wasm: &[u8]) -> Result<(), DeployError> {
    if wasm.len() > WASM_BYTES_MAX {
        return Err(DeployError::Broken(format!("it has {} bytes; {WASM_BYTES_MAX} can be", wasm.len())));
    }
    if wasm.starts_with(MODULE_MAGIC) {
        let text = "it is a core module; make it a component (`wasm-tools component new`, `cargo xtask build-plugins`)";
        return Err(DeployError::Broken(text.to_owned()));
    }
    if !wasm.starts_with(COMPONENT_MAGIC) {
        return Err(DeployError::Broken("it is not a WebAssembly component".to_owned()));
    }
    Ok(())
}

/// Whether a plugin would feed itself through others.
///
/// # Errors
/// Names the plugins of the circle.
pub fn check_loops<'a>(manifest: &'a Manifest, others: impl Iterator<Item = &'a Manifest>) -> Result<(), DeployError> {
    let edges: Vec<Edge<'_>> = std::iter::once(manifest)
        .chain(others)
        .map(|manifest| Edge { plugin: &manifest.name, reads: &manifest.topics, emits: &manifest.grants.emit })
        .collect();
    match find_loop(&edges) {
        Some(circle) => Err(DeployError::Loop(circle.join(" -> "))),
        None => Ok(()),
    }
}

/// No state, as `init` may not have any.
struct NoState;

impl StateSource for NoState {
    fn get(&self, _place: Place, _key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        Ok(None)
    }
}

/// Runs `init` once, so that wrong settings are told to who deploys.
///
/// # Errors
/// What the plugin says, or how it failed.
pub fn try_start(template: &Arc<Template>) -> Result<(), DeployError> {
    let mut sandbox = Sandbox::new(Arc::clone(template), PendingState::new(Arc::new(NoState)));
    sandbox.start().map_err(not_started)
}

/// What is told to who deploys a plugin that does not start.
pub fn not_started(fault: Fault) -> DeployError {
    match fault {
        Fault::Start(reason) => DeployError::Init(reason),
        Fault::Interface(types) => DeployError::OtherVersion(types),
        other => DeployError::Init(other.to_string()),
    }
}
