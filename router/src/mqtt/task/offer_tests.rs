//! The bytes of a command on the wire are those that `docs/commands.md` shows to firmware authors.

use std::sync::Arc;
use std::time::{Duration, Instant};

use devices::command::{CommandId, Status, answer_topic, command_topic};
use sled_data::MemoryBackend;

use super::tests::{Client, node_on, packet, subscribe, text};
use crate::sessions::{Delivery, Offer, Terms};

const PAGE: &str = include_str!("../../../../docs/commands.md");

/// The bytes of a block of the page: pairs of hexadecimal digits, quoted text, `#` before what is for people.
fn shown(name: &str) -> Vec<u8> {
    let block = PAGE.split("```bytes ").find_map(|block| block.strip_prefix(name)?.strip_prefix('\n')).unwrap();
    let mut bytes = Vec::new();
    for line in block.split("```").next().unwrap().lines() {
        let mut rest = line.trim();
        while !rest.is_empty() && !rest.starts_with('#') {
            if rest.starts_with('"') {
                let mut texts = serde_json::Deserializer::from_str(rest).into_iter::<String>();
                bytes.extend(texts.next().unwrap().unwrap().into_bytes());
                rest = rest[texts.byte_offset()..].trim_start();
            } else {
                let (byte, more) = rest.split_once(' ').unwrap_or((rest, ""));
                bytes.push(u8::from_str_radix(byte, 16).unwrap());
                rest = more.trim_start();
            }
        }
    }
    bytes
}

fn id() -> CommandId {
    "01920d3c-5b7a-7c3d-8e4f-0123456789ab".parse().unwrap()
}

fn cool() -> Offer {
    let topic = command_topic("pump-7", id(), "cool");
    let mut offer = Offer::new(topic.into(), br#"{"to":5}"#.as_slice().into(), |_| {});
    offer.expires = Some(Instant::now() + Duration::from_millis(60_900));
    offer.terms = Some(Terms {
        id: *id().as_bytes(),
        deliver_by_ms: 1_767_225_660_000,
        execution_timeout_ms: 60_000,
        attempt: 1,
        never_repeat: false,
    });
    offer
}

#[tokio::test]
async fn a_command_has_the_bytes_that_are_documented() {
    for (version, block) in [(5, "command-mqtt-5"), (4, "command-mqtt-3")] {
        let node = node_on(&Arc::new(MemoryBackend::new()));
        let mut client = Client::connect_as(&node, "pump-7", version).await;
        client.send(&subscribe("edgeway/command/pump-7/#", 1, version)).await;
        assert_eq!(client.next().await.unwrap().0, 0x90, "SUBACK");
        let handle = node.sessions.find_receiver(&command_topic("pump-7", id(), "cool"), |_| true).unwrap();
        assert!(handle.offer(cool()).is_ok());
        let (first, body) = client.next().await.unwrap();
        let (sent, shown) = (packet(first, &body), shown(block));
        assert_eq!(String::from_utf8_lossy(&sent), String::from_utf8_lossy(&shown), "{block}");
        assert_eq!(sent, shown, "{block}");
        node.log.close();
    }
}

#[test]
fn what_a_device_says_has_the_bytes_that_are_documented() {
    assert_eq!(shown("puback"), packet(0x40, &[0, 1]));
    let topic = answer_topic("pump-7", id(), Status::Succeeded);
    let answer = packet(0x32, &[&text(&topic)[..], &[0, 1, 0], b"at 5"].concat());
    assert_eq!(shown("answer-mqtt-5"), answer);
}

#[tokio::test]
async fn a_client_that_subscribes_at_qos_0_gets_commands_at_qos_0_and_confirms_none() {
    for version in [5, 4] {
        let node = node_on(&Arc::new(MemoryBackend::new()));
        let mut client = Client::connect_as(&node, "pump-7", version).await;
        let mut at_0 = subscribe("edgeway/command/pump-7/#", 1, version);
        *at_0.last_mut().unwrap() = 0;
        client.send(&at_0).await;
        assert_eq!(client.next().await.unwrap().0, 0x90, "SUBACK");
        let topic = command_topic("pump-7", id(), "cool");
        let handle = node.sessions.find_receiver(&topic, |_| true).unwrap();
        let told = Arc::new(parking_lot::Mutex::new(Vec::new()));
        let offer = |topic: &str| {
            let told = Arc::clone(&told);
            Offer::new(topic.into(), b"{}".as_slice().into(), move |fate| told.lock().push(fate))
        };
        assert!(handle.offer(offer(&topic)).is_ok());
        let (first, body) = client.next().await.unwrap();
        let properties = if version == 5 { &[0][..] } else { &[] };
        assert_eq!((first, body), (0x30, [&text(&topic), properties, b"{}"].concat()), "QoS 0, no packet id");
        assert_eq!(*told.lock(), [Delivery::Sent]);
        // A wider subscription at QoS 1 counts for the topics of both.
        client.send(&subscribe("edgeway/command/#", 2, version)).await;
        assert_eq!(client.next().await.unwrap().0, 0x90, "SUBACK");
        assert!(handle.offer(offer(&topic)).is_ok());
        assert_eq!(client.next().await.unwrap().0, 0x32, "QoS 1");
        drop(client);
        while node.sessions.live() > 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(*told.lock(), [Delivery::Sent, Delivery::Sent, Delivery::Dropped, Delivery::Dropped]);
        node.log.close();
    }
}
