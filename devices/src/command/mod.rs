//! Commands to devices: identity, MQTT topics, step events and the one state machine.
//!
//! A command is an event; each step of its life is another event on the internal topic
//! [`COMMANDS_TOPIC`], keyed by device. The device's answers arrive on [`ANSWERS_TOPIC`].

mod id;
mod payload;
mod state;
mod step;
mod wire;

pub use id::{Cause, CommandId, ParseIdError};
pub use payload::Payload;
pub use state::{Input, Progress, RECIPIENTS_MAX, Refusal, State, Status, Verdict};
pub use step::{Answer, DecodeStepError, Queued, STEP_VERSION, Step, StepEvent};
pub use wire::{
    ANSWER_FILTER, ANSWER_PREFIX, AnswerTopic, COMMAND_PREFIX, CommandTopic, NameError, TopicError, answer_topic,
    check_command_name, check_device_name, command_filter, command_topic, parse_answer_topic, parse_command_topic,
    response_topic,
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
/// Time that a device has for its answer after its last sign of life, unless the command says otherwise.
pub const ANSWER_WITHIN_DEFAULT_MS: u64 = 60_000;
/// The longest time that a device may be given for its answer: one day.
pub const ANSWER_WITHIN_MAX_MS: u64 = 24 * 3_600_000;
