//! A simulated fleet: many devices in one process, with believable signals, faults and obedience.
//!
//! Each device is one [client](crate::client) with an MQTT client id of its own; one task for the
//! whole fleet takes their readings. The same seed gives the same readings. The fleet keeps a
//! [`Ledger`] of what it sent and what became of it, for [`compare`] with what is found in the log.

mod compare;
mod device;
mod ledger;
pub mod relay;
mod replay;
mod run;
mod signal;
mod told;
mod weather;

#[cfg(test)]
mod tests;

pub use compare::{Differences, compare};
pub use device::DeviceStatus;
pub use ledger::{Ledger, READINGS_MAX, ReadingFate};
pub use replay::{POINTS_MAX, Point, ReplayError, Series};
pub use run::{Config, Fleet, LATENCIES_MAX, Source, StartError, Totals, UnknownDevice, device_name};
pub use signal::{Fault, Signal, SignalConfig};
pub use told::Found;
pub use weather::{Event, Forecast, Outage, Weather};
