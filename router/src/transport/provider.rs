//! The one cryptography provider of the process.

use rustls::crypto::{CryptoProvider, aws_lc_rs};

/// Makes aws-lc-rs the process's provider, unless one is installed. Whoever builds a TLS configuration calls this
/// first: rustls picks no provider by itself where several crates ask for one.
pub fn install_provider() {
    if CryptoProvider::get_default().is_none() {
        // Another thread may have been first, with the same one.
        let _ = aws_lc_rs::default_provider().install_default();
    }
}
