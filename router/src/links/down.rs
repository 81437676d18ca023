//! What a link brings down: the words of it, and who gives and takes. `down_desk` is upstream's part, `down_taker` the edge's. What
//! commands are is none of the link's business: it carries bytes of the rooms at both ends.

use super::plugins::PLUGINS;
use super::topics::{PATTERN_BYTES_MAX, TOPICS};
use super::within::Pending;
use crate::transport::NodeId;

/// Commands to devices of the site.
pub const COMMANDS: &str = "commands";
/// That those which are urgent upstream are urgent here.
pub const URGENT: &str = "urgent";
/// All that can be listed.
pub(super) const WORDS: [&str; 3] = [COMMANDS, URGENT, PLUGINS];
/// Bytes that an edge says at once of what came down: twice what the ends and answers of one frame need.
pub(super) const SAID_BYTES_MAX: usize = 128 << 10;
/// Words of a list, and bytes of each, that are taken from the other side.
pub(super) const WORDS_MAX: usize = 80;
pub(super) const WORD_BYTES_MAX: usize = TOPICS.len() + PATTERN_BYTES_MAX;

/// Upstream's room that gives commands.
pub trait GiveDown: Send + Sync {
    /// A gateway of a site can be asked from now on.
    fn gateway_came(&self, site: &str, gateway: NodeId);
    /// A gateway's line has ended: perhaps it is at another node by now.
    fn gateway_left(&self) {}
    /// A gateway says how commands have ended, or how far they are; what it is to be told once that is durable.
    fn ended(&self, gateway: NodeId, said: Vec<u8>) -> Pending<'_, Option<Vec<u8>>>;
}

/// The link that something comes by, as the edge knows it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ByLink {
    /// What the link is called here.
    pub name: String,
    /// Its id, which the upstream site has drawn.
    pub link: u64,
    /// What it may bring down.
    pub down: Vec<String>,
}

impl ByLink {
    /// Whether it may bring something down.
    pub fn may_bring(&self, word: &str) -> bool {
        self.down.iter().any(|listed| listed == word)
    }
}

/// The edge's room that takes commands.
pub trait TakeDown: Send + Sync {
    /// Takes commands; the answer, once it is durable.
    fn take(&self, by: ByLink, asked: Vec<u8>) -> Pending<'_, Vec<u8>>;
    /// Whether upstream of a link is to be told of ends.
    fn has_ended(&self, link: u64) -> bool;
    /// What it is to be told of them behind a place among them, and the place of the last one that is told.
    fn ended(&self, link: u64, after: u64) -> Pending<'_, Option<(Vec<u8>, u64)>>;
    /// How far commands are that the link has brought, where that is new; of all, where upstream has come `anew`.
    fn progress(&self, link: u64, anew: bool) -> Pending<'_, Option<Vec<u8>>>;
    /// Upstream knows.
    fn known(&self, link: u64, said: Vec<u8>);
}

/// The list of what may come down, as the edge tells it.
pub(super) fn encode_words(words: &[String]) -> Vec<u8> {
    postcard::to_allocvec(words).unwrap_or_default()
}

/// Reads it; what is too long is left out.
pub(super) fn decode_words(bytes: &[u8]) -> Vec<String> {
    let words: Vec<String> = postcard::from_bytes(bytes).unwrap_or_default();
    words.into_iter().filter(|word| word.len() <= WORD_BYTES_MAX).take(WORDS_MAX).collect()
}
