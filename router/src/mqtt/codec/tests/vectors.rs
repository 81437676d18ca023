//! Runs the tables of vectors: each is read whole, cut at every byte, and with bytes behind it.

use crate::mqtt::codec::{DecodeError, Decoded, Packet, Settings, Version, decode};

struct Vector {
    line: usize,
    verdict: String,
    settings: Settings,
    bytes: Vec<u8>,
    what: String,
}

fn name(packet: &Packet<'_>) -> &'static str {
    match packet {
        Packet::Connect(_) => "CONNECT",
        Packet::ConnAck(_) => "CONNACK",
        Packet::Publish(_) => "PUBLISH",
        Packet::PubAck(_) => "PUBACK",
        Packet::PubRec(_) => "PUBREC",
        Packet::PubRel(_) => "PUBREL",
        Packet::PubComp(_) => "PUBCOMP",
        Packet::Subscribe(_) => "SUBSCRIBE",
        Packet::SubAck(_) => "SUBACK",
        Packet::Unsubscribe(_) => "UNSUBSCRIBE",
        Packet::UnsubAck(_) => "UNSUBACK",
        Packet::PingReq => "PINGREQ",
        Packet::PingResp => "PINGRESP",
        Packet::Disconnect(_) => "DISCONNECT",
        Packet::Auth(_) => "AUTH",
    }
}

fn verdict(result: &Result<Decoded<'_>, DecodeError>) -> String {
    match result {
        Ok(Decoded::Packet { packet, .. }) => name(packet).to_owned(),
        Ok(Decoded::More { bytes }) => format!("more {bytes}"),
        Err(error) => format!("{:02x} {}", error.reason().code(), error.statement()),
    }
}

/// Bytes from their notation: the remaining length and the properties' lengths are filled in.
fn bytes_of(notation: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let mut remaining_at = None;
    let mut properties_at = None;
    for token in notation.split_whitespace() {
        match token {
            ".." => {
                out.push(0);
                remaining_at = Some(out.len());
            }
            "[" => {
                out.push(0);
                properties_at = Some(out.len());
            }
            "]" => {
                let at: usize = properties_at.take().unwrap();
                out[at - 1] = u8::try_from(out.len() - at).unwrap();
                assert!(out[at - 1] < 0x80);
            }
            _ => match token.strip_prefix('=') {
                Some(text) => {
                    out.extend_from_slice(&u16::try_from(text.len()).unwrap().to_be_bytes());
                    out.extend_from_slice(text.as_bytes());
                }
                None => {
                    assert_eq!(token.len() % 2, 0, "{token}");
                    let digits = (0..token.len()).step_by(2).map(|at| &token[at..at + 2]);
                    out.extend(digits.map(|byte| u8::from_str_radix(byte, 16).unwrap()));
                }
            },
        }
    }
    if let Some(at) = remaining_at {
        let length = out.len() - at;
        if length < 0x80 {
            out[at - 1] = length as u8;
        } else {
            out[at - 1] = (length & 0x7f) as u8 | 0x80;
            out.insert(at, (length >> 7) as u8);
        }
    }
    out
}

fn table(text: &str, version: Version) -> Vec<Vector> {
    let lines = text.lines().enumerate().filter(|(_, line)| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|(at, line)| {
            let fields: Vec<&str> = line.split(';').map(str::trim).collect();
            let [verdict, sender, bytes, what] = fields[..] else { panic!("line {}: {line}", at + 1) };
            let settings = match sender {
                "c" => Settings::server(version),
                "s" => Settings::client(version),
                _ => panic!("line {}: {line}", at + 1),
            };
            Vector {
                line: at + 1,
                verdict: verdict.to_owned(),
                settings,
                bytes: bytes_of(bytes),
                what: what.to_owned(),
            }
        })
        .collect()
}

fn tables() -> [(&'static str, Vec<Vector>); 2] {
    [
        ("v311.vectors", table(include_str!("v311.vectors"), Version::V311)),
        ("v5.vectors", table(include_str!("v5.vectors"), Version::V5)),
    ]
}

#[test]
fn every_vector_gets_its_verdict() {
    let mut wrong = Vec::new();
    for (file, table) in tables() {
        assert!(table.len() >= 60, "{file} has {} vectors", table.len());
        for vector in table {
            let result = decode(&vector.bytes, &vector.settings);
            let found = verdict(&result);
            // A CONNECT is judged by the version that it names, so its statement may be the other text's.
            if found != vector.verdict {
                wrong.push(format!(
                    "{file}:{}: {}: {:02x?} is {found}, not {}",
                    vector.line, vector.what, vector.bytes, vector.verdict
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_whole_packet_is_never_judged_before_it_is_there() {
    for (file, table) in tables() {
        for vector in table.iter().filter(|vector| vector.verdict.chars().next().unwrap().is_uppercase()) {
            for cut in 0..vector.bytes.len() {
                match decode(&vector.bytes[..cut], &vector.settings) {
                    Ok(Decoded::More { bytes }) => {
                        assert!(bytes >= 1 && bytes <= (vector.bytes.len() - cut).max(2), "{file}:{}", vector.line)
                    }
                    other => panic!("{file}:{} cut at {cut}: {other:?}", vector.line),
                }
            }
            let mut longer = vector.bytes.clone();
            longer.extend_from_slice(&[0xff; 9]);
            let Ok(Decoded::Packet { len, packet }) = decode(&longer, &vector.settings) else {
                panic!("{file}:{}", vector.line)
            };
            assert_eq!(len, vector.bytes.len());
            assert_eq!(name(&packet), vector.verdict);
        }
    }
}

#[test]
fn a_refused_connect_says_how_it_may_be_answered() {
    let cases = [
        ("10 .. =MQTT 03 02 003c =a", Some(Version::V311)),
        ("10 .. =MQIsdp 03 02 003c =a", Some(Version::V311)),
        ("10 .. =MQTT 06 02 003c =a", Some(Version::V5)),
        ("10 .. =MQTT 05 03 003c [ ] =a", Some(Version::V5)),
        ("10 .. =MQTT 04 03 003c =a", Some(Version::V311)),
        ("10 .. =mqtt 04 02 003c =a", None),
        ("30 .. =a 00", None),
    ];
    for (notation, connack) in cases {
        let bytes = bytes_of(notation);
        let error = crate::mqtt::codec::decode_first(&bytes, &Settings::server(Version::V5)).unwrap_err();
        assert_eq!(error.connack, connack, "{notation}");
    }
}
