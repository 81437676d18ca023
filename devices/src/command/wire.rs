//! The MQTT topics that carry commands and answers.
//!
//! - to the device: `edgeway/command/{device}/{command id}/{name}`, QoS 1; the device subscribes to
//!   `edgeway/command/{device}/#`. MQTT 5 adds the response topic `edgeway/answer/{device}/{command
//!   id}`, the id's 16 bytes as correlation data and the seconds left as message expiry;
//! - from the device: `edgeway/answer/{device}/{command id}/{status}`, QoS 1, payload: the result. One more level may
//!   follow: the percentage (0 to 100) of `in-progress`, a reason code of the others;
//! - to the device: `edgeway/refused/{device}/{command id}/{code}`, when an answer of its does not count.

use thiserror::Error;

use super::{CODE_BYTES_MAX, CommandId, DEVICE_BYTES_MAX, NAME_BYTES_MAX, Status};

/// What every command topic begins with.
pub const COMMAND_PREFIX: &str = "edgeway/command/";
/// What every answer topic begins with.
pub const ANSWER_PREFIX: &str = "edgeway/answer/";
/// The filter that matches every answer topic.
pub const ANSWER_FILTER: &str = "edgeway/answer/#";
/// What the topic of every refused answer begins with.
pub const REFUSED_PREFIX: &str = "edgeway/refused/";

/// Why a device's or a command's name cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// No characters at all.
    #[error("the name is empty")]
    Empty,
    /// Longer than the bound.
    #[error("the name is longer than {max} bytes")]
    TooLong {
        /// The bound, in bytes.
        max: usize,
    },
    /// A character that would change the topic's meaning, or a control character.
    #[error("the name contains {0:?}, which a topic level cannot hold")]
    Character(char),
}

/// Why an MQTT topic is no command or answer topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TopicError {
    /// Another prefix or another number of levels.
    #[error("not a topic of this kind")]
    Shape,
    /// The device's or command's name is bad.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The level of the id is no UUID.
    #[error("the command id is not a UUID")]
    Id,
    /// The last level is no status that a device may send.
    #[error("not a status: accepted, in-progress, succeeded, failed or rejected")]
    Status,
    /// The level after the status is neither a percentage nor a reason code.
    #[error("after in-progress comes a percentage of 0 to 100, after another status a code of a-z, 0-9, - and _")]
    Code,
}

/// What a command's MQTT topic says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CommandTopic<'a> {
    /// The device it is for.
    pub device: &'a str,
    /// The command's id.
    pub id: CommandId,
    /// What to do.
    pub name: &'a str,
}

/// What an answer's MQTT topic says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerTopic<'a> {
    /// The device that was commanded.
    pub device: &'a str,
    /// The command that is answered.
    pub id: CommandId,
    /// How it goes or went.
    pub status: Status,
    /// How far it is, 0 to 100.
    pub percent: Option<u8>,
    /// The reason, for programs; empty where none is given.
    pub code: &'a str,
}

/// Checks a device's name: 1 to [`DEVICE_BYTES_MAX`] bytes that fit one topic level.
pub fn check_device_name(name: &str) -> Result<(), NameError> {
    check_level(name, DEVICE_BYTES_MAX)
}

/// Checks a command's name: 1 to [`NAME_BYTES_MAX`] bytes that fit one topic level.
pub fn check_command_name(name: &str) -> Result<(), NameError> {
    check_level(name, NAME_BYTES_MAX)
}

fn check_level(name: &str, max: usize) -> Result<(), NameError> {
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.len() > max {
        return Err(NameError::TooLong { max });
    }
    match name.chars().find(|c| matches!(c, '/' | '+' | '#') || c.is_control()) {
        Some(bad) => Err(NameError::Character(bad)),
        None => Ok(()),
    }
}

/// The MQTT topic on which a command reaches its device. The names must have been checked.
pub fn command_topic(device: &str, id: CommandId, name: &str) -> String {
    format!("{COMMAND_PREFIX}{device}/{id}/{name}")
}

/// The filter that a device subscribes to for its commands.
pub fn command_filter(device: &str) -> String {
    format!("{COMMAND_PREFIX}{device}/#")
}

/// The MQTT 5 response topic of a command; the device adds `/` and the status.
pub fn response_topic(device: &str, id: CommandId) -> String {
    format!("{ANSWER_PREFIX}{device}/{id}")
}

/// The MQTT topic of an answer.
pub fn answer_topic(device: &str, id: CommandId, status: Status) -> String {
    format!("{ANSWER_PREFIX}{device}/{id}/{}", status.as_str())
}

/// The MQTT topic on which a device is told that an answer of its does not count.
pub fn refused_topic(device: &str, id: CommandId, code: &str) -> String {
    format!("{REFUSED_PREFIX}{device}/{id}/{code}")
}

/// Whether a subscription asks for the commands (or the refused answers) that a topic is of: its filter begins with the
/// topic's first two levels as they are, and matches it. Who subscribes to everything is an onlooker.
pub fn asks_for(filter: &str, topic: &str) -> bool {
    let own = [COMMAND_PREFIX, REFUSED_PREFIX].into_iter().find(|prefix| topic.starts_with(prefix));
    let Some((filter, topic)) = own.and_then(|own| Some((filter.strip_prefix(own)?, topic.strip_prefix(own)?))) else {
        return false;
    };
    let mut wanted = filter.split('/');
    for level in topic.split('/') {
        match wanted.next() {
            Some("#") => return true,
            Some(wanted) if wanted == "+" || wanted == level => {}
            _ => return false,
        }
    }
    matches!(wanted.next(), None | Some("#"))
}

/// Reads a command's MQTT topic.
pub fn parse_command_topic(topic: &str) -> Result<CommandTopic<'_>, TopicError> {
    let ([device, id, name], None) = levels(topic, COMMAND_PREFIX)? else { return Err(TopicError::Shape) };
    check_device_name(device)?;
    check_command_name(name)?;
    let id = id.parse().map_err(|_| TopicError::Id)?;
    Ok(CommandTopic { device, id, name })
}

/// Reads an answer's MQTT topic.
pub fn parse_answer_topic(topic: &str) -> Result<AnswerTopic<'_>, TopicError> {
    let ([device, id, status], rest) = levels(topic, ANSWER_PREFIX)?;
    check_device_name(device)?;
    let id = id.parse().map_err(|_| TopicError::Id)?;
    let status = Status::from_name(status).ok_or(TopicError::Status)?;
    let plain = AnswerTopic { device, id, status, percent: None, code: "" };
    match rest {
        None => Ok(plain),
        Some(rest) if status == Status::InProgress => Ok(AnswerTopic { percent: Some(parse_percent(rest)?), ..plain }),
        Some(code) if is_code(code) => Ok(AnswerTopic { code, ..plain }),
        Some(_) => Err(TopicError::Code),
    }
}

fn parse_percent(text: &str) -> Result<u8, TopicError> {
    let is_plain = text.len() <= 3 && text.bytes().all(|byte| byte.is_ascii_digit());
    let percent = text.parse().ok().filter(|percent: &u8| is_plain && *percent <= 100);
    percent.ok_or(TopicError::Code)
}

/// Whether a text is a reason code: 1 to [`CODE_BYTES_MAX`] of a-z, 0-9, `-` and `_`.
pub fn is_code(text: &str) -> bool {
    let plain = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
    (1..=CODE_BYTES_MAX).contains(&text.len()) && text.bytes().all(plain)
}

/// The three levels after a prefix, and the one that may follow.
fn levels<'a>(topic: &'a str, prefix: &str) -> Result<([&'a str; 3], Option<&'a str>), TopicError> {
    let rest = topic.strip_prefix(prefix).ok_or(TopicError::Shape)?;
    let mut levels = rest.split('/');
    match (levels.next(), levels.next(), levels.next(), levels.next(), levels.next()) {
        (Some(a), Some(b), Some(c), fourth, None) => Ok(([a, b, c], fourth)),
        _ => Err(TopicError::Shape),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f";

    #[test]
    fn topics_are_golden_and_come_back() {
        let id: CommandId = ID.parse().unwrap();
        let topic = command_topic("pump 7", id, "cool");
        assert_eq!(topic, format!("edgeway/command/pump 7/{ID}/cool"));
        let parsed = parse_command_topic(&topic).unwrap();
        assert_eq!((parsed.device, parsed.id, parsed.name), ("pump 7", id, "cool"));
        assert_eq!(command_filter("pump 7"), "edgeway/command/pump 7/#");
        assert_eq!(response_topic("p", id), format!("edgeway/answer/p/{ID}"));
        for status in Status::ALL {
            let topic = answer_topic("p", id, status);
            assert_eq!(topic, format!("{}/{}", response_topic("p", id), status.as_str()));
            let parsed = parse_answer_topic(&topic).unwrap();
            assert_eq!((parsed.device, parsed.id, parsed.status), ("p", id, status));
        }
    }

    #[test]
    fn other_topics_are_refused_by_reason() {
        let long = "d".repeat(DEVICE_BYTES_MAX + 1);
        let cases = [
            (String::new(), TopicError::Shape),
            (format!("other/{ID}/succeeded"), TopicError::Shape),
            (format!("edgeway/answer/d/{ID}"), TopicError::Shape),
            (format!("edgeway/answer/d/{ID}/failed/x/y"), TopicError::Shape),
            (format!("edgeway/answer/d/{ID}/failed/"), TopicError::Code),
            (format!("edgeway/answer/d/{ID}/failed/Bad"), TopicError::Code),
            (format!("edgeway/answer/d/{ID}/in-progress/101"), TopicError::Code),
            (format!("edgeway/answer/d/{ID}/in-progress/+4"), TopicError::Code),
            (format!("edgeway/answer//{ID}/failed"), NameError::Empty.into()),
            (format!("edgeway/answer/{long}/{ID}/failed"), NameError::TooLong { max: DEVICE_BYTES_MAX }.into()),
            (format!("edgeway/answer/a\0/{ID}/failed"), NameError::Character('\0').into()),
            ("edgeway/answer/d/nope/failed".into(), TopicError::Id),
            (format!("edgeway/answer/d/{ID}/queued"), TopicError::Status),
            (format!("edgeway/answer/d/{ID}/"), TopicError::Status),
        ];
        for (topic, error) in cases {
            assert_eq!(parse_answer_topic(&topic), Err(error), "{topic}");
        }
        assert_eq!(parse_command_topic(&format!("edgeway/command/d/{ID}/a+")), Err(NameError::Character('+').into()));
    }

    #[test]
    fn an_answer_may_say_how_far_or_why() {
        let read = |rest: &str| {
            let topic = format!("edgeway/answer/d/{ID}/{rest}");
            parse_answer_topic(&topic).map(|answer| (answer.percent, answer.code.to_owned()))
        };
        assert_eq!(read("in-progress/40"), Ok((Some(40), String::new())));
        assert_eq!(read("failed/valve-stuck"), Ok((None, "valve-stuck".to_owned())));
        assert_eq!(read("succeeded"), Ok((None, String::new())));
        assert_eq!(refused_topic("d", ID.parse().unwrap(), "not-sent"), format!("edgeway/refused/d/{ID}/not-sent"));
    }

    #[test]
    fn who_subscribes_to_everything_is_an_onlooker() {
        let topic = command_topic("d", ID.parse().unwrap(), "cool");
        let cases = [
            ("edgeway/command/d/#", true),
            ("edgeway/command/+/+/cool", true),
            ("edgeway/command/#", true),
            ("edgeway/command/d/+", false),
            ("edgeway/command/e/#", false),
            ("edgeway/command/d/+/cool/#", true),
            ("edgeway/#", false),
            ("#", false),
            ("edgeway/refused/d/#", false),
        ];
        for (filter, asks) in cases {
            assert_eq!(asks_for(filter, &topic), asks, "{filter}");
        }
        assert!(asks_for("edgeway/refused/d/#", &refused_topic("d", ID.parse().unwrap(), "not-sent")));
    }

    #[test]
    fn names_at_the_bounds() {
        assert_eq!(check_device_name(&"d".repeat(DEVICE_BYTES_MAX)), Ok(()));
        assert_eq!(check_command_name(&"é".repeat(NAME_BYTES_MAX / 2)), Ok(()));
        assert!(check_command_name(&"é".repeat(NAME_BYTES_MAX / 2 + 1)).is_err());
    }
}
