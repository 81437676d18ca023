//! Device twins: what a device shall be (desired) and what it says it is (reported), two JSON documents.
//!
//! Pure. `document` reads and bounds them, `merge` is RFC 7396 and the difference, `wire` the MQTT topics and what is
//! written to a device, `told` how a device reads it, `change` the events that tell of accepted changes and ask for
//! some, `record` a twin and the one place where a change is decided, `stored` a twin as it is stored and how several
//! nodes' become one.

mod change;
mod document;
mod merge;
mod record;
mod stored;
mod told;
mod wire;

pub use change::{Act, CHANGE_VERSION, Change, DecodeError, Wish};
pub use document::{Document, DocumentError};
pub use merge::{delta, merge};
pub use record::{Half, RECORD_VERSION, Refusal, Side, TWINS_TREE, Twin, Versions};
pub use stored::{HalfMark, Marks, StoredTwin};
pub use told::Told;
pub use wire::{
    FromDevice, PREFIX, ToDevice, TopicError, delta_message, delta_topic, get_topic, parse_from_device,
    parse_to_device, parse_version, refused_message, refused_topic, report_topic, report_topic_if, state_message,
    state_topic, subscriptions_of, takes,
};

/// The internal topic of accepted changes (key: device, value: [`Change`]).
pub const TWINS_TOPIC: &str = "_twins";
/// The internal topic that devices' reports and questions are routed to (key: device).
pub const REPORTS_TOPIC: &str = "_reports";
/// The internal topic of what plugins wish (key: device, value: [`Wish`]).
pub const WISHES_TOPIC: &str = "_wishes";
/// The MQTT 5 user property that makes a report conditional on the reported version.
pub const VERSION_PROPERTY: &str = "version";

/// Largest document and largest patch, in bytes of compact JSON.
pub const DOCUMENT_BYTES_MAX: usize = 16 * 1024;
/// Deepest document: the outer object is of depth 1.
pub const DEPTH_MAX: usize = 16;
