//! The sockets of the MQTT door: connections, their turn-taking, and what they share.

mod acks;
mod connection;
mod deliver;
mod door;
mod end;
mod frames;
mod listen;
mod listen_tls;
mod numbered;
mod offers;
mod open;
mod packets;
mod publish;
mod retain;
mod turn;
mod wills;

#[cfg(test)]
mod ahead_tests;
#[cfg(test)]
mod lives_tests;
#[cfg(test)]
mod numbered_tests;
#[cfg(test)]
mod offer_tests;
#[cfg(test)]
mod refused_will_tests;
#[cfg(test)]
mod site_tests;
#[cfg(test)]
mod stale_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod will_tests;

pub use door::{Config, Door};
pub use listen::{Place, listen};
pub use listen_tls::listen_tls;
