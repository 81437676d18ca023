//! The hostile guest of the tests, and what it takes to run a guest in one.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;
use sled_data::HeadersRef;
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

use super::batch::{Batch, EventRef};
use super::engine::Ticking;
use super::manifest::Manifest;
use super::sandbox::{Sandbox, Template};
use super::state::{PendingState, Place, StateSource};

/// What the hostile guest is granted.
pub const MANIFEST: &str = "
name = 'hostile'
topics = ['in']
[grants]
emit = ['out']
commands = ['cool']
state = true
twins = 'set'
[limits]
call_ms = 50
memory_mib = 8
";

/// `test_guest.wat` as a component.
pub fn hostile() -> Vec<u8> {
    let mut module = wat::parse_str(include_str!("test_guest.wat")).unwrap();
    let mut resolve = wit_parser::Resolve::default();
    let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugin-sdk/wit");
    let (package, _) = resolve.push_path(wit).unwrap();
    let world = resolve.select_world(&[package], Some("plugin")).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    let mut encoder = ComponentEncoder::default();
    encoder.module(&module).unwrap().validate(true).encode().unwrap()
}

/// State in memory.
#[derive(Default)]
struct MemoryState(Mutex<Values>);

type Values = BTreeMap<(Place, Vec<u8>), Vec<u8>>;

impl StateSource for MemoryState {
    fn get(&self, place: Place, key: &[u8]) -> Result<Option<Vec<u8>>, String> {
        Ok(self.0.lock().get(&(place, key.to_vec())).cloned())
    }
}

/// A sandbox for a component, with state in memory.
pub fn sandbox(wasm: &[u8], manifest: &str) -> Sandbox {
    let ticking = Arc::new(Ticking::start().unwrap());
    let component = wasmtime::component::Component::from_binary(ticking.engine(), wasm).unwrap();
    let manifest = Arc::new(Manifest::parse(manifest).unwrap());
    let now_ms = Arc::new(|| 1_000_000);
    let template = Template::new(ticking, &component, manifest, now_ms).unwrap();
    Sandbox::new(Arc::new(template), PendingState::new(Arc::new(MemoryState::default())))
}

/// Events with these values, from offset 100.
pub fn events<'a>(values: &[&'a str]) -> Vec<EventRef<'a>> {
    let numbered = (100u64..).zip(values);
    let event = |(offset, value): (u64, &&'a str)| EventRef {
        offset,
        timestamp_ms: 0,
        key: Some(b"pump"),
        value: Some(value.as_bytes()),
        headers: HeadersRef::EMPTY,
        is_late: false,
    };
    numbered.map(event).collect()
}

/// A batch of topic `in`, partition 2.
pub fn batch<'a>(events: &'a [EventRef<'a>]) -> Batch<'a> {
    Batch { topic: "in", partition: 2, origin: 1, term: 0, state_of: None, doubt: None, events }
}
