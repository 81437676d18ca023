//! A node that was killed and has begun another life: what comes again is acknowledged when a quorum has it.

use std::time::Duration;

use devices::fleet::relay::LineConfig;

use super::cut_off::{dialled_by_all, relayed};
use super::load::{make_topics, sorted};
use crate::harness::mqtt::{Client, Connect, Message, Packet, Version};
use crate::harness::site::Site;
use crate::harness::wait;

/// The others catch up by a slow line, and who waits for longer than five seconds is sent away.
const RESENT_MAX: Duration = Duration::from_secs(180);
/// PUBREC, by the packet's type.
const PUBREC: u8 = 5;

/// Sends a publish again, in the session of before; whether it was acknowledged.
fn resend(site: &Site, place: usize, message: &Message) -> bool {
    let mut guest = Client::connect(site[place].mqtt, &Connect::new(Version::V5, "guest").kept());
    assert!(guest.session_present, "the session has outlived the life");
    guest.send(&Message { dup: true, ..message.clone() }.encode(Version::V5));
    loop {
        match guest.receive() {
            Ok(Packet::Ack { kind: PUBREC, code: 0, .. }) => return true,
            Ok(Packet::Disconnect { .. }) | Err(_) => return false,
            Ok(_) => {}
        }
    }
}

#[test]
fn what_the_life_before_stored_is_acknowledged_when_a_quorum_has_it() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (mut site, relays) = relayed(&runtime, 3);
    make_topics(&site);
    // With events of a `memory` topic, a node that was killed begins a new life.
    site.create_topic(0, "loose", "memory");
    site.wait_level();
    let killed = dialled_by_all(&site);
    // What others lack takes some ten seconds; nothing of it can be packed.
    relays[killed].set(LineConfig { bytes_per_s: Some(400_000), queue_bytes_max: 100_000, ..LineConfig::default() });
    let mut random = 7_u64;
    let mut noise = || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        random.to_be_bytes()
    };
    let mut other = Client::simple(site[killed].mqtt, Version::V5, "other");
    let payloads = (0..40).map(|_| (0..8_000).flat_map(|_| noise()).collect::<Vec<u8>>());
    let backlog: Vec<Message> = payloads.map(|payload| Message::new("plain/other", payload)).collect();
    let mut guest = Client::connect(site[killed].mqtt, &Connect::new(Version::V5, "guest").kept());
    other.publish_all(&backlog);
    let vital = Message { id: 1, ..Message::new("vital/guest", "once").qos(2) };
    guest.send(&vital.encode(Version::V5));
    guest.ping();
    // It was taken before this is, which is durable here.
    assert_eq!(other.publish(&Message::new("plain/other", "behind it").qos(1)), 0);
    site.kill(&[killed]);
    site.run(&[killed]);
    wait::until_within(RESENT_MAX, "it is acknowledged", || resend(&site, killed, &vital).then_some(()));
    let has = |place: &usize| *place != killed && !sorted(&site, *place, "vital").is_empty();
    assert!((0..3).any(|place| has(&place)), "another node has what was acknowledged");
    relays[killed].set(LineConfig::default());
    site.wait_level();
    for place in 0..3 {
        assert_eq!(sorted(&site, place, "vital").len(), 1, "once, at node {place}");
    }
}
