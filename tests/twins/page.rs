//! What `docs/twins.md` shows, byte for byte, spoken to a real node.

use std::io::{Read, Write};
use std::net::TcpStream;

use super::{set, wait_reported};
use crate::harness::{Node, wait};

/// One packet as its bytes.
fn packet(stream: &mut TcpStream) -> Vec<u8> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).unwrap();
    // All packets of this test are shorter than 128 bytes.
    let mut bytes = head.to_vec();
    bytes.resize(2 + usize::from(head[1]), 0);
    stream.read_exact(&mut bytes[2..]).unwrap();
    bytes
}

/// CONNECT, SUBSCRIBE, the delta that comes, and the report, in one version of MQTT.
fn page(version: u8) -> [&'static [u8]; 4] {
    match version {
        5 => [
            b"\x10\x13\x00\x04MQTT\x05\x02\x00\x3c\x00\x00\x06pump-7",
            b"\x82\x1b\x00\x01\x00\x00\x15edgeway/twin/pump-7/#\x01",
            b"\x32\x47\x00\x1bedgeway/twin/pump-7/delta/1\x00\x01\x00{\"version\":1,\"delta\":{\"interval_s\":30}}",
            b"\x32\x3f\x00\x1cedgeway/twin/pump-7/reported\x00\x02\x0d\x26\x00\x07version\x00\x010{\"interval_s\":30}",
        ],
        _ => [
            b"\x10\x12\x00\x04MQTT\x04\x02\x00\x3c\x00\x06pump-7",
            b"\x82\x1a\x00\x01\x00\x15edgeway/twin/pump-7/#\x01",
            b"\x32\x46\x00\x1bedgeway/twin/pump-7/delta/1\x00\x01{\"version\":1,\"delta\":{\"interval_s\":30}}",
            b"\x32\x33\x00\x1eedgeway/twin/pump-7/reported/0\x00\x02{\"interval_s\":30}",
        ],
    }
}

#[test]
fn the_bytes_of_the_page_are_spoken() {
    for version in [4, 5] {
        let node = Node::start();
        let [connect, subscribe, delta, report] = page(version);
        set(&node, "pump-7", r#"{"interval_s":30}"#, &[]).ok();
        let mut stream = TcpStream::connect(node.mqtt).unwrap();
        stream.set_read_timeout(Some(wait::WAIT_MAX)).unwrap();
        stream.write_all(connect).unwrap();
        assert_eq!(packet(&mut stream)[0], 0x20, "CONNACK");
        stream.write_all(subscribe).unwrap();
        // The two may come in either order.
        let mut got = [packet(&mut stream), packet(&mut stream)];
        got.sort();
        assert_eq!((got[0].as_slice(), got[1][0]), (delta, 0x90), "the delta and SUBACK");
        stream.write_all(b"\x40\x02\x00\x01").unwrap();
        stream.write_all(report).unwrap();
        assert_eq!(packet(&mut stream), [0x40, 2, 0, 2], "PUBACK");
        wait_reported(&node, "pump-7", 1);
    }
}
