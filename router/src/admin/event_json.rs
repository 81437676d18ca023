//! One event as one line of JSON (pure): what `tail` prints and `get` answers.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use devices::headers;
use devices::sequence::Sequence;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};
use sled_data::{HeadersRef, Offset, PartitionId, RecordRef};

/// Where an event stands.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// The partition.
    pub partition: PartitionId,
    /// The offset in it.
    pub offset: Offset,
    /// Whether it came late by a link.
    pub is_late: bool,
}

#[derive(Serialize)]
struct Line<'a> {
    topic: &'a str,
    origin: String,
    partition: u32,
    offset: Offset,
    timestamp_ms: i64,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    late: bool,
    key: Option<Text<'a>>,
    device: Option<&'a str>,
    headers: Map<String, Value>,
    #[serde(flatten)]
    value: EventValue<'a>,
}

/// A value as text where it is text, else as base64; null where there is none.
#[derive(Serialize)]
#[serde(untagged)]
enum EventValue<'a> {
    Text { value: Option<&'a str> },
    Bytes { value_base64: String },
}

/// Bytes as text where they are text, else as `{"base64": "…"}`.
struct Text<'a>(&'a [u8]);

impl Serialize for Text<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        text(self.0).serialize(serializer)
    }
}

fn text(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        Ok(text) => Value::from(text),
        Err(_) => json!({"base64": BASE64.encode(bytes)}),
    }
}

/// The line of an event, ended by a newline.
pub fn line(place: Place<'_>, record: &RecordRef<'_>) -> Vec<u8> {
    let device = record.headers.get(headers::MQTT_CLIENT).and_then(|name| std::str::from_utf8(name).ok());
    let value = match record.value.map(|bytes| (std::str::from_utf8(bytes), bytes)) {
        None => EventValue::Text { value: None },
        Some((Ok(text), _)) => EventValue::Text { value: Some(text) },
        Some((Err(_), bytes)) => EventValue::Bytes { value_base64: BASE64.encode(bytes) },
    };
    let line = Line {
        topic: place.topic,
        origin: place.partition.origin.to_string(),
        partition: place.partition.index,
        offset: place.offset,
        timestamp_ms: record.timestamp_ms,
        late: place.is_late,
        key: record.key.map(Text),
        device,
        headers: header_map(record.headers),
        value,
    };
    // Strings and numbers always become JSON.
    let mut bytes = serde_json::to_vec(&line).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}

/// The line that tells of offsets that cannot be read any more: `from` up to before `to`.
pub fn gap_line(place: Place<'_>, to: Offset, reason: &str) -> Vec<u8> {
    let Place { topic, partition, offset, .. } = place;
    let gap = json!({"from": offset, "to": to, "reason": reason});
    let line =
        json!({"topic": topic, "origin": partition.origin.to_string(), "partition": partition.index, "gap": gap});
    format!("{line}\n").into_bytes()
}

/// Headers by name; where a name repeats, its values are an array.
fn header_map(all: HeadersRef<'_>) -> Map<String, Value> {
    let mut map = Map::new();
    for (name, bytes) in all.iter() {
        let value = header_value(name, bytes);
        match map.get_mut(name) {
            None if name == headers::MQTT_USER => {
                map.insert(name.to_owned(), Value::Array(vec![value]));
            }
            None => {
                map.insert(name.to_owned(), value);
            }
            Some(Value::Array(values)) => values.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    map
}

/// A header's value as people mean it: numbers of the reserved headers as numbers.
fn header_value(name: &str, bytes: &[u8]) -> Value {
    let known = match name {
        headers::MQTT_QOS | headers::MQTT_PAYLOAD_FORMAT => match bytes {
            [number] => Some(json!(number)),
            _ => None,
        },
        headers::MQTT_RETAIN => Some(json!(bytes == [1])),
        headers::MQTT_EXPIRY => bytes.try_into().ok().map(|bytes| json!(u32::from_be_bytes(bytes))),
        headers::MQTT_WILL => headers::decode_will(bytes).map(|begun| json!(begun)),
        headers::SESSION => headers::decode_session(bytes).map(|number| json!(number)),
        headers::SEQUENCE => Sequence::from_header(bytes).map(|sequence| json!(sequence.to_string())),
        headers::MQTT_USER => headers::decode_user_property(bytes).map(|(name, value)| json!([name, value])),
        _ => None,
    };
    known.unwrap_or_else(|| text(bytes))
}

#[cfg(test)]
mod tests {
    use sled_data::{HeaderBlock, OriginId, TopicId};

    use super::*;

    fn place() -> Place<'static> {
        let partition = PartitionId { origin: OriginId(0xAB), topic: TopicId(7), index: 2 };
        Place { topic: "telemetry", partition, offset: 9, is_late: false }
    }

    fn rendered(key: Option<&[u8]>, value: Option<&[u8]>, headers: &HeaderBlock) -> String {
        let record = RecordRef { offset_delta: 0, timestamp_ms: 5, key, value, headers: headers.as_ref() };
        String::from_utf8(line(place(), &record)).unwrap()
    }

    #[test]
    fn lines_have_this_shape() {
        let none = HeaderBlock::new();
        let mut mqtt = HeaderBlock::new();
        mqtt.push(headers::MQTT_TOPIC, b"sensors/s1/t");
        mqtt.push(headers::MQTT_CLIENT, b"s1");
        mqtt.push(headers::MQTT_QOS, &[0]);
        mqtt.push(headers::MQTT_RETAIN, &[1]);
        mqtt.push(headers::MQTT_EXPIRY, &60u32.to_be_bytes());
        mqtt.push(headers::MQTT_CORRELATION, &[0xFF, 0]);
        mqtt.push(headers::MQTT_USER, &headers::encode_user_property("unit", "°C").unwrap());
        mqtt.push(headers::SESSION, &headers::encode_session(12));
        mqtt.push(headers::SEQUENCE, &[1, 17, 42]);
        let mut repeated = HeaderBlock::new();
        repeated.push("a", b"1");
        repeated.push("a", b"2");
        repeated.push("a", b"3");
        let start = r#"{"topic":"telemetry","origin":"00000000000000ab","partition":2,"offset":9,"timestamp_ms":5,"#;
        let mqtt_headers = r#"{"mqtt.client":"s1","mqtt.correlation":{"base64":"/wA="},"mqtt.expiry":60,"mqtt.qos":0,"mqtt.retain":true,"mqtt.topic":"sensors/s1/t","mqtt.user":[["unit","°C"]],"sequence":"1.17.42","session":12}"#;
        // (key, value, headers, the rest of the line)
        type Bytes = Option<&'static [u8]>;
        let cases: [(Bytes, Bytes, &HeaderBlock, String); 5] = [
            (
                Some(b"s1"),
                Some(br#"{"t":1}"#),
                &none,
                r#""key":"s1","device":null,"headers":{},"value":"{\"t\":1}"}"#.into(),
            ),
            (None, Some(b"\xff\xfe"), &none, r#""key":null,"device":null,"headers":{},"value_base64":"//4="}"#.into()),
            (Some(b"\xff"), None, &none, r#""key":{"base64":"/w=="},"device":null,"headers":{},"value":null}"#.into()),
            (Some(b"k"), Some(b""), &mqtt, format!(r#""key":"k","device":"s1","headers":{mqtt_headers},"value":""}}"#)),
            (
                None,
                Some("ä\n".as_bytes()),
                &repeated,
                r#""key":null,"device":null,"headers":{"a":["1","2","3"]},"value":"ä\n"}"#.into(),
            ),
        ];
        for (key, value, headers, rest) in cases {
            assert_eq!(rendered(key, value, headers), format!("{start}{rest}\n"));
        }
        let record = RecordRef { offset_delta: 0, timestamp_ms: 5, key: None, value: None, headers: none.as_ref() };
        let late = String::from_utf8(line(Place { is_late: true, ..place() }, &record)).unwrap();
        assert_eq!(
            late,
            format!("{start}\"late\":true,\"key\":null,\"device\":null,\"headers\":{{}},\"value\":null}}\n")
        );
    }

    #[test]
    fn broken_reserved_headers_are_shown_as_they_are() {
        let mut broken = HeaderBlock::new();
        broken.push(headers::MQTT_QOS, b"12");
        broken.push(headers::MQTT_EXPIRY, b"1");
        broken.push(headers::SEQUENCE, b"9");
        broken.push(headers::MQTT_USER, b"\0\x09x");
        let line = rendered(None, None, &broken);
        assert!(
            line.contains(r#""headers":{"mqtt.expiry":"1","mqtt.qos":"12","mqtt.user":["\u0000\tx"],"sequence":"9"}"#),
            "{line}"
        );
    }

    #[test]
    fn gaps_have_this_shape() {
        let line = String::from_utf8(gap_line(place(), 12, "retention")).unwrap();
        let expected = r#"{"gap":{"from":9,"reason":"retention","to":12},"origin":"00000000000000ab","partition":2,"topic":"telemetry"}"#;
        assert_eq!(line, format!("{expected}\n"));
    }
}
