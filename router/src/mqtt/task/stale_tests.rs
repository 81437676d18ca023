//! Kept sessions at a gateway that does not know what others have seen of their clients.

use std::sync::Arc;
use std::time::Duration;

use super::site_tests::{gateway, gone, ship_all, subscribed};
use super::tests::{Client, Node, ack, publish};
use super::will_tests::appended;
use crate::sessions::Knows;

/// Long enough for a client that does not wait to be let in.
const MOMENT: Duration = Duration::from_millis(100);

/// Two gateways: b keeps a session with a QoS 2 message in flight, which its client has ended at a since. b has not heard of it.
async fn stale() -> (Node, Node) {
    let (a, b) = (gateway(3), gateway(4));
    let (mut client, _) = Client::connect(&b, "c", 60, 2).await;
    client.send(&publish("u", 2, 7, b"x")).await;
    assert_eq!(client.next().await.unwrap(), (0x50, vec![0, 7]), "PUBREC");
    drop(client);
    gone(&b, "c", 0).await;
    ship_all(&b, &a).await;
    ship_all(&a, &b).await;
    let (mut client, present) = Client::connect(&a, "c", 60, 2).await;
    assert!(present);
    client.send(&ack(0x62, 7)).await;
    assert_eq!(client.next().await.unwrap(), (0x70, vec![0, 7]), "PUBCOMP");
    subscribed(&mut client, "t").await;
    drop(client);
    gone(&a, "c", 0).await;
    (a, b)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_session_that_another_gateway_may_have_more_of_is_not_used_for_qos_2() {
    for (knows, goes_on) in [(Knows::All, true), (Knows::OfHeard, false), (Knows::Part, false)] {
        let (a, b) = stale().await;
        b.sessions.tell_known(knows);
        let (mut client, present) = Client::connect(&b, "c", 60, 2).await;
        assert_eq!(present, goes_on, "{knows:?}");
        // A new message: its client has long ended the one before.
        client.send(&publish("u", 2, 7, b"y")).await;
        assert_eq!(client.next().await.unwrap(), (0x50, vec![0, 7]), "PUBREC");
        if !goes_on {
            assert_eq!(appended(&b), 2, "{knows:?}: what is acknowledged is stored");
        }
        a.log.close();
        b.log.close();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_waits_until_a_gateway_that_has_started_knows_of_its_session_elsewhere() {
    let (a, b) = stale().await;
    b.sessions.await_others();
    let door = Arc::new(b);
    let b = Arc::clone(&door);
    let mut coming = tokio::spawn(async move { Client::connect(&door, "c", 60, 2).await });
    assert!(tokio::time::timeout(MOMENT, &mut coming).await.is_err(), "it is not let in yet");
    ship_all(&a, &b).await;
    b.sessions.tell_known(Knows::All);
    let (mut client, present) = coming.await.unwrap();
    assert!(present);
    assert_eq!(b.sessions.live_of("c").unwrap().filters, ["t"], "what it subscribed to at a");
    client.send(&publish("u", 2, 7, b"y")).await;
    assert_eq!(client.next().await.unwrap(), (0x50, vec![0, 7]), "PUBREC");
    assert_eq!(appended(&b), 2);
    a.log.close();
    b.log.close();
}
