//! The node: a library and the one binary, `edgeway`.

pub mod clock;
pub mod event_log;
pub mod ingest;
pub mod mqtt;
pub mod sessions;
pub mod subscriptions;
