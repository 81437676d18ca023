//! Nothing here but the tests: see `main.rs`.
