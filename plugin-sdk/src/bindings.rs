//! Generated from `wit/`; everything the `export!` macros need.
#![allow(unsafe_code, missing_docs, clippy::all)] // generated

wit_bindgen::generate!({
    path: "wit",
    world: "plugin",
    pub_export_macro: true,
    export_macro_name: "export_component",
    default_bindings_module: "edgeway_plugin::bindings",
    additional_derives: [PartialEq],
});

/// The world of guards.
pub mod command_guard {
    wit_bindgen::generate!({
        path: "wit",
        world: "command-guard",
        pub_export_macro: true,
        export_macro_name: "export_guard_component",
        default_bindings_module: "edgeway_plugin::bindings::command_guard",
        additional_derives: [PartialEq],
        with: {
            "edgeway:plugin/types@1.1.0": crate::bindings::edgeway::plugin::types,
            "edgeway:plugin/host@1.1.0": crate::bindings::edgeway::plugin::host,
        },
    });
}
