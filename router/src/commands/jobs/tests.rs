//! Jobs by table, by chance, and in the room on a memory store.
#![allow(clippy::unwrap_used)]

mod chance;
mod one;
mod room;
