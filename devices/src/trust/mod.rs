//! By what a device knows its node: the SHA-256 of the node's certificate, pinned.

mod fingerprint;
mod pin;

pub use fingerprint::{Fingerprint, FingerprintError};
pub use pin::Pin;
