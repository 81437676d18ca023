//! Plugins down a link: what a headquarters wants a linked site to have, handed to its gateways one at a time, and what came of it.
//!
//! The edge opens a stream and says so (`wire`); upstream says what is wanted (`give`), the edge fetches what it lacks and answers (`take`). What a
//! plugin is, and how it is deployed, is none of the link's business: rooms at both ends judge that.

mod give;
mod take;
mod tally;
mod wire;

use super::down::ByLink;
use super::within::Pending;
use crate::transport::NodeId;

pub(super) use give::give;
pub use take::Partial;
pub use tally::Tally;
pub(super) use wire::is_wish;
#[cfg(test)]
pub(super) use wire::{FromEdge, FromUpstream};
pub use wire::{Outcome, PART_BYTES_MAX, Wanted, WantedComponent};

/// In `down` of a link, and what upstream's program says that it can bring.
pub const PLUGINS: &str = "plugins";

/// Upstream's room that keeps what sites are to have.
pub trait GivePlugins: Send + Sync {
    /// Changes whenever something more is wanted.
    fn watch(&self) -> tokio::sync::watch::Receiver<u64>;
    /// What a gateway of a site has not answered yet, in order; `None` where that cannot be read now.
    fn wanted<'a>(&'a self, site: &'a str, gateway: NodeId) -> Pending<'a, Option<Vec<Wanted>>>;
    /// A part of a component from an offset on; `None` where it is not here any more.
    fn part(&self, sha256: [u8; 32], offset: u64) -> Pending<'_, Option<Vec<u8>>>;
    /// A gateway says what has come of it; durable when it ends. False where that could not be kept: it is wanted still.
    fn answered<'a>(
        &'a self,
        site: &'a str,
        gateway: NodeId,
        wanted: &'a Wanted,
        outcome: Outcome,
    ) -> Pending<'a, bool>;
    /// What a site is to have, for people; its gateways by id and name.
    fn of_site(&self, site: &str, gateways: &[(NodeId, String)]) -> Vec<PluginDown>;
}

/// The edge's room that deploys.
pub trait TakePlugins: Send + Sync {
    /// What comes of something that is wanted, as far as it is known without the component; `None`: it is to be fetched.
    fn judge<'a>(&'a self, by: &'a ByLink, wanted: &'a Wanted) -> Pending<'a, Option<Outcome>>;
    /// Deploys what was fetched, and checked to be of the digest that was said.
    fn deploy<'a>(&'a self, by: &'a ByLink, wanted: &'a Wanted, wasm: Vec<u8>) -> Pending<'a, Outcome>;
    /// What came by a link, for people.
    fn of_link(&self, link: u64) -> Vec<PluginDown>;
}

/// A plugin that goes down a link, as people see it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PluginDown {
    /// Its name.
    pub name: String,
    /// SHA-256 of its component, in hexadecimal; empty where it is to be removed.
    pub sha256: String,
    /// How it stands.
    pub state: DownState,
    /// The same in words: upstream what each gateway says, at the edge the version.
    pub said: Vec<String>,
}

/// How a plugin that goes down a link stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DownState {
    /// No gateway has said for good what came of it.
    #[default]
    Waits,
    /// It was done.
    Done,
    /// A gateway has refused it.
    Refused,
}

impl DownState {
    /// Each.
    pub const ALL: [Self; 3] = [Self::Waits, Self::Done, Self::Refused];

    /// As it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Waits => "waits",
            Self::Done => "done",
            Self::Refused => "refused",
        }
    }
}
