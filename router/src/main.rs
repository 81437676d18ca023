//! The one binary: what was typed becomes what the node does.

fn main() {}
