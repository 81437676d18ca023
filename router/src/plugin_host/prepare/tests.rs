//! What is appended for each kind of effect.

use devices::command::Step;

use super::*;
use crate::plugin_host::bindings::edgeway::plugin::types::{Emit, HeaderResult};
use crate::plugin_host::doubt::Doubt;

const NOW_MS: i64 = 1_000_000;

fn prepared(effect: Effect, source: &HeaderBlock, timestamp_ms: i64) -> (Counts, String) {
    prepared_in_doubt(effect, source, timestamp_ms, None)
}

fn prepared_in_doubt(
    effect: Effect,
    source: &HeaderBlock,
    timestamp_ms: i64,
    doubt: Option<Doubt>,
) -> (Counts, String) {
    let event = EventRef {
        offset: 42,
        timestamp_ms,
        key: Some(b"pump"),
        value: Some(b"hot"),
        headers: source.as_ref(),
        is_late: false,
    };
    let events = [event];
    let batch = Batch { topic: "in", partition: 2, origin: 1, term: 0, state_of: None, doubt, events: &events };
    let mut out = Vec::new();
    let effects = Effects { list: vec![effect], bytes: 0 };
    let counts = prepare(effects, &batch, "p", NOW_MS, &mut out);
    let text = |bytes: Option<&[u8]>| String::from_utf8(bytes.unwrap_or(b"-").to_vec()).unwrap();
    let one = &out[0];
    let headers: Vec<String> =
        one.headers.iter().map(|(name, value)| format!("{name}={}", text(Some(value)))).collect();
    let (key, value) = (text(one.key.bytes()), text(one.value.bytes()));
    (counts, format!("{} {} {key} {value} {}", one.topic, one.timestamp_ms, headers.join("|")))
}

fn from_mqtt() -> HeaderBlock {
    let mut block = HeaderBlock::new();
    block.push(headers::MQTT_TOPIC, b"a/b");
    block.push(headers::MQTT_CLIENT, b"c1");
    block
}

#[test]
fn a_forwarded_event_keeps_what_it_is_and_not_how_it_came() {
    let forward = Effect::Forward { cause: 0, topic: "out".into() };
    let (counts, text) = prepared(forward, &from_mqtt(), 7);
    assert_eq!(text, "out 7 pump hot mqtt.client=c1|cause=p 0 0000000000000001 in 2 42");
    assert_eq!(counts, Counts { appended: 1, ..Counts::default() });
}

#[test]
fn an_emitted_event_names_its_cause() {
    let emit = Emit {
        cause: 0,
        topic: "out".into(),
        key: None,
        value: b"v".to_vec(),
        headers: vec![HeaderResult { name: "unit".into(), value: b"C".to_vec() }],
        timestamp_ms: None,
    };
    let (_, text) = prepared(Effect::Emit { cause: 0, emit }, &from_mqtt(), 7);
    assert_eq!(text, "out 7 - v unit=C|cause=p 0 0000000000000001 in 2 42");
}

#[test]
fn a_dead_letter_is_the_event_with_its_story() {
    let (counts, text) = prepared(Effect::DeadLetter { cause: 0, reason: "no".into() }, &from_mqtt(), 7);
    assert_eq!(
        text,
        "_dead_letters 1000000 pump hot dead.plugin=p|dead.topic=in|dead.partition=2|dead.offset=42|dead.error=no\
         |mqtt.topic=a/b|mqtt.client=c1"
    );
    assert_eq!(counts, Counts { dead_letters: 1, ..Counts::default() });
}

#[test]
fn a_wish_names_who_and_why() {
    let document = devices::twin::Document::parse(br#"{"a":1}"#).unwrap();
    let wish = WishEffect { device: "pump".into(), document, replace: true, if_version: Some(3) };
    let (counts, text) = prepared(Effect::SetDesired { cause: 0, ordinal: 2, wish }, &from_mqtt(), 7);
    assert_eq!(
        text.trim_end(),
        r#"_wishes 1000000 pump {"v":1,"at_ms":1000000,"who":"plugin:p","document":{"a":1},"replace":true,"if_version":3,"cause":{"plugin":"p","topic":"in","origin":1,"partition":2,"offset":42,"index":2}}"#
    );
    assert_eq!(counts, Counts { wishes: 1, ..Counts::default() });
}

#[test]
fn a_command_expires_from_its_cause_on_and_its_id_is_the_causes() {
    let command = |payload: &[u8]| Effect::Command {
        cause: 0,
        ordinal: 3,
        command: CommandEffect {
            device: "pump".into(),
            name: "cool".into(),
            payload: payload.to_vec(),
            deliver_within_ms: 60_000,
            repeat: devices::command::Repeat::Safe,
            execution_timeout_ms: None,
            urgent: false,
            supersede: None,
        },
    };
    let cases = [(NOW_MS - 5_000, NOW_MS + 55_000), (0, 60_000), (NOW_MS + 99_000, NOW_MS + 60_000)];
    for (timestamp_ms, deliver_by_ms) in cases {
        let (counts, text) = prepared(command(b"{}"), &from_mqtt(), timestamp_ms);
        assert_eq!(counts, Counts { commands: 1, ..Counts::default() });
        let value = text.strip_prefix("_commands 1000000 pump ").unwrap().trim_end();
        let step = StepEvent::decode(value.as_bytes()).unwrap();
        let Step::Queued(queued) = &step.step else { panic!("{step:?}") };
        assert_eq!(queued.deliver_by_ms, u64::try_from(deliver_by_ms).unwrap());
        assert_eq!(queued.issued_by, "plugin:p");
        let cause = queued.cause.clone().unwrap();
        assert_eq!((cause.offset, cause.index, cause.topic.as_str()), (42, 3, "in"));
        let (_, again) = prepared(command(b"other"), &from_mqtt(), timestamp_ms);
        assert!(again.contains(&step.id.to_string()), "the id depends on the cause alone");
    }
}

#[test]
fn a_command_that_a_lost_node_may_have_sent_is_not_sent_again_unless_it_may_be() {
    let life = sled_data::OriginId(0xab);
    let cases = [
        (Repeat::Never, Some(43), Some(true)),
        (Repeat::Never, Some(u64::MAX), Some(true)),
        (Repeat::Safe, Some(43), Some(false)),
        (Repeat::Never, Some(42), None),
        (Repeat::Never, None, None),
    ];
    for (repeat, until, is_over) in cases {
        let command = CommandEffect {
            device: "valve".into(),
            name: "open".into(),
            payload: Vec::new(),
            deliver_within_ms: 60_000,
            repeat,
            execution_timeout_ms: None,
            urgent: false,
            supersede: None,
        };
        let effect = Effect::Command { cause: 0, ordinal: 0, command };
        let doubt = until.map(|until| Doubt { life, until });
        let (_, text) = prepared_in_doubt(effect, &from_mqtt(), NOW_MS, doubt);
        let step = StepEvent::decode(text.strip_prefix("_commands 1000000 valve ").unwrap().trim_end().as_bytes());
        let Step::Queued(queued) = step.unwrap().step else { panic!("{text}") };
        let told = queued.taken.map(|taken| (taken.from, taken.term, taken.may_have_arrived, taken.is_over));
        assert_eq!(told, is_over.map(|is_over| (OriginHex(0xab), 1, true, is_over)), "{repeat:?} {until:?}");
    }
}
