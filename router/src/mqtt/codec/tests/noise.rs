//! Random and damaged bytes: refused or read, never a panic, and never more consumed than there is.

use crate::mqtt::codec::{Decoded, Packet, Settings, Version, decode, encode};
use proptest::prelude::*;

fn all_settings() -> [Settings; 4] {
    [
        Settings::server(Version::V311),
        Settings::server(Version::V5),
        Settings::client(Version::V311),
        Settings::client(Version::V5),
    ]
}

/// Reads everything that a packet holds, so that lazily parsed parts are parsed too, and writes it again.
fn use_up(packet: &Packet<'_>, settings: &Settings, len: usize) {
    let version = match packet {
        Packet::Connect(connect) => connect.version,
        _ => settings.version,
    };
    let mut again = Vec::new();
    encode(packet, version, &mut again).unwrap();
    assert!(again.len() <= len, "{packet:?}");
    match decode(&again, settings).unwrap() {
        Decoded::Packet { packet: second, len } => {
            assert_eq!(&second, packet);
            assert_eq!(len, again.len());
        }
        more => panic!("{more:?}"),
    }
    match packet {
        Packet::Publish(publish) => assert!(publish.properties.iter().count() <= len),
        Packet::Subscribe(subscribe) => assert!(subscribe.filters.iter().count() >= 1),
        Packet::Unsubscribe(unsubscribe) => assert!(unsubscribe.filters.iter().count() >= 1),
        _ => {}
    }
}

fn check(bytes: &[u8]) {
    for settings in all_settings() {
        match decode(bytes, &settings) {
            Ok(Decoded::Packet { packet, len }) => {
                assert!(len <= bytes.len());
                use_up(&packet, &settings, len);
            }
            Ok(Decoded::More { bytes }) => assert!(bytes > 0),
            Err(error) => assert!(error.reason().is_error() && !error.to_string().is_empty()),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes_do_not_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80)) {
        check(&bytes);
    }

    #[test]
    fn random_bodies_behind_a_right_length_do_not_panic(
        first in any::<u8>(),
        body in proptest::collection::vec(prop_oneof![0u8..6, any::<u8>()], 0..100),
    ) {
        let mut bytes = vec![first, body.len() as u8];
        bytes.extend_from_slice(&body);
        check(&bytes);
    }

    #[test]
    fn damaged_connects_do_not_panic(at in 0usize..60, with in any::<u8>()) {
        let mut bytes = b"\x10\x38\x00\x04MQTT\x05\xee\x00\x0a\x05\x11\x00\x00\x00\x01\x00\x01a\x05\x18\x00\x00\x00\x01\x00\x03w/t\x00\x03bye\x00\x04user\x00\x0bpasswordxyz".to_vec();
        if let Some(byte) = bytes.get_mut(at) {
            *byte = with;
        }
        check(&bytes);
    }
}
