//! `cargo xtask demo|test|bench|build-plugins`.

fn main() {}
