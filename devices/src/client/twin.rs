//! The device's twin: what it is told, and what it reports.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::outbox::{Done, New, Qos};
use super::publish::PublishError;
use super::shared::{Shared, wall_ms};
use crate::sequence::Lane;
use crate::twin::{Told, report_topic, report_topic_if};

/// What a device does when it is told of its twin.
#[derive(Clone)]
pub struct TwinHandler(Arc<dyn Fn(TwinNews) + Send + Sync>);

/// Something that the node says of the device's twin.
pub struct TwinNews {
    /// What.
    pub told: Told,
    shared: Arc<Shared>,
}

impl TwinHandler {
    /// The closure runs on the connection's task and must not block.
    pub fn new(handle: impl Fn(TwinNews) + Send + Sync + 'static) -> Self {
        Self(Arc::new(handle))
    }

    pub(super) fn run(&self, told: Told, shared: Arc<Shared>) {
        (self.0)(TwinNews { told, shared });
    }
}

impl fmt::Debug for TwinHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TwinHandler")
    }
}

impl TwinNews {
    /// Reports what has come of it: a merge patch, as [`super::Client::report`] takes it.
    ///
    /// # Errors
    /// When there is no room.
    pub fn report(&self, patch: impl Into<Bytes>) -> Result<(), PublishError> {
        self.shared.push(New {
            lane: Lane::NORMAL,
            qos: Qos::AtLeastOnce,
            topic: report_topic(&self.shared.config.device),
            payload: patch.into(),
            timestamp_ms: wall_ms(),
            properties: Vec::new(),
            answer: false,
            done: Done::Nobody,
        })
    }
}

/// Where a report goes.
pub(super) fn topic_of(device: &str, if_version: Option<u64>) -> String {
    if_version.map_or_else(|| report_topic(device), |version| report_topic_if(device, version))
}
