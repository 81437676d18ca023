//! A site is let in: it has a token, makes a key, and is given a certificate.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::KeyPair;
use rustls::pki_types::PrivateKeyDer;

use super::dial::{Shown, Upstream, certificate, text};
use super::wire::{self, ANSWER_WAIT, Invitation, PROTOCOL, Request};

/// What is spoken while a site joins.
const ALPN: &[u8] = b"edgeway-link-join/1";
/// What every token begins with.
const TOKEN: &str = "edgeway-link-1.";
/// What a token holds before its secret: the site's id and the fingerprint of its CA.
const BEFORE_SECRET_BYTES: usize = 8 + 32;
/// How often it is tried, and how long it waits in between.
const TRIES_MAX: u32 = 200;
const TRY_EVERY: Duration = Duration::from_millis(250);

/// A site that has joined, and how often it was sent away before.
#[derive(Debug)]
pub struct Joined {
    pub shown: Shown,
    pub refused: u64,
}

/// The secret of a token.
pub fn secret(token: &str) -> Result<[u8; 32], String> {
    let wrong = || format!("{token} is no token of a link");
    let coded = token.trim().strip_prefix(TOKEN).ok_or_else(wrong)?;
    let bytes = URL_SAFE_NO_PAD.decode(coded).map_err(|_| wrong())?;
    let secret = bytes.get(BEFORE_SECRET_BYTES..).and_then(|rest| rest.first_chunk::<32>());
    secret.copied().ok_or_else(wrong)
}

/// Accepts an invitation for the node `name` of a site, and tries again where it is sent away.
pub async fn join(upstream: &Upstream, token: &str, site: u64, name: &str) -> Result<Joined, String> {
    let key = KeyPair::generate().map_err(text)?;
    let secret = secret(token)?;
    let public_key = key.public_key_raw();
    let program = env!("CARGO_PKG_VERSION");
    let request = wire::request(&Request { secret, name, site, public_key, program, protocol: PROTOCOL });
    let mut refused = 0;
    for _ in 0..TRIES_MAX {
        match tokio::time::timeout(ANSWER_WAIT, ask(upstream, &request)).await {
            Ok(Ok(Invitation::Welcome { certificate: own, ca, .. })) => {
                let key = PrivateKeyDer::try_from(key.serialize_der()).map_err(str::to_owned)?;
                let chain = vec![certificate(&own)?, certificate(&ca)?];
                return Ok(Joined { shown: Shown { chain, key }, refused });
            }
            Ok(Ok(Invitation::Refusal { code, text })) if code != "busy" && code != "unavailable" => {
                return Err(format!("{name} may not join: {text} ({code})"));
            }
            _ => refused += 1,
        }
        tokio::time::sleep(TRY_EVERY).await;
    }
    Err(format!("{name} was not let in, {TRIES_MAX} times"))
}

async fn ask(upstream: &Upstream, request: &[u8]) -> Result<Invitation, String> {
    let dialled = upstream.dial(ALPN, None).await?;
    let (mut out, mut from) = dialled.open().await?;
    out.send(request).await?;
    out.finish();
    wire::invitation(&from.receive().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_secret_of_a_token_is_found() {
        let token = "edgeway-link-1.AgEAAAAAAADKysrKysrKysrKysrKysrKysrKysrKysrKysrKysrKyl5eXl5eXl5eXl5eXl5eXl5eXl5eXl5eX\
                     l5eXl5eXl5eAhVnYXRld2F5LTEubG9jYWw6MTQ1NjkTWzIwMDE6ZGI4OjoxXToxNDU2Ocv2HMU\n";
        assert_eq!(secret(token), Ok([0x5e; 32]));
        for wrong in ["", "edgeway-join-1.AgEA", "edgeway-link-1.AgEA", "edgeway-link-1.????"] {
            assert!(secret(wrong).is_err(), "{wrong}");
        }
    }
}
