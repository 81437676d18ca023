//! A bad link in a box: a UDP relay that loses, delays, throttles and falls silent, as it is told.
//!
//! What stands in for a modem link, a moving truck or a cut cable where the system has no traffic
//! shaping. `line` decides what becomes of each datagram (pure); the relay's tasks carry it out.

mod line;
mod udp;

pub use line::{Line, LineConfig, Passage};
pub use udp::{CLIENTS_MAX, Relay};
