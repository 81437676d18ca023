//! Plugins to deploy: the shipped ones where they are built, and a hostile one.

use std::path::PathBuf;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

use super::binary;
use super::http::Answer;
use super::node::Node;
use super::skip::skipped;

/// The bytes of a shipped plugin's component, built by `cargo xtask build-plugins`; where it is absent the check is
/// told to be skipped.
pub fn shipped(name: &str, check: &str) -> Option<Vec<u8>> {
    let folder = std::env::var_os("EDGEWAY_PLUGINS").map(PathBuf::from);
    let folder = folder.unwrap_or_else(|| binary::root().join("target/plugins"));
    let bytes = std::fs::read(folder.join(format!("{name}.wasm"))).ok();
    if bytes.is_none() {
        skipped(check, "the component is not built; `cargo xtask build-plugins` builds it");
    }
    bytes
}

/// A component that does harm when the first byte of an event's value tells it to, and forwards other events to `out`.
pub fn hostile() -> Vec<u8> {
    component("router/src/plugin_host/test_guest.wat", "plugin")
}

/// A guard of commands that does what the first byte of a command's payload tells it to, and allows others.
pub fn hostile_guard() -> Vec<u8> {
    component("router/src/plugin_host/guard/test_guard.wat", "command-guard")
}

/// A hand-written module as a component of a world of the contract.
fn component(module: &str, world: &str) -> Vec<u8> {
    let mut module = wat::parse_file(binary::root().join(module)).unwrap();
    let mut resolve = wit_parser::Resolve::default();
    let (package, _) = resolve.push_path(binary::root().join("plugin-sdk/wit")).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    let mut encoder = ComponentEncoder::default();
    encoder.module(&module).unwrap().validate(true).encode().unwrap()
}

/// The manifest of the hostile plugin, reading `source`.
pub fn hostile_manifest(source: &str) -> String {
    format!(
        "name = 'hostile'\ntopics = ['{source}']\nfrom = 'start'\n\
         [grants]\nemit = ['out']\ncommands = ['cool']\nstate = true\ntwins = 'set'\n\
         [limits]\ncall_ms = 100\nmemory_mib = 16\n"
    )
}

/// The manifest of the hostile guard.
pub fn hostile_guard_manifest() -> &'static str {
    "name = 'hostile-guard'\nkind = 'command-guard'\ncommands = ['open*']\n\
     [grants]\nread_state = ['hostile']\n[limits]\nmemory_mib = 8\n"
}

impl Node {
    /// Deploys a component with a manifest.
    pub fn deploy(&self, component: &[u8], manifest: &str) -> Answer {
        let wasm = STANDARD.encode(component);
        self.call("POST", "plugins", Some(&json!({"manifest": manifest, "wasm_base64": wasm})))
    }

    /// The deployed plugins.
    pub fn plugins(&self) -> Vec<Value> {
        self.get("plugins").ok().json()["plugins"].as_array().unwrap().clone()
    }
}
