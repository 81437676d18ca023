//! TLS over TCP with the node's certificate.

use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs::Ticketer;

use super::{Identity, install_provider};

/// How TLS 1.3 is spoken with clients. Sessions may be resumed; no data is taken before the handshake has ended.
///
/// # Errors
/// When key and certificate cannot be used together.
pub fn tls_server(identity: &Identity) -> Result<Arc<ServerConfig>, rustls::Error> {
    install_provider();
    let mut tls = ServerConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .with_no_client_auth()
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())?;
    tls.ticketer = Ticketer::new()?;
    tls.max_early_data_size = 0;
    Ok(Arc::new(tls))
}
