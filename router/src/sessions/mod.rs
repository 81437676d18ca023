//! Who is connected, what they left, and the way to reach them.
//!
//! `registry` has one live session a client id; `admit` lets a client in, and `known` says who may come. `mailbox` is the
//! way to a session, `seat` what outlives its connection. `keeping` stores sessions for clients that are away, in the
//! bytes of `kept`; `presence` notes who comes and goes; `arrivals` says who has subscribed to commands lately.
//!
//! In a site `site` takes what other nodes have seen: `elsewhere` finds a client in it, `choose` says whose kept
//! session counts (both pure), and `lives` which lives have ended. `catch_up` waits for it after a start.

mod admit;
mod arrivals;
mod catch_up;
mod choose;
mod elsewhere;
mod keeping;
mod kept;
mod known;
mod lives;
mod mailbox;
mod presence;
mod registry;
mod seat;
mod site;

pub use arrivals::Arrived;
pub use catch_up::Knows;
pub use elsewhere::{Claim, Place};
pub use kept::{KEPT_TREE, KeptRecord};
pub use known::{Forgotten, TurnedAway};
pub use mailbox::{Delivery, Mailbox, Offer, Order, Terms};
pub use presence::{DEVICES_TREE, DeviceRecord, SESSIONS_TOPIC, Seen};
pub use registry::{Admitted, Arrival, Config, Entry, SessionHandle, SessionInfo, Sessions, Stats};
pub use seat::Seat;
pub use site::{Heard, SeenElsewhere, Whereabouts};

#[cfg(test)]
mod tests;
