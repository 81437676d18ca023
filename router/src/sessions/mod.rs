//! Who is connected, what they left, and the way to reach them.

mod arrivals;
mod keeping;
mod kept;
mod known;
mod mailbox;
mod presence;
mod registry;
mod seat;

pub use arrivals::Arrived;
pub use kept::{KEPT_TREE, KeptRecord};
pub use known::{Forgotten, TurnedAway};
pub use mailbox::{Delivery, Mailbox, Offer, Order, Terms};
pub use presence::{DEVICES_TREE, DeviceRecord, SESSIONS_TOPIC};
pub use registry::{Admitted, Arrival, Config, Entry, SessionHandle, SessionInfo, Sessions, Stats};
pub use seat::Seat;

#[cfg(test)]
mod tests;
