//! The node's QUIC door under load: MQTT and `edgeway/1`, each over connections of its own.

mod dial;
mod mqtt;
mod native;
mod rates;

pub use dial::Dial;
pub use rates::run;
