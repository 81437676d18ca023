//! What a site costs that has nothing to do.

use super::*;

/// Bytes of the headers of IP, version 6, and of UDP.
const HEADERS_BYTES: u64 = 40 + 8;
/// How long is counted.
const COUNTED: Duration = Duration::from_secs(5);
/// What three nodes may send in a second, all together.
const BYTES_PER_S_MAX: u64 = 2_048;

/// What a node has sent, with headers: datagrams and bytes.
fn sent(node: &Node) -> (u64, u64) {
    let traffic = node.peers.states().into_iter().filter_map(|state| Some(state.connection?.traffic));
    traffic.fold((0, 0), |(sent, bytes), traffic| {
        (sent + traffic.sent, bytes + traffic.sent_bytes + traffic.sent * HEADERS_BYTES)
    })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_with_nothing_to_say_send_less_than_two_kilobytes_a_second() {
    let ids = Ids::make(3);
    let nodes = site(&ids, &Config::default());
    for (node, other) in [(0, 2), (0, 3), (1, 1), (1, 3), (2, 1), (2, 2)] {
        nodes[node].sees_connected(other).await;
    }
    // The search for the largest packet ends within some round trips.
    tokio::time::sleep(Duration::from_secs(1)).await;
    let before: Vec<_> = nodes.iter().map(sent).collect();
    tokio::time::sleep(COUNTED).await;
    let after: Vec<_> = nodes.iter().map(sent).collect();
    let datagrams: u64 = after.iter().zip(&before).map(|(after, before)| after.0 - before.0).sum();
    let bytes: u64 = after.iter().zip(&before).map(|(after, before)| after.1 - before.1).sum();
    let seconds = COUNTED.as_secs();
    println!("{} datagrams/s, {} bytes/s with IPv6 headers", datagrams / seconds, bytes / seconds);
    assert!(datagrams >= 6 * (seconds - 1), "they were alive: {datagrams}");
    assert!(bytes / seconds < BYTES_PER_S_MAX, "{} bytes/s in {} datagrams/s", bytes / seconds, datagrams / seconds);
}
