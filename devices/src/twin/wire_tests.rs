//! Golden topics and payloads: what `docs/twins.md` shows is what is sent.

use super::super::{Act, Document};
use super::*;
use crate::command::DEVICE_BYTES_MAX;

fn document(json: &str) -> Document {
    Document::parse(json.as_bytes()).unwrap()
}

#[test]
fn topics_are_golden_and_come_back() {
    let reported = |if_version| FromDevice::Reported { device: "pump-7", if_version };
    let from = [
        (report_topic("pump-7"), "edgeway/twin/pump-7/reported", reported(None)),
        (report_topic_if("pump-7", 3), "edgeway/twin/pump-7/reported/3", reported(Some(3))),
        (get_topic("pump-7"), "edgeway/twin/pump-7/get", FromDevice::Get { device: "pump-7" }),
    ];
    for (topic, golden, parsed) in from {
        assert_eq!(topic, golden);
        assert_eq!(parse_from_device(&topic), Ok(parsed));
        assert_eq!(parsed.device(), "pump-7");
        assert!(parse_to_device(&topic).is_err());
    }
    let to = [
        (delta_topic("p", 7), "edgeway/twin/p/delta/7", ToDevice::Delta { device: "p", version: 7 }),
        (state_topic("p"), "edgeway/twin/p/state", ToDevice::State { device: "p" }),
        (refused_topic("p"), "edgeway/twin/p/refused", ToDevice::Refused { device: "p" }),
    ];
    for (topic, golden, parsed) in to {
        assert_eq!(topic, golden);
        assert_eq!(parse_to_device(&topic), Ok(parsed));
        assert!(parse_from_device(&topic).is_err(), "a device cannot speak for the node");
        assert!(takes(&subscriptions_of("p"), &topic));
    }
}

#[test]
fn other_topics_are_refused_by_reason() {
    let long = "d".repeat(DEVICE_BYTES_MAX + 1);
    let cases = [
        ("", TopicError::Shape),
        ("edgeway/twin/", TopicError::Shape),
        ("edgeway/twin/d", TopicError::Shape),
        ("edgeway/twin//get", NameError::Empty.into()),
        ("edgeway/twin/d/get/1", TopicError::Shape),
        ("edgeway/twin/d/reported/1/2", TopicError::Shape),
        ("edgeway/twin/d/desired", TopicError::Shape),
        ("edgeway/twin/d/reported/", TopicError::Version),
        ("edgeway/twin/d/reported/-1", TopicError::Version),
        ("edgeway/twin/d/reported/01", TopicError::Version),
        ("edgeway/twin/d/reported/18446744073709551616", TopicError::Version),
        (&format!("edgeway/twin/{long}/get"), NameError::TooLong { max: DEVICE_BYTES_MAX }.into()),
    ];
    for (topic, error) in cases {
        assert_eq!(parse_from_device(topic), Err(error), "{topic}");
    }
    let most = parse_from_device("edgeway/twin/d/reported/18446744073709551615");
    assert_eq!(most, Ok(FromDevice::Reported { device: "d", if_version: Some(u64::MAX) }));
}

#[test]
fn who_subscribes_to_twins_by_name_takes_them() {
    let topic = "edgeway/twin/d/delta/1";
    for filter in ["edgeway/twin/#", "edgeway/twin/d/#", "edgeway/twin/+/delta/+", "edgeway/twin/d/+/+", topic] {
        assert!(takes(filter, topic), "{filter}");
    }
    for filter in ["#", "+/#", "edgeway/#", "edgeway/twin/e/#", "edgeway/twin/d/+", "edgeway/twin/d/delta", "x"] {
        assert!(!takes(filter, topic), "{filter}");
    }
}

#[test]
fn payloads_are_golden() {
    let mut twin = Twin::default();
    assert_eq!(state_message(None), r#"{"desired":{"version":0,"state":{}},"reported":{"version":0,"state":{}}}"#);
    let set = |half, json| Act::Patched { half, version: 0, patch: document(json) };
    twin = twin.after(&set(super::super::Half::Desired, r#"{"on":true,"interval_s":30}"#), None, 1, "cli").unwrap().0;
    twin = twin.after(&set(super::super::Half::Reported, r#"{"on":true}"#), None, 2, "device:p").unwrap().0;
    assert_eq!(
        state_message(Some(&twin)),
        r#"{"desired":{"version":1,"state":{"interval_s":30,"on":true}},"reported":{"version":1,"state":{"on":true}}}"#
    );
    assert_eq!(delta_message(1, &twin.delta()), r#"{"version":1,"delta":{"interval_s":30}}"#);
    let refusal = Refusal::Version { expected: 2, found: 3 };
    assert_eq!(
        refused_message(&refusal, 3),
        r#"{"code":"version_conflict","text":"the version is 3, not 2; read it again and decide anew","version":3}"#
    );
}
