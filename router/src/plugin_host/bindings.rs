//! Generated from the contract, `plugin-sdk/wit`.
//!
//! What goes to the guest is borrowed, so that a batch is lowered straight from
//! the stored records; what comes back is owned.
#![allow(missing_docs, clippy::all)] // generated

wasmtime::component::bindgen!({
    path: "../plugin-sdk/wit",
    world: "plugin",
    ownership: Borrowing { duplicate_if_necessary: true },
    imports: { default: trappable },
});
