//! Generated from the contract, `plugin-sdk/wit`: the world of guards. What it has
//! in common with that of other plugins is taken from there.
#![allow(missing_docs, clippy::all)] // generated

wasmtime::component::bindgen!({
    path: "../plugin-sdk/wit",
    world: "command-guard",
    ownership: Borrowing { duplicate_if_necessary: true },
    imports: { default: trappable },
    with: {
        "edgeway:plugin/types": crate::plugin_host::bindings::edgeway::plugin::types,
        "edgeway:plugin/host": crate::plugin_host::bindings::edgeway::plugin::host,
    },
});
