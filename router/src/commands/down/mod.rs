//! Commands to devices of linked sites: given at a headquarters as `SITE/DEVICE`, done at the edge.
//!
//! The headquarters hands a command to one gateway of the site, under its id, and asks until that has answered: as between the nodes
//! of a site, but over a link, and with an edge that trusts what its `down` lists and no more. The gateway notes each
//! command that it takes until the headquarters has said that it knows the end. `give` is the headquarters' part, `elsewhere` says how
//! it asks a gateway that is at another of its nodes, `take` is the edge's part, `notes` what the edge keeps, `call_off` is about those that
//! are called off, `progress` about how far they are, `removed` about those whose link is removed, `wire` what they say to each other.

mod call_off;
#[cfg(test)]
mod call_off_tests;
mod elsewhere;
mod give;
#[cfg(test)]
mod headquarters_tests;
mod notes;
mod progress;
mod removed;
#[cfg(test)]
mod removed_tests;
mod take;
#[cfg(test)]
mod take_tests;
#[cfg(test)]
mod tests;
mod wire;

use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use devices::command::{NameError, check_device_name};
use parking_lot::Mutex;
use sled_data::OriginId;

use super::forward::Answering;
use crate::event_log::SITE_SEPARATOR;

pub(super) use call_off::{call_offs, decode_called_off, take_called_off};
pub(super) use elsewhere::{VERSION_GATEWAYS, VERSION_THROUGH};
pub use give::SiteEnded;
pub(super) use give::{VERSION_BELOW, take_answer};
pub use notes::NOTES_TREE;
pub(super) use progress::VERSION_HANDED_ON;
pub use removed::SITES_TREE;
pub use take::{Above, Listed};
pub(super) use wire::{ASKED_MAX, Answer, CalledOffV2, decode_answers};

/// Sites on the way to a device at most, and the device.
const LEVELS_MAX: usize = 17;
/// Longest name of a device at a site, with the sites' names, in bytes.
const TARGET_BYTES_MAX: usize = 512;

/// The way down links: which sites feed this one, and which of their gateways are connected.
pub trait DownWay: Send + Sync {
    /// Whether a site of this name feeds this one.
    fn has_site(&self, site: &str) -> bool;
    /// Whether the link of the site was removed, and the site was not invited again. Of a name that no link has it is not known.
    fn is_removed(&self, site: &str) -> bool;
    /// A gateway of the site that can be asked now, by the id that it has here.
    fn gateway(&self, site: &str) -> Option<OriginId>;
    /// All gateways that can be asked now, each with its site.
    fn gateways(&self) -> Vec<(String, OriginId)>;
    /// All gateways that a site has, connected to this node, to another one, or to none.
    fn gateways_of(&self, site: &str) -> Vec<OriginId>;
    /// Asks a gateway that can be asked from here. It ends within a bounded time.
    fn ask(&self, gateway: OriginId, request: Vec<u8>) -> Answering<'_>;
}

/// What the room keeps for links.
#[derive(Default)]
pub(super) struct Down {
    way: OnceLock<Arc<dyn DownWay>>,
    elsewhere: Arc<elsewhere::Elsewhere>,
    notes: Mutex<notes::Notes>,
    /// Locked within the table.
    pub(super) sites: Mutex<removed::Sites>,
    /// Locked for itself, or within the notes.
    changed: Mutex<progress::Changed>,
    /// Locked for itself, or within the table.
    told: Mutex<progress::Told>,
    /// Whether another node is being told how far its commands are.
    is_handing_on: Arc<AtomicBool>,
    /// One question is judged at a time, up to what it appends: the same one may come by a new connection meanwhile.
    turn: tokio::sync::Mutex<()>,
}

impl Down {
    /// The way down links, where this node can be fed.
    pub(super) fn way(&self) -> Option<Arc<dyn DownWay>> {
        self.way.get().cloned()
    }
}

/// Whether a device is at a linked site: `SITE/DEVICE`.
pub(super) fn is_at_site(device: &str) -> bool {
    device.contains(SITE_SEPARATOR)
}

/// The linked site that a device is at.
pub(super) fn site_of(device: &str) -> Option<&str> {
    device.split_once(SITE_SEPARATOR).map(|(site, _)| site)
}

/// Checks the name of a device, here or at a linked site.
///
/// # Errors
/// What is wrong with it.
pub(super) fn check_target(device: &str) -> Result<(), NameError> {
    if device.len() > TARGET_BYTES_MAX || device.split(SITE_SEPARATOR).count() > LEVELS_MAX {
        return Err(NameError::TooLong { max: TARGET_BYTES_MAX });
    }
    device.split(SITE_SEPARATOR).try_for_each(check_device_name)
}

/// What a gateway says of one command that has ended.
#[cfg(test)]
pub(super) fn ended_once(id: devices::command::CommandId, outcome: devices::command::State) -> Vec<u8> {
    wire::encode(&vec![wire::EndedV1::new(id, outcome, None, None)])
}
