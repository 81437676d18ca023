//! Commands to devices: identity, MQTT topics, step events and the one state machine.
//!
//! A command is an event; each step of its life is another event on the internal topic
//! [`COMMANDS_TOPIC`], keyed by device. The device's answers arrive on [`ANSWERS_TOPIC`].

mod id;
mod payload;
mod state;
mod step;
mod taken;
mod wire;

pub use id::{Cause, CommandId, ParseIdError};
pub use payload::Payload;
pub use state::{EARLIER_NODES, Input, Progress, RECIPIENTS_MAX, Refusal, State, Status, Verdict};
pub use step::{Answer, DecodeStepError, Queued, Repeat, Rewritten, STEP_VERSION, Step, StepEvent, Why, WhyCode};
pub use taken::{OriginHex, Taken, UNSEEN_TERMS};
pub use wire::{
    ANSWER_FILTER, ANSWER_PREFIX, AnswerTopic, COMMAND_PREFIX, CommandTopic, NameError, REFUSED_PREFIX, TopicError,
    answer_topic, asks_for, check_command_name, check_device_name, command_filter, command_topic, is_code,
    parse_answer_topic, parse_command_topic, refused_topic, response_topic,
};

/// The internal topic that holds every step of every command (key: device, value: [`StepEvent`]).
pub const COMMANDS_TOPIC: &str = "_commands";
/// The internal topic that devices' answers are routed to (key: device).
pub const ANSWERS_TOPIC: &str = "_answers";

/// Longest device name, in bytes.
pub const DEVICE_BYTES_MAX: usize = 128;
/// Longest command name, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Largest payload of a command or of an answer, in bytes.
pub const PAYLOAD_BYTES_MAX: usize = 16 * 1024;
/// Time from a command's cause until it must be delivered, unless it says otherwise.
pub const DELIVER_WITHIN_DEFAULT_MS: u64 = 60_000;
/// The furthest that `deliver_by` may lie ahead: seven days.
pub const DELIVER_WITHIN_MAX_MS: u64 = 7 * 24 * 3_600_000;
/// Time that a device has from its receipt of a command to the end, unless the command says otherwise.
pub const EXECUTION_TIMEOUT_DEFAULT_MS: u64 = 60_000;
/// The longest time that a device may be given to do a command: one day.
pub const EXECUTION_TIMEOUT_MAX_MS: u64 = 24 * 3_600_000;
/// Longest supersede or idempotency key, in bytes.
pub const KEY_BYTES_MAX: usize = 128;
/// Longest reason code of an answer, in bytes.
pub const CODE_BYTES_MAX: usize = 64;
/// A reason's text is cut to this many bytes.
pub const TEXT_BYTES_MAX: usize = 256;
