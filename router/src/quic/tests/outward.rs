//! `edgeway/1`: events and commands out.

use bytes::Bytes;
use devices::command::{CommandId, State, Status, answer_topic};
use devices::native::{Datagram, FromDevice, ToDevice, Told, Want, decode};
use devices::sequence::Lane;
use tokio::sync::watch;

use super::client::BOUNDS;
use super::device::{Stream, framed, hello, number, publish};
use super::*;
use crate::commands::{Commands, NewCommand};

async fn publish_from(node: &Node, name: &str, topic: &str, payloads: &[&str]) -> Stream {
    let device = node.device(name).await;
    let (mut lane, _) = device.lane(Lane::NORMAL).await;
    lane.write(&publish(topic, 1, 0, payloads)).await;
    lane.acked(number(1, payloads.len() as u64 - 1)).await;
    lane
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_comes_once_however_many_filters_it_matches() {
    let node = Node::start();
    let device = node.device("s").await;
    let mut events = device.events().await;
    for filter in ["a/#", "a/+", "a/b"] {
        assert!(events.subscribe(filter).await, "{filter}");
    }
    let deep = vec!["+"; 32_000].join("/");
    for filter in ["a#", "", "$share/g/a", &deep] {
        assert!(!events.subscribe(filter).await, "{filter}");
    }
    publish_from(&node, "d1", "a/b", &["1", "2"]).await;
    publish_from(&node, "d2", "other", &["x"]).await;
    for filter in ["a/#", "a/+", "never"] {
        events.write(&framed(&Want::Unsubscribe { filter })).await;
    }
    publish_from(&node, "d3", "a/c", &["y"]).await;
    publish_from(&node, "d4", "a/b", &["3"]).await;
    let mut got = Vec::new();
    while got.len() < 3 {
        let frame = events.frame().await.unwrap().unwrap();
        match decode(&frame).unwrap() {
            Told::Event { topic, payload, .. } => got.push((topic.to_owned(), payload.to_vec())),
            told => assert_eq!(told, Told::Unsubscribed),
        }
    }
    let expected = [b"1", b"2", b"3"].map(|payload| ("a/b".to_owned(), payload.to_vec()));
    assert_eq!(got, expected);
    // The stream's end ends the subscriptions.
    events.send.finish().unwrap();
    assert_eq!(events.frame().await, Ok(None));
    let filters =
        |node: &Node| node.sessions.list().iter().find(|s| s.device.client_id == "s").unwrap().filters.clone();
    assert_eq!(filters(&node), ["edgeway/command/s/#"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_wishes_are_answered_however_many_come_at_once() {
    let node = Node::start();
    let device = node.device("w").await;
    let mut events = device.events().await;
    let filters: Vec<String> = (0..500).map(|n| format!("w/{n}")).collect();
    let subscribes: Vec<u8> = filters.iter().flat_map(|filter| framed(&Want::Subscribe { filter })).collect();
    let unsubscribes: Vec<u8> = filters.iter().flat_map(|filter| framed(&Want::Unsubscribe { filter })).collect();
    events.write(&[subscribes, unsubscribes].concat()).await;
    for n in 0..1_000 {
        let expected = if n < 500 { Told::Subscribed { refused: None } } else { Told::Unsubscribed };
        assert_eq!(decode::<Told<'_>>(&events.frame().await.unwrap().unwrap()).unwrap(), expected, "{n}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_come_from_mqtt_and_go_to_it_and_readings_come_at_once() {
    let node = Node::start();
    let device = node.device("q").await;
    let mut events = device.events().await;
    assert!(events.subscribe("#").await);
    let mut mqtt = node.client("m").await;
    mqtt.write(&subscribe(1, "from/q")).await;
    mqtt.packet().await.unwrap();
    mqtt.write(&super::client::publish("from/m", 3, b"42")).await;
    assert_eq!(acknowledged(&mqtt.packet().await.unwrap()), Some(3));
    assert_eq!(events.event().await, ("from/m".to_owned(), "42".to_owned()));
    // What is too large for a frame is left out, and nothing else with it.
    let large = vec![b'x'; devices::native::FRAME_BYTES_MAX];
    mqtt.write(&super::client::publish("from/m", 4, &large)).await;
    assert_eq!(acknowledged(&mqtt.packet().await.unwrap()), Some(4));
    node.counted(|stats| read(&stats.events_left_out), 1).await;
    let (mut lane, _) = device.lane(Lane::NORMAL).await;
    lane.write(&publish("from/q", 1, 0, &["43"])).await;
    lane.acked(number(1, 0)).await;
    let (kind, body) = mqtt.packet().await.unwrap();
    assert_eq!((kind & 0xf6, &body[body.len() - 2..]), (0x32, &b"43"[..]));
    assert_eq!(events.event().await.1, "43");
    let datagram = Datagram { topic: "reading", timestamp_ms: 0, payload: b"44" };
    device.connection.send_datagram(Bytes::from(postcard::to_stdvec(&datagram).unwrap())).unwrap();
    assert_eq!(events.event().await, ("reading".to_owned(), "44".to_owned()));
    lane.write(&publish("last", 1, 1, &["45"])).await;
    assert_eq!(events.event().await.1, "45", "the reading does not come again when it is stored");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_is_delivered_confirmed_and_answered() {
    let node = Node::start();
    let commands = Commands::open(Arc::clone(&node.log), Arc::clone(&node.sessions), Default::default()).unwrap();
    let (stop, stopped) = watch::channel(false);
    let task = tokio::spawn(Arc::clone(&commands).run(stopped));
    let mut device = node.device("pump-7").await;
    // One that takes no commands, though it wants all there is to see.
    let (addr, pin) = (node.listener.addr(), node.listener.fingerprint());
    let onlooker = Device::connect_with(addr, pin, &hello("screen", false), BOUNDS).await;
    assert!(onlooker.events().await.subscribe("#").await);
    let command = NewCommand { payload: b"{}".to_vec(), ..NewCommand::new("pump-7", "cool", "test") };
    let id = commands.submit(command).await.unwrap().id;
    let frame = device.control.frame().await.unwrap().unwrap();
    let ToDevice::Command { delivery, device: name, id: bytes, name: what, expires_in_ms, properties, payload } =
        decode(&frame).unwrap()
    else {
        panic!("{frame:?}")
    };
    assert_eq!((delivery, name, CommandId::from_bytes(bytes), what, payload), (1, "pump-7", id, "cool", &b"{}"[..]));
    let names: Vec<&str> = properties.iter().map(|(name, _)| *name).collect();
    assert_eq!(names, ["deliver-by", "execution-timeout", "attempt"]);
    assert!(expires_in_ms.is_some_and(|ms| ms > 0 && ms <= 60_000), "{expires_in_ms:?}");
    device.control.write(&framed(&FromDevice::Received { delivery: 1 })).await;
    let begin = Instant::now();
    while commands.get(id).unwrap().state != State::Delivered {
        assert!(begin.elapsed() < LONG, "{:?}", commands.get(id));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let (mut lane, _) = device.lane(Lane::URGENT).await;
    lane.write(&publish(&answer_topic("pump-7", id, Status::Succeeded), 1, 0, &["done"])).await;
    lane.acked(number(1, 0)).await;
    let ended = commands.wait(id, LONG).await.unwrap();
    assert_eq!(ended.state, State::Succeeded, "the answer carries the session that got the command");
    stop.send(true).unwrap();
    task.await.unwrap();
}
