//! Topics down a link: what an upstream gives and an edge takes, by the link's own protocol with the parts changed.
//!
//! The edge opens a stream, says what it lists and hears what it is given (`wire`); then upstream sends as an edge does, and the edge stores as
//! upstream does. `give` is upstream's part, `flow` what its sender does otherwise than an edge's; `take` the edge's, `listed` what its receiver judges
//! besides. `lists` are the two lists (pure), `view` what people see. docs/decisions/2026-11-27-topics-and-plugins-down-a-link.md says why.

mod flow;
mod give;
mod listed;
mod lists;
mod take;
mod view;
mod wire;

use sha2::{Digest, Sha256};

use crate::transport::LinkIdentity;

pub use flow::{Flow, Given, UNDER_WAY_BYTES_MAX as UNDER_WAY_OF_DOWN_BYTES_MAX};
pub(super) use give::give;
pub(super) use listed::Listed;
pub use listed::MayBring;
pub use lists::{Downlink, PATTERN_BYTES_MAX, TOPICS, check_pattern, of_words};
pub(super) use take::Brings;
pub(super) use view::{Going, coming, going};
pub use view::{TopicDown, TopicsDown};
pub(super) use wire::is_wish;
#[cfg(test)]
pub(super) use wire::{Wish, decode_gives, decode_wants, encode_gives, encode_wants};

/// What upstream's program can bring, as it says with its first question.
pub(super) const BRINGS_TOPICS: &str = "topics";
/// What the id is made of, before the CA.
const DOMAIN: &[u8] = b"edgeway-link-down/1";

/// The id, at the edge, of what a link brings down. It is made of the CA by which the link was accepted, and of nothing that an upstream can
/// choose later: it is the same at each gateway of a site.
pub fn link_of(identity: &LinkIdentity) -> u64 {
    let digest = Sha256::new().chain_update(DOMAIN).chain_update(identity.ca_fingerprint().to_bytes()).finalize();
    digest.iter().take(8).fold(0_u64, |id, byte| id << 8 | u64::from(*byte)).max(1)
}
