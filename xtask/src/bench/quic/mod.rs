//! The node's QUIC door under load: rates, alarms beside bulk, thousands of devices that come back at once.

pub mod alarm;
mod dial;
mod load;
mod mqtt;
mod native;
pub mod rates;
pub mod storm;

use dial::Dial;
