//! Golden bytes: what `docs/edgeway-1.md` shows is what is sent.

use std::fmt::Debug;

use serde::{Deserialize, Serialize};

use super::*;
use crate::sequence::Number;

fn check<'a, T: Serialize + Deserialize<'a> + PartialEq + Debug>(value: &T, golden: &'a [u8]) {
    let mut bytes = Vec::new();
    encode(value, &mut bytes).unwrap();
    assert_eq!(bytes, golden, "{value:?} is sent as {}", bytes.escape_ascii());
    let Ok(Framed::Whole { frame, taken }) = next_frame(golden) else { panic!("a whole frame: {value:?}") };
    assert_eq!(taken, golden.len());
    assert_eq!(decode::<T>(frame).unwrap(), *value);
}

#[test]
fn opening() {
    let hello = Hello { device: "pump-7", agent: "fw/1.2", commands: true, token: b"" };
    check(&Open::Hello(hello), b"\x11\x00\x06pump-7\x06fw/1.2\x01\x00");
    check(&Open::Lane(1), b"\x02\x01\x01");
    check(&Open::Events, b"\x01\x02");
}

#[test]
fn control() {
    let limits = Limits { frame_bytes_max: 262_144, events_per_frame_max: 4_096, frames_in_flight_max: 64 };
    let lanes = vec![LaneState { lane: 1, last: Number { boot: 17, seq: 300 } }];
    let welcome = ToDevice::Welcome { node: "gw", origin: 1, now_ms: 1_000, limits, lanes };
    check(&welcome, b"\x12\x00\x02gw\x01\xd0\x0f\x80\x80\x10\x80\x20\x40\x01\x01\x11\xac\x02");
    let id = *b"0123456789abcdef";
    let command = ToDevice::Command {
        delivery: 1,
        device: "pump-7",
        id,
        name: "cool",
        expires_in_ms: Some(60_000),
        properties: vec![("urgent", "1")],
        payload: b"{}",
    };
    check(&command, b"\x2f\x01\x01\x06pump-70123456789abcdef\x04cool\x01\xe0\xd4\x03\x01\x06urgent\x011\x02{}");
    check(&FromDevice::Received { delivery: 1 }, b"\x02\x00\x01");
    check(&FromDevice::Goodbye, b"\x01\x01");
}

#[test]
fn lanes() {
    let event = |skipped, later_ms, payload| Event { skipped, later_ms, payload, properties: Vec::new() };
    let mut events = vec![event(0, 0, &b"21.5"[..]), event(2, 1_000, b"21.6")];
    events[1].properties.push(("unit", "C"));
    let publish = Publish { topic: "s/t", boot: 17, first: 301, timestamp_ms: 1_000, events };
    let golden = b"\x22\x03s/t\x11\xad\x02\xd0\x0f\x02\x00\x00\x0421.5\x00\x02\xd0\x0f\x0421.6\x01\x04unit\x01C";
    check(&publish, golden);
    let numbers: Vec<u64> = publish.numbered().map(|(number, _)| number.seq).collect();
    assert_eq!(numbers, [301, 304]);
    check(&LaneReply::Opened { last: None }, b"\x02\x00\x00");
    let number = Number { boot: 17, seq: 304 };
    check(&LaneReply::Opened { last: Some(number) }, b"\x05\x00\x01\x11\xb0\x02");
    check(&LaneReply::Acked { up_to: number }, b"\x04\x01\x11\xb0\x02");
    let refused = Refused { boot: 17, first: 301, last: 304, why: Refusal::StaleBoot };
    check(&LaneReply::Refused(refused), b"\x07\x02\x11\xad\x02\xb0\x02\x04");
}

#[test]
fn events() {
    check(&Want::Subscribe { filter: "s/#" }, b"\x05\x00\x03s/#");
    check(&Want::Unsubscribe { filter: "s/#" }, b"\x05\x01\x03s/#");
    check(&Told::Subscribed { refused: None }, b"\x02\x00\x00");
    check(&Told::Subscribed { refused: Some(Refusal::TopicInvalid) }, b"\x03\x00\x01\x00");
    check(&Told::Unsubscribed, b"\x01\x01");
    check(&Told::Event { topic: "s/t", timestamp_ms: 1_000, payload: b"21.5" }, b"\x0c\x02\x03s/t\xd0\x0f\x0421.5");
}

#[test]
fn a_twin() {
    check(&Want::Subscribe { filter: "edgeway/twin/pump-7/#" }, b"\x17\x00\x15edgeway/twin/pump-7/#");
    let (topic, payload) = ("edgeway/twin/pump-7/delta/1", br#"{"version":1,"delta":{"interval_s":30}}"#);
    let golden = b"\x47\x02\x1bedgeway/twin/pump-7/delta/1\xd0\x0f\x27{\"version\":1,\"delta\":{\"interval_s\":30}}";
    check(&Told::Event { topic, timestamp_ms: 1_000, payload }, golden);
    let report = Event { skipped: 0, later_ms: 0, payload: br#"{"interval_s":30}"#, properties: Vec::new() };
    let topic = "edgeway/twin/pump-7/reported/0";
    let publish = Publish { topic, boot: 17, first: 301, timestamp_ms: 1_000, events: vec![report] };
    let golden = b"\x3a\x1eedgeway/twin/pump-7/reported/0\x11\xad\x02\xd0\x0f\x01\x00\x00\x11{\"interval_s\":30}\x00";
    check(&publish, golden);
}

#[test]
fn a_datagram_has_no_length_before_it() {
    let datagram = Datagram { topic: "s/t", timestamp_ms: 1_000, payload: b"21.5" };
    let bytes = postcard::to_stdvec(&datagram).unwrap();
    assert_eq!(bytes, b"\x03s/t\xd0\x0f\x0421.5");
    assert_eq!(decode::<Datagram<'_>>(&bytes).unwrap(), datagram);
}

#[test]
fn numbers_end_where_64_bits_do() {
    let event = Event { skipped: 0, later_ms: 0, payload: b"", properties: Vec::new() };
    let publish = Publish {
        topic: "t",
        boot: 1,
        first: u64::MAX - 1,
        timestamp_ms: 0,
        events: vec![event.clone(), event.clone(), event],
    };
    assert_eq!(publish.numbered().count(), 2);
}
