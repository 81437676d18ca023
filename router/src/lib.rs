//! The node: a library and the one binary, `edgeway`.
pub mod mqtt;
