//! Generated from `wit/plugin.wit`; everything the `export!` macro needs.
#![allow(unsafe_code, missing_docs, clippy::all)] // generated

wit_bindgen::generate!({
    path: "wit",
    world: "plugin",
    pub_export_macro: true,
    export_macro_name: "export_component",
    default_bindings_module: "edgeway_plugin::bindings",
    additional_derives: [PartialEq],
});
