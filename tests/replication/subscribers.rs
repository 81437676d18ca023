//! Subscribers get what is published at any node of the site, live and later.

use crate::harness::mqtt::{BOTH, Client, Connect, Message};
use crate::harness::site::Site;

/// Messages that are published at once.
const MESSAGES: usize = 50;

fn publish(site: &Site, place: usize, from: usize) {
    let mut client = Client::simple(site[place].mqtt, BOTH[0], "publisher");
    let message = |number: usize| Message::new("line/7/speed", number.to_string());
    client.publish_all(&(from..from + MESSAGES).map(message).collect::<Vec<_>>());
}

fn numbers(client: &mut Client) -> Vec<usize> {
    client.messages(MESSAGES).into_iter().map(|(_, payload)| payload.parse().unwrap()).collect()
}

#[test]
fn a_subscriber_gets_what_is_published_elsewhere() {
    let site = Site::of_with(2, "");
    for version in BOTH {
        let name = format!("reader-{version:?}");
        let kept = Connect::new(version, &name).kept();
        let mut reader = Client::connect(site[1].mqtt, &kept);
        assert_eq!(reader.subscribe("line/+/speed", 1), 1);
        publish(&site, 0, 0);
        assert_eq!(numbers(&mut reader), (0..MESSAGES).collect::<Vec<_>>(), "{version:?}: live");
        reader.ping();
        reader.disconnect();

        publish(&site, 0, MESSAGES);
        site.wait_level();
        let mut reader = Client::connect(site[1].mqtt, &kept);
        assert!(reader.session_present, "{version:?}");
        assert_eq!(numbers(&mut reader), (MESSAGES..2 * MESSAGES).collect::<Vec<_>>(), "{version:?}: later");
        publish(&site, 1, 2 * MESSAGES);
        assert_eq!(numbers(&mut reader), (2 * MESSAGES..3 * MESSAGES).collect::<Vec<_>>(), "{version:?}: near");
        reader.disconnect();
    }
}
