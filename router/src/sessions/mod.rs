//! Who is connected, what they left, and the way to reach them.

mod kept;
mod mailbox;
mod presence;
mod registry;

pub use kept::{KEPT_TREE, KeptRecord};
pub use mailbox::{Delivery, Mail, Mailbox, Offer};
pub use presence::{DEVICES_TREE, DeviceRecord, SESSIONS_TOPIC};
pub use registry::{Admitted, Arrival, Config, Entry, Seat, SessionHandle, SessionInfo, Sessions, Stats};
