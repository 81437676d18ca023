//! A twin as the API and the CLI show it.

use devices::twin::{Document, Side, Twin};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// One half of a twin.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SideView {
    /// Its version; 0 before its first change.
    pub version: u64,
    /// When it changed last, in milliseconds since 1970; 0 before its first change.
    pub at_ms: u64,
    /// Who changed it last.
    pub by: String,
    /// The document.
    pub state: Document,
}

/// A twin with all there is to say of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TwinView {
    /// The device.
    pub device: String,
    /// The sum of both halves' versions: it rises with every change.
    pub version: u64,
    /// What the device shall be.
    pub desired: SideView,
    /// What it says it is.
    pub reported: SideView,
    /// What is desired and not yet reported.
    pub delta: Map<String, Value>,
}

/// A twin in a list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TwinRow {
    /// The device.
    pub device: String,
    /// The desired half's version.
    pub desired_version: u64,
    /// The reported half's version.
    pub reported_version: u64,
    /// Whether the device has still to do something.
    pub differs: bool,
    /// When one of the halves changed last, in milliseconds since 1970.
    pub changed_ms: u64,
}

impl From<&Side> for SideView {
    fn from(side: &Side) -> Self {
        Self { version: side.version, at_ms: side.at_ms, by: side.by.clone(), state: side.document() }
    }
}

impl TwinView {
    /// A device's twin.
    pub fn new(device: &str, twin: &Twin) -> Self {
        Self {
            device: device.to_owned(),
            version: version_of(twin),
            desired: SideView::from(&twin.desired),
            reported: SideView::from(&twin.reported),
            delta: twin.delta(),
        }
    }
}

impl TwinRow {
    /// A device's twin; `differs` is known already.
    pub fn new(device: &str, twin: &Twin, differs: bool) -> Self {
        Self {
            device: device.to_owned(),
            desired_version: twin.desired.version,
            reported_version: twin.reported.version,
            differs,
            changed_ms: twin.desired.at_ms.max(twin.reported.at_ms),
        }
    }
}

/// What rises with every change of a twin.
pub(super) fn version_of(twin: &Twin) -> u64 {
    twin.desired.version + twin.reported.version
}
