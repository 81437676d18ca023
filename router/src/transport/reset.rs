//! How a node that was restarted tells its clients that it knows their connections no more.
//!
//! A packet of an unknown connection is answered by a stateless reset (RFC 9000 section 10.3). A client believes it
//! when its token is the one that it was told, which is a function of the connection's id and a secret. Here the
//! secret comes from the node's private key, so that it outlives the process: clients connect again at once instead of
//! waiting until their connection is taken for dead.

use std::sync::Arc;
use std::time::Duration;

use quinn::EndpointConfig;
use quinn::crypto::{CryptoError, HmacKey};
use quinn_proto::HashedConnectionIdGenerator;
use rustls::pki_types::PrivateKeyDer;
use sha2::{Digest, Sha256};

/// Bytes of a block of SHA-256, to which HMAC fills its key.
const BLOCK_BYTES: usize = 64;
/// The shortest time between two resets. 5,000 clients learn of a restart within a second, and noise is not answered
/// faster.
const RESETS_APART: Duration = Duration::from_micros(200);

/// HMAC-SHA-256 (RFC 2104) under a secret of the node's.
struct ResetKey([u8; BLOCK_BYTES]);

impl ResetKey {
    fn new(secret: [u8; 32]) -> Self {
        let mut key = [0; BLOCK_BYTES];
        key[..secret.len()].copy_from_slice(&secret);
        Self(key)
    }

    fn digest(&self, data: &[u8]) -> [u8; 32] {
        let inner = Sha256::new().chain_update(self.0.map(|byte| byte ^ 0x36)).chain_update(data).finalize();
        Sha256::new().chain_update(self.0.map(|byte| byte ^ 0x5c)).chain_update(inner).finalize().into()
    }
}

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        signature_out.copy_from_slice(&self.digest(data));
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        if self.digest(data) == signature { Ok(()) } else { Err(CryptoError) }
    }
}

/// An endpoint's settings that are the same whenever the node starts with this key.
pub(super) fn lasting(key: &PrivateKeyDer<'_>) -> EndpointConfig {
    let secret = |purpose: &[u8]| -> [u8; 32] {
        Sha256::new().chain_update(purpose).chain_update(key.secret_der()).finalize().into()
    };
    let mut config = EndpointConfig::new(Arc::new(ResetKey::new(secret(b"edgeway: stateless resets"))));
    let ids = secret(b"edgeway: connection ids");
    let ids = ids.iter().take(8).fold(0, |key, byte| key << 8 | u64::from(*byte));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids))).min_reset_interval(RESETS_APART);
    config
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_the_hmac_of_the_standard() {
        // RFC 4231, test case 2.
        let mut key = [0; 32];
        key[..4].copy_from_slice(b"Jefe");
        let digest = ResetKey::new(key).digest(b"what do ya want for nothing?");
        let text: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(text, "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
    }
}
