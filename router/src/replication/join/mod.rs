//! How a node joins a site: with a token, over one stream of a connection without a certificate of its own.

mod ask;
mod desk;
mod install;
mod lobby;
mod message;
#[cfg(test)]
mod tests;

use crate::security::{JOIN_SECRET_BYTES, JoinToken};
use crate::transport::Fingerprint;

pub use ask::{Applicant, JoinError, join};
pub use desk::{ADMIT_WAIT, Admission, Desk};
pub use install::{first_members, read_facts, take_facts};
pub use message::{JoinRefusal, RefusalCode, Request, SiteFacts, TopicFacts, Welcome};

/// The file of a node's place in a site that keeps what it was told when it joined, until the catalog has it.
const FACTS_FILE: &str = "welcome";

/// The same, when the store has taken it up.
const TAKEN_FILE: &str = "welcomed";

/// A new token of a site.
///
/// # Errors
/// When the system gives no randomness.
pub fn draw_token(site: u64, ca: Fingerprint, addresses: Vec<String>) -> Result<JoinToken, getrandom::Error> {
    let mut secret = [0; JOIN_SECRET_BYTES];
    getrandom::fill(&mut secret)?;
    Ok(JoinToken { site, addresses, ca: ca.to_bytes(), secret })
}
