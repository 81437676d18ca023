//! The hostile guard of the tests.

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};

/// What the hostile guard is deployed with.
pub const MANIFEST: &str = "
name = 'hostile-guard'
kind = 'command-guard'
commands = ['open*']
[grants]
read_state = ['hostile']
[limits]
call_ms = 250
memory_mib = 8
";

/// `test_guard.wat` as a component.
pub fn hostile() -> Vec<u8> {
    let mut module = wat::parse_str(include_str!("test_guard.wat")).unwrap();
    let mut resolve = wit_parser::Resolve::default();
    let wit = concat!(env!("CARGO_MANIFEST_DIR"), "/../plugin-sdk/wit");
    let (package, _) = resolve.push_path(wit).unwrap();
    let world = resolve.select_world(&[package], Some("command-guard")).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    let mut encoder = ComponentEncoder::default();
    encoder.module(&module).unwrap().validate(true).encode().unwrap()
}
